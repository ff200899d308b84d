//! Bundles of indicators: a manifest that opens seals to itself, and what a chunk holds packs to itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_wire::bundle::{Manifest, Packer, Sections};
use picket_wire::{SealedClaim, Signer};

fuzz_target!(|bytes: &[u8]| {
    let signer = Signer::development();
    let key = signer.public_key();
    let _ = Manifest::bytes(bytes);
    let _ = Manifest::open(bytes, &key);
    let _ = SealedClaim::parse(bytes.to_vec());
    // The same bytes as a payload that is signed well.
    if let Ok(manifest) = Manifest::open(&Manifest::seal_payload(bytes, &signer), &key) {
        assert_eq!(Manifest::open(&manifest.seal(&signer), &key), Ok(manifest));
    }
    // The same bytes as what a chunk inflates to.
    let mut sections = Sections::of(bytes);
    while let Ok(Some(mut section)) = sections.read() {
        let (mut keys, mut kind) = (Vec::new(), section.kind);
        let mut whole = true;
        loop {
            match section.entries.read() {
                Ok(Some(value)) => {
                    let mut key = Vec::new();
                    kind = value.key(&mut key);
                    assert_eq!(kind, section.kind);
                    keys.push(key);
                }
                Ok(None) => break,
                Err(_) => {
                    whole = false;
                    break;
                }
            }
        }
        assert!(keys.is_sorted_by(|one, next| one < next));
        if whole && !keys.is_empty() {
            let mut packer = Packer::default();
            packer.section(section.list, kind, section.act, keys.iter().map(Vec::as_slice));
            assert!(!packer.finish().is_empty());
        }
    }
});
