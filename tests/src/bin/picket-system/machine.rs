//! A machine that a life is lived on: something that has booted a systemd and runs lines of shell as
//! root, with a network whose other end is ours.

use anyhow::{Context, Result};
use picket_tests::lab::Namespace;
use serde_json::Value;

/// Its interface, which the agent watches.
pub(crate) const INTERFACE: &str = "host0";

/// A way to boot one. Dropping it ends the machine and takes away what was made for it.
pub(crate) trait Booted {
    /// Runs a line of shell inside as root, and returns what it wrote.
    fn run(&self, line: &str) -> Result<String>;

    /// What `bpftool --json KIND show` writes about the machine's kernel.
    fn bpftool(&self, kind: &str) -> Result<String>;

    /// The other end of its network.
    fn world(&self) -> &Namespace;

    /// Whether limits of units are enforced.
    fn enforces_limits(&self) -> bool;
}

/// A machine that runs.
pub(crate) struct Machine(Box<dyn Booted>);

impl Machine {
    pub(crate) fn of(booted: impl Booted + 'static) -> Self {
        Self(Box::new(booted))
    }

    /// Runs a line of shell inside as root, and returns what it wrote.
    pub(crate) fn run(&self, line: &str) -> Result<String> {
        self.0.run(line)
    }

    /// Whether a line of shell succeeds inside.
    pub(crate) fn holds(&self, line: &str) -> bool {
        self.run(line).is_ok()
    }

    /// What `bpftool` lists of one kind in the machine's kernel.
    pub(crate) fn bpftool(&self, kind: &str) -> Result<Vec<Value>> {
        let text = self.0.bpftool(kind)?;
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        serde_json::from_str(&text).context("read what bpftool lists")
    }

    /// The other end of its network.
    pub(crate) fn world(&self) -> &Namespace {
        self.0.world()
    }

    /// Whether limits of units are enforced.
    pub(crate) fn enforces_limits(&self) -> bool {
        self.0.enforces_limits()
    }

    /// Packets that have passed its interface, as the kernel counts them.
    pub(crate) fn packets(&self) -> Result<u64> {
        let told = self.run(&format!("ip -json -statistics link show dev {INTERFACE}"))?;
        let told: Value = serde_json::from_str(&told).context("what ip tells")?;
        let passed = |way: &str| told[0]["stats64"][way]["packets"].as_u64();
        let passed = passed("rx").zip(passed("tx")).map(|(rx, tx)| rx + tx);
        passed.context("no counters of the interface")
    }

    /// The last of what our units logged, and what was found.
    pub(crate) fn journal(&self) -> String {
        self.run(
            "journalctl --no-pager --output=short-precise --lines=60 --unit='picket-*'; \
             picket-collector findings list --format jsonl | cut -c 1-2000",
        )
        .unwrap_or_else(|error| format!("{error:#}"))
    }
}
