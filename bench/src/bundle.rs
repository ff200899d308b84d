//! What it takes to give an agent a million addresses and a million domains as one signed bundle, and
//! one entry more while those stand: a real collector that reads them as plain lists, a real agent that
//! asks it, over TLS, until its kernel has them.
//!
//! The names come in no order and share little but their ends: what is on the wire is compared with the
//! lists as they were published, compressed by nobody.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use picket_tests::lab::{Wire, wait_until};
use picket_tests::product::Rig;
use picket_tests::scene::Scenario;
use serde_json::Value;

use crate::Setting;
use crate::capture::Random;
use crate::cpu::resident_mib;
use crate::kernel::{DOMAINS, LISTED, addresses, domains, ipv4};
use crate::report::Report;
use crate::rounds::Samples;

/// How long any of it may take.
const LIMIT: Duration = Duration::from_secs(120);
/// Places of each million that stay free for what is added.
const ROOM: usize = 1_000;
/// Entries that an operator adds, one after the other.
const ADDED: usize = 5;
/// Rounds: each starts both processes anew.
const ROUNDS: usize = 3;

/// Measures.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "needs root");
    let ips: String = addresses(&mut Random::new(1), LISTED)
        .into_iter()
        .skip(ROOM)
        .map(|address| format!("{}\n", ipv4(address)))
        .collect();
    let names: String = domains()
        .into_iter()
        .skip(ROOM)
        .map(|name| name + "\n")
        .collect();
    let published = (ips.len() + names.len()) as f64 / 1e6;
    let mut rows = Rows::default();
    for _ in 0..setting.rounds.min(ROUNDS) {
        round(&ips, &names, published, &mut rows)?;
    }
    report.add("bundle/1m_and_1m_wire", &rows.wire);
    report.add("bundle/1m_and_1m_in_force", &Samples::alone(rows.in_force));
    report.add("bundle/1m_and_1m_agent_peak", &Samples::alone(rows.peak));
    report.add("bundle/1m_and_1m_agent_after", &Samples::alone(rows.after));
    report.add("bundle/add_to_1m_and_1m", &Samples::alone(rows.added));
    Ok(())
}

#[derive(Debug, Default)]
struct Rows {
    wire: Samples,
    in_force: Vec<f64>,
    peak: Vec<f64>,
    after: Vec<f64>,
    added: Vec<f64>,
}

fn round(ips: &str, names: &str, published: f64, rows: &mut Rows) -> Result<()> {
    let mut rig = Rig::lay_out(&Scenario::load("quiet")?, Wire::Ordinary)?;
    fs::write(rig.collector.intel().join("c2-ips.txt"), ips).context("write a list")?;
    fs::write(rig.collector.intel().join("c2-domains.txt"), names).context("write a list")?;
    let key = rig.collector.state().join("signing.pub");
    rig.agent
        .set("indicators", "key_file", key.display().to_string().into())?;
    rig.collector.start()?;
    let standing = wait_until("the collector's own set", LIMIT, || {
        Ok(rig.collector.ask("intel status")?[0]["version"].as_u64())
    })?;

    let began = Instant::now();
    rig.agent.start()?;
    until_in_force(&rig, standing)?;
    rows.in_force.push(began.elapsed().as_secs_f64() * 1e3);
    // Some of the addresses drawn are nobody's, which no list may name.
    let held = intel(&rig)?["entries"].as_u64().unwrap_or_default() as usize;
    let listed = LISTED + DOMAINS as usize;
    ensure!(
        held > listed - listed / 100,
        "the agent holds {held} of {listed}"
    );
    let bundle = rig
        .agent
        .state()
        .join(format!("indicators/{standing}.bundle"));
    let bytes = fs::metadata(&bundle)
        .context("look at the bundle that came")?
        .len();
    rows.wire.add(bytes as f64 / 1e6, published);

    for number in 0..ADDED {
        let began = Instant::now();
        let told = rig.collector.ask(&format!(
            "intel add 203.0.113.{} --category c2",
            200 + number
        ))?;
        let version = told[0]["bundle"].as_u64().context("no version told")?;
        until_in_force(&rig, version)?;
        rows.added.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let pid = rig.agent.process()?.id();
    rows.peak.push(resident_mib(pid, "VmHWM")?);
    rows.after.push(resident_mib(pid, "VmRSS")?);
    Ok(())
}

/// What the agent says of the collector's indicators.
fn intel(rig: &Rig) -> Result<Value> {
    Ok(rig.agent.status()?[0]["intel"].clone())
}

fn until_in_force(rig: &Rig, version: u64) -> Result<()> {
    wait_until("the version in force", LIMIT, || {
        Ok((intel(rig)?["version"].as_u64() >= Some(version)).then_some(()))
    })
    .map_err(|error| error.context(rig.tail(20)))
}
