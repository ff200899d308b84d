//! Sets: how indicators get into the kernel's tables, and come into force there.
//!
//! All tables are there twice. The half that is not in force is filled, then the epoch is moved,
//! and from that packet on everything is matched against the new half: addresses, endpoints and
//! names at once, stamped with the new version. No packet meets an empty or a mixed table.

use std::net::Ipv6Addr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::Ordering;

use aya::Ebpf;
use aya::maps::MapData;
use aya::maps::MapError;
use aya::maps::lpm_trie::{Key, LpmTrie};
use picket_abi::{AddressConfig, Bucket};

use super::mapped::{Access, Mapped};
use super::object::{array, trie};
use super::size::Sizes;
use super::tables::{self, Image, NameImage, NamesSize, Network, SetError, SetSize};
use super::{CaptureError, canary};

/// The tables of listed things.
#[derive(Debug)]
pub(super) struct Tables {
    config: Mapped,
    codes: MapData,
    buckets: MapData,
    ipv6: [LpmTrie<MapData, [u8; 16], u8>; 2],
    name_filter: MapData,
    name_buckets: MapData,
    /// What names are hashed with.
    salt: u64,
    sizes: Sizes,
    /// Mapped above; a program that is loaded later still needs its descriptor.
    _config: MapData,
}

/// What a load made of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedSet {
    /// Of its addresses.
    pub addresses: SetSize,
    /// Of its names; where they do not fit, the kernel matches none of them.
    pub names: Result<NamesSize, SetError>,
    /// Whether the canary's name is listed beside them.
    pub(super) own_name: bool,
}

impl Tables {
    pub(super) fn take(ebpf: &mut Ebpf, sizes: Sizes, salt: u64) -> Result<Self, CaptureError> {
        let config = array(ebpf, "CONFIG")?;
        let bytes = size_of::<AddressConfig>();
        let mapped = Mapped::new(config.fd().as_fd(), 0, bytes, Access::Write);
        let name = "CONFIG";
        Ok(Self {
            config: mapped.map_err(|source| CaptureError::Memory { name, source })?,
            codes: array(ebpf, "CODES")?,
            buckets: array(ebpf, "BUCKETS")?,
            ipv6: [trie(ebpf, "IPV6_EVEN")?, trie(ebpf, "IPV6_ODD")?],
            name_filter: array(ebpf, "NAME_FILTER")?,
            name_buckets: array(ebpf, "NAME_BUCKETS")?,
            salt,
            sizes,
            _config: config,
        })
    }

    /// Puts a set in force; see [`super::EbpfCapture::load_sets`].
    pub(super) fn load<'a>(
        &mut self,
        networks: impl Iterator<Item = Network> + Send,
        names: impl Iterator<Item = &'a str> + Send,
        version: u64,
    ) -> Result<LoadedSet, CaptureError> {
        let sizes = self.sizes;
        let salt = self.salt;
        // Two processors fill two images in the time of one, and programs end meanwhile.
        let (addresses, names) = std::thread::scope(|scope| {
            let names = scope.spawn(move || name_image(names, &sizes, salt));
            let addresses = scope.spawn(move || address_image(networks, &sizes));
            wait_for_programs();
            (addresses.join(), names.join())
        });
        let mut addresses = addresses.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        addresses.add_own(canary::LISTED);
        let mut names = names.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let own_name = names
            .as_mut()
            .is_ok_and(|names| names.add_own(canary::LISTED_NAME));

        let mut config = self.config();
        config.epoch += 1;
        let half = (config.epoch & 1) as usize;
        config.set_versions[half] = version;
        let size = addresses.size;
        config.ipv4_entries[half] = size
            .addresses
            .saturating_add(size.whole_networks)
            .saturating_add(1);
        config.ipv6_entries[half] = size.ipv6_networks;
        config.ipv6_addresses[half] = size.ipv6_addresses;
        config.name_depths[half] = names.as_ref().map_or(0, |names| names.size.depths);

        write_half(&self.codes, "CODES", half, &addresses.codes)?;
        write_buckets(&self.buckets, "BUCKETS", half, &addresses.buckets)?;
        fill_trie(&mut self.ipv6[half], &addresses.ipv6).map_err(|source| CaptureError::Map {
            name: ["IPV6_EVEN", "IPV6_ODD"][half],
            source: Box::new(source),
        })?;
        if let Ok(names) = &names
            && names.size.depths != 0
        {
            write_half(&self.name_filter, "NAME_FILTER", half, &names.filter)?;
            write_buckets(&self.name_buckets, "NAME_BUCKETS", half, &names.buckets)?;
        }
        self.put_in_force(&config);
        Ok(LoadedSet {
            addresses: size,
            names: names.map(|names| names.size),
            own_name,
        })
    }

    /// Has every flow looked up anew among what is blocked, which has so many entries now.
    pub(super) fn blocks_changed(&self, entries: u32) {
        const WORD: usize = std::mem::offset_of!(AddressConfig, block_epoch) / size_of::<u64>();
        let config = self.config();
        // The low 8 bits of an epoch that is in force are never 0, which is what a new slot has.
        let mut epoch = config.block_epoch.wrapping_add(1);
        let round = epoch & 0xff == 0;
        epoch += u32::from(round);
        let words = self.config.words();
        words[WORD].store(pair([epoch, entries]), Ordering::Release);
        if round {
            // The same half of the tables, but every flow looks again.
            words[0].store(config.epoch + 2, Ordering::Release);
        }
    }

    fn config(&self) -> AddressConfig {
        let words = self.config.copy::<CONFIG_WORDS>(0);
        picket_abi::from_words(&words.unwrap_or([0; CONFIG_WORDS])).unwrap_or_default()
    }

    /// Writes everything but the epoch, then the epoch.
    fn put_in_force(&self, config: &AddressConfig) {
        const IPV6: usize = std::mem::offset_of!(AddressConfig, ipv6_addresses) / size_of::<u64>();
        let words = self.config.words();
        let values = [
            config.set_versions[0],
            config.set_versions[1],
            pair(config.ipv6_entries),
            pair(config.ipv4_entries),
            pair(config.name_depths),
        ];
        for (word, value) in words[1..].iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
        // Between them is the word of what is blocked, which has a writer of its own.
        words[IPV6].store(pair(config.ipv6_addresses), Ordering::Relaxed);
        words[0].store(config.epoch, Ordering::Release);
    }
}

const CONFIG_WORDS: usize = size_of::<AddressConfig>() / size_of::<u64>();

const fn pair(values: [u32; 2]) -> u64 {
    values[0] as u64 | (values[1] as u64) << 32
}

fn address_image(
    networks: impl Iterator<Item = Network>,
    sizes: &Sizes,
) -> Result<Image, SetError> {
    let buckets = tables::buckets_for(sizes.addresses_max) as usize;
    let mut image = Image::new(buckets, sizes.addresses_max, sizes.ipv6_networks_max);
    image.add_all(networks)?;
    Ok(image)
}

fn name_image<'a>(
    names: impl Iterator<Item = &'a str>,
    sizes: &Sizes,
    salt: u64,
) -> Result<NameImage, SetError> {
    let buckets = tables::buckets_for(sizes.names_max) as usize;
    let mut image = NameImage::new(buckets, sizes.names_max, salt);
    image.add_all(names)?;
    Ok(image)
}

/// Writes one half of a table of two.
fn write_half(
    table: &MapData,
    name: &'static str,
    half: usize,
    values: &[u64],
) -> Result<(), CaptureError> {
    let mapped = map_half(table.fd().as_fd(), name, half, size_of_val(values))?;
    for (word, value) in mapped.words().iter().zip(values) {
        word.store(*value, Ordering::Relaxed);
    }
    Ok(())
}

fn write_buckets(
    table: &MapData,
    name: &'static str,
    half: usize,
    buckets: &[Bucket],
) -> Result<(), CaptureError> {
    let mapped = map_half(table.fd().as_fd(), name, half, size_of_val(buckets))?;
    let entries = buckets.as_flattened().as_chunks::<2>().0;
    for (word, two) in mapped.words().iter().zip(entries) {
        word.store(pair(*two), Ordering::Relaxed);
    }
    Ok(())
}

fn map_half(
    table: BorrowedFd<'_>,
    name: &'static str,
    half: usize,
    bytes: usize,
) -> Result<Mapped, CaptureError> {
    Mapped::new(table, half * bytes, bytes, Access::Write)
        .map_err(|source| CaptureError::Memory { name, source })
}

fn fill_trie(
    trie: &mut LpmTrie<MapData, [u8; 16], u8>,
    networks: &[(Ipv6Addr, u8)],
) -> Result<(), MapError> {
    let old: Vec<Key<[u8; 16]>> = trie.keys().collect::<Result<_, _>>()?;
    for key in old {
        trie.remove(&key)?;
    }
    for (address, prefix) in networks {
        trie.insert(&Key::new(u32::from(*prefix), address.octets()), 1, 0)?;
    }
    Ok(())
}

/// Returns when every program that was running has ended: none can still read the half of the
/// tables that was in force before the last load. The global barrier of membarrier(2) is an RCU
/// grace period; where it is not to be had (`nohz_full`), a program in that state for microseconds
/// could at worst see a mix, whose verdict is made anew in the next epoch.
pub(super) fn wait_for_programs() {
    const GLOBAL: libc::c_int = 1;
    // SAFETY: the call takes numbers only.
    unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of all tables that are there from the start.
    fn bytes(sizes: &Sizes) -> usize {
        let words = (picket_abi::CODE_WORDS + picket_abi::names::FILTER_WORDS) as usize;
        let buckets =
            tables::buckets_for(sizes.addresses_max) + tables::buckets_for(sizes.names_max);
        2 * (words * size_of::<u64>() + buckets as usize * size_of::<Bucket>())
    }

    #[test]
    fn tables_for_a_million_of_each_leave_room_for_flows() {
        let sizes = Sizes {
            cpus: 2,
            ..Sizes::default()
        };
        let sizes = sizes.fitted().unwrap();
        let rings = sizes.hit_ring_bytes
            + sizes.notice_ring_bytes
            + sizes.evicted_ring_bytes
            + sizes.copy_ring_bytes;
        let all = bytes(&sizes) + sizes.slot_bytes() + sizes.counter_bytes() + rings as usize;
        assert!(all <= 64 << 20, "{all}");
    }
}
