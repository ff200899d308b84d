//! Doctor: what this host and this configuration can do and what not, one question at a time, each
//! with the reason. It changes nothing.
//!
//! A host that lacks what a rung of the capture ladder takes is warned of it: the rung below works as
//! well. It fails where nothing can be captured, and where what the configuration asks for cannot be.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::capture::choice::choose;
use crate::capture::ebpf::{CaptureError, Check, examine_pins, examine_stages};
use crate::capture::ladder::{foresee, probe};
use crate::capture::packet;
use crate::config::Config;
use crate::enrol::cloned::{Sameness, sameness};
use crate::feeds::Feeds;
use crate::identity::Identity;
use crate::imds::Imds;
use crate::machine::Machine;
use crate::ship::{Collector, Knock};
use crate::status;

/// How far the collector's clock may be from ours before envelopes look stale or forged.
const SKEW_MAX: Duration = Duration::from_secs(30);

/// A clock before this is not set: 2025-01-01, before this program was written.
const CLOCK_MIN_S: u64 = 1_735_689_600;

/// How grave an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All is well.
    Yes,
    /// Something is missing, and what there is works without it.
    Warn,
    /// Something that is needed, or configured, does not work.
    No,
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What was asked.
    pub name: &'static str,
    /// What became of it.
    pub verdict: Verdict,
    /// Why, in words.
    pub why: String,
}

/// Asks everything, the kernel first, of the configuration in `file`, or of the defaults.
pub fn examine(file: Option<&Path>, config: &anyhow::Result<Config>) -> Vec<Answer> {
    let checks = probe();
    let mut answers: Vec<Answer> = checks.iter().map(lesser).collect();
    let told = match file {
        None => "none given; the defaults are looked at".to_owned(),
        Some(file) => file.display().to_string(),
    };
    let config = match config {
        Ok(config) => {
            answers.push(yes("config", told));
            config
        }
        Err(error) => {
            answers.push(no("config", format!("{error:#}")));
            answers.push(clock(None));
            return answers;
        }
    };
    let rung = foresee(config.capture.rung, &checks);
    answers.push(Answer {
        name: rung.name,
        verdict: if rung.ok { Verdict::Yes } else { Verdict::No },
        why: rung.why.clone(),
    });
    let stages = examine_stages(config.capture.stages());
    answers.extend(stages.iter().map(lesser));
    answers.push(lesser(&examine_pins(&config.capture.pins)));
    answers.push(interfaces(config));
    if config.block.enabled {
        answers.push(blocking(&rung));
    }
    answers.push(shipping(config));
    answers.push(key(config));
    answers.push(enrolment(config));
    answers.push(state_dir(config));
    answers.push(intel(config));
    answers.push(match config.no_indicators() {
        Ok(Some(why)) => no("bundle", why),
        _ => of(
            "bundle",
            config.collector_keys().map(|keys| {
                match keys.len() {
            0 => "no key of a collector named, and not enrolled; the host has its own lists alone"
                .to_owned(),
            keys => format!("indicators of a collector are taken, signed by one of {keys} keys"),
        }
            }),
        ),
    });
    answers.push(of(
        "privacy",
        config.privacy.open().map(|privacy| match privacy.told() {
            None => "names and paths are told".to_owned(),
            Some(told) => told,
        }),
    ));
    let (collector, skew) = collector(config);
    answers.push(collector);
    answers.push(clock(skew));
    answers.push(agent(config));
    answers
}

fn yes(name: &'static str, why: impl Into<String>) -> Answer {
    let (verdict, why) = (Verdict::Yes, why.into());
    Answer { name, verdict, why }
}

fn warn(name: &'static str, why: impl Into<String>) -> Answer {
    let (verdict, why) = (Verdict::Warn, why.into());
    Answer { name, verdict, why }
}

fn no(name: &'static str, why: impl Into<String>) -> Answer {
    let (verdict, why) = (Verdict::No, why.into());
    Answer { name, verdict, why }
}

/// The answer to a question whose no leaves something that works; whether it is enough, `rung` says.
fn lesser(check: &Check) -> Answer {
    match check.ok {
        true => yes(check.name, check.why.clone()),
        false => warn(check.name, check.why.clone()),
    }
}

fn of(name: &'static str, outcome: anyhow::Result<String>) -> Answer {
    match outcome {
        Ok(why) => yes(name, why),
        Err(error) => no(name, format!("{error:#}")),
    }
}

/// Which interfaces a start would watch here. Those of a running agent may be others: it may live in
/// another network namespace.
fn interfaces(config: &Config) -> Answer {
    const NAME: &str = "interfaces";
    let choices = match choose(&config.options(), std::iter::empty()) {
        Ok(choices) => choices,
        Err(error) => return no(NAME, error.to_string()),
    };
    let told = |watch: bool| {
        let told = choices.iter().filter(|choice| choice.watch == watch);
        let told = told.map(|choice| format!("{} ({})", choice.name, choice.why));
        told.collect::<Vec<_>>().join(", ")
    };
    match (told(true), told(false)) {
        (watched, skipped) if watched.is_empty() && skipped.is_empty() => {
            no(NAME, CaptureError::NoInterface.to_string())
        }
        (watched, skipped) if watched.is_empty() => no(NAME, format!("none; not {skipped}")),
        (watched, skipped) if skipped.is_empty() => yes(NAME, watched),
        (watched, skipped) => warn(NAME, format!("{watched}; not {skipped}")),
    }
}

/// Orders to block need kernel programs.
fn blocking(rung: &Check) -> Answer {
    const NAME: &str = "block";
    match rung.ok && !rung.why.starts_with(packet::RUNG) {
        true => yes(NAME, "orders can be carried out"),
        false => no(NAME, "orders cannot be carried out without kernel programs"),
    }
}

fn shipping(config: &Config) -> Answer {
    if config.collector.is_none() {
        return warn("identity", "not needed: no collector is configured");
    }
    match config.check_shipping() {
        Ok(()) => {
            let identity = &config.identity;
            yes(
                "identity",
                format!("{} of {}", identity.instance, identity.account),
            )
        }
        Err(error) => no("identity", error.to_string()),
    }
}

fn key(config: &Config) -> Answer {
    let file = config.key_file();
    if !file.exists() {
        return yes(
            "key",
            format!("{} is made at the first start", file.display()),
        );
    }
    of(
        "key",
        Identity::load(&file).map(|identity| {
            format!(
                "agent id {}, public key {}",
                identity.agent(),
                identity.public_key_hex()
            )
        }),
    )
}

/// Whether this host is the one that its enrolment names.
fn enrolment(config: &Config) -> Answer {
    const NAME: &str = "enrolment";
    if let Some(was) = &config.carried {
        let was = &was.receipt.instance;
        return no(
            NAME,
            format!("this host carried the identity of {was}, which is set aside; enroll it"),
        );
    }
    let Some(enrolment) = &config.enrolment else {
        return yes(NAME, "none; the collector has to know the key otherwise");
    };
    let receipt = &enrolment.receipt;
    let told = format!("{} by {}", receipt.instance, receipt.level);
    let looked = (|| {
        let mut imds = Imds::new(&config.enrol.imds)?;
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build()?;
        let here = Machine::here();
        runtime.block_on(sameness(enrolment, &config.state_dir, &mut imds, &here))
    })();
    match looked {
        Ok(Sameness::Same) => yes(NAME, told),
        Ok(Sameness::Unsure(why)) => warn(NAME, format!("{told}; {why}")),
        Ok(Sameness::Other(why)) => {
            let next = "the next start sets that identity aside and enrolls anew";
            no(NAME, format!("{why}: {next}"))
        }
        Err(error) => no(NAME, format!("{error:#}")),
    }
}

/// Whether files can be made where the state is, or where its folder would be.
fn state_dir(config: &Config) -> Answer {
    let mut folder = config.state_dir.as_path();
    while !folder.exists() {
        match folder.parent() {
            Some(parent) => folder = parent,
            None => break,
        }
    }
    // Asked by doing: permissions, read-only mounts and sandboxes all have their say.
    let probe = folder.join(format!(".picket-doctor-{}", std::process::id()));
    let outcome = fs::File::create_new(&probe).and_then(|file| file.sync_all());
    drop(fs::remove_file(&probe));
    let shown = config.state_dir.display();
    match outcome {
        Ok(()) => yes("state_dir", format!("{shown} can be written")),
        Err(error) => no("state_dir", format!("{shown}: {error}")),
    }
}

fn intel(config: &Config) -> Answer {
    let Some(folder) = &config.intel_dir else {
        return yes(
            "intel",
            match config.seed {
                true => "no folder configured; the built-in lists are matched",
                false => "no folder configured; nothing is matched",
            },
        );
    };
    let feeds = match Feeds::load(folder) {
        Ok(feeds) => feeds,
        Err(error) => return no("intel", format!("{error:#}")),
    };
    let (count, lists) = (feeds.set.len(), feeds.report.lists.len());
    let read = format!(
        "{count} indicators on {lists} lists in {}",
        folder.display()
    );
    match feeds.complaints().first() {
        Some(first) => {
            let more = feeds.complaints().len() - 1;
            warn("intel", format!("{read}, but {first} (and {more} more)"))
        }
        None => yes("intel", read),
    }
}

/// Whether the collector is there and is who it should be, and by how much its clock differs.
fn collector(config: &Config) -> (Answer, Option<Duration>) {
    const NAME: &str = "collector";
    let Some(url) = &config.collector else {
        return (warn(NAME, "none configured; only --standalone runs"), None);
    };
    let reached = config.pins().and_then(|pins| {
        let collector = Collector::over(url, &pins, config.proxy()?.as_ref())?;
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build()?;
        Ok(runtime.block_on(collector.knock())?)
    });
    match reached {
        Ok(Knock { date, well, status }) => {
            let why = format!("{url} answers over TLS 1.3 with a certificate of the pinned CA");
            let answer = match well {
                true => yes(NAME, why),
                false => no(NAME, format!("{why}, but cannot take envelopes: {status}")),
            };
            let skew = date.map(|date| distance(SystemTime::now(), date));
            (answer, skew)
        }
        Err(error) => (no(NAME, format!("{url}: {error:#}")), None),
    }
}

fn distance(a: SystemTime, b: SystemTime) -> Duration {
    a.duration_since(b)
        .unwrap_or_else(|earlier| earlier.duration())
}

fn clock(skew: Option<Duration>) -> Answer {
    const NAME: &str = "clock";
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    if since.unwrap_or_default().as_secs() < CLOCK_MIN_S {
        return no(NAME, "the clock is not set");
    }
    match skew {
        Some(skew) if skew > SKEW_MAX => {
            no(NAME, format!("{} s from the collector's", skew.as_secs()))
        }
        Some(skew) => yes(
            NAME,
            format!("within {} s of the collector's", skew.as_secs() + 1),
        ),
        None => yes(NAME, "set; not compared, as no collector told its time"),
    }
}

fn agent(config: &Config) -> Answer {
    match status::ask(&config.socket) {
        Ok(status) => {
            let kept = match status.watch.capabilities.as_slice() {
                [] => "no capability".to_owned(),
                kept => format!("{} in one thread, none in the others", kept.join(", ")),
            };
            let (up, rung) = (status.uptime_s, status.watch.rung);
            let told = format!("running for {up} s on {rung}, with {kept}");
            let stale = status.intel.and_then(|intel| intel.stale);
            match (status.ship.trouble, stale) {
                (None, None) => yes("agent", told),
                (Some(trouble), _) => warn("agent", format!("{told}; not shipping: {trouble}")),
                (None, Some(why)) => warn("agent", format!("{told}; indicators are stale: {why}")),
            }
        }
        Err(_) => yes("agent", format!("none runs at {}", config.socket.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(checks: &'a [Answer], name: &str) -> &'a Answer {
        checks.iter().find(|check| check.name == name).unwrap()
    }

    #[test]
    fn each_fault_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let place = folder.path().display();
        put("c2-ips.txt", "192.0.2.1\n");
        put("agent.key", "short");
        put("ca.pem", "no certificate");
        put(
            "agent.toml",
            &format!(
                "collector = 'https://127.0.0.1:1'\nca_files = ['{place}/ca.pem']\n\
                 state_dir = '{place}'\nintel_dir = '{place}'\nsocket = '{place}/none.sock'\n\
                 [identity]\ninstance = 'i-1'\naccount = '123456789012'\nregion = 'local'\n"
            ),
        );
        let file = folder.path().join("agent.toml");
        let checks = examine(Some(&file), &Config::load(&file));
        let faults = ["key", "collector"];
        for check in &checks {
            if ["config", "identity", "state_dir", "clock", "agent"].contains(&check.name) {
                assert_eq!(check.verdict, Verdict::Yes, "{check:?}");
            }
            if faults.contains(&check.name) {
                assert_eq!(check.verdict, Verdict::No, "{check:?}");
            }
        }
        assert!(
            find(&checks, "collector")
                .why
                .contains("holds no certificate")
        );
        assert!(
            find(&checks, "intel")
                .why
                .contains("1 indicators on 1 lists")
        );
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            4,
            "nothing is left behind"
        );

        put("agent.toml", "colector = 'x'\n");
        let checks = examine(Some(&file), &Config::load(&file));
        assert!(find(&checks, "config").why.contains("colector"));
    }
}
