//! The model as it is shipped. What it is worth on families in the wild is measured when it is trained
//! (`docs/dga-model.md`); here it meets generators written for this test, and names that people chose.

use proptest::prelude::*;

use super::*;

/// A generator in the style of many: a linear congruence, a letter of each step.
fn congruence(seed: u32, length: usize, letters: u32) -> String {
    let mut state = seed;
    let next = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + (*state >> 16) as u8 % letters as u8)
    };
    (0..length).map(|_| next(&mut state)).collect()
}

/// Another: hexadecimal digits of a mixed date.
fn hexadecimal(seed: u64, length: usize) -> String {
    let mut state = seed | 1;
    let digit = |state: &mut u64| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        char::from_digit((*state >> 20) as u32 & 15, 16).unwrap()
    };
    (0..length).map(|_| digit(&mut state)).collect()
}

/// A third: letters and digits by multiplication.
fn base_36(seed: u64, length: usize) -> String {
    let mut state = seed;
    let digit = |state: &mut u64| {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from_digit((*state >> 33) as u32 % 36, 36).unwrap()
    };
    (0..length).map(|_| digit(&mut state)).collect()
}

#[test]
fn the_card_is_of_these_weights() {
    let weights = include_bytes!("weights.bin");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/dga-model.md");
    let card = std::fs::read_to_string(path).unwrap();
    let (length, hash) = (weights.len(), picket_wire::Digest::of(weights));
    let row = format!("| gives `weights.bin`, {length} bytes | `{hash}` |");
    assert!(card.contains(&row), "docs/dga-model.md lacks: {row}");
}

#[track_caller]
fn check(name: impl Fn(u32) -> String, per_name_min: f64, mean_min: f64) {
    let scores: Vec<f64> = (1..=500).map(|seed| score(&name(seed * 7_919))).collect();
    let alarms = scores.iter().filter(|score| **score >= ALARM).count() as f64 / 500.0;
    let mean = scores.iter().sum::<f64>() / 500.0;
    assert!(
        alarms >= per_name_min && mean >= mean_min,
        "{} and the like: {alarms:.2} alarm, mean {mean:.2}",
        name(1)
    );
}

#[test]
fn generators_in_no_list_are_told() {
    check(
        |seed| format!("{}.com", congruence(seed, 15, 26)),
        0.6,
        0.95,
    );
    check(
        |seed| format!("{}.net", congruence(seed, 12, 25)),
        0.35,
        0.9,
    );
    check(|seed| format!("{}.org", congruence(seed, 8, 26)), 0.0, 0.7);
    check(
        |seed| format!("{}.biz", base_36(u64::from(seed), 16)),
        0.8,
        0.95,
    );
    check(
        |seed| format!("{}.ru", base_36(u64::from(seed), 24)),
        0.9,
        0.95,
    );
    check(
        |seed| format!("{}.info", hexadecimal(u64::from(seed), 32)),
        0.0,
        0.9,
    );
}

#[test]
fn names_that_people_chose_are_not() {
    let ordinary = [
        "example.com",
        "wikipedia.org",
        "kubernetes.io",
        "debian.org",
        "archive.ubuntu.com",
        "crates.io",
        "amazonlinux.com",
        "docker.com",
        "letsencrypt.org",
        "pool.ntp.org",
        "grafana.net",
        "mysql.com",
        "postgresql.org",
        "schwarzwaelder-bote.de",
        "szczecin.pl",
        "xinhuanet.com",
        "zhongguancun.cn",
        "nyiregyhaza.hu",
        "stackoverflow.com",
        "newrelic.com",
        "datadoghq.eu",
        "s3-eu-west-1.amazonaws.com",
        "d111111abcdef8.cloudfront.net",
        "x7k2q9z4.execute-api.eu-west-1.amazonaws.com",
        "4.3.2.1.in-addr.arpa",
        "2.0.0.127.zen.spamhaus.org",
        "ip-10-0-0-1.ec2.internal",
        "_acme-challenge.example.com",
        "b7e2a1c3d4f5._domainkey.example.org",
    ];
    for name in ordinary {
        let judged = judge(name);
        assert!(judged.dga < 0.9, "{name}: {judged:?}");
    }
}

#[test]
fn reasons_carry_the_numbers_of_the_name() {
    let has = |name: &str, words: &str| {
        let judged = judge(name);
        let found = judged.reasons.iter().any(|reason| reason.contains(words));
        assert!(found, "{name}: {judged:?}");
    };
    has("xqzjvkwpbtrgfd.com", "14 consonants in a row");
    has(
        "xqzjvkwpbtrgfd.com",
        "letters follow each other as in no word",
    );
    has("xqzjvkwpbtrgfd.com", "no vowel");
    has(
        "a7k2p9x4m1q8z5b3.com",
        "digits amid letters: 8 digits, 15 changes",
    );
    has(
        "uiqpwzoxmeavbnjfkrhtqlzcyw.net",
        "26 characters without a pause",
    );
    has("1.0.0.127.in-addr.arpa", "a zone for machines");
    assert_eq!(judge("example.com").reasons, [""; 0]);
}

#[test]
fn the_same_name_in_any_form_scores_the_same() {
    let plain = score("xqzjvkwpbtrgfd.com");
    assert!(plain > ALARM);
    for form in [
        "XQZJVKWPBTRGFD.com",
        "xqzjvkwpbtrgfd.com.",
        "a.b.xqzjvkwpbtrgfd.com",
        "xqzjvkwpbtrgfd.co.uk",
    ] {
        assert!((score(form) - plain).abs() < 1e-12, "{form}");
    }
}

#[test]
fn the_model_fits_its_bound() {
    const MODEL_BYTES_MAX: usize = 256 * 1024;
    const { assert!(Layout::FILE_BYTES <= MODEL_BYTES_MAX) };
    assert!(Model::read(b"PKDGA001").is_none());
    assert!(Model::read(b"").is_none());
}

proptest! {
    #[test]
    fn any_text_is_judged(name in r"(\PC|[.\\0-9a-z-]){0,300}") {
        let judged = judge(&name);
        prop_assert!((0.0..=1.0).contains(&judged.dga), "{}", judged.dga);
        prop_assert_eq!(judged.dga.to_bits(), score(&name).to_bits());
        prop_assert!(judged.reasons.iter().all(|reason| !reason.is_empty()));
        if let Ok(label) = chosen(&name) {
            prop_assert!(!label.contains('.'));
        }
    }
}
