//! IP fragments: a datagram in pieces, mixed and sent twice, tells what it tells in one, and the
//! input as fragments of any shape breaks nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_fuzz::dice::Dice;
use picket_fuzz::packet::{CLIENT, SERVER, ipv4, ipv4_piece, ipv6, records, udp};
use picket_fuzz::told;

const MORE: u16 = 0x2000;

fuzz_target!(|input: &[u8]| {
    let Some((mut dice, message)) = Dice::from_front(input) else {
        return;
    };
    if message.len() > 8_000 {
        return;
    }
    let datagram = udp([40_000, 53], message);
    let whole4 = records([&ipv4([CLIENT, SERVER], 17, &datagram)[..]]);
    let whole6 = records([&ipv6(17, &datagram)[..]]);

    // Offsets count in units of eight bytes.
    let units = datagram.len().div_ceil(8);
    let mut spans = dice.cuts(units, 20);
    if spans.len() < 2 {
        return;
    }
    let twice = spans[dice.below(spans.len())];
    spans.push(twice);
    dice.shuffle(&mut spans);
    let pieces: Vec<(u16, bool, &[u8])> = spans
        .iter()
        .map(|&(from, to)| {
            let end = (to * 8).min(datagram.len());
            (from as u16, to < units, &datagram[from * 8..end])
        })
        .collect();
    let v4 = pieces.iter().map(|(unit, more, piece)| {
        let position = unit | if *more { MORE } else { 0 };
        ipv4_piece([CLIENT, SERVER], 17, position, piece)
    });
    let v6 = pieces.iter().map(|(unit, more, piece)| {
        let position = (unit << 3 | u16::from(*more)).to_be_bytes();
        ipv6(
            44,
            &[&[17, 0], &position[..], &[0, 0, 0, 9], piece].concat(),
        )
    });
    for (packets, whole) in [(v4.collect::<Vec<_>>(), whole4), (v6.collect(), whole6)] {
        let told = records(packets.iter().map(Vec::as_slice));
        // A piece that comes again behind the last begins another datagram, which is never whole.
        assert_eq!(told, whole);
        told.iter().for_each(|record| told::check(&record.message));
    }

    let mut rest = message;
    let mut hostile = Vec::new();
    while let Some((&[high, low, bytes], behind)) = rest.split_first_chunk::<3>() {
        let (piece, behind) = behind.split_at(usize::from(bytes).min(behind.len()));
        let position = u16::from_be_bytes([high, low]);
        hostile.push(ipv4_piece([CLIENT, SERVER], 17, position, piece));
        let header = [&[17, 0, high, low, 0, 0, 0, 9], piece].concat();
        hostile.push(ipv6(44, &header));
        rest = behind;
    }
    for record in records(hostile.iter().map(Vec::as_slice)) {
        told::check(&record.message);
    }
});
