//! The handshake stream of a QUIC client (RFC 9000 7, 19.6): pieces at their places, in any order.

use crate::limits::{QUIC_HELLO_BYTES_MAX, QUIC_PIECES_MAX};

/// `HandshakeType` of a ClientHello, and the bytes of the header it stands in (RFC 8446 4).
const CLIENT_HELLO: u8 = 1;
const HEADER_BYTES: usize = 4;

/// The pieces that have come. What came first counts.
#[derive(Debug, Default)]
pub(super) struct CryptoStream {
    bytes: Vec<u8>,
    /// Spans that are there, in order, neither touching nor overlapping.
    spans: Vec<(usize, usize)>,
}

impl CryptoStream {
    /// Adds a piece. Returns whether it could be kept.
    pub(super) fn add(&mut self, offset: u64, piece: &[u8]) -> bool {
        let Ok(start) = usize::try_from(offset) else {
            return false;
        };
        let end = start.saturating_add(piece.len());
        if end > QUIC_HELLO_BYTES_MAX {
            return false;
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        // Only where nothing is yet.
        let mut from = start;
        let spans = self
            .spans
            .iter()
            .filter(|span| span.1 > start && span.0 < end);
        let ends = spans.copied().chain([(end, end)]);
        for (there, until) in ends.collect::<Vec<_>>() {
            if from < there
                && let Some(to) = self.bytes.get_mut(from..there)
                && let Some(new) = piece.get(from - start..there - start)
            {
                to.copy_from_slice(new);
            }
            from = from.max(until);
        }
        self.join(start, end);
        self.spans.len() <= QUIC_PIECES_MAX
    }

    fn join(&mut self, start: usize, end: usize) {
        let (mut start, mut end) = (start, end);
        self.spans.retain(|&(from, to)| {
            let apart = to < start || end < from;
            if !apart {
                (start, end) = (start.min(from), end.max(to));
            }
            apart
        });
        let at = self.spans.partition_point(|span| span.0 < start);
        self.spans.insert(at, (start, end));
    }

    /// The body of the ClientHello, once it is whole. Empty if the first message is another.
    pub(super) fn message(&self) -> Option<&[u8]> {
        let &(0, end) = self.spans.first()? else {
            return None;
        };
        let there = self.bytes.get(..end)?;
        let (&[kind, a, b, c], rest) = there.split_first_chunk::<HEADER_BYTES>()?;
        if kind != CLIENT_HELLO {
            return Some(&[]);
        }
        rest.get(..u32::from_be_bytes([0, a, b, c]) as usize)
    }

    pub(super) const fn held_bytes(&self) -> usize {
        self.bytes.capacity() + self.spans.capacity() * size_of::<(usize, usize)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds pieces; returns the message, or what came first of it.
    #[track_caller]
    fn check(pieces: &[(u64, &[u8])], expected: Option<&[u8]>) {
        let mut stream = CryptoStream::default();
        for (offset, piece) in pieces {
            assert!(stream.add(*offset, piece));
        }
        assert_eq!(stream.message(), expected);
    }

    #[test]
    fn pieces_in_any_order() {
        let whole = [1, 0, 0, 5, 10, 11, 12, 13, 14];
        check(&[(0, &whole)], Some(&whole[4..]));
        check(&[(4, &whole[4..]), (0, &whole[..4])], Some(&whole[4..]));
        check(&[(0, &whole[..6]), (3, &whole[3..])], Some(&whole[4..]));
        let single: Vec<(u64, &[u8])> = (0..9)
            .rev()
            .map(|at| (at as u64, &whole[at..=at]))
            .collect();
        check(&single, Some(&whole[4..]));
        check(&[(0, &whole[..8])], None);
        check(&[(1, &whole[1..])], None);
        check(&[(0, &whole[..4]), (5, &whole[5..])], None);
        check(&[], None);
        check(&[(0, &[2, 0, 0, 0])], Some(&[]));
    }

    #[test]
    fn what_came_first_counts() {
        let whole = [1, 0, 0, 5, 10, 11, 12, 13, 14];
        check(
            &[(6, &whole[6..8]), (0, &[1, 0, 0, 5, 10, 11, 99, 99, 14])],
            Some(&whole[4..]),
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut stream = CryptoStream::default();
        assert!(!stream.add(u64::MAX, b"a"));
        assert!(!stream.add(QUIC_HELLO_BYTES_MAX as u64, b"a"));
        assert_eq!(stream.held_bytes(), 0);
        let kept = (0..=QUIC_PIECES_MAX as u64).all(|at| stream.add(1 + 2 * at, b"a"));
        assert!(!kept);
    }
}
