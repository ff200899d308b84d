//! Limits of the agent's unit: in force, and kept while more passes than they allow to be looked at.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use picket_tests::lab::topology::COLLECTOR;
use picket_tests::lab::wait_until;
use picket_tests::product::Watch;

use crate::Table;
use crate::machine::Machine;
use crate::sender::Traffic;
use crate::story::{COUNTED_PORT, TOLD_LIMIT, hit, list, told};

const UNIT: &str = "picket-agent";

/// Where its control group's files are.
const GROUP: &str = "/sys/fs/cgroup/system.slice/picket-agent.service";

/// Listed for what is sent into the flood.
const LISTED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 67);

/// Small packets that pass, each of another flow than the one before.
const FLOOD: u64 = 30_000;
/// Ports that take turns.
const FLOWS: u16 = 20_000;
/// How long it lasts at least, seconds of the machine.
const FLOOD_S: f64 = 20.0;

/// What a quota may be overdrawn by: a tick for each of two processors, in each of the periods of
/// 100 ms (Documentation/scheduler/sched-bwc.rst, `sched_cfs_bandwidth_slice_us`), shows in no sum; what
/// stays is the slice that each may hold at both ends.
const OVERDRAWN_S: f64 = 0.1;

/// Tells it, step by step.
pub(crate) fn tell(table: &mut Table, machine: &Machine, alerts: &mut Watch<'_>) -> Result<()> {
    let mut limits = None;
    table.step("limits in force", || {
        let read = Limits::read(machine)?;
        let said = read.told();
        limits = Some(read);
        Ok(said)
    })?;
    let limits = limits.context("no limits were read")?;
    table.step("indicator for the flood", || {
        Ok(format!("in force as version {}", list(machine, LISTED)?))
    })?;
    let id = main_process(machine)?;
    let before = Used::read(machine)?;
    let known = told(machine)?;
    let traffic = Traffic::start(
        machine,
        SocketAddrV4::new(COLLECTOR, COUNTED_PORT),
        FLOWS,
        Duration::ZERO,
    )?;
    table.step("packet to alert in a flood", || {
        traffic.reach(1_000)?;
        hit(machine, alerts, LISTED)
    })?;
    table.step("flood", || {
        traffic.reach(FLOOD)?;
        wait_until("the flood to last", 10 * TOLD_LIMIT, || {
            let now = Used::read(machine)?;
            Ok((now.up_s - before.up_s >= FLOOD_S).then_some(()))
        })?;
        let after = Used::read(machine)?;
        let sent = traffic.stop()?;
        let took = after.up_s - before.up_s;
        let share = (after.cpu_s - before.cpu_s) / took;
        ensure!(
            after.cpu_s - before.cpu_s <= limits.cpu_share * took + OVERDRAWN_S,
            "{share:.2} processors used, {} allowed",
            limits.cpu_share
        );
        ensure!(
            after.memory_peak <= limits.memory_bytes,
            "{} bytes used, {} allowed",
            after.memory_peak,
            limits.memory_bytes
        );
        Ok(format!(
            "{sent} packets in {took:.1} s; {:.0} % of a processor, held back in {} periods; {} MiB at most",
            share * 100.0,
            after.throttled - before.throttled,
            after.memory_peak >> 20
        ))
    })?;
    table.step("after the flood", || {
        let events = machine.run(&format!("cat {GROUP}/memory.events {GROUP}/pids.events"))?;
        for event in ["oom", "oom_kill", "oom_group_kill", "max"] {
            let count = number_of(&events, event);
            ensure!(count == Some(0), "{event} of {count:?}: {events}");
        }
        ensure!(
            main_process(machine)? == id,
            "the agent was replaced: it was killed or its watchdog bit"
        );
        let mut now = known;
        wait_until("every packet to be told", 2 * TOLD_LIMIT, || {
            let last = now.seen;
            now = told(machine)?;
            Ok((now.seen >= known.seen + FLOOD && now.seen == last).then_some(()))
        })?;
        ensure!(now.gaps == known.gaps, "a gap was told");
        Ok(format!(
            "same process, nothing killed; {} packets told of, {} of them lost",
            now.seen - known.seen,
            now.lost - known.lost
        ))
    })
}

/// What the agent may use.
#[derive(Debug)]
struct Limits {
    /// Processors.
    cpu_share: f64,
    memory_bytes: u64,
    tasks: u64,
}

impl Limits {
    /// Reads what systemd says and what the kernel enforces, which must be the same.
    fn read(machine: &Machine) -> Result<Self> {
        let asked = machine.run(&format!(
            "systemctl show --property MemoryMax,TasksMax,CPUQuotaPerSecUSec,ControlGroup {UNIT}"
        ))?;
        let of = |key: &str| {
            let line = asked.lines().find_map(|line| line.strip_prefix(key));
            line.with_context(|| format!("no {key} in {asked}"))
        };
        ensure!(
            format!("/sys/fs/cgroup{}", of("ControlGroup=")?) == GROUP,
            "it is at {}",
            of("ControlGroup=")?
        );
        let kept = machine.run(&format!("cd {GROUP} && cat cpu.max memory.max pids.max"))?;
        let words: Vec<&str> = kept.split_whitespace().collect();
        let &[quota, period, memory, tasks] = words.as_slice() else {
            anyhow::bail!("the control group says {kept}");
        };
        ensure!(
            of("MemoryMax=")? == memory && of("TasksMax=")? == tasks,
            "asked: {asked}; kept: {kept}"
        );
        let quota: f64 = quota.parse().context("no quota is in force")?;
        let period: f64 = period.parse().context("a period")?;
        let cpu_share = quota / period;
        let per_second = of("CPUQuotaPerSecUSec=")?;
        ensure!(
            per_second == format!("{:.0}ms", cpu_share * 1000.0),
            "asked: {per_second}; kept: {quota} of {period}"
        );
        Ok(Self {
            cpu_share,
            memory_bytes: memory.parse().context("no limit of memory is in force")?,
            tasks: tasks.parse().context("no limit of tasks is in force")?,
        })
    }

    fn told(&self) -> String {
        format!(
            "cpu.max {:.0} %, memory.max {} MiB, pids.max {}",
            self.cpu_share * 100.0,
            self.memory_bytes >> 20,
            self.tasks
        )
    }
}

/// What the agent has used so far.
#[derive(Debug, Clone, Copy)]
struct Used {
    /// Since the machine was booted, by its own clock.
    up_s: f64,
    cpu_s: f64,
    /// Periods in which it was held back.
    throttled: u64,
    memory_peak: u64,
}

impl Used {
    fn read(machine: &Machine) -> Result<Self> {
        let said = machine.run(&format!(
            "cd {GROUP} && cat cpu.stat && echo memory_peak $(cat memory.peak) && echo up $(cat /proc/uptime)"
        ))?;
        let number = |key| number_of(&said, key).with_context(|| format!("no {key} in {said}"));
        let up = said.lines().find_map(|line| line.strip_prefix("up "));
        let up = up.and_then(|line| line.split_whitespace().next());
        Ok(Self {
            up_s: up.and_then(|text| text.parse().ok()).context("no uptime")?,
            #[expect(clippy::cast_precision_loss, reason = "microseconds of a process")]
            cpu_s: number("usage_usec")? as f64 / 1e6,
            throttled: number("nr_throttled")?,
            memory_peak: number("memory_peak")?,
        })
    }
}

/// The number behind a word at the start of a line.
fn number_of(text: &str, word: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (first, number) = line.split_once(' ')?;
        (first == word).then(|| number.trim().parse().ok())?
    })
}

fn main_process(machine: &Machine) -> Result<String> {
    machine.run(&format!("systemctl show --property MainPID --value {UNIT}"))
}
