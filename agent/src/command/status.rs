//! `status`: how the running agent is.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use super::Format;
use crate::block;
use crate::config::Config;
use crate::intel;
use crate::status::{Status, ask};
use crate::telling::LeftOut;

/// Tells how the running agent is
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Configuration file of the agent, which says where it listens
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Socket of the agent, in place of the configured one
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = match &arguments.config {
        Some(file) => Config::load(file)?,
        None => Config::default(),
    };
    let status = ask(arguments.socket.as_ref().unwrap_or(&config.socket))?;
    let text = match arguments.format {
        Format::Jsonl => serde_json::to_string(&status).context("write status")? + "\n",
        Format::Text => shown(&status),
    };
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("write status")
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// The status for a person.
fn shown(status: &Status) -> String {
    let watch = &status.watch;
    let mut lines = vec![
        ("agent", status.agent_id.clone()),
        ("public key", status.public_key.clone()),
        ("version", status.version.clone()),
        ("uptime", format!("{} s", status.uptime_s)),
        (
            "capture",
            format!("{} on {}", watch.rung, watch.interfaces.join(", ")),
        ),
    ];
    for choice in &watch.skipped {
        lines.push(("", format!("not {}: {}", choice.name, choice.why)));
    }
    if let Some(pinned) = &watch.pinned {
        lines.push(("restart", pinned.clone()));
    }
    lines.push(("packets", watch.packets.verdict()));
    for count in &watch.counters {
        let apart = ["not_flow_", "lost_", "dropped_"];
        if apart.iter().any(|begin| count.reason.starts_with(begin)) {
            lines.push((
                "",
                format!("{} {}/{}", count.count, count.stage, count.reason),
            ));
        }
    }
    lines.push(("canary", watch.health.canary_line()));
    if let Some(last) = &watch.health.last_detached {
        let times = watch.health.detached;
        lines.push((
            "detached",
            format!("{times} times by a foreign hand, last {last}"),
        ));
    }
    let indicators = &watch.indicators;
    let kernel = match indicators.kernel.as_str() {
        "yes" => String::new(),
        why => format!(", not in the kernel: {why}"),
    };
    lines.push((
        "indicators",
        format!(
            "{} on {} lists, version {}{kernel}",
            indicators.count, indicators.lists, indicators.version
        ),
    ));
    if let Some(intel) = &status.intel {
        lines.push(("bundle", bundle(intel)));
    }
    for stage in &watch.stages {
        let place = if stage.in_kernel {
            "in the kernel"
        } else {
            "in user space"
        };
        let stage = format!("{} {place}: {}", stage.name, stage.why);
        lines.push(("matching", stage));
    }
    let left_out = watch.left_out;
    if left_out != LeftOut::default() {
        let LeftOut {
            conversations,
            packets,
            questions,
        } = left_out;
        lines.push((
            "filter",
            format!("{conversations} conversations of {packets} packets and {questions} questions left out"),
        ));
    }
    if let Some(privacy) = &watch.privacy {
        lines.push(("privacy", privacy.clone()));
    }
    if watch.blocks > 0 {
        lines.push(("blocking", format!("{} orders in force", watch.blocks)));
    }
    if watch.dry_run_blocks > 0 {
        let orders = watch.dry_run_blocks;
        lines.push((
            "blocking",
            format!("off: it is told what {orders} orders would have blocked"),
        ));
    }
    if let Some(trouble) = &watch.blocks_trouble {
        lines.push(("blocking", trouble.clone()));
    }
    if let Some(orders) = &status.orders {
        lines.push(("orders", ordered(orders)));
    }
    lines.push(("processes", watch.owners.works.join("; ")));
    for lack in &watch.owners.lacks {
        lines.push(("", format!("not {lack}")));
    }
    let (spool, dropped) = (status.spool, status.dropped);
    let lost = dropped.full + dropped.old + dropped.damaged + dropped.unwritten;
    lines.push((
        "spool",
        format!(
            "{} envelopes, {} with hits, {} bytes; {lost} dropped",
            spool.envelopes, spool.hits, spool.bytes
        ),
    ));
    lines.push((
        "memory",
        format!("{} KiB resident", status.resident_bytes / 1024),
    ));
    lines.push((
        "metrics",
        status.metrics.clone().unwrap_or_else(|| "off".to_owned()),
    ));
    let ship = &status.ship;
    let last = match ship.last_ack_s {
        Some(at) => {
            let ago = (crate::watch::now_ns() / 1_000_000_000).saturating_sub(at);
            format!("last took one {ago} s ago")
        }
        None => "took none yet".to_owned(),
    };
    let refused: u64 = ship.refused.values().sum();
    lines.push((
        "collector",
        format!(
            "{}; {} accepted, {refused} refused, {last}",
            status.collector, ship.accepted
        ),
    ));
    if let Some(trouble) = &status.identity {
        lines.push(("identity", trouble.clone()));
    }
    if let Some(trouble) = ship.trouble.as_ref().filter(|_| status.identity.is_none()) {
        lines.push(("trouble", trouble.clone()));
    }
    if !status.fresh {
        lines.push((
            "trouble",
            "the watching thread does not answer; figures are old".to_owned(),
        ));
    }
    lines
        .iter()
        .map(|(name, value)| format!("{name:12}{value}\n"))
        .collect()
}

/// How it stands with the collector's orders, in words.
fn ordered(orders: &block::Report) -> String {
    let told = match orders.version {
        0 if orders.not_offered => "not offered: the collector is of an older version".to_owned(),
        0 if orders.is_file => "from a file".to_owned(),
        0 => "none from the collector yet".to_owned(),
        version => format!("version {version}, {} in it", orders.orders),
    };
    let troubles = [&orders.trouble, &orders.desk_trouble];
    troubles
        .into_iter()
        .flatten()
        .fold(told, |told, trouble| format!("{told}; {trouble}"))
}

/// How it stands with the collector's indicators, in words.
fn bundle(intel: &intel::Report) -> String {
    let mut told = match intel.version {
        0 if intel.not_offered => "not offered: the collector is of an older version".to_owned(),
        0 => "none from the collector yet".to_owned(),
        version => format!(
            "version {version}, {} entries on {} lists",
            intel.entries, intel.lists
        ),
    };
    for why in [&intel.stale, &intel.trouble].into_iter().flatten() {
        told = format!("{told}; {why}");
    }
    told
}
