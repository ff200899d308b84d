//! Chunks: the entries of a bundle, packed.
//!
//! An inflated chunk is a sequence of sections, each in deterministic CBOR:
//!
//! ```text
//! section = [ list uint, kind uint, act uint, count uint, entries bstr ]
//! act     = 0 add · 1 remove
//! kind    = what an entry is, and the key it is written as, by which it is sorted:
//!           0 IPv4 address    4 bytes
//!           1 IPv6 address   16 bytes
//!           2 IPv4 network    4 bytes and the length of the prefix
//!           3 IPv6 network   16 bytes and the length of the prefix
//!           4 IPv4 endpoint   4 bytes and the port, big end first
//!           5 IPv6 endpoint  16 bytes and the port
//!           6 domain          the name in lower case without a final dot, its bytes last first
//! ```
//!
//! Keys ascend. Each is written without what it has in common with the one before it in its section:
//!
//! ```text
//! entry = shared u8 · ( length of the rest u8, of domains alone ) · rest
//! ```
//!
//! There is one way to write a section: `shared` is as large as it can be, and no key comes twice.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use minicbor::Decoder;

use super::{BundleError, ChunkHead};
use crate::id::Digest;

/// Bytes of the longest key: a domain has 253 at most.
pub const KEY_BYTES_MAX: usize = 255;

/// What is done with the entries of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// They are put on the list.
    Add,
    /// They are taken off it.
    Remove,
}

/// What the entries of a section are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// IPv4 addresses.
    Ipv4,
    /// IPv6 addresses.
    Ipv6,
    /// Networks of IPv4.
    Net4,
    /// Networks of IPv6.
    Net6,
    /// IPv4 addresses with a port.
    Endpoint4,
    /// IPv6 addresses with a port.
    Endpoint6,
    /// Domains.
    Domain,
}

impl Kind {
    /// Every kind, by its number on the wire.
    pub const ALL: [Self; 7] = [
        Self::Ipv4,
        Self::Ipv6,
        Self::Net4,
        Self::Net6,
        Self::Endpoint4,
        Self::Endpoint6,
        Self::Domain,
    ];

    /// Bytes of a key, if they are always as many.
    pub(super) fn width(self) -> Option<usize> {
        Some(match self {
            Self::Ipv4 => 4,
            Self::Ipv6 => 16,
            Self::Net4 => 5,
            Self::Net6 => 17,
            Self::Endpoint4 => 6,
            Self::Endpoint6 => 18,
            Self::Domain => return None,
        })
    }
}

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// An address.
    Address(IpAddr),
    /// A network and the length of its prefix.
    Net(IpAddr, u8),
    /// An address with a port.
    Endpoint(SocketAddr),
    /// A domain, in lower case, without a final dot.
    Domain(&'a str),
}

impl<'a> Value<'a> {
    /// The entry of this kind with this key; a domain is put the right way round in `name`.
    ///
    /// # Errors
    /// What is wrong with the key, in words.
    pub fn of_key(
        kind: Kind,
        key: &[u8],
        name: &'a mut [u8; KEY_BYTES_MAX],
    ) -> Result<Self, &'static str> {
        const SIZE: &str = "a key has the wrong size";
        let address = |bytes: &[u8]| -> Result<IpAddr, &'static str> {
            let v4 = <[u8; 4]>::try_from(bytes).map(|ip| Ipv4Addr::from(ip).into());
            let v6 = || <[u8; 16]>::try_from(bytes).map(|ip| Ipv6Addr::from(ip).into());
            v4.or_else(|_| v6()).map_err(|_| SIZE)
        };
        match kind {
            Kind::Ipv4 | Kind::Ipv6 => Ok(Self::Address(address(key)?)),
            Kind::Net4 | Kind::Net6 => {
                let (prefix, bytes) = key.split_last().ok_or(SIZE)?;
                let net = address(bytes)?;
                check_net(bytes, *prefix)?;
                Ok(Self::Net(net, *prefix))
            }
            Kind::Endpoint4 | Kind::Endpoint6 => {
                let (bytes, port) = key.split_last_chunk().ok_or(SIZE)?;
                let port = u16::from_be_bytes(*port);
                Ok(Self::Endpoint(SocketAddr::new(address(bytes)?, port)))
            }
            Kind::Domain => {
                let name = name.get_mut(..key.len()).ok_or(SIZE)?;
                name.copy_from_slice(key);
                name.reverse();
                let name = std::str::from_utf8(name).map_err(|_| "a name is not UTF-8")?;
                Ok(Self::Domain(name))
            }
        }
    }

    /// What it is, and its key, which replaces what is in `key`.
    pub fn key(&self, key: &mut Vec<u8>) -> Kind {
        key.clear();
        let mut put = |address: IpAddr, of_v4, of_v6| match address {
            IpAddr::V4(address) => {
                key.extend(address.octets());
                of_v4
            }
            IpAddr::V6(address) => {
                key.extend(address.octets());
                of_v6
            }
        };
        match *self {
            Self::Address(address) => put(address, Kind::Ipv4, Kind::Ipv6),
            Self::Net(address, prefix) => {
                let kind = put(address, Kind::Net4, Kind::Net6);
                key.push(prefix);
                kind
            }
            Self::Endpoint(endpoint) => {
                let kind = put(endpoint.ip(), Kind::Endpoint4, Kind::Endpoint6);
                key.extend(endpoint.port().to_be_bytes());
                kind
            }
            Self::Domain(name) => {
                key.extend(name.bytes().rev());
                Kind::Domain
            }
        }
    }
}

impl ChunkHead {
    /// Checks that `frame` is this chunk, which stands `at` this place among the others, and inflates
    /// it into `plain`, in place of what is there.
    ///
    /// # Errors
    /// [`BundleError::ForeignChunk`], [`BundleError::Inflate`].
    pub fn inflate(&self, at: usize, frame: &[u8], plain: &mut Vec<u8>) -> Result<(), BundleError> {
        if frame.len() as u64 != u64::from(self.bytes) || Digest::of(frame).0 != self.digest {
            return Err(BundleError::ForeignChunk(at));
        }
        let bytes = self.inflated_bytes as usize;
        plain.clear();
        plain.reserve_exact(bytes);
        let inflated = zstd::bulk::decompress_to_buffer(frame, {
            plain.resize(bytes, 0);
            plain.as_mut_slice()
        });
        if inflated.is_ok_and(|inflated| inflated == bytes) {
            return Ok(());
        }
        plain.clear();
        Err(BundleError::Inflate(at))
    }
}

/// The sections of an inflated chunk, one after the other.
#[derive(Debug, Clone)]
pub struct Sections<'a> {
    plain: &'a [u8],
    at: usize,
}

/// A section.
#[derive(Debug, Clone)]
pub struct Section<'a> {
    /// The number of the list.
    pub list: u32,
    /// What its entries are.
    pub kind: Kind,
    /// What is done with them.
    pub act: Act,
    /// How many there are.
    pub count: u64,
    /// They themselves.
    pub entries: Entries<'a>,
}

impl<'a> Sections<'a> {
    /// The sections of what a chunk inflated to.
    pub fn of(plain: &'a [u8]) -> Self {
        Self { plain, at: 0 }
    }

    /// The next one; `None` behind the last.
    ///
    /// # Errors
    /// [`BundleError::Chunk`].
    pub fn read(&mut self) -> Result<Option<Section<'a>>, BundleError> {
        let rest = self.plain.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let from = self.at;
        let mut d = Decoder::new(rest);
        let section = section(&mut d, from).map_err(|why| BundleError::Chunk {
            at: from + d.position(),
            why,
        })?;
        self.at += d.position();
        Ok(Some(section))
    }
}

fn section<'a>(d: &mut Decoder<'a>, from: usize) -> Result<Section<'a>, &'static str> {
    if !matches!(d.array(), Ok(Some(5))) {
        return Err("no section");
    }
    let list = d.u32().map_err(|_| "no number of a list")?;
    let kind = d
        .u8()
        .ok()
        .and_then(|kind| Kind::ALL.get(usize::from(kind)));
    let kind = *kind.ok_or("unknown kind of entries")?;
    let act = match d.u8() {
        Ok(0) => Act::Add,
        Ok(1) => Act::Remove,
        _ => return Err("neither added nor removed"),
    };
    let count = d.u64().map_err(|_| "no count")?;
    let bytes = d.bytes().map_err(|_| "no entries")?;
    Ok(Section {
        list,
        kind,
        act,
        count,
        entries: Entries {
            kind,
            bytes,
            at: 0,
            from: from + d.position() - bytes.len(),
            left: count,
            key: [0; KEY_BYTES_MAX],
            len: 0,
            name: [0; KEY_BYTES_MAX],
        },
    })
}

/// The entries of a section, one after the other.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    kind: Kind,
    bytes: &'a [u8],
    at: usize,
    /// Where `bytes` lies in the chunk.
    from: usize,
    left: u64,
    /// The key read last.
    key: [u8; KEY_BYTES_MAX],
    len: usize,
    /// A domain the right way round.
    name: [u8; KEY_BYTES_MAX],
}

impl Entries<'_> {
    /// The next one; `None` behind the last.
    ///
    /// # Errors
    /// [`BundleError::Chunk`].
    pub fn read(&mut self) -> Result<Option<Value<'_>>, BundleError> {
        let at = self.from + self.at;
        let wrong = |why| BundleError::Chunk { at, why };
        if self.left == 0 {
            let all = self.at == self.bytes.len();
            return if all {
                Ok(None)
            } else {
                Err(wrong("more entries than counted"))
            };
        }
        self.left -= 1;
        self.step().map_err(wrong)?;
        self.value().map(Some).map_err(wrong)
    }

    /// Takes the next key over the one before.
    fn step(&mut self) -> Result<(), &'static str> {
        const CUT: &str = "entries end too early";
        let shared = usize::from(*self.bytes.get(self.at).ok_or(CUT)?);
        self.at += 1;
        if shared > self.len {
            return Err("more shared than there is");
        }
        let rest = match self.kind.width() {
            Some(width) => width
                .checked_sub(shared)
                .ok_or("more shared than a key has")?,
            None => {
                let rest = *self.bytes.get(self.at).ok_or(CUT)?;
                self.at += 1;
                usize::from(rest)
            }
        };
        let rest = self.bytes.get(self.at..self.at + rest).ok_or(CUT)?;
        self.at += rest.len();
        let first = *rest.first().ok_or("a key comes twice")?;
        // At once: the keys ascend, and nothing that is shared was written again.
        if shared < self.len && first <= self.key[shared] {
            return Err("keys do not ascend");
        }
        let len = shared + rest.len();
        self.key
            .get_mut(shared..len)
            .ok_or("a key is too long")?
            .copy_from_slice(rest);
        self.len = len;
        Ok(())
    }

    fn value(&mut self) -> Result<Value<'_>, &'static str> {
        Value::of_key(self.kind, &self.key[..self.len], &mut self.name)
    }
}

/// A network has fewer bits of prefix than its address has, and none set behind them.
fn check_net(address: &[u8], prefix: u8) -> Result<(), &'static str> {
    let prefix = usize::from(prefix);
    if prefix >= address.len() * 8 {
        return Err("no such network");
    }
    let behind = |(at, byte): (usize, &u8)| {
        let kept = prefix.saturating_sub(at * 8).min(8);
        byte & (0xff_u16 >> kept) as u8
    };
    if address.iter().enumerate().map(behind).any(|set| set != 0) {
        return Err("a network has bits behind its prefix");
    }
    Ok(())
}
