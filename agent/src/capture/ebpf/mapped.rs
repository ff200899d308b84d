//! Kernel arrays mapped into our memory.
//!
//! The kernel writes them while we read, so they are seen as atomic words and nothing else; what
//! is made of the words is a copy.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Words of a kernel array, for as long as this lives.
#[derive(Debug)]
pub(super) struct Mapped {
    start: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: the mapping belongs to this value alone and is only reached as atomic words.
unsafe impl Send for Mapped {}
// SAFETY: as above; atomic words may be shared.
unsafe impl Sync for Mapped {}

/// What we do with a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Read what the kernel writes.
    Read,
    /// Write what the kernel reads.
    Write,
}

impl Mapped {
    /// Maps `bytes` of an array from `offset` on; both whole pages, or the end of the array.
    pub(super) fn new(
        array: BorrowedFd<'_>,
        offset: usize,
        bytes: usize,
        access: Access,
    ) -> io::Result<Self> {
        let protection = match access {
            Access::Read => libc::PROT_READ,
            Access::Write => libc::PROT_READ | libc::PROT_WRITE,
        };
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                protection,
                libc::MAP_SHARED,
                array.as_raw_fd(),
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self {
            start,
            count: bytes / size_of::<u64>(),
        })
    }

    /// The words.
    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: `start` is page-aligned and maps `count` words until drop; whatever writes
        // them, kernel or we, does it word by word, which is what atomics allow.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }

    /// Copies words out, each by itself.
    pub(super) fn copy<const N: usize>(&self, first: usize) -> Option<[u64; N]> {
        let words = self.words().get(first..first.checked_add(N)?)?;
        let mut copy = [0; N];
        for (to, from) in copy.iter_mut().zip(words) {
            *to = from.load(Ordering::Relaxed);
        }
        Some(copy)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `new` mapped, and nobody holds a reference into it:
        // `words` borrows from self.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.count * size_of::<u64>()) };
    }
}
