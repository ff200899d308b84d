//! Reassembly of IP fragments (RFC 791 3.2, RFC 8200 4.5), bounded.
//!
//! Of overlapping pieces the one that came first counts; an IPv6 datagram with overlaps is dropped
//! whole, as RFC 5722 asks.

use std::collections::VecDeque;
use std::net::IpAddr;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::ip::{Fragment, Ip};
use super::packet::{Protocol, Tunnel};
use crate::limits::{
    FRAGMENT_BYTES_MAX, FRAGMENT_WAIT_NS, FRAGMENTED_DATAGRAMS_MAX, FRAGMENTS_PER_DATAGRAM_MAX,
};

/// Bytes a datagram may have (RFC 791 3.1).
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// What reassembly could not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FragmentLosses {
    /// Datagrams whose missing pieces did not come in time or were pushed out by others.
    pub incomplete: u64,
    /// Datagrams refused: overlapping, too long, or in too many pieces.
    pub refused: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    src: IpAddr,
    dst: IpAddr,
    id: u32,
    protocol: Protocol,
    tunnel: Option<Tunnel>,
}

#[derive(Debug)]
struct Datagram {
    since_ns: u64,
    /// Pieces by offset, without overlap.
    pieces: Vec<(u32, Box<[u8]>)>,
    /// Known once the last piece is here.
    end: Option<u32>,
    /// Where the payload starts and what it is; known once the first piece is here.
    start: Option<(u32, Protocol)>,
    /// Nothing more is wanted of it; kept so that its other pieces are not taken for a new one.
    refused: bool,
}

/// Datagrams under reassembly, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    datagrams: HashMap<Key, Datagram, RandomState>,
    /// In order of their first piece. A finished datagram's entry stays until its time comes.
    order: VecDeque<(Key, u64)>,
    held_bytes: usize,
    losses: FragmentLosses,
}

impl Fragments {
    pub(crate) const fn losses(&self) -> FragmentLosses {
        self.losses
    }

    /// Datagrams that still wait for pieces.
    pub(crate) fn waiting(&self) -> u64 {
        self.datagrams
            .values()
            .filter(|datagram| !datagram.refused)
            .count() as u64
    }

    /// Adds a fragment; returns the whole payload if it was the last one missing.
    pub(crate) fn add(
        &mut self,
        ts_ns: u64,
        tunnel: Option<Tunnel>,
        ip: &Ip<'_>,
        fragment: Fragment,
    ) -> Option<(Protocol, Vec<u8>)> {
        self.make_room(ts_ns);
        // The second header of an IPv6 fragment is the first's; only IPv4 tells protocols apart.
        let protocol = if ip.src.is_ipv4() {
            ip.protocol
        } else {
            Protocol(0)
        };
        let key = Key {
            src: ip.src,
            dst: ip.dst,
            id: fragment.id,
            protocol,
            tunnel,
        };
        let order = &mut self.order;
        let datagram = self.datagrams.entry(key).or_insert_with(|| {
            order.push_back((key, ts_ns));
            Datagram {
                since_ns: ts_ns,
                pieces: Vec::new(),
                end: None,
                start: None,
                refused: false,
            }
        });
        if datagram.refused {
            return None;
        }
        let held_before = datagram.held_bytes();
        let added = if ip.payload.len() < ip.payload_bytes as usize {
            // The capture cut it; the datagram can never be whole.
            Err(())
        } else {
            if fragment.first {
                datagram.start.get_or_insert((fragment.offset, ip.protocol));
            }
            datagram.add(fragment, ip.payload, ip.src.is_ipv6())
        };
        if added.is_err() {
            datagram.refused = true;
            datagram.pieces = Vec::new();
            self.losses.refused += 1;
        }
        self.held_bytes += datagram.held_bytes();
        self.held_bytes -= held_before;
        let whole = datagram.whole()?;
        self.held_bytes -= datagram.held_bytes();
        self.datagrams.remove(&key);
        Some(whole)
    }

    /// Drops what has waited too long, and the oldest while a bound is reached.
    fn make_room(&mut self, now_ns: u64) {
        while let Some(&(key, since_ns)) = self.order.front() {
            let full = self.datagrams.len() >= FRAGMENTED_DATAGRAMS_MAX
                || self.order.len() >= 2 * FRAGMENTED_DATAGRAMS_MAX
                || self.held_bytes + DATAGRAM_BYTES_MAX > FRAGMENT_BYTES_MAX;
            if !full && now_ns < since_ns.saturating_add(FRAGMENT_WAIT_NS) {
                return;
            }
            self.order.pop_front();
            let same = |datagram: &Datagram| datagram.since_ns == since_ns;
            if self.datagrams.get(&key).is_some_and(same)
                && let Some(datagram) = self.datagrams.remove(&key)
            {
                self.held_bytes -= datagram.held_bytes();
                self.losses.incomplete += u64::from(!datagram.refused);
            }
        }
    }
}

impl Datagram {
    fn held_bytes(&self) -> usize {
        self.pieces.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    fn add(&mut self, fragment: Fragment, bytes: &[u8], overlap_refused: bool) -> Result<(), ()> {
        let start = fragment.offset;
        let end = start + bytes.len() as u32;
        if end as usize > DATAGRAM_BYTES_MAX || self.pieces.len() >= FRAGMENTS_PER_DATAGRAM_MAX {
            return Err(());
        }
        if !fragment.more && *self.end.get_or_insert(end) != end {
            return Err(());
        }
        let at = self.pieces.partition_point(|(offset, _)| *offset < start);
        let piece_end = |(offset, bytes): &(u32, Box<[u8]>)| *offset + bytes.len() as u32;
        if self
            .pieces
            .get(at)
            .is_some_and(|piece| piece.0 == start && piece_end(piece) == end)
        {
            // Sent twice.
            return Ok(());
        }
        let before = at
            .checked_sub(1)
            .and_then(|at| self.pieces.get(at))
            .map_or(0, piece_end);
        let behind = self.pieces.get(at).map_or(u32::MAX, |piece| piece.0);
        if before <= start && end <= behind {
            if !bytes.is_empty() {
                self.pieces.insert(at, (start, bytes.into()));
            }
            return Ok(());
        }
        if overlap_refused {
            return Err(());
        }
        self.fill(start, bytes);
        Ok(())
    }

    /// Puts in what is new of an overlapping piece.
    fn fill(&mut self, start: u32, bytes: &[u8]) {
        let end = start + bytes.len() as u32;
        let mut filled = Vec::with_capacity(self.pieces.len() + 2);
        let mut here = start;
        for piece in std::mem::take(&mut self.pieces) {
            let (offset, piece_end) = (piece.0, piece.0 + piece.1.len() as u32);
            if here < offset.min(end) {
                let part = bytes.get((here - start) as usize..(offset.min(end) - start) as usize);
                filled.push((here, part.unwrap_or_default().into()));
            }
            here = here.max(piece_end);
            filled.push(piece);
        }
        if here < end {
            let part = bytes.get((here - start) as usize..);
            filled.push((here, part.unwrap_or_default().into()));
        }
        self.pieces = filled;
    }

    /// What it is and its payload, once nothing is missing.
    fn whole(&self) -> Option<(Protocol, Vec<u8>)> {
        let ((start, protocol), end) = (self.start?, self.end?);
        let mut here = start;
        for (offset, bytes) in &self.pieces {
            if *offset != here {
                return None;
            }
            here += bytes.len() as u32;
        }
        let whole = || {
            self.pieces
                .iter()
                .flat_map(|(_, bytes)| bytes.iter().copied())
                .collect()
        };
        (here == end).then(|| (protocol, whole()))
    }
}
