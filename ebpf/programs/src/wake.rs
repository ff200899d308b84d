//! When a record that may wait wakes the agent: when the ring passes a mark with it, and not
//! again above the mark. A wake-up costs an interrupt to oneself, far more than the record; one
//! that is missed in a race costs the agent's next look, a tenth of a second.

/// Bytes the ring puts before each record (`BPF_RINGBUF_HDR_SZ`).
const HEADER_BYTES: u64 = 8;

/// Whether a ring in which `waiting` bytes stood before a record of `record` bytes passes `mark`
/// with it.
#[inline(always)]
#[must_use]
pub const fn passes(waiting: u64, record: u64, mark: u64) -> bool {
    waiting < mark && waiting + taken(record) >= mark
}

/// Bytes of the ring that a record takes.
#[inline(always)]
#[must_use]
pub const fn taken(record: u64) -> u64 {
    (record + HEADER_BYTES + 7) & !7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_record_that_passes_the_mark_wakes() {
        assert_eq!((taken(136), taken(1), taken(8)), (144, 16, 16));
        let (mark, mut waiting, mut woken) = (1000, 0, Vec::new());
        for _ in 0..20 {
            if passes(waiting, 136, mark) {
                woken.push(waiting);
            }
            waiting += taken(136);
        }
        assert_eq!(woken, [864]);
        // Reaching it exactly is passing it.
        assert!(passes(856, 136, 1000) && !passes(1000, 136, 1000));
    }
}
