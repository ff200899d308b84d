//! How fast a capture is read: `picket-agent inspect` against tshark, asked for the same (addresses,
//! ports, DNS, TLS), and against softflowd, which counts flows and nothing more.
//!
//! All of them read the same packets, of a file that is in memory after the first round; tshark a
//! shorter one of the same mix, because it takes minutes for the whole. Packets per CPU second,
//! user and kernel together, so that what else the machine does counts little.

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Setting;
use crate::capture;
use crate::cpu::used_by;
use crate::report::Report;
use crate::rounds::{Samples, interleaved};

/// Packets of the capture.
const PACKETS: u32 = 2_000_000;
/// Packets of the one for tshark.
const PACKETS_TSHARK: u32 = 200_000;
/// Fields that tshark is asked for.
const FIELDS: &[&str] = &[
    "frame.time_epoch",
    "frame.len",
    "ip.src",
    "ip.dst",
    "ip.proto",
    "tcp.srcport",
    "tcp.dstport",
    "udp.srcport",
    "udp.dstport",
    "tcp.flags",
    "tcp.stream",
    "udp.stream",
    "dns.id",
    "dns.flags.response",
    "dns.flags.rcode",
    "dns.qry.name",
    "dns.qry.type",
    "dns.a",
    "tls.handshake.extensions_server_name",
    "tls.handshake.ja3",
];

/// Measures.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let whole = setting.scratch.join("mixed.pcap");
    let short = setting.scratch.join("mixed-short.pcap");
    capture::write(&whole, PACKETS)?;
    capture::write(&short, PACKETS_TSHARK)?;
    let agent = &setting.binaries.agent;
    expect_packets(agent, &short)?;

    let ours = || per_cpu_s(inspect(agent, &whole), PACKETS);
    let has = |tool: &str| Command::new(tool).arg("-h").output().is_ok();
    // Flow records go to a socket that nobody reads.
    let sink = UdpSocket::bind("127.0.0.1:0").context("bind")?;
    let to = sink.local_addr().context("our address")?.to_string();
    let softflowd = || per_cpu_s(softflowd(&whole, &to), PACKETS);
    if has("softflowd") {
        let columns = interleaved(setting.rounds, &mut [&mut || ours(), &mut || softflowd()])?;
        let samples = pair(columns)?;
        report.add("agent/inspect_mixed", &Samples::alone(samples.ours.clone()));
        report.add("agent/inspect_mixed_vs_softflowd", &samples);
    } else {
        let columns = interleaved(setting.rounds, &mut [&mut || ours()])?;
        report.add("agent/inspect_mixed", &Samples::alone(columns.concat()));
        report.lacks(
            "agent/inspect_mixed_vs_softflowd",
            "softflowd is not installed",
        );
    }
    if has("tshark") {
        let tshark = || per_cpu_s(tshark(&short), PACKETS_TSHARK);
        let columns = interleaved(3, &mut [&mut || ours(), &mut || tshark()])?;
        report.add("agent/inspect_mixed_vs_tshark", &pair(columns)?);
    } else {
        report.lacks("agent/inspect_mixed_vs_tshark", "tshark is not installed");
    }
    Ok(())
}

/// Makes sure that what is measured reads what was written.
fn expect_packets(agent: &Path, capture: &Path) -> Result<()> {
    let output = inspect(agent, capture)
        .output()
        .context("start picket-agent")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let totals = text.lines().last().context("inspect said nothing")?;
    let totals: Value = serde_json::from_str(totals).context("inspect's totals")?;
    ensure!(
        totals["packets"] == PACKETS_TSHARK,
        "inspect told: {totals}"
    );
    for what in ["flows", "dns_queries", "dns_responses", "tls_client_hellos"] {
        ensure!(
            totals[what].as_u64() > Some(0),
            "inspect told no {what}: {totals}"
        );
    }
    Ok(())
}

fn inspect(agent: &Path, capture: &Path) -> Command {
    let mut command = Command::new(agent);
    command
        .arg("inspect")
        .arg(capture)
        .args(["--format", "jsonl"]);
    command
}

fn softflowd(capture: &Path, to: &str) -> Command {
    let mut command = Command::new("softflowd");
    command.arg("-d").arg("-r").arg(capture).args(["-n", to]);
    command
}

fn tshark(capture: &Path) -> Command {
    let mut command = Command::new("tshark");
    command
        .arg("-n")
        .arg("-r")
        .arg(capture)
        .args(["-T", "fields"]);
    for field in FIELDS {
        command.args(["-e", field]);
    }
    command
}

/// Millions of packets per CPU second.
fn per_cpu_s(mut command: Command, packets: u32) -> Result<f64> {
    Ok(f64::from(packets) / used_by(&mut command)? / 1e6)
}

fn pair(columns: Vec<Vec<f64>>) -> Result<Samples> {
    let [ours, baseline]: [Vec<f64>; 2] = columns.try_into().ok().context("two columns")?;
    Ok(Samples { ours, baseline })
}
