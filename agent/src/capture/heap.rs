//! The heap: memory that is let go of goes back to the kernel.
//!
//! glibc keeps what is freed, in the expectation that it will be wanted again, and the more so the
//! larger the piece was (mallopt(3), `M_MMAP_THRESHOLD`: the threshold follows what is freed, up to
//! 32 MiB). Here the large pieces are tables of a flood, images of a set that was loaded, and what
//! the kernel object was read into: wanted for moments, and 14 MiB of them stay for ever. Other C
//! libraries give back by themselves, so nothing is done there.
//!
//! It stands among the captures because it is they that take much at once, and because unsafe code
//! has its place there.

/// From how many bytes on a piece is mapped for itself, and so given back when it is freed: glibc's
/// first threshold. Naming it keeps it from following what is freed.
#[cfg(target_env = "gnu")]
const MAPPED_FROM_BYTES: libc::c_int = 128 << 10;

/// Bytes that may stay free at the end of a heap: glibc's first threshold as well.
#[cfg(target_env = "gnu")]
const FREE_AT_END_BYTES: libc::c_int = 128 << 10;

/// Has large pieces given back as they are freed. To be called once, at the start.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    for (what, bytes) in [
        (libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES),
        (libc::M_TRIM_THRESHOLD, FREE_AT_END_BYTES),
    ] {
        // SAFETY: the call takes numbers only, and sets a number under the lock of the heap; a
        // value that is refused changes nothing.
        unsafe { libc::mallopt(what, bytes) };
    }
}

/// Gives back the small pieces that are free in between, after much was freed: it walks through all
/// that is free, so it is for the end of a window and not for each packet.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes a number only; it gives back whole pages in which nothing is in use,
    // under the lock of each heap.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets go of the memory that something which came with the program takes since it was read. Those
/// pages are the file's; whoever looks at it once more has them read again.
pub(super) fn let_go(read: &'static [u8]) {
    let page = page_bytes();
    let skipped = read.as_ptr().align_offset(page);
    let whole = read.len().saturating_sub(skipped) / page * page;
    let Some(pages) = read.get(skipped..).and_then(|rest| rest.get(..whole)) else {
        return;
    };
    // SAFETY: whole pages within a constant. Nobody writes to them, so they are as they are in the
    // file, and that is what whoever reads them next is given. A refusal changes nothing.
    unsafe {
        libc::madvise(
            pages.as_ptr().cast_mut().cast(),
            pages.len(),
            libc::MADV_DONTNEED,
        )
    };
}

fn page_bytes() -> usize {
    // SAFETY: asks for a number.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    // There is always one; pages of this size would only mean that less is let go of.
    usize::try_from(bytes).unwrap_or(1 << 16)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    /// Bytes of anonymous memory of this process that are resident.
    fn resident_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon"));
        let field = line.and_then(|line| line.split_whitespace().nth(1));
        field.and_then(|kib| kib.parse().ok()).unwrap()
    }

    /// Pages wholly within these bytes that are mapped for us, by proc_pid_pagemap(5): bit 63.
    fn mapped_pages(bytes: &[u8]) -> usize {
        let page = page_bytes();
        let first = (bytes.as_ptr() as usize).div_ceil(page);
        let end = (bytes.as_ptr() as usize + bytes.len()) / page;
        let map = std::fs::File::open("/proc/self/pagemap").unwrap();
        let mut entries = vec![0; (end - first) * 8];
        map.read_exact_at(&mut entries, first as u64 * 8).unwrap();
        entries
            .chunks(8)
            .filter(|entry| entry[7] & 0x80 != 0)
            .count()
    }

    #[test]
    fn what_was_read_is_let_go_and_comes_back() {
        static READ: [u8; 1 << 20] = [7; 1 << 20];
        let sum = || READ.iter().fold(0_u64, |sum, byte| sum + u64::from(*byte));
        assert_eq!(sum(), 7 << 20);
        assert!(mapped_pages(&READ) > 200);
        let_go(&READ);
        assert_eq!(mapped_pages(&READ), 0);
        assert_eq!(sum(), 7 << 20);
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn small_pieces_are_given_back_although_one_behind_them_is_in_use() {
        const PIECES: u64 = 400_000;
        keep_little();
        let mut pieces: Vec<Box<[u8; 100]>> = Vec::new();
        for _ in 0..PIECES {
            pieces.push(Box::new([1; 100]));
        }
        let full_kib = resident_kib();
        let last = pieces.pop();
        drop(pieces);
        give_back();
        let left_kib = resident_kib();
        // Other tests run beside this one, so half is enough.
        let half_kib = PIECES * 100 / 1024 / 2;
        assert!(left_kib + half_kib < full_kib, "{left_kib} of {full_kib}");
        drop(last);
    }
}
