//! ClientHellos inside QUIC (RFC 9000, RFC 9001 section 5, RFC 9369; the drafts from 29 on).
//!
//! The first packets of a client are encrypted under keys that anybody can derive from what they
//! carry in clear. They hold the ClientHello in CRYPTO frames: out of order, in small pieces, over
//! several packets and datagrams if the client likes. We open them ([`initial`]), put the pieces
//! together ([`crypto`]), and read the hello as TLS does. What a server says is left alone.
//!
//! Which port is used does not matter: only the right bytes can be opened.

mod crypto;
mod initial;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::Decoded;
use super::packet::{Packet, Protocol};
use super::tls::{Carrier, ClientHello};
use crate::flow::{FlowKey, Side};
use crate::limits::{QUIC_BYTES_MAX, QUIC_CONNECTIONS_MAX};
use crypto::CryptoStream;
use initial::{Frames, Initial, Keys, Packets};

/// What could not be read of QUIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuicLosses {
    /// Datagrams that the capture has cut: they cannot be opened.
    pub cut: u64,
    /// Connections forgotten before their hello was whole, to make room for others.
    pub forgotten: u64,
    /// Hellos given up because they were too long or in too many pieces.
    pub overlong: u64,
}

/// QUIC connections whose hello is awaited, and those that have told it, for a while.
///
/// Two generations bound the memory as they do in [`super::stream`].
#[derive(Debug, Default)]
pub(super) struct Connections {
    young: Generation,
    old: Generation,
    losses: QuicLosses,
}

#[derive(Debug, Default)]
struct Generation {
    connections: HashMap<FlowKey, Connection, RandomState>,
    held_bytes: usize,
}

#[derive(Debug)]
struct Connection {
    client: Side,
    keys: Keys,
    hello: Hello,
}

#[derive(Debug)]
enum Hello {
    Awaited(CryptoStream),
    /// Told, or given up.
    Over,
}

impl Connection {
    fn held_bytes(&self) -> usize {
        match &self.hello {
            Hello::Awaited(stream) => stream.held_bytes(),
            Hello::Over => 0,
        }
    }
}

impl Connections {
    pub(super) const fn losses(&self) -> QuicLosses {
        self.losses
    }

    /// Reads a datagram; returns the hello that it completes.
    pub(super) fn datagram(&mut self, packet: &Packet<'_>) -> Option<Decoded> {
        if packet.protocol != Protocol::UDP || !initial::may_be(packet.payload) {
            return None;
        }
        if packet.payload.len() < packet.payload_bytes as usize {
            self.losses.cut += 1;
            return None;
        }
        self.make_room();
        let (flow, sender) = FlowKey::of(packet);
        let mut told = None;
        for initial in Packets::new(packet.payload) {
            let Some(frames) = self.open(&flow, sender, &initial) else {
                break;
            };
            told = self.take(&flow, &frames).or(told);
        }
        told.map(|hello| Decoded::ClientHello(Box::new(hello)))
    }

    /// Opens a client's packet, with the keys of its connection or as the first of a new one.
    fn open(&mut self, flow: &FlowKey, sender: Side, initial: &Initial<'_>) -> Option<Frames> {
        if let Some(known) = self.find(flow) {
            if known.client != sender {
                // The server's side.
                return None;
            }
            if let Some(frames) = initial.open(&known.keys) {
                return Some(frames);
            }
        }
        let keys = Keys::of_client(initial)?;
        let frames = initial.open(&keys)?;
        self.insert(*flow, sender, keys);
        Some(frames)
    }

    fn make_room(&mut self) {
        let young_full = self.young.connections.len() >= QUIC_CONNECTIONS_MAX / 2
            || self.young.held_bytes >= QUIC_BYTES_MAX / 2;
        if young_full {
            let awaited = |one: &&Connection| matches!(one.hello, Hello::Awaited(_));
            self.losses.forgotten += self.old.connections.values().filter(awaited).count() as u64;
            self.old = std::mem::take(&mut self.young);
        }
    }

    fn find(&mut self, flow: &FlowKey) -> Option<&Connection> {
        if let Some(connection) = self.old.connections.remove(flow) {
            let held = connection.held_bytes();
            self.old.held_bytes -= held;
            self.young.held_bytes += held;
            self.young.connections.insert(*flow, connection);
        }
        self.young.connections.get(flow)
    }

    fn insert(&mut self, flow: FlowKey, client: Side, keys: Keys) {
        let hello = Hello::Awaited(CryptoStream::default());
        let connection = Connection {
            client,
            keys,
            hello,
        };
        if let Some(before) = self.young.connections.insert(flow, connection) {
            self.young.held_bytes -= before.held_bytes();
        }
    }

    /// Adds the pieces of a packet to its connection's hello.
    fn take(&mut self, flow: &FlowKey, frames: &Frames) -> Option<ClientHello> {
        let connection = self.young.connections.get_mut(flow)?;
        let held_before = connection.held_bytes();
        let Hello::Awaited(stream) = &mut connection.hello else {
            return None;
        };
        let mut fits = true;
        frames.each_crypto(|offset, piece| fits &= stream.add(offset, piece));
        let message = stream.message();
        let hello = message.map(|body| ClientHello::read_over(body, Carrier::Quic));
        if hello.is_some() {
            connection.hello = Hello::Over;
        } else if !fits {
            self.losses.overlong += 1;
            connection.hello = Hello::Over;
        }
        self.young.held_bytes += connection.held_bytes();
        self.young.held_bytes -= held_before;
        hello.flatten()
    }

    /// Bytes held, of both generations.
    #[cfg(test)]
    const fn held_bytes(&self) -> usize {
        self.young.held_bytes + self.old.held_bytes
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::initial::{V1, V2};
    use super::*;
    use crate::decode::{Decoder, Transport};
    use crate::input::LinkType;
    use crate::testkit::*;

    const DCID: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];

    /// A CRYPTO frame.
    fn crypto(offset: usize, data: &[u8]) -> Vec<u8> {
        let varint = |value: usize| (value as u16 | 0x4000).to_be_bytes();
        [&[6][..], &varint(offset), &varint(data.len()), data].concat()
    }

    /// A client's datagram with one packet that carries these frames.
    fn initial(version: u32, number: u32, frames: &[Vec<u8>]) -> Vec<u8> {
        initial::tests::seal(version, &DCID, number, &frames.concat())
    }

    fn sent(datagram: &[u8]) -> Vec<u8> {
        ipv4(CLIENT, SERVER, 17, &udp(40_000, 8_443, datagram))
    }

    #[track_caller]
    fn check(datagrams: &[Vec<u8>], expected: &[&str]) {
        let packets: Vec<Vec<u8>> = datagrams.iter().map(|datagram| sent(datagram)).collect();
        let seen = Seen::of(LinkType::RAW_IP, &packets);
        assert_eq!(seen.names(), expected);
        let mut records = seen.records.iter();
        assert!(records.all(|record| record.transport == Transport::Quic));
    }

    #[test]
    fn a_hello_in_one_packet_or_in_pieces() {
        let hello = client_hello("a.example");
        let whole = crypto(0, &hello);
        let drafts = [0xff00_0016, 0xff00_001b, 0xff00_001d, 0xff00_0022];
        let of_their_own = [0xface_b001, 0xface_b002, 0x5430_3530, 0x5430_3531];
        for version in [V1, V2].into_iter().chain(drafts).chain(of_their_own) {
            check(
                &[initial(version, 0, std::slice::from_ref(&whole))],
                &["a.example"],
            );
        }
        // Google's versions have a number of their own for the frame.
        let mut frame = whole.clone();
        frame[0] = 8;
        check(&[initial(0x5430_3531, 1, &[frame])], &["a.example"]);
        let (front, back) = hello.split_at(40);
        let [front, back] = [crypto(0, front), crypto(40, back)];
        // Padding, a ping and an acknowledgement between them.
        let between = vec![0, 1, 2, 0, 0, 0, 0];
        let mixed = [back.clone(), between, front.clone(), vec![0; 30]];
        check(&[initial(V1, 2, &mixed)], &["a.example"]);
        let datagrams = [
            initial(V1, 1, std::slice::from_ref(&back)),
            initial(V1, 0, std::slice::from_ref(&front)),
        ];
        check(&datagrams, &["a.example"]);
        let coalesced = datagrams.concat();
        check(&[coalesced], &["a.example"]);
        check(&[initial(V1, 1, &[back])], &[]);
        // A hello that is sent again is told once.
        let again = initial(V1, 0, &[whole]);
        check(&[again.clone(), again], &["a.example"]);
    }

    #[test]
    fn fingerprints_say_that_it_is_quic() {
        let packet = sent(&initial(V1, 0, &[crypto(0, &client_hello("a.example"))]));
        let seen = Seen::of(LinkType::RAW_IP, &[packet]);
        let Decoded::ClientHello(hello) = &seen.records[0].message else {
            panic!("no hello");
        };
        let ja4 = hello.ja4.as_deref().unwrap();
        assert!(ja4.starts_with("q13d0206h2_"), "{ja4}");
    }

    #[test]
    fn what_is_no_hello() {
        let whole = [crypto(0, &client_hello("a.example"))];
        let sound = initial(V1, 0, &whole);
        for at in [0, 3, 8, 20, sound.len() - 1] {
            let mut broken = sound.clone();
            broken[at] ^= 0x41;
            check(&[broken], &[]);
        }
        check(&[sound[..sound.len() - 1].to_vec()], &[]);
        check(&[initial(0x0a0a_0a0a, 0, &whole)], &[]);
        // A server's hello in a client's packet.
        let mut other = client_hello("a.example");
        other[0] = 2;
        check(&[initial(V1, 0, &[crypto(0, &other)])], &[]);
    }

    #[test]
    fn a_datagram_that_is_cut_is_counted() {
        let packet = sent(&initial(V1, 0, &[crypto(0, &client_hello("a.example"))]));
        let mut decoder = Decoder::new();
        let mut seen = Seen::default();
        seen.add(&mut decoder, LinkType::RAW_IP, &packet[..packet.len() - 1]);
        assert!(seen.records.is_empty());
        assert_eq!(decoder.losses().quic.cut, 1);
    }

    #[test]
    fn memory_is_bounded() {
        let mut decoder = Decoder::new();
        let mut seen = Seen::default();
        let datagram = initial(V1, 0, &[crypto(0, &client_hello("a.example")[..99])]);
        for at in 0..2 * QUIC_CONNECTIONS_MAX as u32 {
            let client = std::net::Ipv4Addr::from(0x0a00_0000 + at);
            let packet = ipv4(client, SERVER, 17, &udp(40_000, 443, &datagram));
            seen.add(&mut decoder, LinkType::RAW_IP, &packet);
        }
        assert!(decoder.losses().quic.forgotten > 0);
        let held = decoder.quic.held_bytes();
        assert!(0 < held && held <= QUIC_BYTES_MAX + (64 << 10), "{held}");
        // One connection with a hello of many far pieces.
        let far: Vec<Vec<u8>> = (0..150).map(|at| crypto(at * 100 + 1, &[7])).collect();
        for number in 0..50 {
            let packet = sent(&initial(V1, number, &far));
            seen.add(&mut decoder, LinkType::RAW_IP, &packet);
        }
        assert_eq!(decoder.losses().quic.overlong, 1);
        assert!(seen.records.is_empty());
    }
}
