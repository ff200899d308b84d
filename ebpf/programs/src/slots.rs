//! The flow table's logic: which set a key belongs to, and which slot of it.
//!
//! A set holds two slots. A key that is in neither takes a free one, else that of the flow which
//! has been silent for longer. So a busy flow stays, and a scan of a thousand ports evicts other
//! short flows rather than long ones.

use picket_abi::{FlowKey, FlowSet, FlowSlot};

/// What [`find`] found.
#[derive(Debug)]
pub enum Found<'a> {
    /// The flow is in this slot.
    Known(&'a mut FlowSlot),
    /// It is new, and this slot was never used.
    Free(&'a mut FlowSlot),
    /// It is new, and this slot's occupant must go first. The number is the slot's way.
    Taken(&'a mut FlowSlot, u32),
}

/// Finds the slot of `key` in its set.
#[inline(always)]
pub fn find<'a>(set: &'a mut FlowSet, key: &FlowKey) -> Found<'a> {
    let [first, second] = &mut set.slots;
    if first.generation != 0 && same(&first.key, key) {
        return Found::Known(first);
    }
    if second.generation != 0 && same(&second.key, key) {
        return Found::Known(second);
    }
    if first.generation == 0 {
        return Found::Free(first);
    }
    if second.generation == 0 {
        return Found::Free(second);
    }
    if first.last_ns <= second.last_ns {
        Found::Taken(first, 0)
    } else {
        Found::Taken(second, 1)
    }
}

/// Whether two keys are the same, without a branch or a call: a derived `==` becomes a call to
/// a byte-wise comparison on this target.
#[inline(always)]
#[must_use]
pub const fn same(one: &FlowKey, other: &FlowKey) -> bool {
    ((one.local[0] ^ other.local[0])
        | (one.local[1] ^ other.local[1])
        | (one.remote[0] ^ other.remote[0])
        | (one.remote[1] ^ other.remote[1])
        | (one.ports ^ other.ports))
        == 0
}

/// Spreads a key over the sets.
///
/// The words are multiplied independently of each other (so they overlap in the processor) and
/// mixed once; the salt is drawn at every load, so that nobody can aim many flows at one set.
/// Multipliers: the odd constants of xxHash64 and of `MurmurHash3`.
#[inline(always)]
#[must_use]
pub const fn hash(key: &FlowKey, salt: u64) -> u64 {
    let mut mixed = (key.local[0] ^ salt)
        .wrapping_mul(0x9e37_79b1_85eb_ca87)
        .wrapping_add((key.local[1] ^ salt).wrapping_mul(0xc2b2_ae3d_27d4_eb4f))
        .wrapping_add((key.remote[0] ^ salt).wrapping_mul(0x1656_67b1_9e37_79f9))
        .wrapping_add((key.remote[1] ^ salt).wrapping_mul(0x85eb_ca77_c2b2_ae63))
        .wrapping_add((key.ports ^ salt).wrapping_mul(0x27d4_eb2f_1656_67c5));
    mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> FlowKey {
        FlowKey {
            local: FlowKey::mapped(0x0100_000a),
            remote: FlowKey::mapped(0x0200_000a),
            ports: FlowKey::pack_ports(443, port, 6),
        }
    }

    fn occupied(port: u16, last_ns: u64) -> FlowSlot {
        FlowSlot {
            generation: 2,
            key: key(port),
            last_ns,
            ..FlowSlot::default()
        }
    }

    #[test]
    fn a_known_flow_is_found_in_either_way() {
        let mut set = FlowSet {
            slots: [occupied(1, 9), occupied(2, 5)],
        };
        for port in [1, 2] {
            match find(&mut set, &key(port)) {
                Found::Known(slot) => assert_eq!(slot.key, key(port)),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_free_slot_is_taken_before_anyone_is_evicted() {
        let mut set = FlowSet {
            slots: [occupied(1, 9), FlowSlot::default()],
        };
        match find(&mut set, &key(3)) {
            Found::Free(slot) => assert_eq!(slot.generation, 0),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_flow_silent_for_longer_goes() {
        for (first_ns, second_ns, way) in [(5, 9, 0), (9, 5, 1), (7, 7, 0)] {
            let mut set = FlowSet {
                slots: [occupied(1, first_ns), occupied(2, second_ns)],
            };
            match find(&mut set, &key(3)) {
                Found::Taken(_, taken) => assert_eq!(taken, way),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_zero_key_does_not_match_an_unused_slot() {
        let mut set = FlowSet::default();
        assert!(matches!(
            find(&mut set, &FlowKey::default()),
            Found::Free(_)
        ));
    }

    #[test]
    fn every_word_of_the_key_counts() {
        let base = key(7);
        for word in 0..5 {
            let mut other = base;
            match word {
                0 => other.local[0] ^= 1,
                1 => other.local[1] ^= 1 << 63,
                2 => other.remote[0] ^= 1,
                3 => other.remote[1] ^= 1 << 63,
                _ => other.ports ^= 1 << 39,
            }
            assert!(!same(&base, &other), "word {word}");
            assert_ne!(hash(&base, 1), hash(&other, 1), "word {word}");
        }
    }

    #[test]
    fn neighbouring_ports_and_addresses_spread_over_the_sets() {
        let mut sets = [0u32; 1024];
        for port in 0..=u16::MAX {
            sets[(hash(&key(port), 0x1234_5678_9abc_def0) & 1023) as usize] += 1;
        }
        // 64 expected in each; seven standard deviations are 56.
        assert!(
            sets.iter().all(|count| count.abs_diff(64) < 56),
            "{:?}",
            sets.iter().max()
        );
        let mut sets = [0u32; 1024];
        for host in 0..=u16::MAX {
            let mut key = key(80);
            key.remote = FlowKey::mapped(u32::from(host).swap_bytes());
            sets[(hash(&key, 0x1234_5678_9abc_def0) & 1023) as usize] += 1;
        }
        assert!(
            sets.iter().all(|count| count.abs_diff(64) < 56),
            "{:?}",
            sets.iter().max()
        );
    }
}
