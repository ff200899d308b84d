//! Traffic like that of a busy web host, drawn from a fixed seed: the same packets in every run.
//!
//! A few thousand conversations go on at once, each a packet at a time: TLS over TCP with a real
//! ClientHello, plain HTTP, DNS questions with their answers, datagrams of a stream, now and then an
//! echo. What is drawn is how long each is and whose turn it is.

pub(crate) mod packet;
pub(crate) mod tls;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

use packet::{ACK, Ends, FIN, PSH, SYN};

/// Conversations that go on at once.
const AT_ONCE: usize = 2_000;

/// Microseconds between two packets: a gigabit a second at the mean size.
const GAP_US: u64 = 4;

/// Numbers that look random and are the same each time (xorshift*).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// From a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// An IPv4 address between 1.0.0.0 and 223.255.255.255.
    pub(crate) fn unicast(&mut self) -> u32 {
        (1 << 24) + self.below(223 << 24)
    }
}

/// Draws packets without end.
#[derive(Debug)]
pub(crate) struct Mixed {
    random: Random,
    /// What each conversation still has to say.
    open: Vec<VecDeque<Vec<u8>>>,
    begun: u32,
}

impl Mixed {
    /// From a fixed seed.
    pub(crate) fn new() -> Self {
        Self {
            random: Random::new(2026),
            open: vec![VecDeque::new(); AT_ONCE],
            begun: 0,
        }
    }

    /// The next frame.
    pub(crate) fn next_frame(&mut self) -> Vec<u8> {
        let place = self.random.below(AT_ONCE as u32) as usize;
        loop {
            if let Some(frame) = self.open[place].pop_front() {
                return frame;
            }
            self.begun += 1;
            self.open[place] = conversation(&mut self.random, self.begun);
        }
    }
}

/// A whole conversation.
fn conversation(random: &mut Random, number: u32) -> VecDeque<Vec<u8>> {
    let ends = Ends::of(number);
    let mut frames = VecDeque::new();
    match random.below(100) {
        0..35 => {
            let hello = tls::client_hello(&name(random));
            tcp(random, ends.to(443), &hello, &mut frames);
        }
        35..42 => {
            let host = name(random);
            let request = format!("GET /{number} HTTP/1.1\r\nhost: {host}\r\naccept: */*\r\n\r\n");
            tcp(random, ends.to(80), request.as_bytes(), &mut frames);
        }
        42..85 => {
            let (ends, name) = (ends.to(53), name(random));
            let id = random.below(1 << 16) as u16;
            frames.push_back(packet::dns_question(ends, id, &name));
            frames.push_back(packet::dns_answer(ends.back(), id, &name, random.unicast()));
        }
        85..97 => {
            for _ in 0..10 + random.below(60) {
                let bytes = 200 + random.below(1000) as usize;
                frames.push_back(packet::udp(ends.to(4433).back(), &vec![0x40; bytes]));
            }
        }
        _ => {
            frames.push_back(packet::echo(ends, 8));
            frames.push_back(packet::echo(ends.back(), 0));
        }
    }
    frames
}

/// A conversation over TCP: opened, a request, an answer of some segments, closed.
fn tcp(random: &mut Random, ends: Ends, request: &[u8], frames: &mut VecDeque<Vec<u8>>) {
    let back = ends.back();
    frames.push_back(packet::tcp(ends, SYN, 0, &[]));
    frames.push_back(packet::tcp(back, SYN | ACK, 0, &[]));
    frames.push_back(packet::tcp(ends, ACK, 1, &[]));
    frames.push_back(packet::tcp(ends, PSH | ACK, 1, request));
    let mut sequence = 1;
    for segment in 0..4 + random.below(40) {
        let bytes = 100 + random.below(1_300) as usize;
        // As an answer over TLS goes: application data, which nobody decodes.
        let mut answer = vec![0x5a; bytes];
        answer[..5].copy_from_slice(&[0x17, 3, 3, (bytes >> 8) as u8, bytes as u8]);
        frames.push_back(packet::tcp(back, PSH | ACK, sequence, &answer));
        sequence += bytes as u32;
        if segment % 2 == 1 {
            frames.push_back(packet::tcp(ends, ACK, 1 + request.len() as u32, &[]));
        }
    }
    let asked = 1 + request.len() as u32;
    frames.push_back(packet::tcp(ends, FIN | ACK, asked, &[]));
    frames.push_back(packet::tcp(back, FIN | ACK, sequence, &[]));
    frames.push_back(packet::tcp(ends, ACK, asked + 1, &[]));
}

/// A name of four labels; one in four is asked for seldom.
fn name(random: &mut Random) -> String {
    let others = if random.below(4) == 0 { 20_000 } else { 40 };
    let (one, other) = (random.below(200), random.below(others));
    format!("h{one}.s{other}.example{}.com", other % 50)
}

/// Writes so many packets as a capture (pcap, microseconds, Ethernet).
pub(crate) fn write(path: &Path, packets: u32) -> Result<u64> {
    let name = || format!("write {}", path.display());
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).with_context(name)?);
    // Magic, version 2.4, zone, accuracy, bytes kept, link type.
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        out.write_all(&word.to_le_bytes()).with_context(name)?;
    }
    let mut mixed = Mixed::new();
    let mut bytes = 0;
    for number in 0..packets {
        let frame = mixed.next_frame();
        let at_us = 1_700_000_000_000_000 + u64::from(number) * GAP_US;
        let length = frame.len() as u32;
        for word in [
            (at_us / 1_000_000) as u32,
            (at_us % 1_000_000) as u32,
            length,
            length,
        ] {
            out.write_all(&word.to_le_bytes()).with_context(name)?;
        }
        out.write_all(&frame).with_context(name)?;
        bytes += frame.len() as u64;
    }
    out.flush().with_context(name)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_packets_are_drawn_each_time() {
        let (mut one, mut other) = (Mixed::new(), Mixed::new());
        let mut kinds = std::collections::BTreeMap::new();
        for _ in 0..20_000 {
            let frame = one.next_frame();
            assert_eq!(frame, other.next_frame());
            assert!((42..=1_514).contains(&frame.len()), "{}", frame.len());
            let port = u16::from_be_bytes([frame[36], frame[37]]);
            *kinds.entry((frame[23], port)).or_insert(0) += 1;
        }
        for kind in [(6, 443), (6, 80), (17, 53)] {
            assert!(
                kinds.get(&kind).is_some_and(|count| *count > 100),
                "{kind:?} {kinds:?}"
            );
        }
    }

    #[test]
    fn numbers_stay_below_their_bound() {
        let mut random = Random::new(1);
        let mut seen = [false; 7];
        for _ in 0..1000 {
            seen[random.below(7) as usize] = true;
            let first = random.unicast() >> 24;
            assert!((1..224).contains(&first));
        }
        assert!(seen.iter().all(|one| *one));
    }
}
