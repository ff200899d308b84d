//! Tunnels: what a packet tells, it tells inside each kind of tunnel; and the input as the payload
//! of each breaks nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_fuzz::dice::Dice;
use picket_fuzz::packet::{CLIENT, SERVER, ipv4, ipv6, records, udp};
use picket_fuzz::told;
use picket_sense::decode::Record;

/// Headers of the kinds that carry bare IP, or Ethernet before it: IP protocol or UDP port, header,
/// and whether a frame follows.
const KINDS: [(u8, u16, &[u8], bool); 8] = [
    (17, 4789, &[8, 0, 0, 0, 0, 0, 7, 0], true),
    (17, 6081, &[0, 0, 0x65, 0x58, 0, 0, 7, 0], true),
    (17, 6081, &[1, 0, 8, 0, 0, 0, 7, 0, 1, 2, 3, 4], false),
    (47, 0, &[0, 0, 8, 0], false),
    (47, 0, &[0x30, 0, 0x65, 0x58, 0, 0, 0, 7, 0, 0, 0, 1], true),
    (
        47,
        0,
        &[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0],
        true,
    ),
    (4, 0, &[], false),
    (97, 0, &[0x30, 0], true),
];

const ETHERNET: [u8; 14] = [2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4, 8, 0];

fn wrapped(kind: usize, inside: &[u8]) -> Vec<u8> {
    let (protocol, port, header, is_frame) = KINDS[kind % KINDS.len()];
    let link: &[u8] = if is_frame { &ETHERNET } else { &[] };
    let carried = [header, link, inside].concat();
    match protocol {
        17 => ipv4([CLIENT, SERVER], 17, &udp([50_000, port], &carried)),
        _ => ipv4([CLIENT, SERVER], protocol, &carried),
    }
}

fn messages(packet: &[u8]) -> Vec<Record> {
    let told = records([packet]);
    told.iter().for_each(|record| told::check(&record.message));
    told
}

fuzz_target!(|input: &[u8]| {
    let Some((mut dice, message)) = Dice::from_front(input) else {
        return;
    };
    if message.len() > 8_000 {
        return;
    }
    let inside = ipv4([SERVER, CLIENT], 17, &udp([40_000, 53], message));
    let bare = messages(&inside);
    let outer = dice.below(KINDS.len());
    let inner = dice.below(KINDS.len());
    for packet in [
        wrapped(outer, &inside),
        wrapped(outer, &wrapped(inner, &inside)),
    ] {
        let mut told = messages(&packet);
        for record in &mut told {
            assert!(record.tunnel.is_some());
            record.tunnel = None;
        }
        // What stands inside a tunnel is told by the innermost that can be read.
        assert_eq!(told, bare);
    }
    for port in [4789, 8472, 6081, 2152, 3544] {
        messages(&ipv4([CLIENT, SERVER], 17, &udp([50_000, port], message)));
    }
    for protocol in [4, 41, 47, 97] {
        messages(&ipv4([CLIENT, SERVER], protocol, message));
        messages(&ipv6(protocol, message));
    }
});
