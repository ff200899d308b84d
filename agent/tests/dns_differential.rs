//! Our reader of DNS messages against hickory-proto's: over messages made here, over random ones that
//! hickory-proto wrote, over those of captures beside the repository if they are there
//! (`PICKET_SHARED`), and over broken copies of all.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hickory_proto::op::{Message as Theirs, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name as TheirName, RData, Record, RecordType};
use picket_agent::capture::pcap::CaptureFile;
use picket_sense::decode::dns::{AnswerData, Message, Name, Service};
use picket_sense::decode::{Decoder, Event, Protocol};

/// Random messages.
const WRITTEN: usize = 2_000;

/// Messages taken from one capture, so that a large one does not take the test's time.
const PER_CAPTURE_MAX: usize = 2_000;

fn labels(name: &Name) -> Vec<Vec<u8>> {
    name.labels().map(<[u8]>::to_vec).collect()
}

fn their_labels(name: &TheirName) -> Vec<Vec<u8>> {
    let lower = |label: &[u8]| label.to_ascii_lowercase();
    name.iter().map(lower).collect()
}

/// Where they can read a message, we read the same. Returns whether they could.
#[track_caller]
fn check(bytes: &[u8]) -> bool {
    let ours = Message::read(Service::Dns, bytes);
    let Ok(theirs) = Theirs::from_vec(bytes) else {
        return false;
    };
    // DNAME is a type that they do not know.
    if theirs
        .answers
        .iter()
        .any(|one| u16::from(one.record_type()) == 39)
    {
        return false;
    }
    let ours = ours.unwrap_or_else(|error| panic!("{error}: {bytes:02x?}"));
    assert_eq!(ours.fault, None, "{bytes:02x?}");
    assert_eq!(ours.id, theirs.metadata.id);
    let response = theirs.metadata.message_type == MessageType::Response;
    assert_eq!(ours.response, response);
    assert_eq!(ours.opcode, u8::from(theirs.metadata.op_code));
    assert_eq!(ours.truncated, theirs.metadata.truncation);
    let asked = ours
        .question
        .as_ref()
        .map(|one| (labels(&one.name), one.kind.0));
    let query = theirs.queries.first();
    let their_question = query.map(|one| (their_labels(one.name()), one.query_type().into()));
    assert_eq!(asked, their_question, "{bytes:02x?}");
    if let (Some(ours), Some(theirs)) = (ours.edns, &theirs.edns) {
        // They take less than 512 for 512 (RFC 6891 6.2.3); we say what was said.
        assert_eq!(ours.udp_bytes.max(512), theirs.max_payload());
        assert_eq!(ours.dnssec_ok, theirs.flags().dnssec_ok);
    }
    // They set signatures and OPT records apart, which have no place among answers.
    let apart = |kind: u16| matches!(kind, 24 | 41 | 250);
    let records: Vec<_> = ours
        .answers
        .iter()
        .filter(|one| !apart(one.kind.0))
        .collect();
    let theirs: Vec<_> = theirs
        .answers
        .iter()
        .filter(|one| !apart(one.record_type().into()))
        .collect();
    assert_eq!(records.len(), theirs.len(), "{bytes:02x?}");
    for (ours, theirs) in records.into_iter().zip(theirs) {
        assert_eq!(labels(&ours.name), their_labels(&theirs.name));
        assert_eq!(ours.kind.0, u16::from(theirs.record_type()));
        match (&ours.data, &theirs.data) {
            (AnswerData::A(ours), RData::A(theirs)) => assert_eq!(*ours, theirs.0),
            (AnswerData::Aaaa(ours), RData::AAAA(theirs)) => assert_eq!(*ours, theirs.0),
            (AnswerData::Name(ours), RData::CNAME(theirs)) => {
                assert_eq!(labels(ours), their_labels(&theirs.0));
            }
            (AnswerData::Name(ours), RData::PTR(theirs)) => {
                assert_eq!(labels(ours), their_labels(&theirs.0));
            }
            (AnswerData::Name(ours), RData::NS(theirs)) => {
                assert_eq!(labels(ours), their_labels(&theirs.0));
            }
            (AnswerData::A(_) | AnswerData::Aaaa(_), other) => panic!("{other:?}"),
            _ => {}
        }
    }
    true
}

/// Numbers that are always the same ones.
struct Random(u32);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % bound.max(1)
    }

    fn one_of<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

/// So many copies with some bytes changed, some cut short.
fn broken(bytes: &[u8], seed: u32, copies: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut random = Random(seed | 1);
    let original = bytes.to_vec();
    (0..copies).map(move |round| {
        let mut copy = original.clone();
        for _ in 0..=round / 2 {
            let at = random.below(copy.len());
            if let Some(byte) = copy.get_mut(at) {
                *byte = random.below(256) as u8;
            }
        }
        if round % 4 == 3 {
            copy.truncate(random.below(copy.len()));
        }
        copy
    })
}

/// Checks messages and so many broken copies of each; returns how many of each they could read.
fn check_all(messages: &BTreeSet<Vec<u8>>, copies: usize) -> (usize, usize) {
    let (mut sound, mut mutated) = (0, 0);
    for (seed, message) in messages.iter().enumerate() {
        sound += usize::from(check(message));
        let copies = broken(message, seed as u32, copies);
        mutated += copies.filter(|copy| check(copy)).count();
    }
    (sound, mutated)
}

/// A response with a record of each kind that has names or addresses in it.
fn made_here() -> BTreeSet<Vec<u8>> {
    let record = |kind: u8, data: &[u8]| {
        [
            &[0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, data.len() as u8][..],
            data,
        ]
        .concat()
    };
    let records = [
        record(1, &[192, 0, 2, 1]),
        record(
            28,
            &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        ),
        record(5, b"\x03WWW\xc0\x0c"),
        record(2, b"\x02ns\xc0\x14"),
        record(12, b"\xc0\x0c"),
        record(15, b"\0\x0a\x02mx\xc0\x0c"),
        record(16, b"\x03txt\0"),
        record(33, b"\0\x01\0\x02\0\x50\x01s\0"),
    ];
    let message = |answers: &[Vec<u8>], additional: &[u8]| {
        let header = [0, 9, 0x81, 0x80, 0, 1, 0, answers.len() as u8, 0, 0, 0];
        let count = [u8::from(!additional.is_empty())];
        let question = b"\x07Example\x03com\0\0\xff\0\x01";
        [&header[..], &count, question, &answers.concat(), additional].concat()
    };
    let opt = [0, 0, 41, 4, 0xd0, 0, 0, 0x80, 0, 0, 0];
    let singles = records
        .iter()
        .map(|one| message(std::slice::from_ref(one), &[]));
    let all = [
        message(&records, &[]),
        message(&records, &opt),
        message(&[], &opt),
    ];
    singles.chain(all).collect()
}

/// A name of random labels, of which many end alike, so that they are compressed.
fn random_name(random: &mut Random) -> TheirName {
    let mut labels: Vec<Vec<u8>> = Vec::new();
    for _ in 0..random.below(4) {
        let bytes_max = random.one_of(&[3, 12, 63]);
        let bytes = 1 + random.below(bytes_max);
        labels.push((0..bytes).map(|_| random.below(256) as u8).collect());
    }
    let ends: [&[&[u8]]; 4] = [
        &[b"Example", b"com"],
        &[b"com"],
        &[b"a", b"Example", b"com"],
        &[],
    ];
    labels.extend(random.one_of(&ends).iter().map(|label| label.to_vec()));
    TheirName::from_labels(labels.iter().map(Vec::as_slice)).unwrap()
}

fn random_data(random: &mut Random) -> RData {
    let word = |random: &mut Random| random.below(1 << 16) as u16;
    match random.below(9) {
        0 => RData::A(A::new(192, 0, 2, random.below(256) as u8)),
        1 => RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, word(random), 1)),
        2 => RData::CNAME(CNAME(random_name(random))),
        3 => RData::NS(NS(random_name(random))),
        4 => RData::PTR(PTR(random_name(random))),
        5 => RData::MX(MX::new(word(random), random_name(random))),
        6 => {
            let text = "x".repeat(random.below(200));
            RData::TXT(TXT::new(vec![text, "second".to_owned()]))
        }
        7 => {
            let (priority, weight, port) = (word(random), word(random), word(random));
            RData::SRV(SRV::new(priority, weight, port, random_name(random)))
        }
        _ => RData::SOA(SOA::new(
            random_name(random),
            random_name(random),
            7,
            60,
            60,
            60,
            60,
        )),
    }
}

/// Messages that hickory-proto wrote.
fn written() -> BTreeSet<Vec<u8>> {
    let mut random = Random(7);
    let mut one = || {
        let kind = random.one_of(&[MessageType::Query, MessageType::Response]);
        let mut message = Theirs::new(random.below(1 << 16) as u16, kind, OpCode::Query);
        let asked = random_name(&mut random);
        let types = [
            RecordType::A,
            RecordType::AAAA,
            RecordType::TXT,
            RecordType::ANY,
        ];
        let kind_asked = random.one_of(&types);
        message.add_query(Query::query(asked.clone(), kind_asked));
        for _ in 0..random.below(6) {
            let name = match random.below(2) {
                0 => asked.clone(),
                _ => random_name(&mut random),
            };
            let ttl = random.below(1 << 24) as u32;
            message.add_answer(Record::from_rdata(name, ttl, random_data(&mut random)));
        }
        message.to_vec().unwrap()
    };
    (0..WRITTEN).map(|_| one()).collect()
}

#[test]
fn messages_made_here_are_read_alike() {
    let messages = made_here();
    let (sound, mutated) = check_all(&messages, 64);
    assert_eq!(sound, messages.len());
    assert!(mutated > messages.len(), "{mutated}");
}

#[test]
fn messages_written_by_the_other_are_read_alike() {
    let messages = written();
    assert!(messages.len() > WRITTEN / 2);
    let (sound, mutated) = check_all(&messages, 8);
    assert_eq!(sound, messages.len());
    assert!(mutated > messages.len(), "{mutated}");
}

#[test]
fn messages_of_captures_are_read_alike() {
    let shared = std::env::var_os("PICKET_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        Into::into,
    );
    let folder = shared.join("data/pcap");
    let Ok(files) = fs::read_dir(&folder) else {
        println!("skipped: {} is not there", folder.display());
        return;
    };
    let mut messages = BTreeSet::new();
    for file in files {
        let mut decoder = Decoder::new();
        let Ok(mut capture) = CaptureFile::open(&file.unwrap().path()) else {
            continue;
        };
        let before = messages.len();
        while let Ok(Some(frame)) = capture.next_frame() {
            decoder.on_frame(&frame, &mut |event| {
                if let Event::Packet(packet) = event
                    && packet.protocol == Protocol::UDP
                    && (packet.src.port == 53 || packet.dst.port == 53)
                {
                    messages.insert(packet.payload.to_vec());
                }
            });
            if messages.len() >= before + PER_CAPTURE_MAX {
                break;
            }
        }
    }
    let (sound, mutated) = check_all(&messages, 8);
    println!(
        "{} messages, {sound} read by both, {mutated} broken copies",
        messages.len()
    );
    assert!(sound > 1_000, "{sound}");
}
