//! Orders to block, as the kernel side holds them, and the heartbeat without which they lapse.
//!
//! Replaced as a whole: what is protected is put in first, then what is no longer blocked taken
//! out, then what is newly blocked put in, and the epoch moved, which has every flow looked up
//! anew. If that breaks off, nothing is blocked: the host comes before the order.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap, MapData, MapError};
use aya::{Ebpf, Pod};
use picket_abi::BlockRecord;
use picket_abi::block::DRY_RUN;
use picket_sense::input::KernelBlock;

use super::clock::{self, Clock};
use super::ledger::address;
use super::mapped::{Access, Mapped};
use super::object::array;
use super::rings::way;
use super::{CaptureError, Network};

/// Networks that can be blocked at once. Chosen by hand: far more than a person orders.
pub const BLOCKED_NETS_MAX: u32 = 16_384;

/// Endpoints that can be blocked at once.
pub const BLOCKED_ENDPOINTS_MAX: u32 = 16_384;

/// Networks that can be protected: those of the operator, and the host's own few.
pub const PROTECTED_NETS_MAX: u32 = 4_096;

/// Bytes for records of refused flows that wait to be read: 900 of them.
pub(super) const BLOCKED_RING_BYTES: u32 = 64 << 10;

/// One thing that is blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRule {
    /// The network, or with a port a single address.
    pub net: Network,
    /// One port of the address; without it all of them, and every protocol.
    pub port: Option<u16>,
    /// Number of the order.
    pub order: u64,
    /// When it ends, nanoseconds since the epoch.
    pub expires_ns: u64,
    /// Whether packets go on, and it is only told that they would not have.
    pub dry_run: bool,
}

/// Networks by octets (IPv4 in its mapped form) and bits of prefix.
type Nets<V> = BTreeMap<([u8; 16], u32), V>;

/// [`picket_abi::BlockEntry`] in words: when it ends, and the order.
type Entry = [u64; 2];

/// [`picket_abi::BlockedEndpoint`] in words: the address, and the port.
type Endpoint = [u64; 3];

/// The kernel's tables of what is blocked, and what we put into them.
pub(super) struct Blocks {
    nets: LpmTrie<MapData, [u8; 16], Entry>,
    endpoints: HashMap<MapData, Endpoint, Entry>,
    protected: LpmTrie<MapData, [u8; 16], u8>,
    held: Held,
    heartbeat: Mapped,
    _heartbeat: MapData,
}

/// What the tables hold.
#[derive(Default)]
struct Held {
    nets: Nets<Entry>,
    endpoints: BTreeMap<Endpoint, Entry>,
    protected: Nets<u8>,
}

impl Held {
    fn of(rules: &[BlockRule], protected: &[Network], clock: Clock) -> Self {
        let mut held = Self::default();
        for rule in rules {
            let flag = if rule.dry_run { DRY_RUN } else { 0 };
            let entry = [clock.ktime_ns(rule.expires_ns), rule.order | flag];
            // Of several orders for the same the one counts that lasts longest.
            let held = match rule.port {
                None => held.nets.entry(octets(rule.net)).or_insert(entry),
                Some(port) => {
                    let (octets, _) = octets(rule.net);
                    let [high, low] = halves(octets);
                    let endpoint = [high, low, u64::from(port)];
                    held.endpoints.entry(endpoint).or_insert(entry)
                }
            };
            if entry[0] > held[0] {
                *held = entry;
            }
        }
        held.protected = protected.iter().map(|net| (octets(*net), 1)).collect();
        held
    }

    fn entries(&self) -> u32 {
        u32::try_from(self.nets.len() + self.endpoints.len()).unwrap_or(u32::MAX)
    }
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Blocks").finish_non_exhaustive()
    }
}

impl Blocks {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, CaptureError> {
        let mut map = |name| {
            ebpf.take_map(name)
                .ok_or(CaptureError::Object("a table of blocks is missing"))
        };
        let wrong = |name| {
            move |source| CaptureError::Map {
                name,
                source: Box::new(source),
            }
        };
        let nets = LpmTrie::try_from(map("BLOCKED_NETS")?).map_err(wrong("BLOCKED_NETS"))?;
        let endpoints =
            HashMap::try_from(map("BLOCKED_ENDPOINTS")?).map_err(wrong("BLOCKED_ENDPOINTS"))?;
        let protected =
            LpmTrie::try_from(map("PROTECTED_NETS")?).map_err(wrong("PROTECTED_NETS"))?;
        let name = "HEARTBEAT";
        let array = array(ebpf, name)?;
        let heartbeat = Mapped::new(array.fd().as_fd(), 0, size_of::<u64>(), Access::Write)
            .map_err(|source| CaptureError::Memory { name, source })?;
        Ok(Self {
            nets,
            endpoints,
            protected,
            held: Held::default(),
            heartbeat,
            _heartbeat: array,
        })
    }

    /// Tells the kernel side that the agent lives.
    pub(super) fn beat(&self) {
        self.heartbeat.words()[0].store(clock::coarse_ns(), Ordering::Relaxed);
    }

    /// Makes the tables hold these rules and no others. Returns how many entries block.
    ///
    /// # Errors
    /// A table did not take its entries. Then nothing is blocked.
    pub(super) fn replace(
        &mut self,
        rules: &[BlockRule],
        protected: &[Network],
        clock: Clock,
    ) -> Result<u32, CaptureError> {
        let wanted = Held::of(rules, protected, clock);
        let replaced = self.settle(&wanted);
        self.held = wanted;
        replaced.inspect_err(|_| {
            // What the tables hold is not known any more: whatever is in them goes.
            self.clear();
        })?;
        Ok(self.held.entries())
    }

    fn settle(&mut self, wanted: &Held) -> Result<(), CaptureError> {
        let Self {
            nets,
            endpoints,
            protected,
            held,
            ..
        } = self;
        let wrong = |name| {
            move |source| CaptureError::Map {
                name,
                source: Box::new(source),
            }
        };
        add_nets(protected, &held.protected, &wanted.protected).map_err(wrong("PROTECTED_NETS"))?;
        for key in held
            .nets
            .keys()
            .filter(|key| !wanted.nets.contains_key(*key))
        {
            nets.remove(&Key::new(key.1, key.0))
                .map_err(wrong("BLOCKED_NETS"))?;
        }
        for key in held
            .endpoints
            .keys()
            .filter(|key| !wanted.endpoints.contains_key(*key))
        {
            endpoints.remove(key).map_err(wrong("BLOCKED_ENDPOINTS"))?;
        }
        add_nets(nets, &held.nets, &wanted.nets).map_err(wrong("BLOCKED_NETS"))?;
        for (key, entry) in &wanted.endpoints {
            if held.endpoints.get(key) != Some(entry) {
                endpoints
                    .insert(key, entry, 0)
                    .map_err(wrong("BLOCKED_ENDPOINTS"))?;
            }
        }
        for key in held
            .protected
            .keys()
            .filter(|key| !wanted.protected.contains_key(*key))
        {
            protected
                .remove(&Key::new(key.1, key.0))
                .map_err(wrong("PROTECTED_NETS"))?;
        }
        Ok(())
    }

    /// Blocks nothing, as far as the tables obey.
    fn clear(&mut self) {
        let nets: Vec<_> = self.nets.keys().flatten().collect();
        for key in nets {
            drop(self.nets.remove(&key));
        }
        let endpoints: Vec<_> = self.endpoints.keys().flatten().collect();
        for key in endpoints {
            drop(self.endpoints.remove(&key));
        }
        self.held.nets.clear();
        self.held.endpoints.clear();
    }
}

/// Adds what is wanted and not held.
fn add_nets<V: Pod + PartialEq>(
    table: &mut LpmTrie<MapData, [u8; 16], V>,
    held: &Nets<V>,
    wanted: &Nets<V>,
) -> Result<(), MapError> {
    for (key, value) in wanted {
        if held.get(key) != Some(value) {
            table.insert(&Key::new(key.1, key.0), value, 0)?;
        }
    }
    Ok(())
}

/// The octets of a network, IPv4 in its mapped form, and the bits of its prefix in them.
fn octets((address, prefix): Network) -> ([u8; 16], u32) {
    match address {
        IpAddr::V4(address) => (
            address.to_ipv6_mapped().octets(),
            96 + u32::from(prefix.min(32)),
        ),
        IpAddr::V6(address) => (address.octets(), u32::from(prefix.min(128))),
    }
}

/// An address as the two machine words of a flow's key.
fn halves(octets: [u8; 16]) -> [u64; 2] {
    picket_abi::read(&octets).unwrap_or_default()
}

pub(super) fn kernel_block(record: &BlockRecord, clock: Clock) -> KernelBlock {
    KernelBlock {
        ts_ns: clock.epoch_ns(record.ktime_ns),
        local: (address(record.key.local), record.key.local_port()),
        remote: (address(record.key.remote), record.key.remote_port()),
        protocol: record.key.protocol(),
        way: way(record.way),
        order: record.order & !DRY_RUN,
        dry_run: record.order & DRY_RUN != 0,
        ifindex: record.ifindex,
    }
}
