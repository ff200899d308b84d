//! Doctor: what this host and this configuration can do and what not, one question at a time, each
//! with the reason. It changes nothing.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::capture::ebpf::{Check, examine_stages};
use crate::capture::ladder::{foresee, probe};
use crate::config::Config;
use crate::feeds::Feeds;
use crate::identity::Identity;
use crate::ship::Collector;
use crate::status;

/// How far the collector's clock may be from ours before envelopes look stale or forged.
const SKEW_MAX: Duration = Duration::from_secs(30);

/// A clock before this is not set: 2025-01-01, before this program was written.
const CLOCK_MIN_S: u64 = 1_735_689_600;

/// Asks everything, the kernel first.
pub fn examine(config: Option<&Path>) -> Vec<Check> {
    let mut checks = probe();
    let loaded = match config {
        None => Ok(Config::default()),
        Some(file) => Config::load(file),
    };
    let told = match config {
        None => "none given; the defaults are looked at".to_owned(),
        Some(file) => file.display().to_string(),
    };
    let config = match loaded {
        Ok(config) => {
            checks.push(yes("config", told));
            config
        }
        Err(error) => {
            checks.push(no("config", format!("{error:#}")));
            checks.push(clock(None));
            return checks;
        }
    };
    checks.push(foresee(config.capture.rung, &checks));
    checks.extend(examine_stages(config.capture.stages()));
    checks.push(shipping(&config));
    checks.push(key(&config));
    checks.push(state_dir(&config));
    checks.push(intel(&config));
    let (collector, skew) = collector(&config);
    checks.push(collector);
    checks.push(clock(skew));
    checks.push(agent(&config));
    checks
}

fn yes(name: &'static str, why: impl Into<String>) -> Check {
    Check {
        name,
        ok: true,
        why: why.into(),
    }
}

fn no(name: &'static str, why: impl Into<String>) -> Check {
    Check {
        name,
        ok: false,
        why: why.into(),
    }
}

fn of(name: &'static str, outcome: anyhow::Result<String>) -> Check {
    match outcome {
        Ok(why) => yes(name, why),
        Err(error) => no(name, format!("{error:#}")),
    }
}

fn shipping(config: &Config) -> Check {
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

fn key(config: &Config) -> Check {
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

/// Whether files can be made where the state is, or where its folder would be.
fn state_dir(config: &Config) -> Check {
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

fn intel(config: &Config) -> Check {
    let Some(folder) = &config.intel_dir else {
        return yes("intel", "no folder configured; nothing is matched");
    };
    let feeds = match Feeds::load(folder) {
        Ok(feeds) => feeds,
        Err(error) => return no("intel", format!("{error:#}")),
    };
    let (count, lists) = (feeds.set.len(), feeds.lists.len());
    let read = format!(
        "{count} indicators on {lists} lists in {}",
        folder.display()
    );
    match feeds.complaints().first() {
        Some(first) => {
            let more = feeds.complaints().len() - 1;
            no("intel", format!("{read}, but {first} (and {more} more)"))
        }
        None => yes("intel", read),
    }
}

/// Whether the collector is there and is who it should be, and by how much its clock differs.
fn collector(config: &Config) -> (Check, Option<Duration>) {
    const NAME: &str = "collector";
    let Some(url) = &config.collector else {
        return (no(NAME, "none configured; only --standalone runs"), None);
    };
    let reached = Collector::new(url, &config.ca_files).and_then(|collector| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build()?;
        Ok(runtime.block_on(collector.knock())?)
    });
    match reached {
        Ok(date) => {
            let why = format!("{url} answers over TLS 1.3 with a certificate of the pinned CA");
            (
                yes(NAME, why),
                date.map(|date| distance(SystemTime::now(), date)),
            )
        }
        Err(error) => (no(NAME, format!("{url}: {error:#}")), None),
    }
}

fn distance(a: SystemTime, b: SystemTime) -> Duration {
    a.duration_since(b)
        .unwrap_or_else(|earlier| earlier.duration())
}

fn clock(skew: Option<Duration>) -> Check {
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

fn agent(config: &Config) -> Check {
    match status::ask(&config.socket) {
        Ok(status) => {
            let kept = match status.watch.capabilities.as_slice() {
                [] => "no capability".to_owned(),
                kept => format!("{} in one thread, none in the others", kept.join(", ")),
            };
            let (up, rung) = (status.uptime_s, status.watch.rung);
            yes(
                "agent",
                format!("running for {up} s on {rung}, with {kept}"),
            )
        }
        Err(_) => yes("agent", format!("none runs at {}", config.socket.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(checks: &'a [Check], name: &str) -> &'a Check {
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
        let checks = examine(Some(&folder.path().join("agent.toml")));
        let faults = ["key", "intel", "collector"];
        for check in &checks {
            if ["config", "identity", "state_dir", "clock", "agent"].contains(&check.name) {
                assert!(check.ok, "{check:?}");
            }
            if faults.contains(&check.name) {
                assert!(!check.ok, "{check:?}");
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
        let checks = examine(Some(&folder.path().join("agent.toml")));
        assert!(find(&checks, "config").why.contains("colector"));
    }
}
