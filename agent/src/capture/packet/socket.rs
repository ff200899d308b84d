//! A packet socket (packet(7)) on one interface, with its ring.
//!
//! `pnet_datalink` opens the channel and binds it; the socket under it is prepared here, because
//! pnet's receiver, a `poll` and a `recvfrom` for each packet, tells neither when a packet passed,
//! nor which way, nor how long it was, nor how many were dropped.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use libc::{c_int, c_void, socklen_t};
use pnet_datalink::{Channel, ChannelType, Config, DataLinkReceiver, NetworkInterface};

use super::limits::{BLOCK_AGE, BLOCK_BYTES, SNAP_BYTES};
use super::ring::Ring;

/// What the kernel counted on a socket since it was asked last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Offered {
    /// Packets, dropped ones included.
    pub(super) packets: u64,
    /// Packets for which the ring had no room.
    pub(super) dropped: u64,
}

/// An interface that is listened to.
pub(super) struct Socket {
    pub(super) name: String,
    pub(super) index: u32,
    /// Frames handed over so far.
    pub(super) passed: u64,
    /// Packets the kernel put into the ring so far.
    pub(super) filled: u64,
    pub(super) ring: Ring,
    fd: RawFd,
    /// Owns `fd`, and closes it after the ring is gone.
    _channel: Box<dyn DataLinkReceiver>,
}

impl Socket {
    /// Listens at an interface with a ring of so many bytes.
    pub(super) fn open(interface: &NetworkInterface, ring_bytes: usize) -> io::Result<Self> {
        let socket = raw_socket()?;
        let version = libc::tpacket_versions::TPACKET_V3 as c_int;
        set(socket.as_fd(), libc::PACKET_VERSION, &version)?;
        // Not on kernels before 4.6 with a ring; then a segmented packet counts as one.
        let net_header = set(socket.as_fd(), libc::PACKET_VNET_HDR, &1).is_ok();
        keep_only(socket.as_fd(), SNAP_BYTES)?;
        let blocks = (ring_bytes / BLOCK_BYTES).max(2);
        /// Of no use with blocks, but asked for: any that divides a block.
        const FRAME_BYTES: usize = 2048;
        let request = libc::tpacket_req3 {
            tp_block_size: BLOCK_BYTES as u32,
            tp_block_nr: blocks as u32,
            tp_frame_size: FRAME_BYTES as u32,
            tp_frame_nr: (blocks * (BLOCK_BYTES / FRAME_BYTES)) as u32,
            tp_retire_blk_tov: BLOCK_AGE.as_millis() as u32,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set(socket.as_fd(), libc::PACKET_RX_RING, &request)?;
        let ring = Ring::map(socket.as_fd(), blocks, net_header)?;
        let fd = socket.as_raw_fd();
        let config = Config {
            channel_type: ChannelType::Layer2,
            // What is not for this host is no business of a host's sensor.
            promiscuous: false,
            // Not read by way of pnet, nor written.
            read_buffer_size: 0,
            write_buffer_size: 0,
            // Whether it succeeds or not, the channel closes the socket.
            socket_fd: Some(socket.into_raw_fd()),
            ..Config::default()
        };
        match pnet_datalink::channel(interface, config)? {
            Channel::Ethernet(_, channel) => Ok(Self {
                name: interface.name.clone(),
                index: interface.index,
                passed: 0,
                filled: 0,
                ring,
                fd,
                _channel: channel,
            }),
            _ => Err(io::Error::other("pnet gives no channel of frames")),
        }
    }

    /// What was counted since the last call.
    pub(super) fn offered(&mut self) -> io::Result<Offered> {
        let mut stats = libc::tpacket_stats_v3 {
            tp_packets: 0,
            tp_drops: 0,
            tp_freeze_q_cnt: 0,
        };
        let mut bytes = size_of::<libc::tpacket_stats_v3>() as socklen_t;
        // SAFETY: the call writes at most as many bytes as it is told into a value of that size.
        let answer = unsafe {
            libc::getsockopt(
                self.fd,
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast::<c_void>(),
                &raw mut bytes,
            )
        };
        if answer != 0 {
            return Err(io::Error::last_os_error());
        }
        let (packets, dropped) = (u64::from(stats.tp_packets), u64::from(stats.tp_drops));
        self.filled += packets.saturating_sub(dropped);
        Ok(Offered { packets, dropped })
    }

    /// What to wait on.
    pub(super) fn pollfd(&self) -> libc::pollfd {
        libc::pollfd {
            fd: self.fd,
            events: libc::POLLIN,
            revents: 0,
        }
    }
}

/// A packet socket that is bound to nothing yet.
pub(super) fn raw_socket() -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers only; the descriptor it gives is ours alone.
    unsafe {
        let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(socket))
    }
}

fn set<T: Copy>(socket: BorrowedFd<'_>, option: c_int, value: &T) -> io::Result<()> {
    set_at(socket, libc::SOL_PACKET, option, value)
}

fn set_at<T: Copy>(
    socket: BorrowedFd<'_>,
    level: c_int,
    option: c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the call reads as many bytes of `value` as it is told, which is all of them.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast::<c_void>(),
            size_of::<T>() as socklen_t,
        )
    };
    match answer {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has the kernel keep so many bytes of each frame: a filter of one instruction that says so.
fn keep_only(socket: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    let mut instruction = libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: bytes,
    };
    let program = libc::sock_fprog {
        len: 1,
        filter: &raw mut instruction,
    };
    // The kernel copies the instruction during the call, through which it lives.
    set_at(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Waits until one of these can be read or the time is up.
pub(super) fn wait(fds: &mut [libc::pollfd], timeout: std::time::Duration) -> io::Result<()> {
    let timeout_ms = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: the call reads and writes as many entries as it is told, which is all of them.
    let answer = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout_ms) };
    match answer {
        0.. => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error),
        },
    }
}
