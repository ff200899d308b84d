//! This CPU's counters.

use picket_abi::{CpuCounters, REASONS, Reason};

use super::maps::COUNTERS;
use super::verifier::{Detour, mask};

/// The counters of the CPU we run on.
pub(super) struct Counters(&'static mut CpuCounters);

impl Counters {
    /// `None` only on a CPU that did not exist when the maps were made.
    #[inline(always)]
    pub(super) fn of(cpu: u32) -> Option<Self> {
        let counters = COUNTERS.get_ptr_mut(cpu)?;
        // SAFETY: the pointer is a live element of the array; only this CPU writes it, and
        // programs at tc do not interrupt each other on one CPU. The agent only reads.
        Some(Self(unsafe { &mut *counters }))
    }

    /// Counts packets under a reason known at compile time.
    #[inline(always)]
    pub(super) fn add(&mut self, reason: Reason, packets: u32, bytes: u64) {
        let count = &mut self.0.counts[reason as usize];
        count.packets += u64::from(packets);
        count.bytes += bytes;
    }

    /// Counts packets under a reason known only at run time.
    #[inline(always)]
    pub(super) fn add_any(&mut self, reason: Reason, packets: u32, bytes: u64) {
        let place = mask::<{ REASONS as i32 - 1 }>(reason as u64) as usize;
        // SAFETY: the mask keeps the place below REASONS, the length of the array.
        let count = unsafe { self.0.counts.get_unchecked_mut(place) };
        count.packets += u64::from(packets);
        count.bytes += bytes;
    }

    /// Where values go to be forgotten.
    #[inline(always)]
    pub(super) fn detour(&mut self) -> Detour {
        Detour(&raw mut self.0.detour[0])
    }

    /// Counts one event that is no packet.
    #[inline(always)]
    pub(super) fn note(&mut self, reason: Reason) {
        self.add(reason, 1, 0);
    }
}
