//! Questions that nobody means well with, and which of them ask for what is listed: by the words of
//! RFC 1035 and not by anything of ours.

use std::collections::HashSet;

use crate::dns::over_tcp;
use crate::golden::{ethernet, ipv4, ipv4_with, ipv6, tcp, udp};

/// A name as labels, the leftmost first.
pub(crate) type Labels = Vec<Vec<u8>>;

/// Numbers that look random and are the same each time (xorshift64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % sides
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).expect("below 256")
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn label(&mut self) -> Vec<u8> {
        let bytes = *self.one_of(&[1, 2, 3, 6, 7, 8, 9, 15, 16, 17, 31, 55, 56, 62, 63]);
        let odd = self.below(8) == 0;
        let letters = b"abcxyzABCXYZ0189-_@[`{";
        (0..bytes)
            .map(|_| {
                if odd {
                    self.byte()
                } else {
                    *self.one_of(letters)
                }
            })
            .collect()
    }
}

/// So many names of one to eight labels.
pub(crate) fn listed(dice: &mut Dice, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| {
            let above = dice.below(7);
            let mut name = format!("l{number}");
            for _ in 0..above {
                let bytes = 1 + dice.below(30);
                name.push('.');
                name.extend((0..bytes).map(|_| *dice.one_of(&['a', 'b', 'x', '7', '_'])));
            }
            name
        })
        .collect()
}

/// A name as it stands in a message: under a listed one, above it, beside it, or another.
fn name(dice: &mut Dice, listed: &[String]) -> Vec<u8> {
    let base: &String = dice.one_of(listed);
    let mut labels: Labels = base.split('.').map(|one| one.as_bytes().to_vec()).collect();
    match dice.below(8) {
        0 => labels.clear(),
        1 => drop(labels.remove(0)),
        2 => labels.push(dice.label()),
        3 => labels[0].push(b'x'),
        _ => {}
    }
    for label in &mut labels {
        for byte in label {
            if dice.below(2) == 0 {
                byte.make_ascii_uppercase();
            }
        }
    }
    let more = *dice.one_of(&[0, 0, 1, 2, 3, 8, 119, 130]);
    for _ in 0..more {
        let label = if more > 8 {
            vec![dice.byte()]
        } else {
            dice.label()
        };
        labels.insert(0, label);
    }
    // As long as a name may be, or one label longer.
    let room = if dice.below(8) == 0 { 270 } else { 254 };
    while labels.iter().map(|one| one.len() + 1).sum::<usize>() > room {
        labels.remove(0);
    }
    let mut bytes: Vec<u8> = labels
        .iter()
        .flat_map(|label| {
            let length = u8::try_from(label.len()).expect("a short label");
            std::iter::once(length).chain(label.iter().copied())
        })
        .collect();
    match dice.below(16) {
        // Compression, to the header and to itself; a label of a type there is none of; no root.
        0 => bytes.extend([0xc0, 0x0c]),
        1 => bytes.extend([0xc0, 0x00]),
        2 => bytes.extend([0x40, b'x', 0]),
        3 => bytes.push(0xff),
        4 => {}
        _ => bytes.push(0),
    }
    bytes
}

/// A message about a name, mostly a query, sometimes cut, sometimes with a byte changed.
pub(crate) fn message(dice: &mut Dice, listed: &[String]) -> Vec<u8> {
    let flags: [u8; 2] = *dice.one_of(&[[1, 0], [1, 0], [1, 0], [0, 0], [0x81, 0x80], [0x28, 0]]);
    let questions: u8 = *dice.one_of(&[1, 1, 1, 1, 0, 2]);
    let mut message = vec![dice.byte(), dice.byte(), flags[0], flags[1], 0, questions];
    message.extend([0; 6]);
    message.extend(name(dice, listed));
    message.extend([0, 1, 0, 1]);
    match dice.below(6) {
        0 => message.truncate(dice.below(message.len()) + 1),
        1 => {
            let place = dice.below(message.len());
            message[place] = dice.byte();
        }
        2 => message.extend((0..40).map(|_| dice.byte())),
        _ => {}
    }
    message
}

/// The frame it travels in, and whether that shows all of it.
pub(crate) fn frame(dice: &mut Dice, message: &[u8]) -> (Vec<u8>, bool) {
    let ports = (40_000, 53);
    match dice.below(7) {
        0 | 1 => (ethernet(0x0800, &ipv4(17, &udp(ports, message))), true),
        2 => (ethernet(0x86dd, &ipv6(17, &udp(ports, message))), true),
        3 => {
            let options = [1; 40];
            let packet = ipv4_with(&options, 0, 17, &udp(ports, message));
            (ethernet(0x0800, &packet), true)
        }
        4 => {
            let segment = tcp(ports, 0x18, &over_tcp(message));
            (ethernet(0x0800, &ipv4(6, &segment)), true)
        }
        5 => {
            let segment = tcp(ports, 0x18, &over_tcp(message));
            (ethernet(0x86dd, &ipv6(6, &segment)), true)
        }
        // The length says more than there is: the rest comes in another segment.
        _ => {
            let whole = over_tcp(message);
            let segment = tcp(ports, 0x18, &whole[..whole.len() - 1]);
            (ethernet(0x0800, &ipv4(6, &segment)), false)
        }
    }
}

/// The name of the first question of a query as it stands there (RFC 1035 4.1), if it is there
/// whole and in full, and it or a parent of it is listed.
pub(crate) fn expected(message: &[u8], listed: &HashSet<Labels>) -> Option<Vec<u8>> {
    let header = message.get(..12)?;
    let is_query = header[2] & 0x80 == 0;
    let questions = u16::from_be_bytes([header[4], header[5]]);
    if !is_query || questions == 0 {
        return None;
    }
    let (mut labels, mut at) = (Labels::new(), 12);
    loop {
        let length = usize::from(*message.get(at)?);
        if length == 0 {
            break;
        }
        if length > 63 {
            return None;
        }
        labels.push(message.get(at + 1..at + 1 + length)?.to_ascii_lowercase());
        at += 1 + length;
    }
    let name = &message[12..=at];
    let is_listed = (0..labels.len()).any(|from| listed.contains(&labels[from..]));
    (name.len() <= 255 && is_listed).then(|| name.to_vec())
}
