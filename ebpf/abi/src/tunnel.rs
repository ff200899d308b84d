//! Tunnels of mirrored traffic: how a flow inside one is marked.
//!
//! A key has 24 bits for it ([`crate::FlowKey::mark`]), too few for a kind and its number. So the
//! kernel side keeps a table of the tunnels it has met, and the mark is a place in it, less nothing
//! for none: 0 is outside of tunnels, `n` is entry `n - 1`. An entry is written once and stays, so
//! whoever reads a mark finds what it means.

/// Entries of the table where mirrored traffic is looked into: 512 KiB. A mirror target takes some
/// hundreds of sessions.
pub const TUNNELS: u32 = 1 << 16;

/// Entries looked at for one tunnel before it is given up.
pub const PROBES: u32 = 8;

const _: () = assert!(TUNNELS.is_power_of_two() && TUNNELS < 1 << 24);

/// Kinds of tunnels that the kernel side looks into, as they stand in an entry.
pub mod kind {
    /// RFC 7348.
    pub const VXLAN: u32 = 1;
    /// RFC 8926.
    pub const GENEVE: u32 = 2;
    /// RFC 2784 and 2890.
    pub const GRE: u32 = 3;
    /// Mirrored frames inside GRE, types I and II.
    pub const ERSPAN: u32 = 4;
}

/// A tunnel as an entry: its kind above its number. Never 0, which is a free entry.
#[inline(always)]
#[must_use]
pub const fn entry(kind: u32, id: u32) -> u64 {
    (kind as u64) << 32 | id as u64
}

/// Kind and number of an entry.
#[inline(always)]
#[must_use]
pub const fn of_entry(entry: u64) -> (u32, u32) {
    ((entry >> 32) as u32, entry as u32)
}

/// The entry to look at first, in a table of `TUNNELS` entries. Fibonacci hashing.
#[inline(always)]
#[must_use]
pub const fn place(entry: u64) -> u32 {
    (entry.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u32 & (TUNNELS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_tells_kind_and_number() {
        for (kind, id) in [
            (kind::VXLAN, 0),
            (kind::GENEVE, 0xff_ffff),
            (kind::GRE, u32::MAX),
        ] {
            assert_eq!(of_entry(entry(kind, id)), (kind, id));
            assert_ne!(entry(kind, id), 0);
            assert!(place(entry(kind, id)) < TUNNELS);
        }
    }
}
