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

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of anonymous memory of this process that are resident.
    fn resident_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon"));
        let field = line.and_then(|line| line.split_whitespace().nth(1));
        field.and_then(|kib| kib.parse().ok()).unwrap()
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
