//! The predecessor: programs and maps that an earlier process left in the kernel, read to their end.
//!
//! Our programs have taken the place of its programs by then, so its counters stand still. What it had
//! told is subtracted; what it had read of its rings and not told before it was killed is gone with
//! it, and counted as lost.

use aya::maps::{Map, MapData, RingBuf};
use picket_abi::{Count, CpuCounters, FlowSet, REASONS, Reason, WAYS};
use picket_sense::input::StageCount;

use super::CaptureError;
use super::Event;
use super::canary::Left;
use super::checkpoint::Checkpoint;
use super::clock::Clock;
use super::ledger::Ledger;
use super::mapped::{Access, Mapped};
use super::mirror::Tunnels;
use super::pins::Pins;
use super::rings::Rings;
use super::slots::Slots;

/// What an earlier process left.
#[derive(Debug)]
pub(super) struct Predecessor {
    slots: Slots,
    counters: Mapped,
    rings: Rings,
    ledger: Ledger,
    counted: Vec<Count>,
    canary: Left,
}

impl Predecessor {
    /// The maps of the process of this number, and what it had told of them.
    ///
    /// # Errors
    /// They are not all there, or not what they should be.
    pub(super) fn open(pins: &Pins, number: u32, told: Checkpoint) -> Result<Self, CaptureError> {
        let map = |name: &'static str| {
            MapData::from_pin(pins.map_of(number, name)).map_err(|source| CaptureError::Map {
                name,
                source: Box::new(source),
            })
        };
        let ring = |name: &'static str| {
            let map = Map::from_map_data(map(name)?);
            let ring = map.and_then(RingBuf::try_from);
            ring.map_err(|source| CaptureError::Map {
                name,
                source: Box::new(source),
            })
        };
        let (slots, sets) = array(map("SLOTS")?, "SLOTS", size_of::<FlowSet>())?;
        let (counters, cpus) = array(map("COUNTERS")?, "COUNTERS", size_of::<CpuCounters>())?;
        // Behind them is a spare one for each CPU, in which nothing stays.
        let slots_count = sets.saturating_sub(cpus) * WAYS;
        let tunnels = Tunnels::left(&map("TUNNELS")?)?;
        let ledger = Ledger::resumed(
            slots_count,
            tunnels.clone(),
            told.scanned_ns,
            told.reported.into_iter(),
        );
        let bytes = cpus * size_of::<CpuCounters>();
        let counters = mapped(&counters, "COUNTERS", bytes)?;
        Ok(Self {
            slots: Slots::new(slots, slots_count),
            counters,
            rings: Rings::open(ring, tunnels)?,
            ledger,
            counted: told.counted,
            canary: Left::new(told.port),
        })
    }

    /// Hands over everything that was not told, and says what was counted meanwhile.
    pub(super) fn drain(
        mut self,
        clock: Clock,
        each: &mut dyn FnMut(Event<'_>),
    ) -> Vec<StageCount> {
        let mut canaries = Count::default();
        let canary = self.canary;
        let mut strained = |event: Event<'_>| {
            if !canary.is_behind(&event) {
                return each(event);
            }
            if let Event::Flow(delta) = event {
                canaries.add(
                    delta.packets_out + delta.packets_in,
                    delta.bytes_out + delta.bytes_in,
                );
            }
        };
        while self.rings.drain(&mut self.ledger, clock, &mut strained) > 0 {}
        let ledger = &mut self.ledger;
        let read = self.slots.scan(&mut |place, slot| {
            if let Some(delta) = ledger.observe(place, slot, clock) {
                strained(Event::Flow(delta));
            }
        });
        if let Err(error) = read {
            // What they held shows as lost.
            tracing::error!(%error, "flows of the process before not read");
        }
        self.counts(canaries)
    }

    /// What the counters moved by since the checkpoint, and what is missing in flows.
    fn counts(&self, canaries: Count) -> Vec<StageCount> {
        let mut moved = sums(&self.counters);
        for (sum, before) in moved.iter_mut().zip(&self.counted) {
            *sum = sum.less(*before);
        }
        let [outside, inside] = accounted(&moved, &self.ledger);
        let seen = |why: Reason| moved.get(why as usize).copied().unwrap_or_default();
        let mut counts = vec![
            count(
                "kernel",
                "lost_with_process",
                seen(Reason::Seen).less(outside),
            ),
            count(
                "inner",
                "lost_with_process",
                seen(Reason::InnerSeen).less(inside),
            ),
        ];
        for &(why, stage, reason) in Reason::ALL {
            let sum = match why {
                Reason::Seen => seen(why).less(canaries),
                _ => seen(why),
            };
            counts.push(count(stage, reason, sum));
        }
        counts.retain(|one| (one.packets, one.bytes) != (0, 0));
        counts
    }
}

/// Counters as a checkpoint has them: of what was seen, only what is accounted for. The rest is of
/// flows that have not been read, and whoever reads them tells it.
pub(super) fn settled(mut sums: Vec<Count>, ledger: &Ledger) -> Vec<Count> {
    let accounted = accounted(&sums, ledger);
    for (why, sum) in [Reason::Seen, Reason::InnerSeen].into_iter().zip(accounted) {
        if let Some(seen) = sums.get_mut(why as usize) {
            *seen = sum;
        }
    }
    sums
}

/// Packets in flows, no flow or lost: of the wire, and inside tunnels.
fn accounted(sums: &[Count], ledger: &Ledger) -> [Count; 2] {
    let (mut outside, mut inside) = ledger.told();
    for &(why, _, reason) in Reason::ALL {
        let sum = sums.get(why as usize).copied().unwrap_or_default();
        match why {
            Reason::InnerNotFlow | Reason::InnerLost => inside.add(sum.packets, sum.bytes),
            _ if reason.starts_with("not_flow_") || reason.starts_with("lost_") => {
                outside.add(sum.packets, sum.bytes);
            }
            _ => {}
        }
    }
    [outside, inside]
}

fn count(stage: &'static str, reason: &'static str, sum: Count) -> StageCount {
    StageCount {
        stage,
        reason,
        packets: sum.packets,
        bytes: sum.bytes,
    }
}

/// Counters of all CPUs, added up, in the order of the reasons' numbers.
pub(super) fn sums(counters: &Mapped) -> Vec<Count> {
    const WORDS: usize = size_of::<CpuCounters>() / size_of::<u64>();
    let mut sums = vec![Count::default(); REASONS];
    for first in (0..counters.words().len()).step_by(WORDS) {
        let words = counters.copy::<WORDS>(first).unwrap_or([0; WORDS]);
        for (sum, count) in sums.iter_mut().zip(words.as_chunks::<2>().0) {
            sum.add(count[0], count[1]);
        }
    }
    sums
}

/// An array and how many entries of this size it has.
fn array(map: MapData, name: &'static str, bytes: usize) -> Result<(MapData, usize), CaptureError> {
    let failed = |source| CaptureError::Map {
        name,
        source: Box::new(source),
    };
    let info = map.info().map_err(failed)?;
    if info.value_size() as usize != bytes {
        return Err(CaptureError::Object("a pinned map has another shape"));
    }
    let entries = info.max_entries() as usize;
    Ok((map, entries))
}

fn mapped(map: &MapData, name: &'static str, bytes: usize) -> Result<Mapped, CaptureError> {
    use std::os::fd::AsFd as _;
    Mapped::new(map.fd().as_fd(), 0, bytes, Access::Read)
        .map_err(|source| CaptureError::Memory { name, source })
}
