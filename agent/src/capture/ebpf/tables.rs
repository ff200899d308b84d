//! The tables of listed addresses, built in our memory and then given to the kernel.
//!
//! Where things lie is told by [`picket_abi::addresses`]. The kernel reads one half while we fill
//! the other; the epoch, moved last, makes the new half the one in force.

mod names;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use picket_abi::addresses::{CODE_SOME, CODE_WHOLE, bucket_places, code_place, ipv6_place};
use picket_abi::{BUCKET_ALONE, BUCKET_ENTRIES, Bucket, CODE_WORDS};

pub use names::NamesSize;

pub(super) use names::NameImage;

/// An address or network with the length of its prefix.
pub type Network = (IpAddr, u8);

/// Why a set of addresses cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// More addresses than the buckets were made for.
    #[error("more than {max} addresses outside whole /24 networks")]
    TooManyAddresses {
        /// What they were made for.
        max: u32,
    },
    /// More IPv6 networks than the trie was made for.
    #[error("more than {max} IPv6 networks")]
    TooManyNetworks {
        /// What it was made for.
        max: u32,
    },
    /// More names than the buckets were made for.
    #[error("more than {max} names")]
    TooManyNames {
        /// What they were made for.
        max: u32,
    },
    /// A name that found both its buckets full.
    #[error("no room for a name beside {held} others")]
    NamesCrowded {
        /// Names that found room.
        held: u32,
    },
    /// A prefix longer than its address.
    #[error("{address} has no prefix of {prefix} bits")]
    Prefix {
        /// The address.
        address: IpAddr,
        /// The prefix.
        prefix: u8,
    },
}

/// What a load made of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetSize {
    /// IPv4 addresses in the buckets.
    pub addresses: u32,
    /// IPv6 addresses in the buckets.
    pub ipv6_addresses: u32,
    /// IPv4 /24 networks listed whole.
    pub whole_networks: u32,
    /// IPv6 networks in the trie.
    pub ipv6_networks: u32,
    /// Addresses that found both their buckets full: their /24 is listed whole instead, and the
    /// sensor sorts out the hits that are none.
    pub widened: u32,
}

/// What became of an entry.
enum Put {
    New,
    /// It was there, or one that is found in its place.
    Before,
    /// Both its buckets are full.
    NoRoom,
}

/// One half of the tables.
pub(super) struct Image {
    pub(super) codes: Vec<u64>,
    pub(super) buckets: Vec<Bucket>,
    pub(super) ipv6: Vec<(Ipv6Addr, u8)>,
    pub(super) size: SetSize,
    addresses_max: u32,
    networks_max: u32,
}

impl Image {
    /// An empty half with `buckets` buckets, a power of two.
    pub(super) fn new(buckets: usize, addresses_max: u32, networks_max: u32) -> Self {
        Self {
            codes: vec![0; CODE_WORDS as usize],
            buckets: vec![[0; BUCKET_ENTRIES]; buckets],
            ipv6: Vec::new(),
            size: SetSize::default(),
            addresses_max,
            networks_max,
        }
    }

    /// Adds addresses and networks, many at a time: where they lie is far apart, so that memory is
    /// asked for all of a batch before any is needed.
    pub(super) fn add_all(
        &mut self,
        mut networks: impl Iterator<Item = Network>,
    ) -> Result<(), SetError> {
        const BATCH: usize = 64;
        let mask = self.mask();
        let mut batch: Vec<Network> = Vec::with_capacity(BATCH);
        loop {
            batch.clear();
            batch.extend(networks.by_ref().take(BATCH));
            if batch.is_empty() {
                return Ok(());
            }
            let touched = batch.iter().fold(0, |sum, (address, _)| match address {
                IpAddr::V4(address) => {
                    let (first, second) = bucket_places(address.to_bits(), mask);
                    let (word, _) = code_place(address.to_bits());
                    sum ^ self.buckets[first as usize][0]
                        ^ self.buckets[second as usize][0]
                        ^ self.codes[word as usize] as u32
                }
                IpAddr::V6(_) => sum,
            });
            std::hint::black_box(touched);
            for network in &batch {
                self.add(*network)?;
            }
        }
    }

    /// Adds an address or network.
    pub(super) fn add(&mut self, (address, prefix): Network) -> Result<(), SetError> {
        match (address, prefix) {
            (IpAddr::V4(address), 0..=32) => self.add_v4(address, prefix),
            // An IPv4-mapped network is what the kernel side folds into IPv4.
            (IpAddr::V6(address), 96..=128) if address.to_ipv4_mapped().is_some() => {
                let inner = address.to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED);
                self.add_v4(inner, prefix - 96)
            }
            (IpAddr::V6(address), 128) => self.add_ipv6(address),
            (IpAddr::V6(address), 0..=127) => self.add_ipv6_network(address, prefix),
            (address, prefix) => Err(SetError::Prefix { address, prefix }),
        }
    }

    /// Adds an address of our own, which counts towards no bound and no size.
    pub(super) fn add_own(&mut self, address: Ipv4Addr) {
        let (size, max) = (self.size, self.addresses_max);
        self.addresses_max = u32::MAX;
        // Fails for want of room alone, and there is as much as the bound says.
        let _ = self.add_address(address.to_bits());
        (self.size, self.addresses_max) = (size, max);
    }

    fn add_ipv6_network(&mut self, address: Ipv6Addr, prefix: u8) -> Result<(), SetError> {
        if self.size.ipv6_networks >= self.networks_max {
            let max = self.networks_max;
            return Err(SetError::TooManyNetworks { max });
        }
        self.size.ipv6_networks += 1;
        self.ipv6.push((address, prefix));
        Ok(())
    }

    fn add_ipv6(&mut self, address: Ipv6Addr) -> Result<(), SetError> {
        let octets = address.octets();
        let word = |at: usize| picket_abi::read::<u64>(&octets[at..]).unwrap_or_default();
        let place = ipv6_place([word(0), word(8)], self.mask());
        match self.put(place.tag, place.buckets)? {
            Put::New => self.size.ipv6_addresses += 1,
            Put::Before => {}
            Put::NoRoom => self.add_ipv6_network(address, 128)?,
        }
        Ok(())
    }

    fn mask(&self) -> u32 {
        u32::try_from(self.buckets.len() - 1).unwrap_or(u32::MAX)
    }

    /// Puts an entry into one of its buckets.
    fn put(&mut self, entry: u32, places: (u32, u32)) -> Result<Put, SetError> {
        if is_held(&self.buckets, places, entry) {
            return Ok(Put::Before);
        }
        if self.size.addresses + self.size.ipv6_addresses >= self.addresses_max {
            let max = self.addresses_max;
            return Err(SetError::TooManyAddresses { max });
        }
        let Some(place) = room(&mut self.buckets, places) else {
            return Ok(Put::NoRoom);
        };
        *place = entry;
        Ok(Put::New)
    }

    fn add_v4(&mut self, address: Ipv4Addr, prefix: u8) -> Result<(), SetError> {
        let length = u32::from(prefix);
        let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
        let first = address.to_bits() & mask;
        if prefix <= 24 {
            for network in 0..(1u32 << (24 - length)) {
                self.list_whole(first | network << 8);
            }
            return Ok(());
        }
        for host in 0..(1u32 << (32 - length)) {
            self.add_address(first | host)?;
        }
        Ok(())
    }

    fn list_whole(&mut self, address: u32) {
        let (word, shift) = code_place(address);
        let code = &mut self.codes[word as usize];
        self.size.whole_networks += u32::from(*code >> shift & CODE_WHOLE == 0);
        *code |= CODE_WHOLE << shift;
    }

    fn add_address(&mut self, address: u32) -> Result<(), SetError> {
        // 0 marks a free place in a bucket.
        if address == 0 {
            self.size.widened += 1;
            self.list_whole(address);
            return Ok(());
        }
        match self.put(address, bucket_places(address, self.mask()))? {
            Put::New => {
                self.size.addresses += 1;
                self.list_some(address);
            }
            // A tag of an IPv6 address may have its number, but not its code.
            Put::Before => self.list_some(address),
            Put::NoRoom => {
                self.size.widened += 1;
                self.list_whole(address);
            }
        }
        Ok(())
    }

    fn list_some(&mut self, address: u32) {
        let (word, shift) = code_place(address);
        self.codes[word as usize] |= CODE_SOME << shift;
    }
}

/// Whether the kernel side finds an entry: in the first of its buckets, or in the second where the
/// first is so full that it looks there. (What lies in the second else is another's with its number.)
fn is_held(buckets: &[Bucket], places: (u32, u32), entry: u32) -> bool {
    let (first, second) = (&buckets[places.0 as usize], &buckets[places.1 as usize]);
    first.contains(&entry) || (first[BUCKET_ALONE - 1] != 0 && second.contains(&entry))
}

/// A free place in one of two buckets: the first until it holds [`BUCKET_ALONE`], then the emptier.
/// Entries are put in from the front, so the first free place is behind as many.
fn room(buckets: &mut [Bucket], places: (u32, u32)) -> Option<&mut u32> {
    let (first, second) = (places.0 as usize, places.1 as usize);
    let taken = |place: usize| buckets[place].iter().filter(|one| **one != 0).count();
    let (in_first, in_second) = (taken(first), taken(second));
    let (bucket, place) = if in_first < BUCKET_ALONE || in_first <= in_second {
        (first, in_first)
    } else {
        (second, in_second)
    };
    buckets[bucket].get_mut(place)
}

/// Buckets for as many addresses: two thirds full at most, so that two choices all but always
/// find room (measured: of a million random addresses none was widened; the test below does it with
/// a tenth).
pub(super) fn buckets_for(addresses: u32) -> u32 {
    let needed = (u64::from(addresses) * 3).div_ceil(2 * BUCKET_ENTRIES as u64);
    // A half is at least the largest page of any Linux, so that it can be mapped by itself.
    let least = 65_536 / size_of::<Bucket>() as u64;
    u32::try_from(needed.max(least).next_power_of_two()).unwrap_or(1 << 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(networks: &[&str]) -> Result<Image, SetError> {
        let mut image = Image::new(buckets_for(1000) as usize, 1000, 10);
        for network in networks {
            let (address, prefix) = network.split_once('/').unwrap();
            image.add((address.parse().unwrap(), prefix.parse().unwrap()))?;
        }
        Ok(image)
    }

    fn code(image: &Image, address: &str) -> u64 {
        let (word, shift) = code_place(address.parse::<Ipv4Addr>().unwrap().to_bits());
        image.codes[word as usize] >> shift & 3
    }

    fn in_buckets(image: &Image, address: &str) -> bool {
        let address = address.parse::<Ipv4Addr>().unwrap().to_bits();
        let places = bucket_places(address, image.buckets.len() as u32 - 1);
        is_held(&image.buckets, places, address)
    }

    #[test]
    fn an_entry_of_another_in_the_second_bucket_is_not_taken_for_this_one() {
        let mut image = image(&[]).unwrap();
        // The same tag, put into what is its own first bucket and the other's second.
        assert!(matches!(image.put(7, (2, 3)), Ok(Put::New)));
        assert!(matches!(image.put(7, (1, 2)), Ok(Put::New)));
        assert!(image.buckets[1].contains(&7));
        for other in 0..BUCKET_ALONE as u32 {
            assert!(matches!(image.put(100 + other, (4, 5)), Ok(Put::New)));
        }
        // The first bucket has enough; now the emptier one is taken.
        assert!(matches!(image.put(200, (4, 5)), Ok(Put::New)));
        assert!(image.buckets[5].contains(&200));
        assert!(matches!(image.put(200, (4, 5)), Ok(Put::Before)));
    }

    #[test]
    fn an_address_is_in_a_bucket_and_its_neighbour_is_not() {
        let image = image(&["192.0.2.7/32"]).unwrap();
        assert!(in_buckets(&image, "192.0.2.7") && !in_buckets(&image, "192.0.2.8"));
        assert_eq!(code(&image, "192.0.2.0"), CODE_SOME);
        assert_eq!(code(&image, "192.0.3.0"), 0);
    }

    #[test]
    fn a_small_network_becomes_its_addresses() {
        let image = image(&["192.0.2.9/30"]).unwrap();
        assert_eq!(image.size.addresses, 4);
        assert!(in_buckets(&image, "192.0.2.8") && in_buckets(&image, "192.0.2.11"));
        assert!(!in_buckets(&image, "192.0.2.12"));
    }

    #[test]
    fn a_wide_network_becomes_codes_alone() {
        let image = image(&["10.0.0.0/16"]).unwrap();
        assert_eq!((image.size.whole_networks, image.size.addresses), (256, 0));
        assert_eq!(code(&image, "10.0.255.1"), CODE_WHOLE);
        assert_eq!(
            (code(&image, "10.1.0.1"), code(&image, "9.255.255.1")),
            (0, 0)
        );
    }

    #[test]
    fn everything_fits_where_it_must() {
        assert_eq!(image(&["0.0.0.0/0"]).unwrap().size.whole_networks, 1 << 24);
        let zero = image(&["0.0.0.0/32"]).unwrap();
        assert_eq!((code(&zero, "0.0.0.0"), zero.size.widened), (CODE_WHOLE, 1));
        let folded = image(&["::ffff:192.0.2.0/120"]).unwrap();
        assert_eq!(code(&folded, "192.0.2.1"), CODE_WHOLE);
        assert_eq!(folded.size.ipv6_networks, 0);
        assert_eq!(image(&["2001:db8::/32"]).unwrap().size.ipv6_networks, 1);
    }

    #[test]
    fn an_ipv6_address_takes_a_place_and_no_network() {
        let image = image(&["2001:db8::1/128", "2001:db8::2/128", "2001:db8::1/128"]).unwrap();
        assert_eq!(
            (image.size.ipv6_addresses, image.size.ipv6_networks),
            (2, 0)
        );
        assert_eq!(image.size.addresses, 0);
        // Where there is no room it becomes a network of one.
        let mut full = Image::new(1, 1000, 10);
        for host in 1..=17 {
            full.add((Ipv6Addr::from_bits(host).into(), 128)).unwrap();
        }
        assert_eq!((full.size.ipv6_addresses, full.size.ipv6_networks), (16, 1));
    }

    #[test]
    fn a_second_time_is_not_counted() {
        let image = image(&["192.0.2.7/32", "192.0.2.7/32", "10.0.0.0/24", "10.0.0.0/24"]).unwrap();
        assert_eq!((image.size.addresses, image.size.whole_networks), (1, 1));
    }

    #[test]
    fn too_much_is_refused() {
        let many: Vec<String> = (0..1001)
            .map(|n| format!("10.0.{}.{}/32", n / 250, n % 250 + 1))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(
            image(&many).err(),
            Some(SetError::TooManyAddresses { max: 1000 })
        );
        let nets: Vec<String> = (0..11).map(|n| format!("2001:db8:{n}::/48")).collect();
        let nets: Vec<&str> = nets.iter().map(String::as_str).collect();
        assert_eq!(
            image(&nets).err(),
            Some(SetError::TooManyNetworks { max: 10 })
        );
        assert!(matches!(
            image(&["10.0.0.1/33"]),
            Err(SetError::Prefix { prefix: 33, .. })
        ));
        assert!(matches!(
            image(&["::1/129"]),
            Err(SetError::Prefix { prefix: 129, .. })
        ));
    }

    #[test]
    fn a_full_table_widens_next_to_nothing() {
        const ADDRESSES: u32 = 100_000;
        let mut image = Image::new(buckets_for(ADDRESSES) as usize, ADDRESSES, 0);
        let mut state = 1u64;
        while image.size.addresses < ADDRESSES {
            // A full-period generator of 64 bits (Knuth's MMIX constants), its upper half.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let address = Ipv4Addr::from_bits((state >> 32) as u32);
            image.add((IpAddr::V4(address), 32)).unwrap();
        }
        assert_eq!(image.size.widened, 0);
    }
}
