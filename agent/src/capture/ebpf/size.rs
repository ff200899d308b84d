//! How much room the kernel side takes.

use std::fs;

use picket_abi::{CpuCounters, FlowSet, WAYS};

use super::CaptureError;

/// Room for flows, addresses and records. Everything is allocated when the programs are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Flows counted at once on each CPU, 128 bytes each; rounded up to a power of two. 0 shares
    /// [`Sizes::SLOTS_IN_ALL`] among the CPUs.
    pub slots_per_cpu: u32,
    /// Listed IPv4 addresses outside whole /24 networks; 16 MiB for a million, in two halves.
    pub addresses_max: u32,
    /// Listed IPv6 networks; they take memory as they are loaded.
    pub ipv6_networks_max: u32,
    /// Listed names; 20 MiB for a million, in two halves.
    pub names_max: u32,
    /// Bytes for messages that a stage recognised and that wait to be read.
    pub notice_ring_bytes: u32,
    /// Bytes for hits that wait to be read.
    pub hit_ring_bytes: u32,
    /// Bytes for flows that left their slots and wait to be read.
    pub evicted_ring_bytes: u32,
    /// Bytes for copied packets that wait to be read.
    pub copy_ring_bytes: u32,
    /// Bytes for processes that wait to be told.
    pub process_ring_bytes: u32,
    /// CPUs there may ever be; 0 asks the system.
    pub cpus: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            slots_per_cpu: 0,
            addresses_max: 1_000_000,
            ipv6_networks_max: 100_000,
            names_max: 1_000_000,
            // Four hundred messages; what finds no room is found in its copy.
            notice_ring_bytes: 128 << 10,
            // A thousand hits.
            hit_ring_bytes: 128 << 10,
            // 14,500 flows: a twentieth of a second at a new flow every 3.5 µs, and we are woken
            // when a quarter is used. Rings count twice in our resident memory, as they are
            // mapped twice in a row.
            evicted_ring_bytes: 2 << 20,
            // A thousand packets of full size.
            copy_ring_bytes: 2 << 20,
            // 760 processes: a tenth of a second, after which we look at the latest, of a build
            // that starts 7,000 programs a second.
            process_ring_bytes: 256 << 10,
            cpus: 0,
        }
    }
}

impl Sizes {
    /// Slots shared among the CPUs by default: 32 MiB. With few CPUs each gets at most
    /// [`Self::SLOTS_PER_CPU_MOST`].
    pub const SLOTS_IN_ALL: u32 = 1 << 18;
    /// Most slots of one CPU by default: 8 MiB.
    pub const SLOTS_PER_CPU_MOST: u32 = 1 << 16;
    /// Fewest slots of one CPU by default: half a MiB.
    pub const SLOTS_PER_CPU_LEAST: u32 = 1 << 12;

    /// The same with what was left to us filled in and what must be a power of two made one.
    pub(super) fn fitted(self) -> Result<Self, CaptureError> {
        let cpus = match self.cpus {
            0 => possible_cpus()?,
            cpus => cpus,
        };
        let slots = match self.slots_per_cpu {
            0 => (Self::SLOTS_IN_ALL / cpus)
                .clamp(Self::SLOTS_PER_CPU_LEAST, Self::SLOTS_PER_CPU_MOST),
            slots => slots,
        };
        // The kernel takes rings of a power of two, at least a page, which may be 64 KiB; small
        // ones are for tests.
        let ring = |bytes: u32| bytes.clamp(4096, 1 << 30).next_power_of_two();
        Ok(Self {
            slots_per_cpu: slots.clamp(2, 1 << 24).next_power_of_two(),
            addresses_max: self.addresses_max.min(1 << 27),
            names_max: self.names_max.min(1 << 27),
            notice_ring_bytes: ring(self.notice_ring_bytes),
            hit_ring_bytes: ring(self.hit_ring_bytes),
            evicted_ring_bytes: ring(self.evicted_ring_bytes),
            copy_ring_bytes: ring(self.copy_ring_bytes),
            process_ring_bytes: ring(self.process_ring_bytes),
            cpus,
            ..self
        })
    }

    pub(super) const fn sets_per_cpu(&self) -> u32 {
        self.slots_per_cpu / WAYS as u32
    }

    pub(super) const fn slots(&self) -> usize {
        self.slots_per_cpu as usize * self.cpus as usize
    }

    pub(super) const fn slot_bytes(&self) -> usize {
        self.slots() / WAYS * size_of::<FlowSet>()
    }

    pub(super) const fn counter_bytes(&self) -> usize {
        self.cpus as usize * size_of::<CpuCounters>()
    }
}

/// One more than the highest number a CPU of this machine may have.
fn possible_cpus() -> Result<u32, CaptureError> {
    let asked = "read /sys/devices/system/cpu/possible";
    let text = fs::read_to_string("/sys/devices/system/cpu/possible")
        .map_err(|source| CaptureError::System { asked, source })?;
    highest(&text)
        .map(|number| number + 1)
        .ok_or(CaptureError::System {
            asked,
            source: std::io::Error::other(format!("\"{}\" names no CPU", text.trim())),
        })
}

/// The last number of a list like `0-3,8`.
fn highest(list: &str) -> Option<u32> {
    list.trim().rsplit([',', '-']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_cpu_is_found() {
        for (list, number) in [
            ("0\n", Some(0)),
            ("0-3\n", Some(3)),
            ("0-3,8\n", Some(8)),
            ("\n", None),
        ] {
            assert_eq!(highest(list), number, "{list:?}");
        }
    }

    #[test]
    fn flows_share_a_budget_among_cpus() {
        for (cpus, slots) in [
            (1, 1 << 16),
            (2, 1 << 16),
            (4, 1 << 16),
            (16, 1 << 14),
            (192, 1 << 12),
        ] {
            let sizes = Sizes {
                cpus,
                ..Sizes::default()
            };
            assert_eq!(sizes.fitted().unwrap().slots_per_cpu, slots, "{cpus} CPUs");
        }
    }

    #[test]
    fn odd_sizes_become_powers_of_two() {
        let sizes = Sizes {
            cpus: 1,
            slots_per_cpu: 5,
            hit_ring_bytes: 1,
            copy_ring_bytes: 5000,
            ..Sizes::default()
        };
        let fitted = sizes.fitted().unwrap();
        assert_eq!((fitted.slots_per_cpu, fitted.sets_per_cpu()), (8, 4));
        assert_eq!(
            (fitted.hit_ring_bytes, fitted.copy_ring_bytes),
            (4096, 8192)
        );
    }
}
