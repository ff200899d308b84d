//! Bundles of indicators: entries come back as they were, and nothing else is taken for them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use picket_wire::bundle::{Act, ChunkHead, Kind, ListHead, Manifest, Packer, Sections, Value, Way};
use picket_wire::limits::{BUNDLE_ENTRIES_MAX, CHUNK_BYTES_MAX, MANIFEST_BYTES_MAX};
use picket_wire::{AgentId, BundleError, Claim, Purpose, Signer};
use proptest::prelude::*;

fn signer() -> Signer {
    Signer::from_seed(&[6; 32])
}

fn list(id: u32) -> ListHead {
    ListHead {
        id,
        name: format!("list-{id}"),
        category: "c2".to_owned(),
        direction: Way::Outbound,
        confidence: 90,
        entries: 1,
    }
}

fn manifest() -> Manifest {
    Manifest {
        version: 7,
        issued_ms: 1_000,
        expires_ms: 9_000,
        set: 42,
        base: None,
        lists: vec![list(1), list(4)],
        chunks: Vec::new(),
    }
}

/// Every entry of some chunks, as its list and its words.
fn entries(chunks: &[picket_wire::bundle::Chunk]) -> Result<Vec<(u32, Act, String)>, BundleError> {
    let mut plain = Vec::new();
    let mut out = Vec::new();
    for (at, chunk) in chunks.iter().enumerate() {
        chunk.head.inflate(at, &chunk.frame, &mut plain)?;
        let mut sections = Sections::of(&plain);
        while let Some(mut section) = sections.read()? {
            while let Some(value) = section.entries.read()? {
                let words = match value {
                    Value::Address(address) => address.to_string(),
                    Value::Net(address, prefix) => format!("{address}/{prefix}"),
                    Value::Endpoint(endpoint) => endpoint.to_string(),
                    Value::Domain(name) => name.to_owned(),
                };
                out.push((section.list, section.act, words));
            }
        }
    }
    Ok(out)
}

fn value(text: &str) -> Value<'_> {
    if let Ok(address) = text.parse() {
        Value::Address(address)
    } else if let Ok(endpoint) = text.parse() {
        Value::Endpoint(endpoint)
    } else if let Some((address, prefix)) = text.split_once('/') {
        Value::Net(address.parse().unwrap(), prefix.parse().unwrap())
    } else {
        Value::Domain(text)
    }
}

fn keys(texts: &[&str]) -> (Kind, BTreeSet<Vec<u8>>) {
    let mut kind = Kind::Domain;
    let mut keys = BTreeSet::new();
    for text in texts {
        let mut key = Vec::new();
        kind = value(text).key(&mut key);
        keys.insert(key);
    }
    (kind, keys)
}

fn pack(texts: &[&str], act: Act) -> Vec<picket_wire::bundle::Chunk> {
    let mut packer = Packer::default();
    let (kind, keys) = keys(texts);
    packer.section(3, kind, act, keys.iter().map(Vec::as_slice));
    packer.finish()
}

#[test]
fn a_manifest_comes_back_as_it_was() {
    let mut manifest = manifest();
    manifest.base = Some(6);
    manifest.chunks.push(ChunkHead::of(b"frame", 9));
    let bytes = manifest.seal(&signer());
    assert_eq!(Manifest::bytes(&bytes), Ok(Some(bytes.len())));
    assert_eq!(Manifest::open(&bytes, &signer().public_key()), Ok(manifest));
}

#[test]
fn no_byte_of_a_manifest_may_change() {
    let mut manifest = manifest();
    manifest.chunks.push(ChunkHead::of(b"frame", 9));
    let bytes = manifest.seal(&signer());
    let key = signer().public_key();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            assert!(
                Manifest::open(&changed, &key).is_err(),
                "byte {at} bit {bit}"
            );
        }
        assert!(Manifest::open(&bytes[..at], &key).is_err(), "cut at {at}");
    }
    let other = Signer::from_seed(&[7; 32]).public_key();
    assert_eq!(Manifest::open(&bytes, &other), Err(BundleError::Signature));
}

#[test]
fn a_manifest_that_cannot_be_is_refused_though_it_is_signed() {
    let check = |change: &dyn Fn(&mut Manifest), expected: &str| {
        let mut manifest = manifest();
        change(&mut manifest);
        let error = Manifest::open(&manifest.seal(&signer()), &signer().public_key()).unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    };
    check(&|m| m.version = 0, "version 0");
    check(&|m| m.base = Some(7), "not older");
    check(&|m| m.expires_ms = 999, "over before");
    check(&|m| m.lists.reverse(), "order of their numbers");
    check(&|m| m.lists[1].id = 1, "order of their numbers");
    check(&|m| m.lists[0].confidence = 101, "confidence: 101, 100");
    check(&|m| m.lists[0].name = "x".repeat(256), "name of a list");
    check(
        &|m| m.lists[0].entries = BUNDLE_ENTRIES_MAX as u64,
        "entries: 2000001",
    );
    check(&|m| m.lists[0].entries = u64::MAX, "entries: ");
    let chunk = |bytes, inflated_bytes| ChunkHead {
        bytes,
        inflated_bytes,
        digest: [0; 32],
    };
    check(&|m| m.chunks.push(chunk(u32::MAX, 1)), "chunk: ");
    check(&|m| m.chunks.push(chunk(1, u32::MAX)), "inflated chunk: ");
    check(&|m| m.chunks = vec![chunk(1 << 20, 1); 65], "all chunks: ");
    check(&|m| m.chunks = vec![chunk(1, 1); 1_025], "chunks: 1025");
    check(&|m| m.lists = (0..4_097).map(list).collect(), "lists: 4097");
}

#[test]
fn other_things_are_no_manifest() {
    let key = signer().public_key();
    let orders = picket_wire::Orders::default().seal(&signer());
    assert_eq!(
        Manifest::open(&orders, &key),
        Err(BundleError::NotAManifest)
    );
    assert_eq!(Manifest::bytes(b"{}"), Err(BundleError::NotAManifest));
    let large = vec![0; MANIFEST_BYTES_MAX + 1];
    let bytes = large.len();
    assert_eq!(
        Manifest::open(&large, &key),
        Err(BundleError::TooLarge { bytes })
    );
    // A way that nobody knows, signed: map {5: [{3: 9}]}.
    let odd = [0xa1, 5, 0x81, 0xa1, 3, 9];
    let error = Manifest::open(&Manifest::seal_payload(&odd, &signer()), &key);
    assert!(
        matches!(error, Err(BundleError::Malformed { .. })),
        "{error:?}"
    );
}

#[test]
fn entries_come_back_sorted_and_once() {
    let check = |texts: &[&str], expected: &[&str]| {
        let back = entries(&pack(texts, Act::Add)).unwrap();
        let words: Vec<&str> = back.iter().map(|(_, _, words)| words.as_str()).collect();
        assert_eq!(words, expected);
        assert!(
            back.iter()
                .all(|(list, act, _)| (*list, *act) == (3, Act::Add))
        );
    };
    check(
        &["198.51.100.7", "192.0.2.1", "198.51.100.7"],
        &["192.0.2.1", "198.51.100.7"],
    );
    check(
        &["2001:db8::2", "2001:db8::1"],
        &["2001:db8::1", "2001:db8::2"],
    );
    check(
        &["198.51.100.0/24", "198.51.100.0/25"],
        &["198.51.100.0/24", "198.51.100.0/25"],
    );
    check(&["2001:db8::/32"], &["2001:db8::/32"]);
    check(
        &["192.0.2.1:443", "192.0.2.1:80"],
        &["192.0.2.1:80", "192.0.2.1:443"],
    );
    check(&["[2001:db8::1]:443"], &["[2001:db8::1]:443"]);
    check(
        &[
            "evil.example",
            "a.evil.example",
            "xevil.example",
            "evil.test",
        ],
        &[
            "evil.example",
            "a.evil.example",
            "xevil.example",
            "evil.test",
        ],
    );
    let back = entries(&pack(&["192.0.2.1"], Act::Remove)).unwrap();
    assert_eq!(back, [(3, Act::Remove, "192.0.2.1".to_owned())]);
    assert!(pack(&[], Act::Add).is_empty());
}

#[test]
fn no_byte_of_a_chunk_may_change_and_none_may_be_another() {
    let chunks = pack(&["evil.example", "198.51.example"], Act::Add);
    let [chunk] = &chunks[..] else { unreachable!() };
    let mut plain = Vec::new();
    for at in 0..chunk.frame.len() {
        let mut changed = chunk.frame.clone();
        changed[at] ^= 1;
        let error = chunk.head.inflate(5, &changed, &mut plain);
        assert_eq!(error, Err(BundleError::ForeignChunk(5)));
        let error = chunk.head.inflate(5, &chunk.frame[..at], &mut plain);
        assert_eq!(error, Err(BundleError::ForeignChunk(5)));
    }
    // Signed well, and yet it inflates to something else than was said: more, less, or nothing.
    for (frame, inflated_bytes) in [
        (chunk.frame.clone(), chunk.head.inflated_bytes + 1),
        (chunk.frame.clone(), chunk.head.inflated_bytes - 1),
        (b"no frame".to_vec(), 9),
        // A bomb: its promise is that of the manifest, whatever its own head says.
        (
            zstd::bulk::compress(&vec![0; 8 * CHUNK_BYTES_MAX], 3).unwrap(),
            1_024,
        ),
    ] {
        let head = ChunkHead::of(&frame, inflated_bytes);
        assert_eq!(
            head.inflate(0, &frame, &mut plain),
            Err(BundleError::Inflate(0))
        );
        assert!(plain.is_empty() && plain.capacity() <= CHUNK_BYTES_MAX);
    }
}

#[test]
fn sections_that_cannot_be_are_refused() {
    let check = |plain: &[u8], expected: &str| {
        let mut sections = Sections::of(plain);
        let error = loop {
            let mut section = match sections.read() {
                Ok(section) => section.unwrap(),
                Err(error) => break error,
            };
            match section.entries.read() {
                Ok(Some(_)) => match section.entries.read() {
                    Ok(_) => {}
                    Err(error) => break error,
                },
                Ok(None) => {}
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    };
    check(&[0xff], "no section");
    check(&[0x85, 0, 7, 0, 0, 0x40], "unknown kind");
    check(&[0x85, 0, 0, 2, 0, 0x40], "neither added");
    check(&[0x85, 0, 0, 0, 0, 0x41], "no entries");
    check(&[0x85, 0, 0, 0, 0, 0x41, 0], "more entries than counted");
    check(&[0x85, 0, 0, 0, 1, 0x40], "end too early");
    check(&[0x85, 0, 0, 0, 1, 0x43, 0, 1, 2], "end too early");
    check(&[0x85, 0, 0, 0, 1, 0x41, 1], "more shared than there is");
    check(&[0x85, 0, 0, 0, 2, 0x46, 0, 1, 2, 3, 4, 4], "comes twice");
    check(
        &[0x85, 0, 0, 0, 2, 0x47, 0, 1, 2, 3, 4, 3, 4],
        "do not ascend",
    );
    check(
        &[0x85, 0, 0, 0, 2, 0x47, 0, 1, 2, 3, 4, 3, 3],
        "do not ascend",
    );
    check(
        &[0x85, 0, 2, 0, 1, 0x46, 0, 1, 2, 3, 4, 32],
        "no such network",
    );
    check(
        &[0x85, 0, 2, 0, 1, 0x46, 0, 1, 2, 3, 4, 24],
        "behind its prefix",
    );
    check(&[0x85, 0, 6, 0, 1, 0x43, 0, 1, 0xff], "not UTF-8");
}

#[test]
fn many_entries_take_many_chunks() {
    let mut packer = Packer::default();
    let keys: Vec<[u8; 16]> = (0..200_000u128)
        .map(|n| (n << 64 | n).to_be_bytes())
        .collect();
    packer.section(
        1,
        Kind::Ipv6,
        Act::Add,
        keys.iter().map(<[u8; 16]>::as_slice),
    );
    let chunks = packer.finish();
    assert!(chunks.len() > 1);
    assert!(
        chunks
            .iter()
            .all(|one| one.head.inflated_bytes as usize <= CHUNK_BYTES_MAX)
    );
    assert_eq!(entries(&chunks).unwrap().len(), keys.len());
}

proptest! {
    #[test]
    fn any_names_come_back(names in prop::collection::btree_set("[a-z0-9._-]{1,40}", 0..200)) {
        let texts: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut packer = Packer::default();
        let mut key = Vec::new();
        let keys: BTreeSet<Vec<u8>> = texts
            .iter()
            .map(|name| { Value::Domain(name).key(&mut key); key.clone() })
            .collect();
        packer.section(1, Kind::Domain, Act::Add, keys.iter().map(Vec::as_slice));
        let back = entries(&packer.finish()).unwrap();
        let back: BTreeSet<String> = back.into_iter().map(|(_, _, words)| words).collect();
        prop_assert_eq!(back, names);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Manifest::open(&bytes, &signer().public_key());
        let _ = Manifest::open(&Manifest::seal_payload(&bytes, &signer()), &signer().public_key());
        let mut sections = Sections::of(&bytes);
        while let Ok(Some(mut section)) = sections.read() {
            while let Ok(Some(_)) = section.entries.read() {}
        }
    }
}

/// The bundle of `docs/bundle.md`.
fn vector() -> Vec<u8> {
    let mut packer = Packer::default();
    for text in [
        "192.0.2.1",
        "198.51.100.0/24",
        "192.0.2.1:443",
        "2001:db8::1",
        "evil.example",
    ] {
        let mut key = Vec::new();
        let kind = value(text).key(&mut key);
        packer.section(1, kind, Act::Add, std::iter::once(key.as_slice()));
    }
    let chunks = packer.finish();
    let issued_ms = 1_700_000_000_000;
    let manifest = Manifest {
        version: 1_700_000_000,
        issued_ms,
        expires_ms: issued_ms + 86_400_000,
        set: 3_735_928_559,
        base: None,
        lists: vec![ListHead {
            name: "feed".to_owned(),
            direction: Way::Both,
            entries: 5,
            ..list(1)
        }],
        chunks: chunks.iter().map(|chunk| chunk.head).collect(),
    };
    let mut bytes = manifest.seal(&Signer::from_seed(&[7; 32]));
    chunks.iter().for_each(|chunk| bytes.extend(&chunk.frame));
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Written anew with `PICKET_BLESS=1`, to be reviewed as code.
fn compare(file: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(file);
    if std::env::var_os("PICKET_BLESS").is_some() {
        std::fs::write(&path, format!("{text}\n")).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&path).unwrap().trim(),
        text,
        "{file}"
    );
}

#[test]
fn the_vectors_are_what_the_page_says() {
    compare("vector-bundle.hex", &hex(&vector()));
    let claim = Claim {
        agent: AgentId([1; 16]),
        purpose: Purpose::Indicators,
        issued_ms: 1_700_000_000_000,
        once: [9; 16],
        body: None,
    };
    compare(
        "vector-claim.txt",
        &claim.header(&Signer::from_seed(&[7; 32])),
    );
}
