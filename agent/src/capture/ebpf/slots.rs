//! The flows' slots, read from the kernel's array.
//!
//! The kernel writes them at any time; a slot counts when it held still while it was copied. The
//! array is mapped a piece at a time and only while it is read: the kernel gives a mapping all its
//! pages at once, so one that stayed would be half of our resident memory.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::{Ordering, fence};

use aya::maps::MapData;
use picket_abi::FlowSlot;

use super::mapped::{Access, Mapped};

/// Slots mapped at once: 1 MiB, whole pages of any size Linux has. Chosen by hand: mapping a piece is
/// little beside reading it.
const SLOTS_AT_ONCE: usize = (1 << 20) / size_of::<FlowSlot>();

/// The slots of all CPUs.
#[derive(Debug)]
pub(super) struct Slots {
    array: MapData,
    count: usize,
}

impl Slots {
    /// The slots in `array`, which has `count` of them.
    pub(super) const fn new(array: MapData, count: usize) -> Self {
        Self { array, count }
    }

    /// Hands over each slot in use that held still, with its place. One that is changing is left for
    /// the next scan, or for its record in the ring: nothing of it is lost.
    ///
    /// # Errors
    ///
    /// A piece cannot be mapped. What was not read is read by the next scan.
    pub(super) fn scan(&self, each: &mut dyn FnMut(usize, &FlowSlot)) -> io::Result<()> {
        for first in (0..self.count).step_by(SLOTS_AT_ONCE) {
            let count = SLOTS_AT_ONCE.min(self.count - first);
            let piece = Mapped::new(
                self.array.fd().as_fd(),
                first * size_of::<FlowSlot>(),
                count * size_of::<FlowSlot>(),
                Access::Read,
            )?;
            for place in 0..count {
                if let Some(slot) = read(&piece, place) {
                    each(first + place, &slot);
                }
            }
        }
        Ok(())
    }
}

/// A slot that is in use and held still while it was copied.
fn read(piece: &Mapped, place: usize) -> Option<FlowSlot> {
    const WORDS: usize = size_of::<FlowSlot>() / size_of::<u64>();
    let generation = &piece.words().get(place * WORDS)?;
    for _ in 0..4 {
        let before = generation.load(Ordering::Acquire);
        if before == 0 {
            return None;
        }
        let words = piece.copy::<WORDS>(place * WORDS)?;
        fence(Ordering::Acquire);
        if before & 1 == 0 && generation.load(Ordering::Relaxed) == before {
            return picket_abi::from_words(&words);
        }
    }
    None
}
