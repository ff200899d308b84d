//! Watch: the thread that captures live and thinks. It alone holds the capture and the sensor;
//! others reach it by [`Command`]s and take its summaries from a bounded channel.
//!
//! When the channel is full, because the disk is slow, summaries stay in the sensor, which bounds
//! and counts them. The thread never waits for anyone but the kernel.

mod plan;
mod report;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use picket_intel::IndicatorSet;
use picket_sense::input::StageCount;
use picket_sense::{Clock, Inside, Sensor, SensorConfig};
use picket_wire::{BlockAct, BlockEvent, Gap, Host, Summary};
use tokio::sync::{mpsc, oneshot};

use crate::attribution::Attribution;
use crate::block::{InForce, Posted};
use crate::capture::addresses;
use crate::capture::changes::Changes;
use crate::capture::ebpf::{CaptureError, cgroup_root};
use crate::capture::heap;
use crate::capture::ladder;
use crate::capture::live::{Event, Live, Matching};
use crate::health::{Health, Packets};
use crate::hostname::HostName;
use crate::outbox::Tallies;
use crate::privilege;
use crate::pulse::Pulse;
use crate::telling::Telling;

pub use plan::{Command, Plan};
pub use report::{Count, Indicators, Report};

/// Longest wait for the kernel, after which commands are looked for. Hits end a wait at once.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// Shortest time between two messages of hits alone: the first goes at once, and a storm makes ten a
/// second, each of which costs two syncs of the disk here and one at the collector. Chosen by hand,
/// well below the second in which a hit is to be told.
const HITS_GAP: Duration = Duration::from_millis(100);

/// Summaries that may wait for the thread that keeps them: windows for ten minutes, if it does not
/// move.
pub const SUMMARIES_WAITING_MAX: usize = 64;

/// Longest time between two runs that is a restart, nanoseconds: what passed meanwhile waits in the
/// kernel's rings and is told, so there is no gap. After a longer one the rings may have been full of
/// hits, and nobody was told of any. Chosen by hand: time for a package to be replaced.
const RESTART_NS_MAX: u64 = 120_000_000_000;

/// Commands that may wait.
pub const COMMANDS_WAITING_MAX: usize = 8;

/// The thread's own things.
struct Watch {
    capture: Box<dyn Live>,
    /// Where the kernel does not tell of changes, interfaces are looked for with each window.
    changes: Option<Changes>,
    hostname: HostName,
    sensor: Sensor,
    window_ns: u64,
    summaries: mpsc::Sender<Summary>,
    /// When hits alone were last passed on.
    hits_passed: Option<Instant>,
    tallies: Arc<Tallies>,
    told: Vec<(&'static str, u64)>,
    telling: Telling,
    capabilities: Vec<String>,
    indicators: Indicators,
    attribution: Attribution,
    blocks: InForce,
    health: Health,
    pulse: Arc<Pulse>,
}

/// Captures until it is told to stop. `started` hears whether capture could begin.
///
/// # Errors
/// Capture broke off.
pub fn run(
    plan: Plan,
    commands: &Receiver<Command>,
    summaries: mpsc::Sender<Summary>,
    tallies: Arc<Tallies>,
    started: oneshot::Sender<anyhow::Result<Report>>,
) -> anyhow::Result<()> {
    let mut watch = match Watch::begin(plan, summaries, tallies) {
        Ok(watch) => watch,
        Err(error) => {
            // Whoever waits for the answer reports it; if nobody does, the process is ending.
            drop(started.send(Err(error)));
            return Ok(());
        }
    };
    drop(started.send(Ok(watch.report())));
    loop {
        match commands.try_recv() {
            Ok(Command::Indicators(set)) => {
                let (count, version) = (set.len(), set.version());
                watch.match_against(set);
                tracing::info!(count, version, "indicators reloaded");
            }
            Ok(Command::Replace(set, done)) => drop(done.send(watch.replace(set))),
            Ok(Command::Orders(posted)) => watch.block(posted),
            Ok(Command::OrdersRefused(why)) => watch.orders_refused(why),
            Ok(Command::Report(answer)) => {
                watch.gather()?;
                drop(answer.send(watch.report()));
            }
            Ok(Command::Top(answer)) => drop(answer.send(watch.telling.top())),
            Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return watch.end(),
            Err(TryRecvError::Empty) => {}
        }
        let now = now_ns();
        watch.tend_blocks(now);
        let deadline = watch.sensor.next_deadline();
        let Some(wait) = wait_until(deadline, now, watch.window_ns) else {
            watch.close_window(now, deadline.unwrap_or(now))?;
            continue;
        };
        watch.take_events(wait.min(WAIT_MAX))?;
        watch.pulse.turn();
        watch.prove_first()?;
        watch.pass_on();
        if watch.summaries.is_closed() {
            // Nobody takes summaries any more; whoever did says why.
            return Ok(());
        }
    }
}

impl Watch {
    fn begin(
        plan: Plan,
        summaries: mpsc::Sender<Summary>,
        tallies: Arc<Tallies>,
    ) -> anyhow::Result<Self> {
        let inside = match &plan.options.mirror {
            None => Inside::Nothing,
            Some(mirror) if mirror.vnis.is_empty() => Inside::All,
            Some(mirror) => Inside::Vnis(mirror.vnis.clone()),
        };
        // First, so that what changes while the capture is opened is heard of.
        let changes = Changes::listen()
            .inspect_err(|error| tracing::warn!(%error, "changes of interfaces not heard"))
            .ok();
        let opened = ladder::open(&plan.capture, &plan.options, &plan.set).context("capture")?;
        let capture = opened.capture;
        let to_ns = now_ns();
        let local = addresses::of_host().context("read the host's addresses")?;
        let capture_rung = capture.rung().to_owned();
        let hostname = HostName::here();
        let host = Host {
            capture: capture_rung,
            hostname: hostname.now().map(str::to_owned),
            local,
            ..plan.host
        };
        let mut config = SensorConfig::new(host, Clock::Caller);
        config.inside = inside;
        config.window_ns = u64::try_from(plan.window.as_nanos()).unwrap_or(u64::MAX);
        let resumes = capture.resumes();
        config.gap = plan.before.and_then(|(from_ns, why)| {
            // The very first run may have ended before its first window did.
            let is_short = from_ns == 0 || to_ns.saturating_sub(from_ns) <= RESTART_NS_MAX;
            let no_gap = resumes && is_short;
            (!no_gap).then_some(Gap {
                from_ns,
                to_ns,
                why,
            })
        });
        let mut watch = Self {
            capture,
            changes,
            hostname,
            window_ns: config.window_ns,
            sensor: Sensor::new(config, Arc::default()),
            summaries,
            hits_passed: None,
            tallies,
            told: Vec::new(),
            telling: Telling::new(plan.filter, plan.privacy, plan.intel),
            capabilities: Vec::new(),
            indicators: Indicators::default(),
            attribution: Attribution::new(cgroup_root().ok()),
            blocks: InForce::new(plan.block),
            health: Health::default(),
            pulse: plan.pulse,
        };
        watch.sensor.on_tick(to_ns);
        watch.note_matching(plan.set, opened.matching);
        heap::give_back();
        watch.capabilities = privilege::keep_for(watch.capture.rung())?;
        watch.capture.run_canary();
        Ok(watch)
    }

    /// Puts a set in force. If the kernel does not take its addresses, names are matched all the
    /// same and the kernel goes on with the addresses it has.
    fn match_against(&mut self, set: Arc<IndicatorSet>) {
        let matching = self.capture.load_set(&set);
        self.note_matching(set, matching);
    }

    /// Puts a set in force that the kernel takes, or leaves everything as it is.
    fn replace(&mut self, set: Arc<IndicatorSet>) -> Result<(), String> {
        let matching = self.capture.load_set(&set).map_err(|error| {
            let error = format!("{:#}", anyhow::Error::new(error));
            tracing::error!(%error, "listed addresses not loaded into the kernel");
            error
        })?;
        self.note_matching(set, Ok(matching));
        heap::give_back();
        Ok(())
    }

    fn note_matching(&mut self, set: Arc<IndicatorSet>, matching: Result<Matching, CaptureError>) {
        let kernel = match matching {
            Ok(Matching::Kernel) => "yes".to_owned(),
            Ok(Matching::KernelButNames(why)) => {
                tracing::warn!(why, "listed names not loaded into the kernel");
                format!("but for names: {why}")
            }
            Ok(Matching::UserSpace) => "this rung has no tables there".to_owned(),
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::new(error));
                tracing::error!(%error, "listed addresses not loaded into the kernel");
                error
            }
        };
        self.indicators = Indicators {
            version: set.version(),
            count: set.len() as u64,
            lists: set.lists().len() as u64,
            kernel,
        };
        self.sensor.set_indicators(set);
    }

    /// Puts orders in force in place of those before.
    fn block(&mut self, posted: Posted) {
        let now = now_ns();
        let events = self.blocks.post(posted, self.sensor.local(), now);
        self.enforce(events, now);
    }

    /// Lets go of orders that have run out, tells the kernel that we live, and tries again what it did
    /// not take.
    fn tend_blocks(&mut self, now_ns: u64) {
        if let Some(posted) = self.blocks.due(now_ns) {
            self.block(posted);
        }
        if self.blocks.is_empty() {
            return;
        }
        self.capture.beat();
        let events = self.blocks.expire(now_ns);
        if !events.is_empty() {
            self.enforce(events, now_ns);
        }
    }

    /// Has the kernel block what is in force, and tells what became of orders.
    fn enforce(&mut self, events: Vec<BlockEvent>, now_ns: u64) {
        for event in &events {
            tracing::info!(
                order = event.order, act = ?event.act, why = event.why,
                dry_run = event.is_dry_run(), "block order"
            );
        }
        let (rules, protected) = self.blocks.rules(self.sensor.local());
        self.capture.beat();
        let set = self.capture.set_blocks(&rules, &protected);
        let events = match set {
            Ok(()) => {
                self.blocks.taken();
                events
            }
            // Nothing was in force, and nothing is.
            Err(_) if rules.is_empty() => {
                self.blocks.taken();
                events
            }
            Err(error) => {
                let why = format!("{:#}", anyhow::Error::new(error));
                tracing::error!(error = why, "orders not in force");
                self.blocks.give_up(&why, now_ns)
            }
        };
        for event in events {
            self.sensor.on_block(event);
        }
    }

    /// Tells of a bundle of orders that was not taken; what is in force stays.
    fn orders_refused(&mut self, why: String) {
        tracing::error!(error = why, "orders refused");
        self.sensor.on_block(BlockEvent {
            time_ns: now_ns(),
            act: BlockAct::Refused,
            order: 0,
            net: None,
            port: None,
            expires_ns: None,
            why: Some(why),
            flow: None,
            dry_run: self.blocks.is_dry_run().then_some(true),
        });
    }

    /// Waits for the kernel to tell something, and takes it.
    fn take_events(&mut self, wait: Duration) -> anyhow::Result<()> {
        let (sensor, attribution) = (&mut self.sensor, &mut self.attribution);
        self.capture
            .poll(wait, &mut |event| feed(sensor, attribution, event))
            .context("read from the kernel")?;
        let changes = self.changes.as_mut();
        if changes.is_some_and(|changes| changes.call_for_a_look(Instant::now())) {
            self.look_for_interfaces();
        }
        Ok(())
    }

    /// Reads what the kernel counted so far: flows first, so that every packet of a flow has been
    /// counted as seen by the time that the counter is read.
    fn gather(&mut self) -> anyhow::Result<()> {
        let (sensor, attribution) = (&mut self.sensor, &mut self.attribution);
        self.capture
            .sweep(&mut |event| feed(sensor, attribution, event))
            .context("read from the kernel")?;
        for count in self.capture.counters() {
            self.sensor.on_counts(&count);
        }
        for (at, (reason, total)) in self.tallies.read().into_iter().enumerate() {
            let before = self.told.get(at).map_or(0, |(_, before)| *before);
            if total > before {
                let packets = total - before;
                self.sensor.on_counts(&StageCount {
                    stage: "spool",
                    reason,
                    packets,
                    bytes: 0,
                });
            }
        }
        self.told = self.tallies.read().into();
        Ok(())
    }

    /// Reads the last of a window, and proves that there is nothing that could not be read.
    fn gather_last(&mut self) -> anyhow::Result<()> {
        self.capture.run_canary();
        self.take_events(Duration::ZERO)?;
        self.gather()?;
        let health = self.capture.health();
        if health
            .canary
            .as_ref()
            .is_none_or(|one| one.sent == 0 || one.failed().is_none())
        {
            self.pulse.prove();
        }
        self.health.note(&health);
        self.sensor.set_health(health);
        Ok(())
    }

    /// Looks for the canary of the start in the first window, without waiting for its end. Later ones
    /// are judged when a window ends.
    fn prove_first(&mut self) -> anyhow::Result<()> {
        if !self.pulse.is_proven() && self.health.canary.is_none() {
            self.gather()?;
            if self.capture.is_canary_back() {
                self.pulse.prove();
            }
        }
        Ok(())
    }

    fn close_window(&mut self, now_ns: u64, end_ns: u64) -> anyhow::Result<()> {
        self.gather_last()?;
        self.capture.checkpoint(end_ns, self.tallies.finished_ns());
        if let Some(name) = self.hostname.changed() {
            tracing::info!(name, "the host has another name");
            self.sensor.set_hostname(name.to_owned());
        }
        self.sensor.on_tick(now_ns);
        self.pass_on();
        heap::give_back();
        self.look_for_interfaces();
        Ok(())
    }

    /// Watches interfaces that have appeared, lets go of those that have gone, and takes the host's
    /// addresses as they are now: with each window, and at once when the kernel tells of a change.
    fn look_for_interfaces(&mut self) {
        if let Err(error) = self.capture.rescan() {
            tracing::warn!(error = %anyhow::Error::new(error), "interfaces not looked for");
        }
        match addresses::of_host() {
            Ok(local) => self.sensor.set_local(local),
            Err(error) => tracing::warn!(%error, "addresses of the host not read"),
        }
    }

    /// Passes summaries on while there is room for them. Hits that follow others closely wait a
    /// moment, in the sensor, for more.
    fn pass_on(&mut self) {
        while let Ok(room) = self.summaries.try_reserve() {
            let close = self.hits_passed.is_some_and(|at| at.elapsed() < HITS_GAP);
            if close && !self.sensor.has_output() {
                return;
            }
            let Some(summary) = self.sensor.poll_output() else {
                return;
            };
            if summary.immediate {
                self.hits_passed = Some(Instant::now());
            }
            room.send(self.telling.tell(summary));
        }
    }

    /// Closes the open window, early as it is, and passes everything on.
    fn end(mut self) -> anyhow::Result<()> {
        self.gather_last()?;
        self.sensor.finish(Some(now_ns()));
        let mut end_ns = None;
        while let Some(summary) = self.sensor.poll_output() {
            if !summary.immediate {
                end_ns = Some(summary.window.end_ns);
            }
            // Fails when nobody keeps summaries any more.
            let summary = self.telling.tell(summary);
            if self.summaries.blocking_send(summary).is_err() {
                break;
            }
        }
        if let Some(end_ns) = end_ns {
            self.capture.checkpoint(end_ns, self.tallies.finished_ns());
        }
        Ok(())
    }

    fn report(&mut self) -> Report {
        let flows = self.sensor.flows_held();
        let orders = self.blocks.len() as u64;
        let counters = self.sensor.counters();
        let packets = Packets::of(counters);
        let counts = counters.totals().map(|counter| Count {
            stage: counter.stage,
            reason: counter.reason,
            count: counter.count,
        });
        Report {
            rung: self.capture.rung().to_owned(),
            interfaces: self.capture.interfaces(),
            skipped: self.capture.skipped(),
            packets,
            health: self.health.clone(),
            counters: counts.collect(),
            flows: flows as u64,
            passed: self.telling.passed(),
            left_out: self.telling.left_out(),
            privacy: self.telling.privacy(),
            pinned: self.capture.pinned().map(str::to_owned),
            capabilities: self.capabilities.clone(),
            indicators: self.indicators.clone(),
            stages: self.capture.stages(),
            owners: self.capture.owners(),
            blocks: if self.blocks.is_dry_run() { 0 } else { orders },
            dry_run_blocks: if self.blocks.is_dry_run() { orders } else { 0 },
            blocks_trouble: self.blocks.trouble(),
        }
    }
}

/// Shows the sensor what the capture saw.
fn feed(sensor: &mut Sensor, attribution: &mut Attribution, event: Event<'_>) {
    match event {
        Event::Hit(hit) => sensor.on_kernel_hit(&hit),
        Event::Notice(notice) => sensor.on_kernel_notice(&notice),
        Event::Block(block) => sensor.on_kernel_block(&block),
        Event::Flow(delta) => sensor.on_flow(&delta),
        Event::Copy(copy) => sensor.on_copy(&copy),
        Event::Frame(live) => sensor.on_live_frame(&live),
        Event::Process(seen) => {
            if let Some((id, process)) = attribution.learn(seen) {
                sensor.on_process(id, process);
            }
        }
    }
}

/// How long to wait for the end of the open window; `None` if it is to be closed now: it is over,
/// or the clock was set back by so much that the window lies in the future, where it would stay
/// open, and silent, until the clock is there again.
fn wait_until(deadline_ns: Option<u64>, now_ns: u64, window_ns: u64) -> Option<Duration> {
    let left_ns = deadline_ns?.checked_sub(now_ns)?;
    let in_future = left_ns > window_ns.saturating_mul(2);
    (left_ns > 0 && !in_future).then(|| Duration::from_nanos(left_ns))
}

/// The time, nanoseconds since the epoch.
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_in_time_and_when_the_clock_is_set_back() {
        const S: u64 = 1_000_000_000;
        let check = |now_s: u64, left_s: Option<u64>| {
            let wait = wait_until(Some(1_010 * S), now_s * S, 10 * S);
            assert_eq!(wait, left_s.map(Duration::from_secs), "at {now_s} s");
        };
        check(1_000, Some(10));
        check(1_009, Some(1));
        check(1_010, None);
        check(9_999, None);
        // A little back, as when the clock is disciplined: the window goes on.
        check(991, Some(19));
        check(989, None);
        check(0, None);
        assert_eq!(wait_until(None, 5, 10 * S), None);
    }

    /// What the wait calls the future is what makes the sensor close a window.
    #[test]
    fn the_sensor_closes_what_is_not_waited_for() {
        const S: u64 = 1_000_000_000;
        let config = SensorConfig::new(Host::default(), Clock::Caller);
        let window_ns = config.window_ns;
        let mut sensor = Sensor::new(config, Arc::default());
        sensor.on_tick(5_000 * S);
        let now = 1_000 * S;
        assert_eq!(wait_until(sensor.next_deadline(), now, window_ns), None);
        sensor.on_tick(now);
        assert!(sensor.poll_output().is_some(), "it is told");
        let wait = wait_until(sensor.next_deadline(), now, window_ns);
        assert_eq!(wait, Some(Duration::from_nanos(window_ns)));
    }
}
