//! An agent as a service manager runs it: its files, its process, what it says of itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::collector::{Arrived, Authority, Collector};

pub(crate) const SEED: [u8; 32] = [7; 32];
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// An agent's files, and its program.
pub(crate) struct Service {
    pub(crate) folder: tempfile::TempDir,
}

impl Service {
    /// Lays out a configuration that watches `interface`, with windows of a second.
    pub(crate) fn new(interface: &str, collector: &Collector, authority: &Authority) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let service = Self { folder };
        fs::create_dir(service.path("intel")).unwrap();
        let key = service.path("agent.key");
        fs::write(&key, SEED).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let place = service.folder.path().display();
        let config = format!(
            "collector = '{}'\nca_files = ['{}']\ninterfaces = ['{interface}']\nwindow_s = 1\n\
             metrics = '127.0.0.1:0'\nseed = false\n\
             intel_dir = '{place}/intel'\nstate_dir = '{place}/state'\nkey_file = '{place}/agent.key'\n\
             socket = '{place}/agent.sock'\n\
             [identity]\ninstance = 'i-1'\naccount = '123456789012'\nregion = 'eu-west-1'\n\
             [capture]\npins = ''\n",
            collector.url(),
            authority.file().display(),
        );
        fs::write(service.path("agent.toml"), config).unwrap();
        service
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn list(&self, name: &str, text: &str) {
        fs::write(self.path("intel").join(name), text).unwrap();
    }

    /// Adds keys to a table of the configuration.
    pub(crate) fn add(&self, table: &str, keys: &str) {
        let config = fs::read_to_string(self.path("agent.toml")).unwrap();
        let config = match config.split_once(&format!("{table}\n")) {
            Some((before, after)) => format!("{before}{table}\n{keys}\n{after}"),
            None => format!("{config}{table}\n{keys}\n"),
        };
        fs::write(self.path("agent.toml"), config).unwrap();
    }

    /// Replaces a line of the configuration.
    pub(crate) fn replace(&self, line: &str, by: &str) {
        let config = fs::read_to_string(self.path("agent.toml")).unwrap();
        assert!(config.contains(line), "{config}");
        fs::write(self.path("agent.toml"), config.replace(line, by)).unwrap();
    }

    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_picket-agent"));
        command
            .arg(name)
            .arg("--config")
            .arg(self.path("agent.toml"));
        command
    }

    pub(crate) fn status(&self) -> Option<Value> {
        let output = self
            .command("status")
            .args(["--format", "jsonl"])
            .output()
            .unwrap();
        output
            .status
            .success()
            .then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Waits for a status that is as wanted.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + LIMIT;
        loop {
            let status = self.status();
            if let Some(status) = status.clone().filter(&done) {
                return status;
            }
            assert!(Instant::now() < until, "{what} did not come: {status:?}");
            thread::yield_now();
        }
    }

    /// Starts it and waits until it watches.
    pub(crate) fn start(&self) -> Running {
        let child = self
            .command("run")
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        self.wait_for("a status", |_| true);
        Running(child)
    }
}

/// A process that is killed if a test fails.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// The process is ours and not waited for yet, so its id names nobody else.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    pub(crate) fn stop(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn hits(all: &[Arrived]) -> Vec<(String, Duration)> {
    let hits = all
        .iter()
        .filter(|one| one.summary.immediate)
        .flat_map(|one| {
            one.summary
                .hits
                .iter()
                .map(|hit| (hit.indicator.clone(), Duration::from_nanos(hit.time_ns)))
        });
    hits.collect()
}

pub(crate) fn windows(all: &[Arrived]) -> impl Iterator<Item = &Arrived> {
    all.iter().filter(|one| !one.summary.immediate)
}

pub(crate) fn counted(all: &[Arrived], begins: &[&str]) -> u64 {
    let counters = windows(all).flat_map(|one| &one.summary.counters);
    let kernel = counters.filter(|counter| counter.stage == "kernel");
    kernel
        .filter(|c| begins.iter().any(|b| c.reason.starts_with(b)))
        .map(|c| c.count)
        .sum()
}
/// The agent with only these capabilities, as a container or a unit may leave it.
pub(crate) fn confined(service: &Service, capabilities: &str) -> Command {
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--bounding-set={capabilities}"))
        .arg(env!("CARGO_BIN_EXE_picket-agent"))
        .args(["run", "--config"])
        .arg(service.path("agent.toml"));
    command
}
