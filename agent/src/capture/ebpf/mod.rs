//! Capture by the kernel programs of `ebpf/programs`: flows counted and addresses matched in the
//! kernel, hits at once, copies of what is worth decoding.
//!
//! One value owns it all: [`EbpfCapture`]. Its owner calls [`EbpfCapture::poll`] in a loop for
//! hits, copies and flows that left their slots, [`EbpfCapture::scan`] at the end of a window for
//! what is new in the others, and [`EbpfCapture::counters`] for what the kernel counted. When it
//! is dropped, or its process dies, tcx links and maps go with it and the kernel is clean (on
//! clsact a filter stays, which the next start replaces); unless they are pinned for the next
//! process, see [`Handover`].
//!
//! It leaves to others what the bytes mean, and asks nobody for the time: stamps are the
//! kernel's, put into terms of the time of day.

mod attach;
mod blocks;
mod canary;
mod checkpoint;
mod clock;
mod error;
mod handover;
mod health;
mod held;
pub(in crate::capture) mod interfaces;
mod layout;
mod ledger;
mod live;
mod loopback;
mod mapped;
mod mirror;
mod object;
mod older;
mod owners;
mod pins;
mod predecessor;
mod probe;
mod rings;
mod sets;
mod size;
mod slots;
mod stages;
mod tables;

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Map, MapData};
use aya::programs::links::PinnedLink;
use picket_abi::{Count, REASONS, Reason};
use picket_sense::input::{FlowDelta, StageCount};

pub use attach::{HANDLE, PRIORITY, Rung};
pub use blocks::{BLOCKED_ENDPOINTS_MAX, BLOCKED_NETS_MAX, BlockRule, PROTECTED_NETS_MAX};
pub use error::CaptureError;
pub use handover::Handover;
pub(super) use health::watched;
pub use mirror::{Mirror, VNIS_MAX};
pub(crate) use owners::cgroup_root;
pub use pins::examine_pins;
pub(in crate::capture) use probe::capabilities;
pub use probe::{Check, probe};
pub use sets::LoadedSet;
pub use size::Sizes;
pub use stages::{Stage, Stages, examine as examine_stages};
pub use tables::{NamesSize, Network, SetError, SetSize};

use attach::{Attached, Hanger};
use blocks::Blocks;
use canary::Canary;
use checkpoint::Told;
use clock::Clock;
use handover::Succession;
use ledger::Ledger;
use loopback::Loopback;
use mapped::{Access, Mapped};
use mirror::{Looking, Tunnels};
use object::{OBJECT, array, load, random};
use owners::Owners;
use rings::Rings;
use sets::Tables;
use slots::Slots;
use stages::Installed;

use super::choice::{Choice, Skipped, Stacked, watch};
use super::heap;
use super::live::{Event, OwnerState, StageReport};

/// What to watch and how much room to take.
#[derive(Debug, Clone)]
pub struct Options {
    /// Interfaces to watch whatever they are; `*` stands for any characters.
    pub interfaces: Vec<String>,
    /// Whether to watch those with a default route as well (but not `lo` or a veth end).
    pub default_route: bool,
    /// Interfaces never to watch, written like the others.
    pub excluded: Vec<String>,
    /// What to do with interfaces that lie on one another.
    pub stacked: Stacked,
    /// Room for flows, addresses and records.
    pub sizes: Sizes,
    /// The rung to use; `None` asks the kernel for the best it has.
    pub rung: Option<Rung>,
    /// The stages to have in the kernel, as far as it takes them.
    pub stages: Stages,
    /// Stages that the kernel's verifier is made to refuse, for tests.
    #[doc(hidden)]
    pub spoiled: Stages,
    /// Whether what is inside tunnels is told as well: the host is a mirror's target.
    pub mirror: Option<Mirror>,
    /// What outlives the process; with none, nothing does.
    pub handover: Option<Handover>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            default_route: true,
            excluded: Vec::new(),
            stacked: Stacked::default(),
            sizes: Sizes::default(),
            rung: None,
            stages: Stages::ALL,
            spoiled: Stages::NONE,
            mirror: None,
            handover: None,
        }
    }
}

/// The kernel side, loaded and attached.
#[derive(Debug)]
pub struct EbpfCapture {
    options: Options,
    hanger: Hanger,
    /// Hooks of control groups, where they are pinned.
    _hooks: Vec<PinnedLink>,
    succession: Succession,
    // Before the object, so that the links go first.
    attached: Vec<Attached>,
    looking: Vec<Looking>,
    skipped: Skipped,
    loopback: Loopback,
    slots: Slots,
    counters: Mapped,
    tables: Tables,
    blocks: Blocks,
    stages: Installed,
    rings: Rings,
    ledger: Ledger,
    canary: Canary,
    counted: Vec<Count>,
    clock: Clock,
    owner_state: OwnerState,
    owners: Owners,
    ebpf: Ebpf,
    /// Mapped above; a program that is loaded later still needs their descriptors.
    _arrays: [MapData; 2],
}

impl EbpfCapture {
    /// Loads the programs and attaches them to the wanted interfaces of the calling thread's
    /// network namespace.
    ///
    /// One at least must be there; others that are wanted and cannot be watched are passed over with
    /// a warning and looked for again by [`Self::rescan`].
    ///
    /// # Errors
    ///
    /// [`CaptureError`], naming what was refused. Nothing stays behind.
    pub fn open(options: Options) -> Result<Self, CaptureError> {
        let mut capture = Self::prepare(options)?;
        capture.begin()?;
        Ok(capture)
    }

    /// As [`Self::open`], with another object of ours than the one embedded: the benches have
    /// programs besides.
    #[doc(hidden)]
    pub fn open_object(options: Options, object: &[u8]) -> Result<Self, CaptureError> {
        let mut capture = Self::prepare_object(options, object)?;
        capture.begin()?;
        Ok(capture)
    }

    /// Loads the programs, so that indicators can be given to them before the first packet is seen;
    /// [`Self::begin`] attaches them.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn prepare(options: Options) -> Result<Self, CaptureError> {
        let prepared = Self::prepare_object(options, OBJECT);
        heap::let_go(OBJECT);
        prepared
    }

    fn prepare_object(options: Options, object: &[u8]) -> Result<Self, CaptureError> {
        let sizes = options.sizes.fitted()?;
        let asked = "draw a salt";
        let salt = random().map_err(|source| CaptureError::System { asked, source })?;
        let asked = "draw a port";
        let port = random().map_err(|source| CaptureError::System { asked, source })?;
        let mut owner_state = OwnerState::default();
        let mut ebpf = load(
            &sizes,
            salt,
            options.spoiled,
            options.mirror.as_ref(),
            object,
            &mut owner_state,
        )?;
        let rung = match options.rung {
            Some(rung) => rung,
            None => attach::rung_of_kernel(&mut ebpf)?,
        };
        let clock = Clock::measure();
        let (pins, succession) = Succession::begin(options.handover.as_ref(), &ebpf);
        if succession.is_second() && rung == Rung::Clsact {
            return Err(CaptureError::Second);
        }
        // Hooks first, so that no socket is made unseen after the others were looked for.
        let hooks = owners::attach(&mut ebpf, pins.as_ref(), &mut owner_state);
        let owners = owners::seed(&mut ebpf, clock.boot())?;
        owner_state.note_seed(owners.sockets, owners.refused);
        let slots = array(&mut ebpf, "SLOTS")?;
        let counters = array(&mut ebpf, "COUNTERS")?;
        let table = array(&mut ebpf, "TUNNELS")?;
        let tunnels = Tunnels::new(&table, options.mirror.as_ref())?;
        let map = |map: &MapData, name, bytes, access| {
            Mapped::new(map.fd().as_fd(), 0, bytes, access)
                .map_err(|source| CaptureError::Memory { name, source })
        };
        Ok(Self {
            hanger: Hanger { rung, pins },
            _hooks: hooks,
            succession,
            attached: Vec::new(),
            looking: Vec::new(),
            skipped: Skipped::default(),
            loopback: Loopback::default(),
            slots: Slots::new(slots, sizes.slots()),
            counters: map(&counters, "COUNTERS", sizes.counter_bytes(), Access::Read)?,
            tables: Tables::take(&mut ebpf, sizes, salt)?,
            blocks: Blocks::take(&mut ebpf)?,
            stages: Installed::install(&mut ebpf, options.stages)?,
            rings: Rings::take(&mut ebpf, tunnels.clone())?,
            ledger: Ledger::new(sizes.slots(), tunnels),
            canary: Canary::new((port & 0xffff) as u16),
            counted: vec![Count::default(); REASONS],
            clock,
            owner_state,
            owners,
            ebpf,
            _arrays: [counters, table],
            options: Options { sizes, ..options },
        })
    }

    /// Attaches the programs, in the place of those that an earlier process left, if it did; what that
    /// one had not told is handed over by the first [`Self::poll`].
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn begin(&mut self) -> Result<(), CaptureError> {
        // By the other rung: what is left there would count everything twice.
        let other = match self.hanger.rung {
            Rung::Tcx => Rung::Clsact,
            Rung::Clsact => Rung::Tcx,
        };
        self.hanger.drop_all(other);
        self.loopback = Loopback::attach(&mut self.ebpf, &self.hanger, &mut self.owner_state);
        let outcome = self.rescan();
        if outcome.is_err() || self.attached.is_empty() {
            self.succession.abandon(self.hanger.pins.as_ref());
            return outcome.and(Err(self.skipped.none_is_left()));
        }
        let mut held: Vec<_> = self.attached.iter().flat_map(Attached::hooks).collect();
        held.extend(self.looking.iter().map(Looking::hook));
        held.extend(self.loopback.hook());
        self.hanger.drop_others(&held);
        sets::wait_for_programs();
        if let (Some(pins), Some(handover)) = (&self.hanger.pins, &self.options.handover) {
            let kept_ns = handover.kept_ns;
            let replaced: Vec<_> = self
                .attached
                .iter()
                .flat_map(Attached::replaced_on)
                .collect();
            self.succession.find(pins, kept_ns, &replaced);
            // Nothing of ours is told yet.
            self.note(kept_ns);
        }
        Ok(())
    }

    fn note(&mut self, end_ns: u64) {
        let programs: Vec<_> = self
            .attached
            .iter()
            .flat_map(Attached::programs_on)
            .collect();
        let told = Told {
            port: self.canary.next_port(),
            resumed: self.succession.can_be_resumed(),
            counted: &predecessor::settled(self.counted.clone(), &self.ledger),
            programs: &programs,
            ledger: &self.ledger,
        };
        self.succession.note(end_ns, told);
    }

    /// Attaches to wanted interfaces that have appeared and lets go of those that have gone.
    /// Cheap enough to be called every window; in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// When the routes cannot be read. An interface that cannot be watched is only warned of, once.
    pub fn rescan(&mut self) -> Result<(), CaptureError> {
        let is_gone = |one: &mut Attached| interfaces::index(&one.name) != one.index;
        let gone = self.attached.extract_if(.., is_gone);
        gone.for_each(Attached::let_go);
        let watched = self.attached.iter().map(|one| one.name.clone()).collect();
        let choices = watch(&self.options, watched, |name| {
            let attached = attach::attach(&mut self.ebpf, &self.hanger, name)?;
            self.attached.push(attached);
            Ok(())
        });
        let asked = "ask which interfaces there are";
        let choices = choices.map_err(|source| CaptureError::System { asked, source })?;
        let leave = |name: &str| choices.iter().any(|one| !one.watch && one.name == name);
        let left = self.attached.extract_if(.., |one| leave(&one.name));
        left.for_each(Attached::let_go);
        self.skipped.note(choices);
        self.loopback.follow(&mut self.ebpf, &self.hanger);
        if self.options.mirror.is_some() {
            let (attached, looking) = (&self.attached, &mut self.looking);
            mirror::follow(&mut self.ebpf, &self.hanger, attached, looking)?;
        }
        Ok(())
    }

    /// How the programs are attached.
    #[must_use]
    pub const fn rung(&self) -> Rung {
        self.hanger.rung
    }

    /// Whether every packet that passed since the last window of the process before is told.
    #[must_use]
    pub const fn resumes(&self) -> bool {
        self.succession.resumes()
    }

    /// Whether and where programs and maps are pinned, in words; `None` where it was not wanted.
    #[must_use]
    pub fn pinned(&self) -> Option<&str> {
        self.succession.state()
    }

    /// Notes that everything handed over up to now, counters included, is in windows that end by
    /// `end_ns`, and that the one that ended at `kept_ns` is in the spool.
    pub fn checkpoint(&mut self, end_ns: u64, kept_ns: u64) {
        self.note(end_ns);
        self.succession.kept(kept_ns, self.hanger.pins.as_ref());
    }

    /// Interfaces that are watched: name and index.
    pub fn interfaces(&self) -> impl Iterator<Item = (&str, u32)> {
        self.attached
            .iter()
            .map(|one| (one.name.as_str(), one.index))
    }

    /// Interfaces that are wanted and not watched, and why.
    #[must_use]
    pub fn skipped(&self) -> &[Choice] {
        self.skipped.choices()
    }

    /// Waits up to `timeout` for something to come up and hands it over, hits before the rest.
    /// Returns how many events were handed over; 0 means that the time is up.
    ///
    /// Copies and evicted flows do not wake us one by one; they are looked for ten times a
    /// second, so with those a call may take that long to notice them.
    ///
    /// # Errors
    ///
    /// When waiting fails.
    pub fn poll(
        &mut self,
        timeout: Duration,
        each: &mut dyn FnMut(Event<'_>),
    ) -> Result<usize, CaptureError> {
        let Self {
            rings,
            ledger,
            clock,
            canary,
            owners,
            succession,
            ..
        } = self;
        for seen in std::mem::take(&mut owners.processes) {
            each(Event::Process(&seen));
        }
        if succession.drain(*clock, each) {
            return Ok(1);
        }
        rings.poll(timeout, ledger, *clock, &mut |event| match event {
            Event::Flow(delta) => {
                if let Some(delta) = canary.strain_flow(delta) {
                    each(Event::Flow(delta));
                }
            }
            Event::Hit(hit) if !canary.strain_hit(&hit) => {}
            Event::Notice(notice) if !canary.strain_notice(&notice) => {}
            Event::Copy(copy) if !canary.strain_copy(&copy) => {}
            event => each(event),
        })
    }

    /// Hands over what is new in every flow since it was last told. Reads the flows' slots
    /// without a system call for each; flows that left theirs and wait in the ring are told as well.
    pub fn scan(&mut self, each: &mut dyn FnMut(FlowDelta)) {
        self.clock = self.clock.again();
        let started_ns = clock::coarse_ns();
        let canary = &mut self.canary;
        let each = &mut |delta| {
            if let Some(delta) = canary.strain_flow(delta) {
                each(delta);
            }
        };
        self.rings.drain_evicted(&mut self.ledger, self.clock, each);
        let (ledger, clock) = (&mut self.ledger, self.clock);
        let read = self.slots.scan(&mut |place, slot| {
            if let Some(delta) = ledger.observe(place, slot, clock) {
                each(delta);
            }
        });
        match read {
            Ok(()) => self.ledger.scanned(started_ns),
            // Nothing is lost: what was not read is told by the next scan.
            Err(error) => tracing::warn!(%error, "flows not read"),
        }
    }

    /// What the kernel counted since the last call, by reason; nothing for what did not move.
    pub fn counters(&mut self) -> Vec<StageCount> {
        let sums = predecessor::sums(&self.counters);
        let mut counts = self.succession.counts();
        for &(why, stage, reason) in Reason::ALL {
            let at = why as usize;
            let (Some(sum), Some(before)) = (sums.get(at), self.counted.get(at)) else {
                continue;
            };
            let moved = sum.less(*before);
            let (packets, bytes) = self.canary.strain_count(why, moved.packets, moved.bytes);
            if (packets, bytes) != (0, 0) {
                counts.push(StageCount {
                    stage,
                    reason,
                    packets,
                    bytes,
                });
            }
        }
        self.counted = sums;
        counts.extend(self.stages.counts());
        counts
    }

    /// Puts a set of listed addresses in force. Packets go on being matched against the old one
    /// until the new one is complete, and flows already known are matched again with their next
    /// packet. Costs some 12 MiB of memory while it lasts.
    ///
    /// # Errors
    ///
    /// When the set is too large or names an impossible network, or a map fails. The old set
    /// stays in force.
    pub fn load_set(
        &mut self,
        networks: impl Iterator<Item = Network> + Send,
        version: u64,
    ) -> Result<SetSize, CaptureError> {
        let no_names = std::iter::empty();
        Ok(self.load_sets(networks, no_names, version)?.addresses)
    }

    /// Puts a set of listed addresses and names in force, both with the same packet; else as
    /// [`Self::load_set`]. `names` are in lower case and have no final dot; what is listed deeper
    /// than eight labels is listed by its last eight.
    ///
    /// Names that do not fit are left to the sensor, all of them, and that is told; it is no error.
    ///
    /// # Errors
    ///
    /// As [`Self::load_set`].
    pub fn load_sets<'a>(
        &mut self,
        networks: impl Iterator<Item = Network> + Send,
        names: impl Iterator<Item = &'a str> + Send,
        version: u64,
    ) -> Result<LoadedSet, CaptureError> {
        let loaded = self.tables.load(networks, names, version)?;
        let in_kernel = self.stages.in_kernel(Stage::Names);
        self.canary.expect_names(loaded.own_name && in_kernel);
        Ok(loaded)
    }

    /// Blocks these rules from now on and no others, but never what is protected. At most
    /// [`BLOCKED_NETS_MAX`] networks, [`BLOCKED_ENDPOINTS_MAX`] endpoints and
    /// [`PROTECTED_NETS_MAX`] protected ones. A rule holds while [`Live::beat`] is called
    /// at least every thirty seconds.
    ///
    /// # Errors
    /// The kernel did not take them. Then nothing is blocked.
    pub fn set_blocks(
        &mut self,
        rules: &[BlockRule],
        protected: &[Network],
    ) -> Result<(), CaptureError> {
        let replaced = self.blocks.replace(rules, protected, self.clock);
        self.tables.blocks_changed(*replaced.as_ref().unwrap_or(&0));
        replaced.map(drop)
    }

    /// Where each stage runs, and why.
    #[must_use]
    pub fn stages(&self) -> Vec<StageReport> {
        self.stages.reports()
    }

    /// How many instructions the verifier went through for each program that is loaded; nothing
    /// before Linux 5.16, which does not tell.
    #[must_use]
    pub fn instructions(&self) -> Vec<(String, u32)> {
        let programs = self.ebpf.programs();
        let verified = programs.filter_map(|(name, program)| {
            Some((name.to_owned(), stages::verified(&program.info().ok()?)?))
        });
        verified.collect()
    }

    /// How well it is known whose a socket is.
    #[must_use]
    pub const fn owner_state(&self) -> &OwnerState {
        &self.owner_state
    }

    /// A map of the object that is nobody's, for benches with programs of their own.
    #[doc(hidden)]
    pub fn take_map(&mut self, name: &str) -> Option<Map> {
        self.ebpf.take_map(name)
    }

    /// The loaded programs, for tests that run them without an interface.
    #[doc(hidden)]
    pub fn program(
        &mut self,
        name: &str,
    ) -> Result<&mut aya::programs::SchedClassifier, CaptureError> {
        attach::loaded(&mut self.ebpf, name)
    }
}

/// Takes everything of ours out of the kernel that no running process holds: pins below `pins`, and
/// filters on interfaces of the calling thread's network namespace.
///
/// # Errors
/// An agent runs, or a pin cannot be removed.
pub fn detach(pins: &std::path::Path) -> io::Result<()> {
    if !pins.as_os_str().is_empty() {
        pins::remove_all(pins)?;
    }
    attach::drop_filters_but(&[]);
    Ok(())
}
