//! How much room the kernel side takes.

use std::fs;

use picket_abi::{CpuCounters, FlowSlot, WAYS};

use super::CaptureError;

/// Room for flows, addresses and records. Everything is allocated when the programs are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Flows counted at once on each CPU, 128 bytes each; rounded up to a power of two. 0 shares
    /// [`Sizes::SLOTS_IN_ALL`] among the CPUs.
    pub slots_per_cpu: u32,
    /// Listed addresses, those of IPv4 outside whole /24 networks; 16 MiB for a million, in two
    /// halves.
    pub addresses_max: u32,
    /// Listed IPv6 networks; they take memory as they are loaded.
    pub ipv6_networks_max: u32,
    /// Listed names; 20 MiB for a million, in two halves.
    pub names_max: u32,
    /// Bytes for messages that a stage recognised and that wait to be read.
    pub notice_ring_bytes: u32,
    /// Bytes for hits that wait to be read.
    pub hit_ring_bytes: u32,
    /// Bytes for flows that left their slots and wait to be read. 0 lets the machine decide.
    pub evicted_ring_bytes: u32,
    /// Bytes for copied packets that wait to be read. 0 lets the machine decide.
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
            // Four hundred names or a hundred openings; what finds no room is found in its copy.
            notice_ring_bytes: 128 << 10,
            // A thousand hits.
            hit_ring_bytes: 128 << 10,
            evicted_ring_bytes: 0,
            copy_ring_bytes: 0,
            // 760 processes: a tenth of a second, after which we look at the latest, of a build
            // that starts 7,000 programs a second.
            process_ring_bytes: 256 << 10,
            cpus: 0,
        }
    }
}

/// What rooms are cut to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine {
    pub(super) cpus: u32,
    pub(super) memory_bytes: u64,
}

impl Machine {
    fn here() -> Result<Self, CaptureError> {
        Ok(Self {
            cpus: possible_cpus()?,
            memory_bytes: memory_bytes(),
        })
    }

    /// Bytes of a ring of which each record is read within a tenth of a second. Rings count twice in
    /// our resident memory, as they are mapped twice in a row, so a small machine gets a small one:
    /// 1 MiB below 1 GiB. 2 MiB is 14,500 flows, a twentieth of a second at a new flow every 3.5 µs
    /// (and we are woken when a quarter is used), or a thousand packets of full size. With sixteen
    /// processors and 32 GiB more can come at once: 8 MiB.
    const fn ring_bytes(self) -> u32 {
        if self.memory_bytes < 1 << 30 {
            1 << 20
        } else if self.cpus < 16 || self.memory_bytes < 32 << 30 {
            2 << 20
        } else {
            8 << 20
        }
    }

    /// Slots shared among the CPUs.
    fn slots(self) -> u32 {
        let share = self.memory_bytes / Sizes::SLOTS_SHARE / size_of::<FlowSlot>() as u64;
        u32::try_from(share)
            .unwrap_or(u32::MAX)
            .clamp(Sizes::SLOTS_LEAST, Sizes::SLOTS_MOST)
    }
}

impl Sizes {
    /// Part of the memory that slots take by default: a sixty-fourth, 8 MiB of 512.
    pub const SLOTS_SHARE: u64 = 64;
    /// Fewest slots shared among the CPUs by default: 4 MiB.
    pub const SLOTS_LEAST: u32 = 1 << 15;
    /// Most slots shared among the CPUs by default: 128 MiB.
    pub const SLOTS_MOST: u32 = 1 << 20;
    /// Most slots of one CPU by default: 8 MiB.
    pub const SLOTS_PER_CPU_MOST: u32 = 1 << 16;
    /// Fewest slots of one CPU by default: half a MiB.
    pub const SLOTS_PER_CPU_LEAST: u32 = 1 << 12;

    /// The same with what was left to us filled in and what must be a power of two made one.
    pub(super) fn fitted(self) -> Result<Self, CaptureError> {
        Ok(self.fitted_to(Machine::here()?))
    }

    fn fitted_to(self, machine: Machine) -> Self {
        let cpus = match self.cpus {
            0 => machine.cpus,
            cpus => cpus,
        };
        let machine = Machine { cpus, ..machine };
        let slots = match self.slots_per_cpu {
            // The next lower power of two, as the budget is one for all.
            0 => {
                1 << (machine.slots() / cpus)
                    .clamp(Self::SLOTS_PER_CPU_LEAST, Self::SLOTS_PER_CPU_MOST)
                    .ilog2()
            }
            slots => slots,
        };
        let or_machine = |bytes: u32| match bytes {
            0 => machine.ring_bytes(),
            bytes => bytes,
        };
        // The kernel takes rings of a power of two, at least a page, which may be 64 KiB; small
        // ones are for tests.
        let ring = |bytes: u32| bytes.clamp(4096, 1 << 30).next_power_of_two();
        Self {
            slots_per_cpu: slots.clamp(2, 1 << 24).next_power_of_two(),
            addresses_max: self.addresses_max.min(1 << 27),
            names_max: self.names_max.min(1 << 27),
            notice_ring_bytes: ring(self.notice_ring_bytes),
            hit_ring_bytes: ring(self.hit_ring_bytes),
            evicted_ring_bytes: ring(or_machine(self.evicted_ring_bytes)),
            copy_ring_bytes: ring(or_machine(self.copy_ring_bytes)),
            process_ring_bytes: ring(self.process_ring_bytes),
            cpus,
            ..self
        }
    }

    pub(super) const fn sets_per_cpu(&self) -> u32 {
        self.slots_per_cpu / WAYS as u32
    }

    pub(super) const fn slots(&self) -> usize {
        self.slots_per_cpu as usize * self.cpus as usize
    }

    #[cfg(test)]
    pub(super) const fn slot_bytes(&self) -> usize {
        self.slots() * size_of::<FlowSlot>()
    }

    pub(super) const fn counter_bytes(&self) -> usize {
        self.cpus as usize * size_of::<CpuCounters>()
    }
}

/// The machine's memory; where it is not told, a small machine's.
fn memory_bytes() -> u64 {
    const SMALL: u64 = 512 << 20;
    // SAFETY: the calls take numbers only.
    let (pages, page_bytes) = unsafe {
        (
            libc::sysconf(libc::_SC_PHYS_PAGES),
            libc::sysconf(libc::_SC_PAGESIZE),
        )
    };
    match (u64::try_from(pages), u64::try_from(page_bytes)) {
        (Ok(pages), Ok(bytes)) if pages > 0 => pages.saturating_mul(bytes),
        _ => SMALL,
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
    fn room_follows_memory_and_cpus() {
        // CPUs, memory in MiB; slots of each CPU, MiB of them all, KiB of a ring.
        for (cpus, memory, slots, slots_mib, ring_kib) in [
            (2, 512, 1 << 15, 8, 1024),
            (1, 256, 1 << 15, 4, 1024),
            (2, 1 << 10, 1 << 16, 16, 2048),
            (2, 8 << 10, 1 << 16, 16, 2048),
            (16, 32 << 10, 1 << 16, 128, 8192),
            (16, 16 << 10, 1 << 16, 128, 2048),
            (64, 256 << 10, 1 << 14, 128, 8192),
            (192, 768 << 10, 1 << 12, 96, 8192),
        ] {
            let machine = Machine {
                cpus,
                memory_bytes: memory << 20,
            };
            let fitted = Sizes::default().fitted_to(machine);
            let name = format!("{cpus} CPUs, {memory} MiB");
            let bytes = fitted.slots() * size_of::<FlowSlot>();
            assert_eq!(
                (fitted.slots_per_cpu, bytes >> 20),
                (slots, slots_mib),
                "{name}"
            );
            let rings = (fitted.evicted_ring_bytes, fitted.copy_ring_bytes);
            assert_eq!(rings, (ring_kib << 10, ring_kib << 10), "{name}");
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
