//! Datagrams that came in pieces.

use super::*;

/// A query cut into pieces of 8 bytes, each behind a header made by `wrap(offset, more, piece)`.
fn pieces(datagram: &[u8], wrap: impl Fn(u16, bool, &[u8]) -> Vec<u8>) -> Vec<Vec<u8>> {
    let count = datagram.len().div_ceil(8);
    let piece = |(at, piece): (usize, &[u8])| wrap(at as u16 * 8, at + 1 < count, piece);
    datagram.chunks(8).enumerate().map(piece).collect()
}

pub(super) fn pieces_v4(datagram: &[u8]) -> Vec<Vec<u8>> {
    pieces(datagram, |offset, more, piece| {
        fragment_v4(
            CLIENT,
            SERVER,
            17,
            77,
            (offset / 8) | (u16::from(more) << 13),
            piece,
        )
    })
}

pub(super) fn pieces_v6(datagram: &[u8]) -> Vec<Vec<u8>> {
    pieces(datagram, |offset, more, piece| {
        let [high, low] = (offset | u16::from(more)).to_be_bytes();
        ipv6(44, &[&[17, 0, high, low, 0, 0, 0, 77], piece].concat())
    })
}

#[test]
fn fragments_in_any_order_make_a_message_and_one_flow() {
    for pieces in [pieces_v4(&query()), pieces_v6(&query())] {
        let mut backwards = pieces.clone();
        backwards.reverse();
        let twice = pieces
            .iter()
            .flat_map(|piece| [piece.clone(), piece.clone()])
            .collect();
        for (frames, firsts) in [(pieces, 1), (backwards, 1), (twice, 2)] {
            let frames: Vec<Vec<u8>> = frames;
            let seen = Seen::of(LinkType::RAW_IP, &frames);
            assert_eq!(seen.names(), ["example.org"]);
            assert_eq!(seen.packets.len(), firsts);
            let later = (NotFlow::LaterFragment, None);
            assert_eq!(seen.not_flow, vec![later; frames.len() - firsts]);
        }
    }
}

#[test]
fn fragments_that_do_not_make_a_message() {
    let whole = pieces_v4(&query());
    for missing in 0..whole.len() {
        let mut frames = whole.clone();
        frames.remove(missing);
        assert!(
            Seen::of(LinkType::RAW_IP, &frames).records.is_empty(),
            "without {missing}"
        );
    }
    // Overlapping IPv6 fragments are refused whole, overlapping IPv4 ones are filled in.
    let overlapping =
        |first: Vec<u8>, second: Vec<u8>| Seen::of(LinkType::RAW_IP, &[first, second]).names();
    let datagram = query();
    let v4_first = fragment_v4(CLIENT, SERVER, 17, 7, 0x2000, &datagram[..24]);
    let v4_rest = fragment_v4(CLIENT, SERVER, 17, 7, 2, &datagram[16..]);
    assert_eq!(overlapping(v4_first, v4_rest), ["example.org"]);
    let v6 = |offset: u8, more: u8, data: &[u8]| {
        ipv6(44, &[&[17, 0, 0, offset | more, 0, 0, 0, 7], data].concat())
    };
    assert!(overlapping(v6(0, 1, &datagram[..24]), v6(16, 0, &datagram[16..])).is_empty());
}

#[test]
fn a_first_fragment_that_the_capture_cut_is_read_alone() {
    let pieces = |cut: usize| {
        let datagram = query();
        let first = fragment_v4(
            CLIENT,
            SERVER,
            17,
            7,
            0x2000,
            &[&datagram[..], &[0; 64]].concat(),
        );
        let kept = first.len() - cut;
        let rest = fragment_v4(CLIENT, SERVER, 17, 7, 2, &[0; 64]);
        Seen::of(LinkType::RAW_IP, &[first[..kept].to_vec(), rest])
    };
    let seen = pieces(64);
    assert_eq!(seen.names(), ["example.org"]);
    assert_eq!((seen.packets.len(), seen.not_flow.len()), (1, 1));
    assert!(pieces(0).records.is_empty(), "the rest is awaited");
}

#[test]
fn memory_for_fragments_is_bounded() {
    let mut decoder = Decoder::new();
    let mut seen = Seen::default();
    for id in 0..20_000u32 {
        let [a, b, c, d] = id.to_be_bytes();
        let frame = ipv6(44, &[&[17, 0, 0, 1, a, b, c, d][..], &[0; 1024]].concat());
        seen.add(&mut decoder, LinkType::RAW_IP, &frame);
    }
    assert!(decoder.losses().fragments.incomplete >= 18_000);
}
