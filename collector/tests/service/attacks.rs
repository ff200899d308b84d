//! What a hostile host may send in the name of a key that is known: envelopes made by hand, byte by
//! byte, since our own code would not make them. Each is refused by its own word, costs no memory to
//! speak of, and leaves nothing behind.

use picket_wire::{Digest, Signer};
use ring::signature::Ed25519KeyPair;

use crate::rig::{Agent, INSTANCE, Rig, now_ns};

/// Most memory the collector may ever have taken, KiB: what an idle one takes, and some envelopes of
/// the largest kind.
const RESIDENT_KIB_MAX: u64 = 200 << 10;

/// CBOR as RFC 8949 section 3 has it: a head of major type and argument, in its shortest form.
fn head(major: u8, argument: u64) -> Vec<u8> {
    let major = major << 5;
    match argument {
        0..24 => vec![major | argument as u8],
        24..0x100 => vec![major | 24, argument as u8],
        0x100..0x1_0000 => [&[major | 25][..], &(argument as u16).to_be_bytes()].concat(),
        0x1_0000..0x1_0000_0000 => [&[major | 26][..], &(argument as u32).to_be_bytes()].concat(),
        _ => [&[major | 27][..], &argument.to_be_bytes()].concat(),
    }
}

fn int(value: i64) -> Vec<u8> {
    match u64::try_from(value) {
        Ok(value) => head(0, value),
        Err(_) => head(1, (-1 - value) as u64),
    }
}

fn bytes(value: &[u8]) -> Vec<u8> {
    [head(2, value.len() as u64), value.to_vec()].concat()
}

fn text(value: &str) -> Vec<u8> {
    [head(3, value.len() as u64), value.as_bytes().to_vec()].concat()
}

/// A frame of zstd (RFC 8878 section 3.1.1) that says it holds `said` bytes and repeats one byte
/// `blocks` times 128 KiB.
fn bomb(said: u64, blocks: u32) -> Vec<u8> {
    // Frame content size in eight bytes, single segment: no window is told.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0b1110_0000];
    frame.extend(said.to_le_bytes());
    for number in 1..=blocks {
        // RLE block: last, type 1, the size it grows to; then the byte.
        let block = u32::from(number == blocks) | 1 << 1 | (128 << 10) << 3;
        frame.extend(&block.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// A frame of zstd that holds `plain` as it is.
fn frame(plain: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0b1110_0000];
    frame.extend((plain.len() as u64).to_le_bytes());
    let last = plain.chunks(128 << 10).count() - 1;
    for (number, piece) in plain.chunks(128 << 10).enumerate() {
        let block = u32::from(number == last) | (piece.len() as u32) << 3;
        frame.extend(&block.to_le_bytes()[..3]);
        frame.extend(piece);
    }
    frame
}

/// An envelope in its parts, each of which an attacker may choose.
#[derive(Clone)]
struct Forge {
    seed: [u8; 32],
    tag: u64,
    /// Label and value of each entry of the protected header.
    header: Vec<(i64, Vec<u8>)>,
    unprotected: Vec<u8>,
    payload: Vec<u8>,
    context: &'static str,
    signature: Option<Vec<u8>>,
}

impl Forge {
    /// What the agent of seed 1 would say next, sound in every part.
    fn sound(agent: &Agent, payload: Vec<u8>) -> Self {
        let labels = [-70001, -70002, -70003, -70004, -70005];
        let critical: Vec<u8> = labels.iter().flat_map(|label| int(*label)).collect();
        let chain = &agent.chain;
        Self {
            seed: [1; 32],
            tag: 18,
            header: vec![
                (1, int(-8)),
                (2, [head(4, 5), critical].concat()),
                (3, text("application/vnd.picket.summary+cbor+zstd")),
                (4, bytes(&agent.signer.public_key().0)),
                (-70001, bytes(&chain.agent.0)),
                (-70002, bytes(&chain.boot.0)),
                (-70003, head(0, chain.sequence)),
                (-70004, bytes(&chain.previous.0)),
                (-70005, head(0, now_ns() / 1_000_000)),
            ],
            unprotected: head(5, 0),
            payload,
            context: "Signature1",
            signature: None,
        }
    }

    /// Puts another value under a label.
    fn with(mut self, label: i64, value: Vec<u8>) -> Self {
        let entry = self.header.iter_mut().find(|(have, _)| *have == label);
        entry.unwrap().1 = value;
        self
    }

    fn without(mut self, label: i64) -> Self {
        self.header.retain(|(have, _)| *have != label);
        self
    }

    fn sealed(&self) -> Vec<u8> {
        let entries: Vec<u8> = self
            .header
            .iter()
            .flat_map(|(label, value)| [int(*label), value.clone()].concat())
            .collect();
        let protected = bytes(&[head(5, self.header.len() as u64), entries].concat());
        let payload = bytes(&self.payload);
        let signed = [
            head(4, 4),
            text(self.context),
            protected.clone(),
            bytes(&[]),
            payload.clone(),
        ];
        let key = Ed25519KeyPair::from_seed_unchecked(&self.seed).unwrap();
        let own = || key.sign(&signed.concat()).as_ref().to_vec();
        let signature = bytes(&self.signature.clone().unwrap_or_else(own));
        let tag = head(6, self.tag);
        let unprotected = self.unprotected.clone();
        [tag, head(4, 4), protected, unprotected, payload, signature].concat()
    }
}

/// A signature whose second half is larger by the order of the group: the same point of the curve,
/// and so another signature of the same bytes unless that half is checked (RFC 8032 section 5.1.7).
fn malleated(envelope: &[u8]) -> Vec<u8> {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut envelope = envelope.to_vec();
    let at = envelope.len() - 32;
    let mut carry = 0;
    for (byte, order) in envelope[at..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    envelope
}

/// Most memory that a process has taken so far, KiB.
fn resident_max(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

#[tokio::test]
async fn forged_envelopes_are_refused_by_their_own_words() {
    let mut agent = Agent::new(1);
    let mut other = Agent::new(2);
    let tables = [agent.table(INSTANCE), other.table("i-00000000000000002")];
    let mut rig = Rig::new(&tables.concat());
    rig.start().await;
    let first = agent.envelope(1);
    assert_eq!(rig.send(first.clone()).await[0].1, "accepted");
    let summary = agent.summary(0);
    let plain = summary.to_bytes();
    let sound = Forge::sound(&agent, frame(&plain));
    let stands_for = |payload: Vec<u8>| Forge {
        payload,
        ..sound.clone()
    };
    let now_ms = now_ns() / 1_000_000;
    let hour_ms = 3_600_000;

    // A summary that begins well and holds a list which claims more than memory could.
    let endless = [&plain[..1], &[0x03], &head(4, u64::MAX)[..]].concat();
    let deep = [&head(5, 1)[..], &[0x18, 99], &[0x81; 100_000]].concat();
    let huge_text = [&head(5, 1)[..], &[0x18, 99], &head(3, 1 << 40)].concat();
    let unending: Vec<u8> = [&[0xbf][..], &[0x18, 99, 0xf6].repeat(1_000_000)].concat();

    for (point, envelope, reason) in [
        // Who signs, and how.
        (
            "a forged signature",
            Forge {
                signature: Some(vec![7; 64]),
                ..sound.clone()
            }
            .sealed(),
            "tampered",
        ),
        (
            "no signature",
            Forge {
                signature: Some(Vec::new()),
                ..sound.clone()
            }
            .sealed(),
            "tampered",
        ),
        (
            "a malleated signature",
            malleated(&sound.sealed()),
            "tampered",
        ),
        (
            "a signature for another purpose",
            Forge {
                context: "CounterSignature",
                ..sound.clone()
            }
            .sealed(),
            "tampered",
        ),
        (
            "another host's key under its own name",
            Forge {
                seed: [2; 32],
                ..sound.clone()
            }
            .sealed(),
            "tampered",
        ),
        (
            "its own key under another's name",
            sound.clone().with(-70001, bytes(&other.id().0)).sealed(),
            "wrong_key",
        ),
        (
            "a key nobody knows",
            Agent::new(9).envelope(0),
            "unknown_key",
        ),
        (
            "the public development key",
            {
                let mut liar = Agent::new(1);
                liar.signer = Signer::development();
                liar.envelope(0)
            },
            "development_key",
        ),
        // A weaker or an unknown scheme.
        (
            "ES256 in place of EdDSA",
            sound.clone().with(1, int(-7)).sealed(),
            "malformed",
        ),
        (
            "an algorithm nobody knows",
            sound.clone().with(1, int(-70_000)).sealed(),
            "malformed",
        ),
        (
            "no algorithm",
            sound.clone().without(1).sealed(),
            "malformed",
        ),
        (
            "nothing critical",
            sound.clone().without(2).sealed(),
            "malformed",
        ),
        (
            "less that is critical",
            sound
                .clone()
                .with(2, [head(4, 1), int(-70001)].concat())
                .sealed(),
            "malformed",
        ),
        (
            "another content type",
            sound.clone().with(3, text("application/cbor")).sealed(),
            "malformed",
        ),
        (
            "a key outside the signature",
            Forge {
                unprotected: [head(5, 1), int(4), bytes(&[0; 32])].concat(),
                ..sound.clone()
            }
            .sealed(),
            "malformed",
        ),
        (
            "a MAC's tag",
            Forge {
                tag: 17,
                ..sound.clone()
            }
            .sealed(),
            "malformed",
        ),
        (
            "many signers' tag",
            Forge {
                tag: 98,
                ..sound.clone()
            }
            .sealed(),
            "malformed",
        ),
        // Which envelope, and when.
        ("a replay", first.clone(), "replayed"),
        (
            "a fork at the first",
            sound
                .clone()
                .with(-70003, head(0, 0))
                .with(-70004, bytes(&[0; 32]))
                .sealed(),
            "fork",
        ),
        (
            "a successor of something else",
            sound.clone().with(-70004, bytes(&[5; 32])).sealed(),
            "fork",
        ),
        (
            "signed in an hour",
            sound
                .clone()
                .with(-70005, head(0, now_ms + hour_ms))
                .sealed(),
            "clock",
        ),
        (
            "signed a fortnight ago",
            sound
                .clone()
                .with(-70005, head(0, now_ms - 14 * 24 * hour_ms))
                .sealed(),
            "clock",
        ),
        (
            "signed at the end of time",
            sound.clone().with(-70005, head(0, u64::MAX)).sealed(),
            "clock",
        ),
        // What it carries.
        (
            "a bomb that says so",
            stands_for(bomb(1 << 30, 8_192)).sealed(),
            "too_large",
        ),
        (
            "a bomb that lies",
            stands_for(bomb(1_000, 8_192)).sealed(),
            "too_large",
        ),
        ("no frame", stands_for(vec![0; 1_000]).sealed(), "too_large"),
        ("no payload", stands_for(Vec::new()).sealed(), "too_large"),
        (
            "a list without end",
            stands_for(frame(&endless)).sealed(),
            "malformed",
        ),
        (
            "a hundred thousand lists in one another",
            stands_for(frame(&deep)).sealed(),
            "malformed",
        ),
        (
            "a text of a terabyte",
            stands_for(frame(&huge_text)).sealed(),
            "malformed",
        ),
        (
            "a map without end",
            stands_for(frame(&unending)).sealed(),
            "malformed",
        ),
        (
            "a summary with more behind it",
            stands_for(frame(&[&plain[..], &[0]].concat())).sealed(),
            "malformed",
        ),
        (
            "more than an envelope may be",
            stands_for(frame(&vec![0; 5 << 20])).sealed(),
            "too_large",
        ),
    ] {
        let verdicts = rig.send(envelope).await;
        let told: Vec<(&str, &str)> = verdicts
            .iter()
            .map(|(_, status, reason)| (status.as_str(), reason.as_str()))
            .collect();
        let status = if reason == "replayed" {
            "duplicate"
        } else {
            "refused"
        };
        assert_eq!(told, [(status, reason)], "{point}");
        assert_eq!(rig.rows("journal"), 1, "{point}: stored");
    }
    let resident = resident_max(rig.pid());
    assert!(resident < RESIDENT_KIB_MAX, "{resident} KiB");

    // A host's key does not speak for another host, though both are ours.
    let mut elsewhere = other.summary(0);
    elsewhere.host.instance = INSTANCE.to_owned();
    let elsewhere = other.seal(&elsewhere);
    assert_eq!(rig.send(elsewhere).await[0].2, "wrong_host");
    // And the sound one is taken, so the others were refused for what was wrong with them.
    assert_eq!(rig.send(sound.sealed()).await[0].1, "accepted");
    assert_eq!(rig.rows("journal"), 2);
}

/// The last number there is, with all before it missing: told as a gap, and the run is over.
#[tokio::test]
async fn a_leap_to_the_last_number_is_a_gap_and_breaks_nothing() {
    let mut agent = Agent::new(1);
    let mut rig = Rig::new(&format!(
        "[admission]\ngap_grace_ms = 0\n{}",
        agent.table(INSTANCE)
    ));
    rig.start().await;
    assert_eq!(rig.send(agent.envelope(0)).await[0].1, "accepted");
    let mut window = agent.summary(0);
    window.immediate = false;
    let plain = window.to_bytes();
    let leap = Forge::sound(&agent, frame(&plain))
        .with(-70003, head(0, u64::MAX))
        .with(-70004, bytes(&Digest([3; 32]).0))
        .sealed();
    assert_eq!(rig.send(leap.clone()).await[0].1, "accepted");
    rig.finding("DefenseEvasion:EC2/SensorGap", 1).await;
    rig.kill();
    rig.start().await;
    assert_eq!(rig.send(leap).await[0].1, "duplicate");
    // The run goes on where it was.
    assert_eq!(rig.send(agent.envelope(0)).await[0].1, "accepted");
}
