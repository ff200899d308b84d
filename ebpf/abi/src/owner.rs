//! Whose a socket is, and what the kernel knows of a process.
//!
//! A socket carries its [`Owner`] as long as it lives; a flow's slot, a hit and a copy carry it
//! too. What a person wants to know of a process comes once, in a [`ProcessRecord`].

use crate::Plain;

/// Bytes of a command's name, the final zero included (`TASK_COMM_LEN`).
pub const COMM_BYTES: usize = 16;

/// Bytes of a path that are told, the final zero included. Chosen by hand: paths of executables
/// are seldom longer than a hundred.
pub const PATH_BYTES: usize = 256;

/// Packets of a flow that may ask for its owner: a handshake's answer has no socket yet, so one
/// would not do; and traffic that is passed through never has one, so it must end.
pub const OWNER_TRIES: u8 = 4;

/// The process that opened a socket. A pid of 0 is nobody.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Owner {
    /// When the process started, by the clock that counts since boot (suspended time included);
    /// 0 where the kernel does not tell. With the pid its identity.
    pub start_ns: u64,
    /// Its id in the host's own namespace.
    pub pid: u32,
    /// User it ran as when it opened the socket.
    pub uid: u32,
}

/// Why a process is told.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It began to run a program.
    Runs = 0,
    /// It opened a socket, its first as far as is remembered.
    Opens = 1,
}

/// What the kernel knows of a process.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ProcessRecord {
    /// When this was told, monotonic clock.
    pub ktime_ns: u64,
    /// Which process.
    pub owner: Owner,
    /// Its control group in the version 2 hierarchy: the inode of the group's folder.
    pub cgroup: u64,
    /// When its parent started, as in [`Owner::start_ns`].
    pub parent_start_ns: u64,
    /// Its parent, 0 where the kernel does not tell.
    pub parent_pid: u32,
    /// Why it is told: a [`Told`] as a number.
    pub told: u32,
    /// Its command name, up to a zero.
    pub comm: [u8; COMM_BYTES],
    /// Its parent's.
    pub parent_comm: [u8; COMM_BYTES],
    /// The path it was asked to run, up to a zero: as it was given, so possibly relative. Empty
    /// when not known.
    pub path: [u8; PATH_BYTES],
}

impl Default for ProcessRecord {
    fn default() -> Self {
        Self {
            ktime_ns: 0,
            owner: Owner::default(),
            cgroup: 0,
            parent_start_ns: 0,
            parent_pid: 0,
            told: 0,
            comm: [0; COMM_BYTES],
            parent_comm: [0; COMM_BYTES],
            path: [0; PATH_BYTES],
        }
    }
}

const _: () = assert!(size_of::<Owner>() == 16);
const _: () = assert!(size_of::<ProcessRecord>() == 336);

// SAFETY: repr(C), integers only; 8 + 4 + 4 bytes are the 16 asserted above.
unsafe impl Plain for Owner {}
// SAFETY: repr(C), integers and arrays of bytes; 8 + 16 + 8 + 8 + 4 + 4 + 16 + 16 + 256 are the
// 336 asserted above.
unsafe impl Plain for ProcessRecord {}
