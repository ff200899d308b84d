//! What must hold on every kernel: one function and one line of [`CHECKS`] each.

use anyhow::{Context, Result, ensure};
use picket_wire::{App, BlockAct, Conversation, Hit, HitKind, Summary};
use serde_json::Value;

use super::programs::Program;
use super::traffic::{BLOCK_ORDER, Counted, Sent};

/// What was told of the traffic, by the agent and by the kernel.
#[derive(Debug)]
pub(crate) struct Told {
    /// `picket-agent status`.
    pub(crate) status: Value,
    /// Every summary the collector took in.
    pub(crate) summaries: Vec<Summary>,
    /// The programs of the object.
    pub(crate) programs: Vec<Program>,
    /// What was sent.
    pub(crate) sent: Sent,
    /// What was sent while the agent was killed and started again.
    pub(crate) over_restart: Counted,
    /// What of the agent was still in the kernel after `detach`.
    pub(crate) left: Vec<String>,
}

/// A name, and what says in a word or two how it fared, or at length why it failed.
pub(crate) type Check = (&'static str, fn(&Told) -> Result<String>);

/// Every check, in the order in which they are told.
pub(crate) const CHECKS: &[Check] = &[
    ("programs loaded", programs_loaded),
    ("programs attached", programs_attached),
    ("most instructions verified", within_budget),
    ("packets seen, none lost", equation_holds),
    ("packets counted exactly", counted_exactly),
    ("a listed address is told", address_told),
    ("a listed name is told", name_told),
    ("names and miners in the kernel", stages_in_kernel),
    ("a miner's opening is known", miner_known),
    ("process known", process_known),
    ("blocked by an order", block_obeyed),
    ("counted over kill and start", restart_exact),
    ("left in the kernel after detach", nothing_left),
];

/// A twentieth of what a verifier goes through before it refuses (`BPF_COMPLEXITY_LIMIT_INSNS`), so
/// that one of another version, which follows other paths, still takes our programs; and it is done
/// within some milliseconds.
const VERIFIED_MAX: u32 = 50_000;

/// Programs that see packets.
const PACKETS: [&str; 6] = [
    "ether_in",
    "ether_out",
    "ip_in",
    "ip_out",
    "lo_out",
    "mirror_in",
];

fn programs_loaded(told: &Told) -> Result<String> {
    let missing: Vec<&str> = told
        .programs
        .iter()
        .filter(|program| !program.loaded)
        .map(|program| program.name.as_str())
        .collect();
    ensure!(missing.is_empty(), "not loaded: {}", missing.join(", "));
    ensure!(!told.programs.is_empty(), "the object holds no program");
    Ok(told.programs.len().to_string())
}

/// What sees packets hangs by the rung and by nothing else, what sees sockets at the control group.
fn programs_attached(told: &Told) -> Result<String> {
    let rung = told.status["rung"].as_str().unwrap_or_default();
    let mut attached = 0;
    for program in &told.programs {
        let expected = match program.name.as_str() {
            "names" | "stratum" => None,
            "process_exec" => Some("tracepoint"),
            name if PACKETS.contains(&name) => Some(rung),
            _ => Some("cgroup"),
        };
        let by: Vec<&str> = program.attached.iter().copied().collect();
        ensure!(
            by == expected.as_slice(),
            "{} by {by:?}, not by {expected:?}",
            program.name
        );
        attached += by.len();
    }
    Ok(attached.to_string())
}

fn within_budget(told: &Told) -> Result<String> {
    let most = told.programs.iter().max_by_key(|program| program.verified);
    let most = most.context("the object holds no program")?;
    // From 5.16 on a kernel tells.
    let Some(verified) = most.verified else {
        return Ok("not told".to_owned());
    };
    ensure!(
        verified <= VERIFIED_MAX,
        "{} took {verified} of {VERIFIED_MAX} instructions",
        most.name
    );
    Ok(verified.to_string())
}

fn equation_holds(told: &Told) -> Result<String> {
    let packets = &told.status["packets"];
    ensure!(packets["equation_holds"] == true, "{packets}");
    let lost = packets["lost"].as_u64().context("status tells no loss")?;
    ensure!(
        lost == 0,
        "{lost} packets lost: {}",
        told.status["counters"]
    );
    Ok(packets["seen"].to_string())
}

fn counted_exactly(told: &Told) -> Result<String> {
    for counted in &told.sent.counted {
        is_exact(told, counted)?;
    }
    let sent: u64 = told.sent.counted.iter().map(|one| one.packets).sum();
    Ok(sent.to_string())
}

fn restart_exact(told: &Told) -> Result<String> {
    is_exact(told, &told.over_restart)?;
    ensure!(
        told.summaries.iter().all(|summary| summary.gap.is_none()),
        "a gap is told"
    );
    Ok(told.over_restart.packets.to_string())
}

/// A qdisc that we found missing and added stays: others may hang on it, and the kernel takes away
/// what hangs on it together with it.
fn nothing_left(told: &Told) -> Result<String> {
    ensure!(told.left.is_empty(), "{}", told.left.join(", "));
    let is_clsact = told.status["rung"] == "clsact";
    Ok(if is_clsact { "empty clsact" } else { "nothing" }.to_owned())
}

/// Whether conversations tell of every packet and every byte, and of no more.
fn is_exact(told: &Told, counted: &Counted) -> Result<()> {
    let of_it = |one: &&Conversation| {
        let ends = [(one.client, one.client_port), (one.server, one.server_port)];
        let ends_are = |from, to| ends == [from, to] || ends == [to, from];
        // The client's port is folded: 0 where a conversation holds several.
        let (from, to) = (counted.from, counted.to);
        ends_are((from.ip(), from.port()), (to.ip(), to.port()))
            || ends_are((from.ip(), 0), (to.ip(), to.port()))
    };
    let (packets, bytes) = conversations(told).filter(of_it).fold((0, 0), |sum, one| {
        (
            sum.0 + one.packets_out + one.packets_in,
            sum.1 + one.bytes_out + one.bytes_in,
        )
    });
    let Counted {
        from,
        to,
        packets: sent,
        packet_bytes,
    } = counted;
    ensure!(
        (packets, bytes) == (*sent, sent * packet_bytes),
        "{from} sent {sent} packets of {packet_bytes} bytes to {to}; told: {packets} packets, {bytes} bytes"
    );
    Ok(())
}

fn address_told(told: &Told) -> Result<String> {
    let hit = hit(told, HitKind::Address, "203.0.113.66")?;
    Ok(hit.list.clone())
}

fn name_told(told: &Told) -> Result<String> {
    let hit = hit(told, HitKind::Question, "cdn-sync.example")?;
    Ok(hit.list.clone())
}

fn stages_in_kernel(told: &Told) -> Result<String> {
    let stages = told.status["stages"].as_array();
    let stages = stages.context("status tells no stages")?;
    for stage in stages {
        ensure!(stage["in_kernel"] == true, "{stage}");
    }
    ensure!(stages.len() == 2, "{} stages", stages.len());
    Ok(format!("{} stages", stages.len()))
}

fn miner_known(told: &Told) -> Result<String> {
    let is_miner = |one: &&Conversation| {
        let content = one.content.as_ref();
        content.is_some_and(|content| content.app == Some(App::Stratum))
    };
    let found = conversations(told).find(is_miner);
    let found = found.context("no conversation is told as a miner's")?;
    Ok(format!("port {}", found.server_port))
}

/// Everything in the scenes was done by this very process.
fn process_known(told: &Told) -> Result<String> {
    let us = std::process::id();
    let question = hit(told, HitKind::Question, "cdn-sync.example")?;
    let who = question.process.as_ref().context("nobody asked")?;
    ensure!(who.pid == us, "{} ({}) asked, not {us}", who.name, who.pid);
    let server = told.sent.counted.first().context("nothing was sent")?.to;
    let sent = conversations(told)
        .find(|one| (one.server, one.server_port) == (server.ip(), server.port()))
        .and_then(|one| one.process.as_ref())
        .context("nobody sent")?;
    ensure!(
        sent.pid == us,
        "{} ({}) sent, not {us}",
        sent.name,
        sent.pid
    );
    Ok(who.name.clone())
}

/// What is ordered does not arrive, is counted, and is told of.
fn block_obeyed(told: &Told) -> Result<String> {
    let blocked = told.sent.blocked;
    ensure!(
        blocked.arrived == 0,
        "{} packets arrived although an order covers them",
        blocked.arrived
    );
    let mut events = told.summaries.iter().flat_map(|summary| &summary.blocks);
    let dropped = events
        .find(|event| event.act == BlockAct::Dropped)
        .context("no dropped packet is told of")?;
    ensure!(
        dropped.order == BLOCK_ORDER,
        "by order {}, not {BLOCK_ORDER}",
        dropped.order
    );
    let counters = told.summaries.iter().flat_map(|summary| &summary.counters);
    let refused: u64 = counters
        .filter(|one| (one.stage.as_str(), one.reason.as_str()) == ("block", "refused"))
        .map(|one| one.count)
        .sum();
    ensure!(
        refused == blocked.packets,
        "{} packets sent, {refused} counted as refused",
        blocked.packets
    );
    Ok(format!("{refused} of {}", blocked.packets))
}

/// The hit of a kind for an indicator.
fn hit<'a>(told: &'a Told, kind: HitKind, indicator: &str) -> Result<&'a Hit> {
    let mut hits = told.summaries.iter().flat_map(|summary| &summary.hits);
    hits.find(|hit| hit.kind == kind && hit.indicator == indicator)
        .with_context(|| {
            let all = told.summaries.iter().flat_map(|summary| &summary.hits);
            let all: Vec<&str> = all.map(|hit| hit.indicator.as_str()).collect();
            format!("no hit for {indicator} among [{}]", all.join(", "))
        })
}

fn conversations(told: &Told) -> impl Iterator<Item = &Conversation> {
    told.summaries
        .iter()
        .flat_map(|summary| &summary.conversations)
}
