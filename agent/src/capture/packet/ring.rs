//! The ring that a packet socket shares with the kernel (`TPACKET_V3`, Linux 3.2 and later;
//! `Documentation/networking/packet_mmap.rst`).
//!
//! ```text
//! ring:  | block | block | …
//! block: | version, …, status, packets, first, … | frame | frame | …
//! frame: | tpacket3_hdr | sockaddr_ll | … virtio_net_hdr | frame bytes |
//! ```
//!
//! A block belongs to the kernel or to us; its status says to whom. While it is ours nobody writes
//! it, so it is read as plain bytes, by offsets that are checked although the kernel wrote them.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{sockaddr_ll, tpacket_hdr_variant1, tpacket3_hdr};

use super::limits::BLOCK_BYTES;

/// Where the block's own header has its fields: `struct tpacket_block_desc` with `tpacket_hdr_v1`.
const BLOCK_STATUS: usize = 8;
const BLOCK_PACKETS: usize = 12;
const BLOCK_FIRST: usize = 16;

/// Bytes of `struct virtio_net_hdr`, which stands before the frame when it was asked for.
pub(super) const NET_HEADER_BYTES: usize = 10;
/// Where it has `gso_type` and `gso_size`.
const NET_HEADER_GSO_TYPE: usize = 1;
const NET_HEADER_GSO_SIZE: usize = 4;

/// Bytes of an 802.1Q tag, which the kernel takes out of the frame and keeps beside it.
const TAG_BYTES: u32 = 4;

/// A frame as the ring has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Captured<'a> {
    /// When the kernel saw it, nanoseconds since the epoch.
    pub(super) ts_ns: u64,
    /// Bytes it has on the wire, tags included.
    pub(super) wire_bytes: u32,
    /// Whether `data` is less than the frame.
    pub(super) cut: bool,
    /// Payload of each segment that it is made of; 0 if it is one packet.
    pub(super) segment_bytes: u16,
    /// `ARPHRD_…` of its interface.
    pub(super) hardware: u16,
    /// `PACKET_…`: from us, to us, to somebody else.
    pub(super) kind: u8,
    /// Its bytes, as far as they were kept.
    pub(super) data: &'a [u8],
}

/// A ring, and how far we have read it.
#[derive(Debug)]
pub(super) struct Ring {
    start: NonNull<u8>,
    blocks: usize,
    /// Whether a `virtio_net_hdr` stands before each frame.
    net_header: bool,
    block: usize,
    /// Where the next frame stands in the block, and how many are left in it; `None` before its
    /// first.
    at: Option<(usize, u32)>,
}

impl Ring {
    /// Maps the ring of a socket that was given one of so many blocks.
    pub(super) fn map(socket: BorrowedFd<'_>, blocks: usize, net_header: bool) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                blocks * BLOCK_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self {
            start,
            blocks,
            net_header,
            block: 0,
            at: None,
        })
    }

    /// The next frame that was handed over to us, if any. Blocks that were read go back to the
    /// kernel with the call after their last frame.
    pub(super) fn next(&mut self) -> Option<Captured<'_>> {
        let at = self.advance()?;
        // Were it no frame, which the kernel does not do, the counts would show what is missing.
        frame(self.bytes().get(at..)?, self.net_header)
    }

    /// Moves on to the next frame, and says where in the block it stands.
    fn advance(&mut self) -> Option<usize> {
        while self.status().load(Ordering::Acquire) & libc::TP_STATUS_USER != 0 {
            let block = self.bytes();
            let (at, left) = match self.at {
                Some(position) => position,
                None => (
                    u32_at(block, BLOCK_FIRST)? as usize,
                    u32_at(block, BLOCK_PACKETS)?,
                ),
            };
            match u32_at(block, at) {
                Some(step) if left > 0 => {
                    self.at = Some((at + step as usize, left - 1));
                    return Some(at);
                }
                _ => self.give_back(),
            }
        }
        None
    }

    fn give_back(&mut self) {
        self.at = None;
        self.status()
            .store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.block = (self.block + 1) % self.blocks;
    }

    fn status(&self) -> &AtomicU32 {
        // SAFETY: `block` is below `blocks`, so its status lies in the mapping, which lives as long
        // as self; blocks and the offset are multiples of four. The kernel, too, reads and writes
        // this word as a whole.
        unsafe {
            self.start
                .add(self.block * BLOCK_BYTES + BLOCK_STATUS)
                .cast()
                .as_ref()
        }
    }

    /// The block we are at. The caller has seen that it is ours.
    fn bytes(&self) -> &[u8] {
        // SAFETY: `advance` has loaded `TP_STATUS_USER` from the block's status before it or `next`
        // ask for its bytes, and from then on the kernel writes nothing into it until `give_back`,
        // which takes `&mut self`, so that no borrow of these bytes is left. `block` is below
        // `blocks`.
        unsafe {
            std::slice::from_raw_parts(
                self.start.add(self.block * BLOCK_BYTES).as_ptr(),
                BLOCK_BYTES,
            )
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `map` mapped, and nobody holds a reference into it: they
        // borrow from self.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.blocks * BLOCK_BYTES) };
    }
}

/// Reads the frame whose header stands at the start of `bytes`.
fn frame(bytes: &[u8], net_header: bool) -> Option<Captured<'_>> {
    /// `TPACKET_ALIGNMENT` is 16, and the header is a multiple of it.
    const LINK: usize = size_of::<tpacket3_hdr>();
    const TAG: usize =
        offset_of!(tpacket3_hdr, hv1) + offset_of!(tpacket_hdr_variant1, tp_vlan_tci);
    const _: () = assert!(LINK.is_multiple_of(16) && TAG < LINK);
    let u32_of = |at| u32_at(bytes, at);
    let seconds = u64::from(u32_of(offset_of!(tpacket3_hdr, tp_sec))?);
    let nanoseconds = u64::from(u32_of(offset_of!(tpacket3_hdr, tp_nsec))?);
    let kept = u32_of(offset_of!(tpacket3_hdr, tp_snaplen))?;
    let length = u32_of(offset_of!(tpacket3_hdr, tp_len))?;
    let status = u32_of(offset_of!(tpacket3_hdr, tp_status))?;
    let start = usize::from(u16_at(bytes, offset_of!(tpacket3_hdr, tp_mac))?);
    let tagged = status & libc::TP_STATUS_VLAN_VALID != 0;
    let segment_bytes = if net_header {
        let header = bytes.get(start.checked_sub(NET_HEADER_BYTES)?..start)?;
        match header[NET_HEADER_GSO_TYPE] {
            0 => 0,
            _ => u16_at(header, NET_HEADER_GSO_SIZE)?,
        }
    } else {
        0
    };
    Some(Captured {
        ts_ns: seconds * 1_000_000_000 + nanoseconds,
        wire_bytes: length.saturating_add(if tagged { TAG_BYTES } else { 0 }),
        cut: kept < length,
        segment_bytes,
        hardware: u16_at(bytes, LINK + offset_of!(sockaddr_ll, sll_hatype))?,
        kind: *bytes.get(LINK + offset_of!(sockaddr_ll, sll_pkttype))?,
        data: bytes.get(start..start.checked_add(kept as usize)?)?,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let rest = bytes.get(at..)?;
    rest.first_chunk().map(|four| u32::from_ne_bytes(*four))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let rest = bytes.get(at..)?;
    rest.first_chunk().map(|two| u16::from_ne_bytes(*two))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_of(status: u32, data: &[u8], snap: u32) -> Vec<u8> {
        let mut bytes = vec![0; 128];
        let mut put =
            |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        put(offset_of!(tpacket3_hdr, tp_sec), 7);
        put(offset_of!(tpacket3_hdr, tp_nsec), 9);
        put(offset_of!(tpacket3_hdr, tp_snaplen), snap);
        put(offset_of!(tpacket3_hdr, tp_len), 60);
        put(offset_of!(tpacket3_hdr, tp_status), status);
        bytes[offset_of!(tpacket3_hdr, tp_mac)] = 100;
        bytes[91] = 1;
        bytes[94..96].copy_from_slice(&1448u16.to_ne_bytes());
        let link = size_of::<tpacket3_hdr>();
        bytes[link + offset_of!(sockaddr_ll, sll_pkttype)] = libc::PACKET_OUTGOING;
        bytes.truncate(100);
        bytes.extend(data);
        bytes
    }

    #[test]
    fn a_frame_is_read_with_what_stands_beside_it() {
        let bytes = block_of(libc::TP_STATUS_VLAN_VALID, &[5; 40], 40);
        let read = frame(&bytes, true).unwrap();
        assert_eq!((read.ts_ns, read.wire_bytes), (7_000_000_009, 64));
        assert_eq!((read.cut, read.segment_bytes), (true, 1448));
        assert_eq!(
            (read.kind, read.data),
            (libc::PACKET_OUTGOING, &[5; 40][..])
        );
        let untagged = block_of(0, &[5; 60], 60);
        let read = frame(&untagged, false).unwrap();
        assert_eq!(
            (read.wire_bytes, read.cut, read.segment_bytes),
            (60, false, 0)
        );
    }

    #[test]
    fn offsets_beyond_the_block_are_no_frame() {
        let bytes = block_of(0, &[5; 40], 41);
        assert_eq!(frame(&bytes, false), None);
        for length in 0..bytes.len() {
            assert_eq!(frame(&bytes[..length], true), None, "{length} bytes");
        }
        let mut wild = block_of(0, &[5; 40], u32::MAX);
        assert_eq!(frame(&wild, false), None);
        wild[offset_of!(tpacket3_hdr, tp_mac)] = 3;
        assert_eq!(frame(&wild, true), None);
    }
}
