//! What a bundle of the largest set costs: to make, on the wire, to take; the figures are printed. It
//! measures the memory of its process, so it has one of its own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use picket_agent::intel::Kept;
use picket_intel::{Category, Direction, Indicator, IndicatorSet, List, SetBuilder};
use picket_wire::Signer;
use picket_wire::bundle::{Act, Kind, ListHead, Manifest, Packer, Way};

const NOW_MS: u64 = 1_700_000_000_000;

/// A line of `/proc/self/status`, in KiB.
fn kib(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn two_million_entries_are_taken_in_bounded_memory() {
    const EACH: u32 = 1_000_000;
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::from_seed(&[5; 32]);
    let mut kept = Kept::open(folder.path(), vec![signer.public_key()]).unwrap();
    let began = std::time::Instant::now();
    let signed = {
        let mut builder = SetBuilder::default();
        let list = builder
            .list(List {
                name: "feed".to_owned(),
                category: Category::C2,
                direction: Direction::Both,
                confidence: 90,
            })
            .unwrap();
        let mut packer = Packer::default();
        let (mut addresses, mut names) = (Vec::new(), Vec::new());
        for at in 0..EACH {
            // Odd multiples wander through all of 32 bits and meet none twice.
            let wandered = at.wrapping_mul(0x9e37_79b1).wrapping_add(0x7f4a_7c15);
            addresses.push(wandered.to_be_bytes());
            names.push(format!("h{wandered:08x}.{}.example", at % 977));
        }
        for (bytes, name) in addresses.iter().zip(&names) {
            let address = std::net::Ipv4Addr::from(*bytes);
            builder
                .add(list, Indicator::Address(address.into()))
                .unwrap();
            builder
                .add(list, Indicator::Domain(name.as_str().into()))
                .unwrap();
        }
        addresses.sort_unstable();
        let mut keys: Vec<Vec<u8>> = names
            .iter()
            .map(|name| name.bytes().rev().collect())
            .collect();
        keys.sort_unstable();
        let (ipv4, domain) = (Kind::Ipv4, Kind::Domain);
        let packing = std::time::Instant::now();
        packer.section(1, ipv4, Act::Add, addresses.iter().map(<[u8; 4]>::as_slice));
        packer.section(1, domain, Act::Add, keys.iter().map(Vec::as_slice));
        let chunks = packer.finish();
        let manifest = Manifest {
            version: 1,
            issued_ms: NOW_MS,
            expires_ms: NOW_MS + 1,
            set: builder.version(),
            base: None,
            lists: vec![ListHead {
                id: 1,
                name: "feed".to_owned(),
                category: "c2".to_owned(),
                direction: Way::Both,
                confidence: 90,
                entries: 2 * u64::from(EACH),
            }],
            chunks: chunks.iter().map(|chunk| chunk.head).collect(),
        };
        let mut bytes = manifest.seal(&signer);
        chunks.iter().for_each(|chunk| bytes.extend(&chunk.frame));
        println!(
            "made in {:.2} s, packed and signed in {:.2} s, {} bytes on the wire",
            began.elapsed().as_secs_f64(),
            packing.elapsed().as_secs_f64(),
            bytes.len()
        );
        fs::write(kept.incoming(), &bytes).unwrap();
        builder.version()
    };
    // What was needed to make it is given back, and the peak counts from here on.
    picket_agent::capture::heap::give_back();
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = kib("VmRSS");
    let taking = std::time::Instant::now();
    let good = kept.judge(&IndicatorSet::default(), NOW_MS).unwrap();
    let took = taking.elapsed();
    let peak = kib("VmHWM") - before;
    picket_agent::capture::heap::give_back();
    let set = kib("VmRSS").saturating_sub(before);
    assert_eq!(
        (good.set.version(), good.set.len()),
        (signed, 2 * EACH as usize)
    );
    println!(
        "verified and built in {:.2} s; {} MiB at its peak beyond what there was, of which the set takes {} MiB",
        took.as_secs_f64(),
        peak >> 10,
        set >> 10
    );
    assert!(
        peak <= 2 * set + (64 << 10),
        "{peak} KiB for a set of {set} KiB"
    );
    kept.keep(good).unwrap();
}
