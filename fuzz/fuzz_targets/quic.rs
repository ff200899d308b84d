//! QUIC clients: a hello in one CRYPTO frame tells what it tells in pieces, mixed, over datagrams,
//! and hostile frames are read as far as they go.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_fuzz::dice::Dice;
use picket_fuzz::packet::{CLIENT, SERVER, ipv4, records, udp};
use picket_fuzz::quic::{crypto, seal};
use picket_fuzz::told;
use picket_sense::decode::Decoded;

/// Bytes of a hello in this test: fewer than are kept of one, and than fit into a datagram.
const HELLO_BYTES_MAX: usize = 8_000;

fn messages(datagrams: &[Vec<u8>]) -> Vec<Decoded> {
    let packets: Vec<Vec<u8>> = datagrams
        .iter()
        .map(|one| ipv4([CLIENT, SERVER], 17, &udp([40_000, 443], one)))
        .collect();
    let told = records(packets.iter().map(Vec::as_slice));
    let messages: Vec<Decoded> = told.into_iter().map(|record| record.message).collect();
    messages.iter().for_each(told::check);
    messages
}

fuzz_target!(|input: &[u8]| {
    let Some((mut dice, bytes)) = Dice::from_front(input) else {
        return;
    };
    if bytes.len() > HELLO_BYTES_MAX {
        return;
    }
    // As they are, and as frames of a packet.
    messages(&[bytes.to_vec()]);
    messages(&[seal(0, bytes)]);

    let [_, length @ ..] = (bytes.len() as u32).to_be_bytes();
    let hello = [&[1], &length[..], bytes].concat();
    let whole = messages(&[seal(0, &crypto(0, &hello))]);
    let mut pieces: Vec<Vec<u8>> = dice
        .cuts(hello.len(), 16)
        .into_iter()
        .map(|(from, to)| crypto(from, &hello[from..to]))
        .collect();
    dice.shuffle(&mut pieces);
    let mut datagrams = Vec::new();
    while !pieces.is_empty() {
        let rest = pieces.split_off(1 + dice.below(pieces.len()));
        datagrams.push(seal(datagrams.len() as u8, &pieces.concat()));
        pieces = rest;
    }
    assert_eq!(messages(&datagrams), whole);
});
