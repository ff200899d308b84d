//! One network namespace: made under a name that says who owns it, removed by that name.
//!
//! Names are `pk-lab-<pid>-<number>-<role>`. Whoever finds one whose process is gone may remove it;
//! nothing else is ever touched. Commands enter by `nsenter --net=`, because `ip netns exec` would
//! mount another /sys, without control groups and without the kernel's BPF file system.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const FOLDER: &str = "/run/netns";
const PREFIX: &str = "pk-lab-";

/// The common part of the names of one lab's namespaces.
#[derive(Debug, Clone)]
pub struct LabName(String);

impl LabName {
    /// Makes a name that no other lab has, of this process or of another.
    pub fn fresh() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("{PREFIX}{}-{number}", std::process::id()))
    }

    /// The name itself, `pk-lab-<pid>-<number>`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A network namespace, removed on drop.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    path: PathBuf,
}

impl Namespace {
    /// Makes the namespace and brings its loopback up. Needs root.
    ///
    /// # Errors
    /// When `ip` is missing or refuses.
    pub fn create(lab: &LabName, role: &str) -> Result<Self> {
        let name = format!("{}-{role}", lab.as_str());
        ip(&["netns", "add", &name])?;
        let made = Self {
            path: Path::new(FOLDER).join(&name),
            name,
        };
        made.ip("link set lo up")?;
        Ok(made)
    }

    /// Its name, for `ip -n`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file, for `nsenter --net=`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs one `ip` command in it; words are parted by spaces.
    ///
    /// # Errors
    /// With the command and what `ip` said.
    pub fn ip(&self, words: &str) -> Result<()> {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend(words.split_whitespace());
        ip(&all)
    }

    /// Sets a value under /proc/sys/net, whose content depends on the reader's namespace.
    ///
    /// # Errors
    /// When the kernel lacks the key or refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys/net").join(key);
        self.run(|| fs::write(&path, value))?
            .with_context(|| format!("set {key} to {value} in {}", self.name))
    }

    /// A command that will run in it and die with the thread that starts it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path.display()))
            .args(["setpriv", "--pdeathsig", "KILL"])
            .arg(program);
        command
    }

    /// Runs `work` on a thread inside and returns what it returns.
    ///
    /// # Errors
    /// When the namespace cannot be entered; a panic of `work` goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| self.enter().map(|()| work()));
            match inside.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Starts `work` on a thread inside, under a thread name.
    ///
    /// # Errors
    /// When no thread can be had. Failing to enter is what the thread returns.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let path = self.path.clone();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                enter(&path)?;
                work()
            })
            .context("start a thread")
    }

    fn enter(&self) -> Result<()> {
        enter(&self.path)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.name) {
            eprintln!("namespace {} stays behind: {error:#}", self.name);
        }
    }
}

/// Removes the namespaces of labs whose process is gone, with the processes left inside, and
/// returns their names.
///
/// # Errors
/// When a namespace cannot be removed.
pub fn sweep() -> Result<Vec<String>> {
    let mut swept = Vec::new();
    let Ok(entries) = fs::read_dir(FOLDER) else {
        return Ok(swept);
    };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if !is_abandoned(&name) {
            continue;
        }
        for pid in inhabitants(&name)? {
            // It may have ended meanwhile.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        match remove(&name) {
            Err(error) if Path::new(FOLDER).join(&name).exists() => return Err(error),
            // Another lab swept it at the same time.
            _ => swept.push(name),
        }
    }
    Ok(swept)
}

/// Says whether `name` is one that a lab gave whose process is gone.
pub fn is_abandoned(name: &str) -> bool {
    owner(name).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

/// The process id in a name that a lab gave, or nothing for names of others.
fn owner(name: &str) -> Option<u32> {
    let (pid, rest) = name.strip_prefix(PREFIX)?.split_once('-')?;
    let (number, _role) = rest.split_once('-')?;
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

fn inhabitants(name: &str) -> Result<Vec<Pid>> {
    let listed = Command::new("ip")
        .args(["netns", "pids", name])
        .stderr(Stdio::null())
        .output()
        .context("run ip netns pids")?;
    Ok(String::from_utf8_lossy(&listed.stdout)
        .split_whitespace()
        .filter_map(|word| word.parse().ok().and_then(Pid::from_raw))
        .collect())
}

fn enter(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("enter {}", path.display()))
}

fn remove(name: &str) -> Result<()> {
    ip(&["netns", "delete", name])
}

fn ip(words: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(words)
        .output()
        .context("run ip (Debian package iproute2)")?;
    if !output.status.success() {
        bail!(
            "ip {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_labs_have_an_owner() {
        for (name, expected) in [
            ("pk-lab-77-0-instance", Some(77)),
            ("pk-lab-77-12-a-b", Some(77)),
            ("pk-lab-77-x-instance", None),
            ("pk-lab-x-0-instance", None),
            ("pk-lab-77-0", None),
            ("pk-77-0-instance", None),
            ("blue", None),
        ] {
            assert_eq!(owner(name), expected, "{name}");
        }
    }
}
