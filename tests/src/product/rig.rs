//! Everything at once: a lab, its resolver and hosts, a collector that alerts a webhook, and an agent
//! on the instance that reports to the collector.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::Value;

use super::agent::Agent;
use super::collector::{Collector, KnownAgent};
use super::story::{self, Opened};
use super::{Binaries, Watch};
use crate::lab::internet::Internet;
use crate::lab::resolver::Resolver;
use crate::lab::webhook::Webhook;
use crate::lab::{Lab, Wire, topology, wait_until};
use crate::scene::expected::Incident;
use crate::scene::{Scenario, play};

/// The whole product, running. Dropping it ends and removes everything.
#[derive(Debug)]
pub struct Rig {
    /// On the instance.
    pub agent: Agent,
    /// Beside it.
    pub collector: Collector,
    /// Whom the collector alerts.
    pub webhook: Webhook,
    /// Hosts that answer.
    pub internet: Internet,
    /// The resolver.
    pub resolver: Resolver,
    /// The network below.
    pub lab: Arc<Lab>,
}

impl Rig {
    /// Raises everything that `scenario` needs, and returns when the agent captures.
    ///
    /// # Errors
    /// With the end of the log of whatever did not come up.
    pub fn raise(scenario: &Scenario, wire: Wire) -> Result<Self> {
        let rig = Self::lay_out(scenario, wire)?;
        rig.started()
    }

    /// As [`Self::raise`], but neither collector nor agent runs yet.
    ///
    /// # Errors
    /// When the network cannot be built or a file cannot be written.
    pub fn lay_out(scenario: &Scenario, wire: Wire) -> Result<Self> {
        let binaries = Binaries::find()?;
        let lab = Arc::new(Lab::build(wire).context("build the lab")?);
        let names = scenario.names.iter().map(|(name, at)| (name.as_str(), *at));
        let resolver = Resolver::start(&lab, names)?;
        let internet = Internet::start(&lab.internet, scenario.services.clone())?;
        let webhook = Webhook::start(&lab.collector)?;
        let agent = Agent::install(&lab, &binaries)?;
        let collector = Collector::install(&lab, &binaries)?;
        scenario.write_indicators(&agent.intel())?;
        scenario.write_indicators(&collector.intel())?;
        let known = [KnownAgent::of_scene(agent.public_key())];
        collector.configure(&known, Some(&webhook.url()))?;
        agent.configure(&collector.address(), &collector.ca_file())?;
        Ok(Self {
            agent,
            collector,
            webhook,
            internet,
            resolver,
            lab,
        })
    }

    /// Starts collector and agent of a rig that was laid out.
    ///
    /// # Errors
    /// With the end of the log of whatever did not come up.
    pub fn started(mut self) -> Result<Self> {
        self.collector.start()?;
        self.agent.start()?;
        Ok(self)
    }

    /// Acts a scenario on the instance.
    ///
    /// # Errors
    /// Names the step that did not go as written.
    pub fn play(&self, scenario: &Scenario) -> Result<()> {
        play::play(scenario, &self.lab.instance, &self.collector.cloudtrail())
    }

    /// Watches the webhook from now on.
    pub fn watch(&self) -> Watch<'_> {
        Watch::new(&self.webhook)
    }

    /// Every summary the collector has taken in from the agent, in the order of acceptance.
    ///
    /// # Errors
    /// When the journal cannot be read, or holds something the agent did not sign.
    pub fn told(&self) -> Result<Vec<Opened>> {
        let key = self.agent.public_key();
        let journal = self.collector.journal()?;
        journal
            .iter()
            .map(|bytes| story::open(bytes, &key))
            .collect()
    }

    /// Waits until the collector has analysed a window that began at `moment` or later; whatever
    /// happened on the wire before is then told and judged.
    ///
    /// # Errors
    /// When `limit` has passed.
    pub fn until_judged(&self, moment: SystemTime, limit: Duration) -> Result<()> {
        let nanos = moment.duration_since(UNIX_EPOCH)?.as_nanos();
        wait_until("the window after the scene", limit, || {
            let told = self.told()?;
            let later = |one: &Opened| {
                !one.summary.immediate && u128::from(one.summary.window.start_ns) >= nanos
            };
            Ok(told.iter().any(later).then_some(()))
        })?;
        wait_until("the analysis of what was told", limit, || {
            let waiting = self
                .collector
                .metric("picket_collector_journal_waiting_envelopes")?;
            Ok((waiting == 0).then_some(()))
        })
    }

    /// Waits for an incident and returns it.
    ///
    /// # Errors
    /// Shows the incidents there are when `limit` has passed.
    pub fn incident(&self, expected: &Incident, limit: Duration) -> Result<Value> {
        let mut last = Vec::new();
        let waited = wait_until("the incident", limit, || {
            last = self.collector.ask("incidents list")?;
            Ok(last.iter().find(|one| expected.is(one)).cloned())
        });
        waited.map_err(|error| error.context(format!("incidents: {last:?}")))
    }

    /// The last lines of every log, for a person who wants to know what went wrong.
    pub fn tail(&self, lines: usize) -> String {
        let logs = ["agent.err", "agent.out", "collector.err", "collector.out"];
        let mut told = String::new();
        for log in logs {
            let text = std::fs::read(self.lab.folder().join(log)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let all: Vec<&str> = text.lines().collect();
            for line in &all[all.len().saturating_sub(lines)..] {
                told.push_str(&format!("  {log}| {line}\n"));
            }
        }
        told
    }
}

/// Says what this machine lacks for the whole product to run live, or nothing.
pub fn lacking() -> Vec<String> {
    /// Numbers of the capabilities in the kernel's `capability.h`.
    const CAP_NET_ADMIN: u32 = 12;
    const CAP_SYS_ADMIN: u32 = 21;

    let mut lacking = topology::lacking();
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        lacking.push("a kernel with BTF (/sys/kernel/btf/vmlinux)".to_owned());
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or_default();
    for (name, number) in [("NET_ADMIN", CAP_NET_ADMIN), ("SYS_ADMIN", CAP_SYS_ADMIN)] {
        if effective & (1 << number) == 0 {
            lacking.push(format!("the capability {name}, to load kernel programs"));
        }
    }
    lacking
}

/// For a test: says why the product cannot run live here, if it cannot.
pub fn skips() -> bool {
    let lacking = lacking();
    if !lacking.is_empty() {
        eprintln!("skipped: this machine lacks {}", lacking.join(", "));
    }
    !lacking.is_empty()
}
