//! Bundles of indicators on a host: a good one is taken, whatever is wrong with one leaves what is in
//! use in use and says why.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use picket_agent::intel::{Kept, Refusal};
use picket_intel::{Category, Direction, Indicator, IndicatorSet, List, SetBuilder};
use picket_wire::bundle::{Act, Chunk, ListHead, Manifest, Packer, Value, Way};
use picket_wire::{PublicKey, Signer};

const NOW_MS: u64 = 1_700_000_000_000;

fn signer() -> Signer {
    Signer::from_seed(&[5; 32])
}

fn head(id: u32, name: &str) -> ListHead {
    ListHead {
        id,
        name: name.to_owned(),
        category: "c2".to_owned(),
        direction: Way::Both,
        confidence: 90,
        entries: 1,
    }
}

/// The set that a collector would have: (list, value).
fn set(rows: &[(&str, &str)]) -> IndicatorSet {
    let mut builder = SetBuilder::default();
    for (name, value) in rows {
        let list = List {
            name: (*name).to_owned(),
            category: Category::C2,
            direction: Direction::Both,
            confidence: 90,
        };
        let list = builder.list(list).unwrap();
        let value = Indicator::address(value).or_else(|_| Indicator::domain(value));
        builder.add(list, value.unwrap()).unwrap();
    }
    builder.build()
}

/// Packs values of list 1.
fn pack(packer: &mut Packer, act: Act, texts: &[&str]) {
    for text in texts {
        let mut key = Vec::new();
        let value = text
            .parse()
            .map_or_else(|_| Value::Domain(text), Value::Address);
        let kind = value.key(&mut key);
        packer.section(1, kind, act, std::iter::once(key.as_slice()));
    }
}

/// A bundle that adds and removes, and has what it should have.
struct Made {
    manifest: Manifest,
    chunks: Vec<Chunk>,
}

fn made(version: u64, base: Option<u64>, adds: &[&str], removes: &[&str], all: &[&str]) -> Made {
    let mut packer = Packer::default();
    pack(&mut packer, Act::Remove, removes);
    pack(&mut packer, Act::Add, adds);
    let chunks = packer.finish();
    let rows: Vec<(&str, &str)> = all.iter().map(|value| ("feed", *value)).collect();
    let manifest = Manifest {
        version,
        issued_ms: NOW_MS - 1_000,
        expires_ms: NOW_MS + 1_000,
        set: set(&rows).version(),
        base,
        lists: vec![head(1, "feed")],
        chunks: chunks.iter().map(|chunk| chunk.head).collect(),
    };
    Made { manifest, chunks }
}

impl Made {
    fn bytes(&self) -> Vec<u8> {
        self.signed_by(&signer())
    }

    fn signed_by(&self, signer: &Signer) -> Vec<u8> {
        let mut bytes = self.manifest.seal(signer);
        for chunk in &self.chunks {
            bytes.extend(&chunk.frame);
        }
        bytes
    }
}

fn open(folder: &Path) -> Kept {
    Kept::open(folder, vec![signer().public_key()]).unwrap()
}

/// Shows `kept` what was received; what is good is kept, and its set returned.
fn receive(kept: &mut Kept, bytes: &[u8]) -> Result<IndicatorSet, Refusal> {
    fs::write(kept.incoming(), bytes).unwrap();
    let own = set(&[("own", "198.51.100.9")]);
    let good = kept.judge(&own, NOW_MS)?;
    kept.keep(good).unwrap();
    kept.set(&own).unwrap()
}

fn lists(set: &IndicatorSet, value: &str) -> usize {
    match value.parse() {
        Ok(address) => set.match_address(address, 1).len(),
        Err(_) => set.match_domain(value).len(),
    }
}

#[test]
fn a_whole_bundle_and_its_changes_are_taken_and_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut kept = open(folder.path());
    assert_eq!(kept.have(), 0);
    let all = ["192.0.2.1", "evil.example"];
    let set = receive(&mut kept, &made(10, None, &all, &[], &all).bytes()).unwrap();
    assert_eq!(
        (lists(&set, "192.0.2.1"), lists(&set, "a.evil.example")),
        (1, 1)
    );
    assert_eq!(lists(&set, "198.51.100.9"), 1, "the host's own list");
    assert_eq!(kept.have(), 10);

    // Two changes at once: one comes, one goes, and what went comes back.
    let one = made(
        11,
        Some(10),
        &["2001:db8::1"],
        &["192.0.2.1"],
        &["2001:db8::1", "evil.example"],
    );
    let all = ["2001:db8::1", "192.0.2.1", "evil.example"];
    let two = made(12, Some(11), &["192.0.2.1"], &[], &all);
    let set = receive(&mut kept, &[one.bytes(), two.bytes()].concat()).unwrap();
    assert_eq!(
        (lists(&set, "2001:db8::1"), lists(&set, "192.0.2.1")),
        (1, 1)
    );

    let mut again = open(folder.path());
    assert_eq!(again.have(), 12);
    let own = IndicatorSet::default();
    let restarted = again.set(&own).unwrap().unwrap();
    assert_eq!(restarted.version(), two.manifest.set);

    // A list that is not named any more is gone, whatever was on it, and comes back empty.
    let mut gone = made(13, Some(12), &[], &[], &[]);
    gone.manifest.lists.clear();
    let back = made(14, Some(13), &["192.0.2.7"], &[], &["192.0.2.7"]);
    let set = receive(&mut again, &[gone.bytes(), back.bytes()].concat()).unwrap();
    assert_eq!(
        (lists(&set, "evil.example"), lists(&set, "192.0.2.7")),
        (0, 1)
    );

    // A whole one takes the place of all of it on disk.
    receive(
        &mut again,
        &made(20, None, &["192.0.2.8"], &[], &["192.0.2.8"]).bytes(),
    )
    .unwrap();
    let files = fs::read_dir(folder.path().join("indicators")).unwrap();
    let bundles = files.filter(|file| {
        let name = file.as_ref().unwrap().file_name();
        name.to_string_lossy().ends_with(".bundle")
    });
    assert_eq!(bundles.count(), 1);
    assert_eq!(open(folder.path()).have(), 20);
}

#[test]
fn what_is_wrong_with_a_bundle_leaves_everything_as_it_is_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let mut kept = open(folder.path());
    let all = ["192.0.2.1"];
    receive(&mut kept, &made(10, None, &all, &[], &all).bytes()).unwrap();
    let good = || made(11, None, &["192.0.2.2"], &[], &["192.0.2.2"]);
    let mut check = |bytes: &[u8], word: &str, part: &str| {
        let refusal = receive(&mut kept, bytes).unwrap_err();
        assert_eq!(refusal.word, word, "{}", refusal.why);
        assert!(refusal.why.contains(part), "{part}: {}", refusal.why);
        assert_eq!(kept.have(), 10);
        let set = kept.set(&IndicatorSet::default()).unwrap().unwrap();
        assert_eq!((lists(&set, "192.0.2.1"), lists(&set, "192.0.2.2")), (1, 0));
    };
    // Of somebody else.
    let other = Signer::from_seed(&[6; 32]);
    check(&good().signed_by(&other), "signature", "does not verify");
    // Tampered with: the manifest, and a chunk.
    let mut bytes = good().bytes();
    bytes[60] ^= 1;
    check(&bytes, "signature", "does not verify");
    let mut bytes = good().bytes();
    *bytes.last_mut().unwrap() ^= 1;
    check(&bytes, "tampered", "chunk 0");
    // Another chunk that is signed too.
    let mut mixed = good();
    mixed.chunks = made(9, None, &["192.0.2.3"], &[], &["192.0.2.3"]).chunks;
    check(&mixed.bytes(), "tampered", "chunk 0");
    // Cut, in both parts, and nothing at all.
    let bytes = good().bytes();
    check(&bytes[..bytes.len() - 1], "truncated", "1 more needed");
    check(&bytes[..40], "truncated", "ends at byte 40");
    check(b"", "empty", "no bundle");
    check(b"{}", "no_bundle", "no manifest");
    // Older, and the same once more.
    check(
        &made(9, None, &["192.0.2.2"], &[], &["192.0.2.2"]).bytes(),
        "rollback",
        "version 9",
    );
    check(
        &made(10, None, &["192.0.2.2"], &[], &["192.0.2.2"]).bytes(),
        "rollback",
        "version 10",
    );
    // Over.
    let mut old = good();
    old.manifest.expires_ms = NOW_MS;
    check(&old.bytes(), "expired", "0 s ago");
    // A change of something else.
    let change = made(
        12,
        Some(9),
        &["192.0.2.2"],
        &[],
        &["192.0.2.1", "192.0.2.2"],
    );
    check(
        &change.bytes(),
        "base",
        "changes version 9, and 10 is in use",
    );
    // A bomb: signed, and it inflates to more than was said.
    let mut bomb = good();
    bomb.chunks[0].frame = vec![
        0x28, 0xb5, 0x2f, 0xfd, 0xa4, 0x00, 0x00, 0x10, 0x00, 0x4b, 0x00, 0x00, 0x00,
    ];
    let head = picket_wire::bundle::ChunkHead::of(&bomb.chunks[0].frame, 100);
    bomb.chunks[0].head = head;
    bomb.manifest.chunks = vec![head];
    check(&bomb.bytes(), "inflate", "chunk 0");
    // Lists of a kind that nobody knows, and entries of a list that is not named.
    let mut odd = good();
    odd.manifest.lists[0].category = "weather".to_owned();
    check(&odd.bytes(), "content", "unknown category \"weather\"");
    let mut odd = good();
    odd.manifest.lists[0].confidence = 101;
    check(&odd.bytes(), "too_large", "confidence: 101");
    let mut odd = good();
    odd.manifest.lists[0].id = 2;
    check(&odd.bytes(), "content", "list 1, which is not named");
    // An entry that no list could have.
    let mut wide = good();
    let mut packer = Packer::default();
    let mut key = Vec::new();
    let net = Value::Net("0.0.0.0".parse().unwrap(), 0);
    let kind = net.key(&mut key);
    packer.section(1, kind, Act::Add, std::iter::once(key.as_slice()));
    wide.chunks = packer.finish();
    wide.manifest.chunks = wide.chunks.iter().map(|chunk| chunk.head).collect();
    check(&wide.bytes(), "content", "too wide");
    // Signed for another content.
    let mut other = good();
    other.manifest.set += 1;
    check(&other.bytes(), "content", "was signed");
    // The second of two is bad: nothing of the first either.
    let mut second = made(
        12,
        Some(11),
        &["192.0.2.3"],
        &[],
        &["192.0.2.2", "192.0.2.3"],
    );
    second.manifest.set += 1;
    check(
        &[good().bytes(), second.bytes()].concat(),
        "content",
        "was signed",
    );
}

#[test]
fn a_key_that_is_told_beside_the_old_one_counts() {
    let folder = tempfile::tempdir().unwrap();
    let next = Signer::from_seed(&[9; 32]);
    let keys: Vec<PublicKey> = vec![signer().public_key(), next.public_key()];
    let mut kept = Kept::open(folder.path(), keys).unwrap();
    let of = |version| made(version, None, &["192.0.2.1"], &[], &["192.0.2.1"]);
    receive(&mut kept, &of(1).bytes()).unwrap();
    receive(&mut kept, &of(2).signed_by(&next)).unwrap();
    // Whoever lost the files knows still what was in force.
    for file in fs::read_dir(folder.path().join("indicators")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "bundle") {
            fs::remove_file(path).unwrap();
        }
    }
    let mut kept = open(folder.path());
    assert_eq!(kept.have(), 0);
    assert_eq!(
        receive(&mut kept, &of(1).bytes()).unwrap_err().word,
        "rollback"
    );
    receive(&mut kept, &of(2).bytes()).unwrap();
}
