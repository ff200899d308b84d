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

/// A name, and what says in a few words how it fared or why it failed.
pub(crate) type Check = (&'static str, fn(&Told) -> Result<String>);

/// Every check, in the order in which they are told.
pub(crate) const CHECKS: &[Check] = &[
    ("every program is loaded", programs_loaded),
    ("no program strains the verifier", within_budget),
    ("every packet is accounted for", equation_holds),
    ("packets are counted exactly", counted_exactly),
    ("a listed address is told", address_told),
    ("a listed name is told", name_told),
    (
        "names and miners are matched in the kernel",
        stages_in_kernel,
    ),
    ("a miner's opening is known", miner_known),
    ("who asked and who sent is known", process_known),
    ("an order to block is obeyed", block_obeyed),
    ("a kill and a start lose no packet", restart_exact),
    ("nothing stays after detach", nothing_left),
];

/// A twentieth of what a verifier goes through before it refuses (`BPF_COMPLEXITY_LIMIT_INSNS`), so
/// that one of another version, which follows other paths, still takes our programs; and it is done
/// within some milliseconds.
const VERIFIED_MAX: u32 = 50_000;

fn programs_loaded(told: &Told) -> Result<String> {
    let missing: Vec<&str> = told
        .programs
        .iter()
        .filter(|program| !program.loaded)
        .map(|program| program.name.as_str())
        .collect();
    ensure!(missing.is_empty(), "not loaded: {}", missing.join(", "));
    ensure!(!told.programs.is_empty(), "the object holds no program");
    Ok(format!("{} programs", told.programs.len()))
}

fn within_budget(told: &Told) -> Result<String> {
    let most = told.programs.iter().max_by_key(|program| program.verified);
    let most = most.context("the object holds no program")?;
    let verified = most.verified.context("the kernel does not tell")?;
    ensure!(
        verified <= VERIFIED_MAX,
        "{} took {verified} of {VERIFIED_MAX} instructions",
        most.name
    );
    Ok(format!("{} took {verified}, the most", most.name))
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
    Ok(format!("{} seen, none lost", packets["seen"]))
}

fn counted_exactly(told: &Told) -> Result<String> {
    for counted in &told.sent.counted {
        is_exact(told, counted)?;
    }
    let sent: Vec<String> = told
        .sent
        .counted
        .iter()
        .map(|one| one.packets.to_string())
        .collect();
    Ok(format!("{} packets", sent.join(" and ")))
}

fn restart_exact(told: &Told) -> Result<String> {
    is_exact(told, &told.over_restart)?;
    ensure!(
        told.summaries.iter().all(|summary| summary.gap.is_none()),
        "a gap is told"
    );
    Ok(format!("{} packets", told.over_restart.packets))
}

fn nothing_left(told: &Told) -> Result<String> {
    ensure!(told.left.is_empty(), "{}", told.left.join(", "));
    Ok("no program, no pin".to_owned())
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
    Ok(format!("{} on {}", hit.indicator, hit.list))
}

fn name_told(told: &Told) -> Result<String> {
    let hit = hit(told, HitKind::Question, "cdn-sync.example")?;
    let name = hit.name.as_deref().unwrap_or_default();
    Ok(format!("{name} for {}", hit.indicator))
}

fn stages_in_kernel(told: &Told) -> Result<String> {
    let stages = told.status["stages"].as_array();
    let stages = stages.context("status tells no stages")?;
    for stage in stages {
        ensure!(stage["in_kernel"] == true, "{stage}");
    }
    ensure!(stages.len() == 2, "{} stages", stages.len());
    Ok("names, stratum".to_owned())
}

fn miner_known(told: &Told) -> Result<String> {
    let is_miner = |one: &&Conversation| {
        let content = one.content.as_ref();
        content.is_some_and(|content| content.app == Some(App::Stratum))
    };
    let found = conversations(told).find(is_miner);
    let found = found.context("no conversation is told as a miner's")?;
    Ok(format!("{}:{}", found.server, found.server_port))
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
    Ok(format!("{} ({us})", who.name))
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
    Ok(format!("{refused} packets refused, none arrived"))
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
