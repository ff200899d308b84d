//! Agents and collectors a version apart: what a newer agent adds is skipped, and what an older one
//! does not say is taken for not known.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};
use picket_wire::*;

/// A summary with every field there is.
const FULL: &str = include_str!("vector-summary.hex");

/// A summary as the first agents wrote it, kept as it was.
const OLDER: &str = include_str!("older-summary.hex");

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.trim().as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Copies an item and gives each map in it more keys, behind its own.
fn copy(d: &mut Decoder<'_>, e: &mut Encoder<Vec<u8>>, maps: &mut u32) {
    match d.datatype().unwrap() {
        Type::Map => {
            let entries = d.map().unwrap().unwrap();
            *maps += 1;
            e.map(entries + 3).unwrap();
            for _ in 0..2 * entries {
                copy(d, e, maps);
            }
            e.u16(900).unwrap().array(2).unwrap();
            e.str("later").unwrap().map(1).unwrap();
            e.u8(0).unwrap().f64(0.5).unwrap();
            e.u16(901).unwrap().bytes(&[0; 300]).unwrap();
            e.u32(70_000).unwrap().null().unwrap();
        }
        Type::Array => {
            let items = d.array().unwrap().unwrap();
            e.array(items).unwrap();
            for _ in 0..items {
                copy(d, e, maps);
            }
        }
        Type::Bytes => drop(e.bytes(d.bytes().unwrap()).unwrap()),
        Type::String => drop(e.str(d.str().unwrap()).unwrap()),
        Type::Bool => drop(e.bool(d.bool().unwrap()).unwrap()),
        Type::Null => {
            d.null().unwrap();
            e.null().unwrap();
        }
        _ => drop(e.int(d.int().unwrap()).unwrap()),
    }
}

#[test]
fn what_a_newer_agent_adds_is_skipped() {
    let bytes = unhex(FULL);
    let (mut newer, mut maps) = (Encoder::new(Vec::new()), 0);
    copy(&mut Decoder::new(&bytes), &mut newer, &mut maps);
    assert!(maps > 20, "{maps} maps: not the full summary");
    let read = Summary::from_bytes(newer.writer()).unwrap();
    assert_eq!(read, Summary::from_bytes(&bytes).unwrap());
}

#[test]
fn what_an_older_agent_says_is_understood() {
    let summary = Summary::from_bytes(&unhex(OLDER)).unwrap();
    assert_eq!(summary.host.instance, "i-0123456789abcdef0");
    assert_eq!(summary.conversations.len(), 1);
    assert_eq!((summary.health, summary.privacy), (None, None));
}

/// A layout that is not only larger says so in its version, and is refused by it.
#[test]
fn a_layout_of_another_kind_is_refused() {
    let mut summary = Summary::from_bytes(&unhex(OLDER)).unwrap();
    summary.version += 1;
    let refused = Summary::from_bytes(&summary.to_bytes()).unwrap_err();
    assert!(refused.to_string().contains("version"), "{refused}");
}
