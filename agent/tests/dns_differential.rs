//! Our reader of DNS messages against hickory-proto's, over messages made here and over broken
//! copies of them.
#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use hickory_proto::op::{Message as Theirs, MessageType};
use hickory_proto::rr::{Name as TheirName, RData};
use picket_sense::decode::dns::{AnswerData, Message, Name, Service};

/// Broken copies made of each message.
const BROKEN_COPIES: usize = 64;

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

/// Copies with some bytes changed, some cut short, always the same ones.
fn broken(bytes: &[u8], seed: u32) -> impl Iterator<Item = Vec<u8>> {
    let mut state = seed | 1;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below.max(1)
    };
    let original = bytes.to_vec();
    (0..BROKEN_COPIES).map(move |round| {
        let mut copy = original.clone();
        for _ in 0..=round / 2 {
            let at = random(copy.len());
            if let Some(byte) = copy.get_mut(at) {
                *byte = random(256) as u8;
            }
        }
        if round % 4 == 3 {
            copy.truncate(random(copy.len()));
        }
        copy
    })
}

/// Checks a message and its broken copies; returns how many of each they could read.
fn check_all(messages: &BTreeSet<Vec<u8>>) -> (usize, usize) {
    let (mut sound, mut mutated) = (0, 0);
    for (seed, message) in messages.iter().enumerate() {
        sound += usize::from(check(message));
        let copies = broken(message, seed as u32);
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

#[test]
fn messages_made_here_are_read_alike() {
    let messages = made_here();
    let (sound, mutated) = check_all(&messages);
    assert_eq!(sound, messages.len());
    assert!(mutated > messages.len(), "{mutated}");
}
