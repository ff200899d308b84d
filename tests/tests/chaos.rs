//! Everything breaks, again and again, under load: what the agent saw is stored exactly once, or is
//! counted as lost.
//!
//! `make chaos` runs this and shows the figures. `PICKET_CHAOS_SEED` repeats the moments of a run.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use picket_tests::lab::load::{Round, Sent};
use picket_tests::lab::{Clock, Load, Wire, wait_until};
use picket_tests::product::Rig;
use picket_tests::product::rig::skips;
use picket_tests::product::story::Opened;
use picket_tests::scene::Scenario;
use picket_wire::{Digest, HitKind};
use serde_json::Value;

/// How long what waits may take to arrive once nothing is broken any more: the agent's longest
/// pause is a minute.
const SETTLE_LIMIT: Duration = Duration::from_secs(90);

/// How often the collector is killed.
const KILLS: u64 = 20;

/// Where the listed datagrams go, and where the others.
const LISTED: &str = "203.0.113.66:4444";
const LISTED_PORT: u16 = 4444;
const PLAIN: &str = "203.0.113.77:20000";

/// Numbers that are the same for the same seed (SplitMix64, Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    /// From `PICKET_CHAOS_SEED`, or of the moment; says which.
    fn seeded() -> Self {
        let given = std::env::var("PICKET_CHAOS_SEED").ok();
        let seed = given.map_or_else(
            || {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                since.as_nanos() as u64
            },
            |seed| seed.parse().unwrap(),
        );
        println!("chaos: PICKET_CHAOS_SEED={seed} repeats this run");
        Self(seed)
    }

    /// A number in `range`.
    fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        range.start + (mixed ^ (mixed >> 31)) % (range.end - range.start)
    }
}

/// A rig whose agent closes a window each second.
fn lay_out() -> Rig {
    let scenario = Scenario::load("c2-lookup").unwrap();
    let rig = Rig::lay_out(&scenario, Wire::Plain).unwrap();
    rig.agent.set("", "window_s", 1.into()).unwrap();
    // Clocks jump by an hour here, and what is in the journal is what is looked at.
    let day = 86_400;
    rig.collector
        .set("store", "journal_keep_s", day.into())
        .unwrap();
    rig
}

fn round(spray_ports: u16, pause_ms: u64) -> Round {
    Round {
        fresh: LISTED.parse().unwrap(),
        spray: PLAIN.parse().unwrap(),
        spray_ports,
        pause: Duration::from_millis(pause_ms),
    }
}

/// What the collector has stored of the load.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Stored {
    /// Datagrams in conversations, listed and others.
    listed: u64,
    plain: u64,
    /// Hits by the port they came from.
    hits: BTreeMap<u16, u64>,
}

impl Stored {
    fn of(told: &[Opened]) -> Self {
        let mut stored = Self::default();
        let plain_first: u16 = PLAIN.split(':').nth(1).unwrap().parse().unwrap();
        for summary in told.iter().map(|one| &one.summary) {
            for hit in summary
                .hits
                .iter()
                .filter(|hit| hit.kind == HitKind::Address)
            {
                *stored.hits.entry(hit.src_port).or_default() += 1;
            }
            for one in &summary.conversations {
                match one.server_port {
                    LISTED_PORT => stored.listed += one.packets_out,
                    port if port >= plain_first && one.protocol == 17 => {
                        stored.plain += one.packets_out;
                    }
                    _ => {}
                }
            }
        }
        stored
    }
}

/// Sequences of each run, each once; says how many are missing below the highest.
fn missing(told: &[Opened]) -> u64 {
    let mut runs: BTreeMap<_, BTreeMap<u64, &Opened>> = BTreeMap::new();
    for one in told {
        let run = runs.entry(one.header.boot).or_default();
        let twice = run.insert(one.header.sequence, one);
        assert!(
            twice.is_none(),
            "sequence {} is stored twice",
            one.header.sequence
        );
    }
    let mut missing = 0;
    for run in runs.values() {
        for (sequence, one) in run {
            let previous = sequence.checked_sub(1).map(|before| run.get(&before));
            match previous {
                None => assert_eq!(one.header.previous, Digest::default()),
                Some(Some(before)) => assert_eq!(one.header.previous, Digest::of(&before.bytes)),
                Some(None) => {}
            }
        }
        let highest = run.keys().next_back().map_or(0, |last| last + 1);
        missing += highest - run.len() as u64;
    }
    missing
}

fn status(rig: &Rig) -> Result<Value> {
    Ok(rig.agent.status()?.swap_remove(0))
}

/// Waits until nothing waits at the agent and the last round was told.
fn settle(rig: &Rig, sent: Sent) -> Vec<Opened> {
    let began = Instant::now();
    let mut last = (Stored::default(), Value::Null);
    let settled = wait_until("everything to arrive", SETTLE_LIMIT, || {
        let status = status(rig)?;
        let told = rig.told()?;
        last = (Stored::of(&told), status["spool"].clone());
        let all_came = last.0.listed >= sent.rounds && last.1["envelopes"] == 0;
        Ok(all_came.then_some(told))
    });
    let (stored, spool) = &last;
    let hits: u64 = stored.hits.values().sum();
    assert!(
        settled.is_ok(),
        "{sent:?}, stored {} and {}, {hits} hits, spool {spool}\n{}",
        stored.listed,
        stored.plain,
        rig.tail(30)
    );
    let seconds = began.elapsed().as_secs_f64();
    println!("chaos: settled after {seconds:.1} s");
    settled.unwrap()
}

/// Sum of what the agent says did not reach the collector.
fn dropped(status: &Value) -> u64 {
    let reasons = status["dropped"].as_object().unwrap();
    reasons.values().map(|count| count.as_u64().unwrap()).sum()
}

fn open_gaps(rig: &Rig) -> Vec<Value> {
    rig.collector
        .ask("findings list --open --type DefenseEvasion:EC2/SensorGap")
        .unwrap()
}

/// The collector is killed twenty times at random; in between the wire is cut, either disk fills
/// up, and the agent's clock jumps an hour ahead and back.
#[test]
fn whatever_breaks_everything_is_stored_once() {
    if skips() {
        return;
    }
    let mut random = Random::seeded();
    let mut rig = lay_out();
    rig.collector.keep_on_disk(256 << 20).unwrap();
    rig.agent.keep_on_disk(64 << 20).unwrap();
    let agent_clock = Clock::new(rig.lab.folder(), "agent").unwrap();
    let collector_clock = Clock::new(rig.lab.folder(), "collector").unwrap();
    match (&agent_clock, &collector_clock) {
        (Some(agent), Some(collector)) => {
            rig.agent.live_by(agent);
            rig.collector.live_by(collector);
        }
        _ => eprintln!("clocks stay right: libfaketime is not installed"),
    }
    let mut rig = rig.started().unwrap();
    let began = Instant::now();
    let load = Load::start(&rig.lab.instance, round(4, 5)).unwrap();
    let mut backlog_max = 0;
    for kill in 0..KILLS {
        load.until_more(random.within(20..150)).unwrap();
        rig.collector.kill().unwrap();
        load.until_more(random.within(1..60)).unwrap();
        if kill == 11 {
            // Both at once: no collector, and no disk to wait on.
            rig.agent.disk().unwrap().fill().unwrap();
            load.until_more(150).unwrap();
            rig.agent.disk().unwrap().free().unwrap();
        }
        rig.collector.start().unwrap();
        match kill {
            3 => {
                rig.lab.collector.ip("link set mgmt0 down").unwrap();
                load.until_more(random.within(200..400)).unwrap();
                rig.lab.collector.ip("link set mgmt0 up").unwrap();
            }
            7 => {
                rig.collector.disk().unwrap().fill().unwrap();
                load.until_more(random.within(200..400)).unwrap();
                rig.collector.disk().unwrap().free().unwrap();
            }
            15 => {
                let Some(clock) = &agent_clock else { continue };
                clock.set_ahead(3_600).unwrap();
                load.until_more(random.within(400..600)).unwrap();
                clock.set_ahead(0).unwrap();
            }
            _ => {}
        }
        let waiting = status(&rig).unwrap()["spool"]["envelopes"]
            .as_u64()
            .unwrap();
        backlog_max = backlog_max.max(waiting);
    }
    // What was signed an hour ahead is taken when that hour has come.
    if let Some(clock) = &collector_clock {
        clock.set_ahead(3_600).unwrap();
    }
    let sent = load.end().unwrap();
    let told = settle(&rig, sent);
    let status = status(&rig).unwrap();
    println!(
        "chaos: {KILLS} kills in {:.0} s; sent {} listed and {} other datagrams; {} envelopes of {} \
         bytes stored; most waiting {backlog_max}; answers {} accepted, {} duplicate, refused {}; \
         dropped {}",
        began.elapsed().as_secs_f64(),
        sent.rounds,
        sent.sprayed,
        told.len(),
        told.iter().map(|one| one.bytes.len()).sum::<usize>(),
        status["ship"]["accepted"],
        status["ship"]["duplicate"],
        status["ship"]["refused"],
        status["dropped"],
    );

    assert_eq!(missing(&told), 0);
    assert_eq!(dropped(&status), 0, "{status}");
    let stored = Stored::of(&told);
    assert_eq!((stored.listed, stored.plain), (sent.rounds, sent.sprayed));
    let once: BTreeSet<u64> = stored.hits.values().copied().collect();
    assert_eq!(once, BTreeSet::from([1]), "a hit of each listed flow");
    assert_eq!(stored.hits.len() as u64, sent.rounds);
    assert!(told.len() as u64 * 2 < sent.rounds, "hits share envelopes");
    wait_until("the gaps to close", SETTLE_LIMIT, || {
        Ok(open_gaps(&rig).is_empty().then_some(()))
    })
    .unwrap();
}

/// An outage longer than the spool reaches back: what did not fit is counted at both ends alike,
/// and hits, which go last, are all there.
#[test]
fn what_the_spool_cannot_hold_is_counted_at_both_ends() {
    if skips() {
        return;
    }
    let rig = lay_out();
    rig.agent
        .set("spool", "bytes_max", (1 << 20).into())
        .unwrap();
    let mut rig = rig.started().unwrap();
    let load = Load::start(&rig.lab.instance, round(200, 10)).unwrap();
    load.until_more(50).unwrap();
    rig.collector.kill().unwrap();
    wait_until("the spool to overflow", SETTLE_LIMIT, || {
        Ok((dropped(&status(&rig)?) >= 3).then_some(()))
    })
    .unwrap();
    rig.collector.start().unwrap();
    let sent = load.end().unwrap();

    let told = wait_until("the rest to arrive", SETTLE_LIMIT, || {
        let told = rig.told()?;
        let hits: u64 = Stored::of(&told).hits.values().sum();
        let waiting = &status(&rig)?["spool"]["envelopes"];
        Ok((hits >= sent.rounds && *waiting == 0).then_some(told))
    })
    .unwrap();
    let status = status(&rig).unwrap();
    let stored = Stored::of(&told);
    assert_eq!(stored.hits.len() as u64, sent.rounds, "every hit");
    assert!(stored.hits.values().all(|count| *count == 1), "each once");
    assert!(stored.plain < sent.sprayed, "something was lost");
    let lost = dropped(&status);
    println!(
        "chaos: {} envelopes stored, {} dropped by the spool and missing in the chain; {} of {} \
         datagrams told",
        told.len(),
        lost,
        stored.plain,
        sent.sprayed
    );
    assert_eq!(status["dropped"]["full"], lost, "{status}");
    // The newest envelope may still wait to be followed by another.
    assert_eq!(missing(&told), lost);
    wait_until("the collector to say so", SETTLE_LIMIT, || {
        let gaps = open_gaps(&rig);
        let says = |gap: &Value| {
            let why = gap["picket"]["why"].as_str().unwrap_or_default();
            why.contains(&format!("{lost} "))
        };
        Ok(gaps.iter().any(says).then_some(()))
    })
    .unwrap();
}
