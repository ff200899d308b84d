//! A scenario folder: who does what, what is on the lists, what CloudTrail has, what must come out.
//!
//! ```text
//! tests/scenarios/<name>/traffic.toml     names, services and steps, in order; or parts: scenarios
//!                                         that are played one after the other
//!                        indicators/      plain lists, as `--intel` takes them
//!                        cloudtrail/      log files with placeholders (`template`)
//!                        expected.json    findings, and the incident if there is one
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Deserialize;

use super::dns::Kind;
use super::expected::Expected;
use super::template;
use crate::lab::internet::Service;

/// One thing the instance does.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// Asks the VPC's resolver for a name.
    Lookup {
        /// The name.
        name: String,
        /// The type asked for.
        #[serde(default)]
        kind: Kind,
    },
    /// Connects over TCP, says something and reads the answer to its end.
    Talk {
        /// Whom it connects to.
        to: SocketAddr,
        /// What it says; needs its own line ends.
        say: String,
    },
    /// Sends a datagram and waits for one back.
    Datagram {
        /// Whom it goes to.
        to: SocketAddr,
        /// What is in it.
        say: String,
    },
    /// Sends datagrams as fast as it can and waits for none back.
    Flood {
        /// Whom they go to.
        to: SocketAddr,
        /// Bytes in each.
        bytes: usize,
        /// How many.
        count: u32,
    },
    /// Tries every port of a range once over TCP.
    Scan {
        /// Whose ports.
        host: IpAddr,
        /// The first of them.
        first: u16,
        /// The last of them.
        last: u16,
    },
    /// CloudTrail delivers a file of the scenario's `cloudtrail` folder.
    Deliver {
        /// Name of the file.
        file: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Traffic {
    title: String,
    #[serde(default)]
    names: BTreeMap<String, IpAddr>,
    #[serde(default)]
    services: Vec<Service>,
    #[serde(default)]
    steps: Vec<Step>,
    #[serde(default)]
    parts: Vec<String>,
}

/// A scenario; its parts, if it has any, come first.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Folder name.
    pub name: String,
    /// What happens, in one line.
    pub title: String,
    /// Names that the resolver knows.
    pub names: BTreeMap<String, IpAddr>,
    /// Hosts that answer.
    pub services: Vec<Service>,
    /// What the instance does, in order.
    pub steps: Vec<Step>,
    /// Lists: file name and content.
    pub indicators: BTreeMap<String, String>,
    /// Log files: name and content with placeholders.
    pub cloudtrail: BTreeMap<String, String>,
    /// What must come out.
    pub expected: Expected,
    /// The scenarios it is made of, each also contained above; mostly none.
    pub parts: Vec<Scenario>,
}

impl Scenario {
    /// Reads one folder of `tests/scenarios`.
    ///
    /// # Errors
    /// Names the file that is missing or wrong.
    pub fn load(name: &str) -> Result<Self> {
        let folder = root().join(name);
        let traffic: Traffic = toml::from_str(&read(&folder.join("traffic.toml"))?)
            .with_context(|| format!("scenario {name}, traffic.toml"))?;
        let expected = serde_json::from_str(&read(&folder.join("expected.json"))?)
            .with_context(|| format!("scenario {name}, expected.json"))?;
        let mut whole = Self {
            name: name.to_owned(),
            title: traffic.title,
            names: BTreeMap::new(),
            services: Vec::new(),
            steps: Vec::new(),
            indicators: BTreeMap::new(),
            cloudtrail: BTreeMap::new(),
            expected: Expected::default(),
            parts: Vec::new(),
        };
        for part in &traffic.parts {
            let part = Self::load(part)?;
            whole.add(&part);
            whole.parts.push(part);
        }
        whole.add(&Self {
            name: String::new(),
            title: String::new(),
            names: traffic.names,
            services: traffic.services,
            steps: traffic.steps,
            indicators: read_folder(&folder.join("indicators"))?,
            cloudtrail: read_folder(&folder.join("cloudtrail"))?,
            expected,
            parts: Vec::new(),
        });
        Ok(whole)
    }

    /// Names of all scenario folders, sorted.
    ///
    /// # Errors
    /// When the folder of scenarios cannot be read.
    pub fn all() -> Result<Vec<String>> {
        let root = root();
        let entries = fs::read_dir(&root).with_context(|| format!("read {}", root.display()))?;
        let mut names: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.path().join("traffic.toml").exists())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// Adds what another scenario has.
    fn add(&mut self, other: &Self) {
        self.names.extend(other.names.clone());
        for service in &other.services {
            if self.services.iter().all(|known| known.at != service.at) {
                self.services.push(service.clone());
            }
        }
        self.steps.extend(other.steps.iter().cloned());
        for (file, content) in &other.indicators {
            self.indicators
                .entry(file.clone())
                .or_default()
                .push_str(content);
        }
        self.cloudtrail.extend(other.cloudtrail.clone());
        self.expected.join(&other.expected);
    }

    /// Writes the lists into `folder`.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write_indicators(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        for (file, content) in &self.indicators {
            let path = folder.join(file);
            fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    /// Puts one log file into `folder` as a whole, its placeholders filled in.
    ///
    /// # Errors
    /// When the scenario has no such file, or it cannot be written.
    pub fn deliver(&self, file: &str, folder: &Path, now: Timestamp) -> Result<()> {
        let content = self.cloudtrail.get(file);
        let content =
            content.with_context(|| format!("scenario {} has no cloudtrail/{file}", self.name))?;
        let content = template::fill(content, now).with_context(|| format!("fill in {file}"))?;
        // Under another name first: a reader of the folder meets a whole file or none.
        let (part, path) = (folder.join(format!(".{file}.part")), folder.join(file));
        fs::write(&part, content).with_context(|| format!("write {}", part.display()))?;
        fs::rename(&part, &path).with_context(|| format!("rename to {}", path.display()))
    }
}

/// `tests/scenarios` in the source tree this was built from.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// Name and content of each file of a folder that need not be there.
fn read_folder(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(files);
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("read {}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.insert(name, read(&entry.path())?);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_reads_and_is_whole() {
        let now: Timestamp = "2026-03-01T10:00:00Z".parse().unwrap();
        for name in Scenario::all().unwrap() {
            let scenario = Scenario::load(&name).unwrap();
            let mut undelivered: Vec<&String> = scenario.cloudtrail.keys().collect();
            for step in &scenario.steps {
                match step {
                    Step::Deliver { file } => undelivered.retain(|known| *known != file),
                    Step::Talk { to, .. } | Step::Datagram { to, .. } => {
                        let served = scenario.services.iter().any(|service| service.at == *to);
                        assert!(served, "{name}: nobody listens at {to}");
                    }
                    Step::Lookup { .. } | Step::Scan { .. } | Step::Flood { .. } => {}
                }
            }
            assert!(
                undelivered.is_empty(),
                "{name}: {undelivered:?} never delivered"
            );
            for (file, content) in &scenario.cloudtrail {
                let filled = template::fill(content, now).unwrap();
                let parsed: Result<serde_json::Value, _> = serde_json::from_str(&filled);
                assert!(parsed.is_ok(), "{name}/cloudtrail/{file}: {parsed:?}");
            }
        }
    }
}
