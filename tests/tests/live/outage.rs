//! What breaks, breaks without loss, or says what was lost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use picket_tests::lab::tap::Recording;
use picket_tests::lab::topology::SCENE_INTERFACE;
use picket_tests::lab::{Wire, wait_until};
use picket_tests::product::Rig;
use picket_tests::product::rig::skips;
use picket_tests::product::story::{Opened, Story};
use picket_tests::scene::pcap::Timed;
use picket_tests::scene::{Scenario, Step, play};
use picket_wire::{Cut, Digest, HitKind, Window};

const LIMIT: Duration = Duration::from_secs(90);

/// Calls the control server once more, from a fresh port.
fn call(rig: &Rig, to: SocketAddr) {
    let step = Step::Talk {
        to,
        say: "still here\n".to_owned(),
    };
    rig.lab.instance.run(|| play::act(&step)).unwrap().unwrap();
}

/// Calls until `windows` borders of a window have passed.
fn call_over(rig: &Rig, to: SocketAddr, windows: u64) {
    let border = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_secs() / 10
    };
    let last = border() + windows;
    wait_until("the windows to pass", LIMIT, || {
        call(rig, to);
        Ok((border() >= last).then_some(()))
    })
    .unwrap();
}

/// Frames of a recording that have `port` at one end, over TCP and IPv4.
fn with_port(frames: &[Timed], port: u16) -> u64 {
    let has = |timed: &&Timed| {
        let frame = &timed.frame;
        let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        frame.len() >= 38
            && frame[12..14] == [8, 0]
            && frame[23] == 6
            && (word(34) == port || word(36) == port)
    };
    frames.iter().filter(has).count() as u64
}

/// Packets that conversations with `port` at the server hold.
fn told_with_port(story: &Story, port: u16) -> u64 {
    let with = story
        .conversations
        .iter()
        .filter(|one| one.server_port == port);
    with.map(|one| one.packets_out + one.packets_in).sum()
}

/// Every packet to and from `port` that was on the wire was told, and told once.
fn assert_counted(told: &[Opened], frames: &[Timed], port: u16) {
    let windows = told.iter().filter(|one| !one.summary.immediate);
    let mut lines = Vec::new();
    for Window { start_ns, end_ns } in windows.clone().map(|one| one.summary.window) {
        let inside = |timed: &&Timed| {
            let at = timed.at.as_nanos();
            u128::from(start_ns) <= at && at < u128::from(end_ns)
        };
        let inside: Vec<Timed> = frames.iter().filter(inside).cloned().collect();
        let said = windows
            .clone()
            .filter(|one| one.summary.window.start_ns == start_ns);
        let said = Story::of(said.map(|one| &one.summary));
        lines.push(format!(
            "window {}: {} told, {} on the wire",
            start_ns / 1_000_000_000,
            told_with_port(&said, port),
            with_port(&inside, port)
        ));
    }
    let all = Story::of(told.iter().map(|one| &one.summary));
    assert_eq!(
        told_with_port(&all, port),
        with_port(frames, port),
        "port {port}; {}; lost: {}",
        lines.join("; "),
        cuts(told)
    );
}

/// Every flow to `port` met its indicator. A port that was used again may make one flow of two
/// calls, never more hits than calls.
fn assert_hits(told: &[Opened], frames: &[Timed], port: u16) {
    let hits = told.iter().flat_map(|one| &one.summary.hits);
    let mut hits_from: BTreeMap<u16, usize> = BTreeMap::new();
    for hit in hits.filter(|hit| hit.kind == HitKind::Address && hit.dst_port == port) {
        *hits_from.entry(hit.src_port).or_default() += 1;
    }
    let calls_from = openings(frames, port);
    assert!(calls_from.len() > 5, "too few calls to learn from");
    for (from, calls) in &calls_from {
        let hits = hits_from.remove(from).unwrap_or_default();
        assert!(
            (1..=*calls).contains(&hits),
            "{hits} hits for {calls} calls from port {from} to {port}, lost: {}",
            cuts(told)
        );
    }
    assert!(hits_from.is_empty(), "hits without calls: {hits_from:?}");
}

/// Every run is numbered from 0 without holes, and each envelope names the one before it.
fn assert_chained(told: &[Opened]) {
    let boots: BTreeSet<_> = told.iter().map(|one| one.header.boot).collect();
    for boot in boots {
        let mut previous = Digest::default();
        let mut run: Vec<&Opened> = told.iter().filter(|one| one.header.boot == boot).collect();
        run.sort_by_key(|one| one.header.sequence);
        for (number, one) in run.iter().enumerate() {
            assert_eq!(one.header.sequence, number as u64);
            assert_eq!(one.header.previous, previous);
            previous = Digest::of(&one.bytes);
        }
    }
}

/// Ports of the instance from which `port` was called, and how often.
fn openings(frames: &[Timed], port: u16) -> BTreeMap<u16, usize> {
    const SYN_ALONE: u8 = 0x02;

    let mut openings = BTreeMap::new();
    for Timed { frame, .. } in frames {
        let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let is_tcp = frame.len() >= 54 && frame[12..14] == [8, 0] && frame[23] == 6;
        if is_tcp && word(36) == port && frame[47] == SYN_ALONE {
            *openings.entry(word(34)).or_default() += 1;
        }
    }
    openings
}

/// What was left out of summaries or lost on the way to them.
fn cuts(told: &[Opened]) -> String {
    let mut lost: Vec<String> = Vec::new();
    for summary in told.iter().map(|one| &one.summary) {
        if summary.cut != Cut::default() {
            lost.push(format!("{:?}", summary.cut));
        }
        let counters = summary.counters.iter();
        let bad = counters.filter(|one| one.count > 0 && one.reason.contains("lost"));
        lost.extend(bad.map(|one| format!("{} {} {}", one.stage, one.reason, one.count)));
    }
    lost.join(", ")
}

/// The time of each hit to port 4444 is that of a packet of its flow on the wire, as a clock of
/// user space saw it.
fn assert_times_are_the_wires(told: &[Opened], frames: &[Timed]) {
    /// The tap wakes up after the packet; a busy machine makes it wait. Kernel time that was
    /// converted wrongly is off by the time since boot, or by leap seconds.
    const APART_MAX: Duration = Duration::from_millis(500);

    let hits = told.iter().flat_map(|one| &one.summary.hits);
    for hit in hits.filter(|hit| hit.kind == HitKind::Address && hit.dst_port == 4444) {
        let at = Duration::from_nanos(hit.time_ns);
        let port = hit.src_port.to_be_bytes();
        let mut seen = frames
            .iter()
            .filter(|timed| timed.frame.get(34..36) == Some(&port));
        let near = seen.any(|timed| timed.at.abs_diff(at) < APART_MAX);
        assert!(near, "hit at {at:?}, but nothing on the wire then");
    }
}

#[test]
fn collector_killed() {
    if skips() {
        return;
    }
    let scenario = Scenario::load("c2-lookup").unwrap();
    let to: SocketAddr = "203.0.113.66:4444".parse().unwrap();
    let mut rig = Rig::raise(&scenario, Wire::Plain).unwrap();
    let recording = Recording::start(&rig.lab.instance, SCENE_INTERFACE).unwrap();
    call_over(&rig, to, 1);
    rig.collector.kill().unwrap();
    // A minute, to the border of the seventh window.
    call_over(&rig, to, 7);
    rig.collector.start().unwrap();
    call_over(&rig, to, 1);
    rig.until_judged(SystemTime::now(), LIMIT).unwrap();

    let told = rig.told().unwrap();
    assert_chained(&told);
    let frames = recording.end().unwrap();
    assert_counted(&told, &frames, 4444);
    assert_hits(&told, &frames, 4444);
    assert_times_are_the_wires(&told, &frames);
    // Whatever has overtaken what on the way, all have come: no gap is left open.
    let gaps = rig
        .collector
        .ask("findings list --open --type DefenseEvasion:EC2/SensorGap")
        .unwrap();
    assert!(gaps.is_empty(), "{gaps:?}");
}

#[test]
fn agent_killed() {
    if skips() {
        return;
    }
    let mut scenario = Scenario::load("c2-lookup").unwrap();
    let [before, blind, after]: [SocketAddr; 3] =
        [4001, 4002, 4003].map(|port| SocketAddr::from(([203, 0, 113, 66], port)));
    for at in [before, blind, after] {
        let mut service = scenario.services[0].clone();
        service.at = at;
        scenario.services.push(service);
    }
    let mut rig = Rig::raise(&scenario, Wire::Plain).unwrap();
    let recording = Recording::start(&rig.lab.instance, SCENE_INTERFACE).unwrap();
    call_over(&rig, before, 1);
    rig.until_judged(SystemTime::now(), LIMIT).unwrap();

    let programs = programs_of(rig.agent.process().unwrap().id());
    assert!(!programs.is_empty(), "the agent holds no kernel program");
    rig.agent.kill().unwrap();
    wait_until("the kernel to be clean", LIMIT, || {
        Ok(loaded().is_disjoint(&programs).then_some(()))
    })
    .unwrap();
    call_over(&rig, blind, 1);
    rig.agent.start().unwrap();
    call_over(&rig, after, 1);
    rig.until_judged(SystemTime::now(), LIMIT).unwrap();

    let told = rig.told().unwrap();
    assert_chained(&told);
    let boots: BTreeSet<_> = told.iter().map(|one| one.header.boot).collect();
    assert_eq!(boots.len(), 2, "two runs");
    let story = Story::of(told.iter().map(|one| &one.summary));
    let frames = recording.end().unwrap();
    for port in [4001, 4003] {
        assert_counted(&told, &frames, port);
        assert_hits(&told, &frames, port);
    }
    assert!(with_port(&frames, 4002) > 0);
    assert_eq!(told_with_port(&story, 4002), 0, "nobody looked");
    assert!(
        told.iter().any(|one| one.summary.gap.is_some()),
        "the second run tells of the gap"
    );
    let mut watch = rig.watch();
    wait_until("the finding about the gap", LIMIT, || {
        watch.look()?;
        let gap = |one: &serde_json::Value| one["type"] == "DefenseEvasion:EC2/SensorGap";
        Ok(watch.states.iter().any(gap).then_some(()))
    })
    .unwrap();
}

/// Ids of the kernel programs that a process holds.
fn programs_of(pid: u32) -> BTreeSet<u32> {
    let folder = format!("/proc/{pid}/fdinfo");
    let files = std::fs::read_dir(folder).unwrap().flatten();
    let texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
    let ids = texts.filter_map(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("prog_id:"))?;
        line.trim().parse().ok()
    });
    ids.collect()
}

/// Ids of all kernel programs on this machine.
fn loaded() -> BTreeSet<u32> {
    let all = aya::programs::loaded_programs();
    all.map(|program| program.unwrap().id()).collect()
}

/// Packets seen by the kernel = those counted in flows + those of other kinds + those lost.
#[test]
fn loss_equation() {
    if skips() {
        return;
    }
    let scenario = Scenario::load("intrusion").unwrap();
    let rig = Rig::raise(&scenario, Wire::Ordinary).unwrap();
    rig.play(&scenario).unwrap();
    rig.until_judged(SystemTime::now(), LIMIT).unwrap();
    let told = rig.told().unwrap();
    let mut counted = BTreeMap::new();
    let counters = told.iter().flat_map(|one| &one.summary.counters);
    for counter in counters.filter(|counter| counter.stage == "kernel") {
        *counted.entry(counter.reason.clone()).or_insert(0) += counter.count;
    }
    let sum = |prefix: &str| -> u64 {
        let with = counted
            .iter()
            .filter(|(reason, _)| reason.starts_with(prefix));
        with.map(|(_, count)| count).sum()
    };
    assert!(sum("seen") > 500, "{counted:?}");
    assert_eq!(sum("lost"), 0, "no reason to lose any: {counted:?}");
    assert_eq!(
        sum("seen"),
        sum("flow") + sum("not_flow") + sum("lost"),
        "{counted:?}"
    );

    // What the agent says of itself is the same equation, once nothing is under way.
    wait_until("the agent's own equation", LIMIT, || {
        let status = rig.agent.status()?;
        let packets = &status[0]["packets"];
        let count = |key: &str| packets[key].as_u64().unwrap();
        let settled = count("unsettled") == 0 && packets["equation_holds"] == true;
        let adds_up = count("seen") == count("flow") + count("not_flow") + count("lost");
        Ok((settled && adds_up && count("seen") >= sum("seen")).then_some(()))
    })
    .unwrap();
}
