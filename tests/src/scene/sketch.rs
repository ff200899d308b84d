//! Draws a scenario as a capture: the packets that playing it would make.
//!
//! For machines where no namespace may be made, and for tests that need the same packets twice.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::dns;
use super::frame::{self, ACK, FIN, PSH, RST, SYN, Segment};
use super::pcap::Timed;
use super::scenario::{Scenario, Step};
use crate::lab::internet::Speaks;
use crate::lab::topology::{INSTANCE, INSTANCE_V6, RESOLVER};

/// Time between two frames of the drawing: a round trip inside a data centre.
const PACE: Duration = Duration::from_micros(500);

/// Time between two frames of a flood: twenty thousand a second.
const FLOOD_PACE: Duration = Duration::from_micros(50);

/// The first port the instance connects from; Linux starts there too.
const FIRST_PORT: u16 = 32_768;

/// Draws every step of `scenario` that makes packets, from `start` (since the epoch) on.
pub fn sketch(scenario: &Scenario, start: Duration) -> Vec<Timed> {
    let mut pen = Pen {
        at: start,
        port: FIRST_PORT,
        frames: Vec::new(),
    };
    for step in &scenario.steps {
        match step {
            Step::Lookup { name, kind } => {
                let (client, id) = (pen.client(RESOLVER.into()), pen.port);
                let server = SocketAddr::new(RESOLVER.into(), 53);
                let address = scenario.names.get(name).copied();
                pen.draw(frame::udp(client, server, &dns::query(id, name, *kind)));
                let answer = dns::answer(id, name, *kind, address);
                pen.draw(frame::udp(server, client, &answer));
            }
            Step::Talk { to, say } => {
                let speaks = speaks(scenario, *to).unwrap_or(Speaks::Line);
                pen.talk(*to, say.as_bytes(), &speaks.answer(say.as_bytes()));
            }
            Step::Datagram { to, say } => {
                let client = pen.client(to.ip());
                pen.draw(frame::udp(client, *to, say.as_bytes()));
                pen.draw(frame::udp(*to, client, say.as_bytes()));
            }
            Step::Flood { to, bytes, count } => {
                let client = pen.client(to.ip());
                for _ in 0..*count {
                    pen.draw_after(FLOOD_PACE, frame::udp(client, *to, &vec![0; *bytes]));
                }
            }
            Step::Scan { host, first, last } => {
                for port in *first..=*last {
                    pen.knock(SocketAddr::new(*host, port));
                }
            }
            Step::Deliver { .. } => {}
        }
    }
    pen.frames
}

fn speaks(scenario: &Scenario, at: SocketAddr) -> Option<Speaks> {
    let found = scenario.services.iter().find(|service| service.at == at);
    found.map(|service| service.speaks)
}

struct Pen {
    at: Duration,
    port: u16,
    frames: Vec<Timed>,
}

impl Pen {
    fn draw(&mut self, frame: Vec<u8>) {
        self.draw_after(PACE, frame);
    }

    /// Draws a frame; the next one follows after `pace`.
    fn draw_after(&mut self, pace: Duration, frame: Vec<u8>) {
        self.frames.push(Timed { at: self.at, frame });
        self.at += pace;
    }

    /// A fresh port of the instance, on its address of the peer's family.
    fn client(&mut self, peer: IpAddr) -> SocketAddr {
        self.port = self.port.checked_add(1).unwrap_or(FIRST_PORT);
        let address: IpAddr = match peer {
            IpAddr::V4(_) => INSTANCE.into(),
            IpAddr::V6(_) => INSTANCE_V6.into(),
        };
        SocketAddr::new(address, self.port)
    }

    /// A connection from its first SYN to its last ACK; the server closes first.
    fn talk(&mut self, server: SocketAddr, said: &[u8], answered: &[u8]) {
        let client = self.client(server.ip());
        let (mut ours, mut theirs) = (1000, 9000);
        let segment = |flags, sequence, acknowledged| Segment {
            flags,
            sequence,
            acknowledged,
        };
        self.draw(frame::tcp(client, server, segment(SYN, ours, 0), b""));
        ours += 1;
        self.draw(frame::tcp(
            server,
            client,
            segment(SYN | ACK, theirs, ours),
            b"",
        ));
        theirs += 1;
        self.draw(frame::tcp(client, server, segment(ACK, ours, theirs), b""));
        self.draw(frame::tcp(
            client,
            server,
            segment(PSH | ACK, ours, theirs),
            said,
        ));
        ours = ours.wrapping_add(u32::try_from(said.len()).unwrap_or(0));
        self.draw(frame::tcp(
            server,
            client,
            segment(PSH | ACK, theirs, ours),
            answered,
        ));
        theirs = theirs.wrapping_add(u32::try_from(answered.len()).unwrap_or(0));
        self.draw(frame::tcp(
            server,
            client,
            segment(FIN | ACK, theirs, ours),
            b"",
        ));
        theirs += 1;
        self.draw(frame::tcp(
            client,
            server,
            segment(FIN | ACK, ours, theirs),
            b"",
        ));
        ours += 1;
        self.draw(frame::tcp(server, client, segment(ACK, theirs, ours), b""));
    }

    /// A SYN and its refusal.
    fn knock(&mut self, server: SocketAddr) {
        let client = self.client(server.ip());
        let syn = Segment {
            flags: SYN,
            sequence: 1000,
            acknowledged: 0,
        };
        let refusal = Segment {
            flags: RST | ACK,
            sequence: 0,
            acknowledged: 1001,
        };
        self.draw(frame::tcp(client, server, syn, b""));
        self.draw(frame::tcp(server, client, refusal, b""));
    }
}
