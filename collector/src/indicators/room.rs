//! How much may be published, and how much of it a list takes. What agents or their kernels would
//! refuse as a whole must not be published at all; so each list is judged against what is left.

use picket_wire::bundle::{Kind, ListHead};

use super::keys::Keys;
use super::limits::{
    HEAD_BYTES_MAX, KERNEL_ADDRESSES_KEPT, KERNEL_ADDRESSES_MAX, KERNEL_NETS_KEPT, KERNEL_NETS_MAX,
    OPERATOR_ENTRIES_MAX,
};
use picket_wire::limits::{BUNDLE_BYTES_MAX, BUNDLE_ENTRIES_MAX, BUNDLE_LISTS_MAX};

/// What a list takes, or what is left for lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Room {
    /// Lists.
    pub(crate) lists: u64,
    /// Entries on them.
    pub(crate) entries: u64,
    /// Places in the kernel's table of addresses: one for an address of either family or an
    /// endpoint, as many as it holds for a network of IPv4 smaller than a /24, none for a larger one.
    pub(crate) addresses: u64,
    /// Networks of IPv6, which the kernel keeps elsewhere.
    pub(crate) nets: u64,
    /// Bytes of the bundle, as if nothing were saved by packing.
    pub(crate) bytes: u64,
    /// Bytes of what the bundle's head says of lists.
    pub(crate) head_bytes: u64,
}

/// Bytes that the head of a list takes besides its name.
const HEAD_BYTES: u64 = 48;

impl Room {
    /// What there is before anything is taken.
    pub(super) const ALL: Self = Self {
        lists: BUNDLE_LISTS_MAX as u64,
        entries: BUNDLE_ENTRIES_MAX as u64,
        addresses: KERNEL_ADDRESSES_MAX,
        nets: KERNEL_NETS_MAX,
        bytes: BUNDLE_BYTES_MAX as u64,
        head_bytes: HEAD_BYTES_MAX,
    };

    /// What is left for lists of files: as many entries as configured, and never what is kept for
    /// operators.
    pub(super) fn of_files(self, entries_max: u64) -> Self {
        let most = Self {
            entries: entries_max.min(Self::ALL.entries - OPERATOR_ENTRIES_MAX),
            addresses: Self::ALL.addresses - KERNEL_ADDRESSES_KEPT,
            nets: Self::ALL.nets - KERNEL_NETS_KEPT,
            // A name is rarely longer than 40 bytes.
            bytes: Self::ALL.bytes - 40 * OPERATOR_ENTRIES_MAX,
            // Operators have a list for each category.
            lists: Self::ALL.lists - 16,
            head_bytes: Self::ALL.head_bytes - 16 * 1_024,
        };
        Self {
            lists: self.lists.min(most.lists),
            entries: self.entries.min(most.entries),
            addresses: self.addresses.min(most.addresses),
            nets: self.nets.min(most.nets),
            bytes: self.bytes.min(most.bytes),
            head_bytes: self.head_bytes.min(most.head_bytes),
        }
    }

    /// What a list takes.
    pub(super) fn of_list<'a>(
        head: &ListHead,
        keys: impl Iterator<Item = (&'a Kind, &'a Keys)>,
    ) -> Self {
        let mut sum = Self {
            lists: 1,
            head_bytes: HEAD_BYTES + head.name.len() as u64,
            ..Self::default()
        };
        for (kind, keys) in keys {
            let count = keys.len() as u64;
            sum.entries += count;
            sum.bytes += keys.packed_bytes();
            match kind {
                Kind::Ipv4 | Kind::Ipv6 | Kind::Endpoint4 | Kind::Endpoint6 => {
                    sum.addresses += count;
                }
                Kind::Net6 => sum.nets += count,
                Kind::Net4 => {
                    let small = |key: &[u8]| match key.last() {
                        Some(&prefix @ 25..=32) => 1 << (32 - prefix),
                        _ => 0u64,
                    };
                    sum.addresses += keys.iter().map(small).sum::<u64>();
                }
                Kind::Domain => {}
            }
        }
        sum
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            lists: self.lists + other.lists,
            entries: self.entries + other.entries,
            addresses: self.addresses + other.addresses,
            nets: self.nets + other.nets,
            bytes: self.bytes + other.bytes,
            head_bytes: self.head_bytes + other.head_bytes,
        }
    }

    /// What is left when so much is taken.
    ///
    /// # Errors
    /// It does not fit: in words, what there is too much of.
    pub(crate) fn without(self, taken: Self) -> Result<Self, String> {
        let check = |have: u64, wanted: u64, what: &str| {
            have.checked_sub(wanted)
                .ok_or_else(|| format!("{wanted} {what}, and there is room for {have}"))
        };
        Ok(Self {
            entries: check(self.entries, taken.entries, "entries")?,
            addresses: check(
                self.addresses,
                taken.addresses,
                "places for addresses in the kernel",
            )?,
            nets: check(self.nets, taken.nets, "networks of IPv6")?,
            bytes: check(self.bytes, taken.bytes, "bytes")?,
            lists: check(self.lists, taken.lists, "lists")?,
            head_bytes: check(self.head_bytes, taken.head_bytes, "bytes of names of lists")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicators::source::Source;
    use picket_intel::{Category, Indicator, List, SetBuilder};

    fn size(values: &[&str]) -> Room {
        let mut builder = SetBuilder::default();
        let list = builder.list(List::new("a", Category::C2)).unwrap();
        for value in values {
            let value = Indicator::address(value).or_else(|_| Indicator::domain(value));
            builder.add(list, value.unwrap()).unwrap();
        }
        Source::of("place", &builder.build(), 1).size()
    }

    #[test]
    fn what_each_kind_takes_in_the_kernel() {
        let check = |value: &str, addresses: u64, nets: u64| {
            let size = size(&[value]);
            assert_eq!(
                (size.entries, size.addresses, size.nets),
                (1, addresses, nets),
                "{value}"
            );
        };
        check("192.0.2.1", 1, 0);
        check("192.0.2.1:80", 1, 0);
        check("192.0.2.0/31", 2, 0);
        check("192.0.2.0/25", 128, 0);
        check("192.0.2.0/24", 0, 0);
        check("192.0.0.0/16", 0, 0);
        check("2001:db8::1", 1, 0);
        check("2001:db8::/48", 0, 1);
        check("a.example", 0, 0);
        // Names are written last letter first, so that what they end in is written once.
        let apart = size(&["a.example"]).bytes + size(&["b.example"]).bytes;
        assert!(size(&["a.example", "b.example"]).bytes < apart);
    }

    #[test]
    fn what_does_not_fit_says_of_what_there_is_too_much() {
        let most = Room::ALL.of_files(20);
        assert_eq!(most.entries, 20);
        let big = Room {
            entries: 21,
            ..Room::default()
        };
        let told = most.without(big).unwrap_err();
        assert_eq!(told, "21 entries, and there is room for 20");
        let wide = Room {
            addresses: KERNEL_ADDRESSES_MAX,
            ..Room::default()
        };
        assert!(Room::ALL.without(wide).is_ok());
        assert!(most.without(wide).unwrap_err().contains("kernel"));
        assert_eq!(most.without(Room::default()), Ok(most));
    }
}
