//! What is said of a chain of envelopes: gaps, forks, repetitions, runs side by side.

use picket_wire::{AgentId, BootId, Chain, Digest};
use proptest::prelude::*;

use super::{HOUR, NOW, admission, admit, chain, known, reason, run, signer};
use crate::admit::Standing;
use crate::limits::{BOOTS_MAX, LINKS_MAX};
use crate::testing::{speaker, summary};

/// Envelopes of one run, of which those named hold hits.
fn mixed_run(n: usize, hits: &[usize]) -> Vec<Vec<u8>> {
    let mut chain = chain(1);
    let mut one = |at| {
        let mut summary = summary(speaker());
        summary.immediate = hits.contains(&at);
        chain.seal(&summary, NOW, &signer())
    };
    (0..n).map(&mut one).collect()
}

/// After an outage hits come first, and then the windows that they have overtaken.
#[test]
fn hits_that_overtake_say_nothing_of_what_they_overtook() {
    let run = mixed_run(8, &[2, 5, 6]);
    let mut links = Vec::new();
    let mut check = |at: usize, expected: Standing| {
        // A restart makes no difference.
        let mut admission = admission();
        admission.restore(links.iter().copied());
        let admitted = admission.judge(&run[at], NOW).unwrap();
        assert_eq!(admitted.standing, expected, "{at}");
        assert_eq!(admitted.sensor_events(), [], "{at}");
        links.push(admitted.link());
    };
    check(2, Standing::Ahead);
    check(5, Standing::Ahead);
    check(6, Standing::Ahead);
    for at in [0, 1, 3, 4, 7] {
        check(at, Standing::Next);
    }
}

/// A window that comes tells of all before it.
#[test]
fn what_a_hit_overtook_and_never_came_is_missing_with_the_next_window() {
    let run = mixed_run(8, &[4]);
    let mut admission = admission();
    assert_eq!(admit(&mut admission, &run[0]), Ok(Standing::First));
    assert_eq!(admit(&mut admission, &run[4]), Ok(Standing::Ahead));
    assert_eq!(
        admit(&mut admission, &run[2]),
        Ok(Standing::Gap {
            from: 1,
            missing: 1
        })
    );
    assert_eq!(
        admit(&mut admission, &run[6]),
        Ok(Standing::Gap {
            from: 3,
            missing: 2
        })
    );
    assert_eq!(
        admit(&mut admission, &run[3]),
        Ok(Standing::Late { missing: 2 })
    );
    assert_eq!(
        admit(&mut admission, &run[1]),
        Ok(Standing::Late { missing: 1 })
    );
    assert_eq!(
        admit(&mut admission, &run[5]),
        Ok(Standing::Late { missing: 0 })
    );
    assert_eq!(admit(&mut admission, &run[7]), Ok(Standing::Next));
}

#[test]
fn a_gap_is_found_and_filled() {
    let mut admission = admission();
    let run = run(1, 5);
    assert_eq!(admit(&mut admission, &run[0]), Ok(Standing::First));
    let told = admission.judge(&run[3], NOW).unwrap();
    assert_eq!(
        told.standing,
        Standing::Gap {
            from: 1,
            missing: 2
        }
    );
    admission.commit(&told, NOW);
    assert_eq!(
        admit(&mut admission, &run[2]),
        Ok(Standing::Late { missing: 1 })
    );
    assert_eq!(
        admit(&mut admission, &run[1]),
        Ok(Standing::Late { missing: 0 })
    );
    assert_eq!(admit(&mut admission, &run[4]), Ok(Standing::Next));
}

#[test]
fn forks_are_told_from_repetitions() {
    let fork = |bytes: &[u8], committed: &[Vec<u8>]| {
        let mut admission = admission();
        for bytes in committed {
            admit(&mut admission, bytes).unwrap();
        }
        reason(admission.judge(bytes, NOW))
    };
    let run = run(1, 4);
    let other = |chain: Chain| {
        let mut chain = chain;
        chain.seal(&summary(speaker()), NOW + 1, &signer())
    };
    let at = |sequence, previous| Chain {
        sequence,
        previous,
        ..chain(1)
    };
    let second = other(at(1, Digest::of(&run[0])));
    // Another of the same number; one that does not name the one before; one that is not named by
    // the one after; a first that names something.
    assert_eq!(fork(&second, &run[..2]), "fork");
    assert_eq!(fork(&other(at(2, Digest([3; 32]))), &run[..2]), "fork");
    assert_eq!(fork(&second, &[run[0].clone(), run[2].clone()]), "fork");
    assert_eq!(fork(&other(at(0, Digest([3; 32]))), &[]), "fork");
    // The real ones.
    assert_eq!(fork(&run[1], &run[..2]), "replayed");
    assert_eq!(fork(&run[2], &run[..2]), "admitted");
    assert_eq!(fork(&run[1], &[run[0].clone(), run[2].clone()]), "admitted");
}

#[test]
fn two_runs_of_one_agent_go_on_side_by_side() {
    let mut admission = admission();
    let (old, new) = (run(1, 3), run(2, 2));
    assert_eq!(admit(&mut admission, &old[0]), Ok(Standing::First));
    assert_eq!(admit(&mut admission, &new[0]), Ok(Standing::First));
    assert_eq!(admit(&mut admission, &old[1]), Ok(Standing::Next));
    assert_eq!(admit(&mut admission, &new[1]), Ok(Standing::Next));
    assert_eq!(admit(&mut admission, &old[2]), Ok(Standing::Next));
}

#[test]
fn a_run_that_was_forgotten_does_not_come_again() {
    let mut admission = admission();
    let boots = BOOTS_MAX as u8 + 3;
    let mut first = Vec::new();
    for boot in 0..boots {
        let bytes = chain(boot).seal(&summary(speaker()), NOW + u64::from(boot), &signer());
        assert_eq!(admit(&mut admission, &bytes), Ok(Standing::First));
        first.push(bytes);
    }
    for bytes in &first {
        assert_eq!(reason(admission.judge(bytes, NOW)), "replayed");
    }
    let fresh = chain(boots).seal(&summary(speaker()), NOW + HOUR / 60, &signer());
    assert_eq!(reason(admission.judge(&fresh, NOW)), "admitted");
}

#[test]
fn links_are_bounded_and_what_is_below_them_counts_as_seen() {
    let mut boots = crate::admit::chain::Boots::default();
    let link = |sequence| crate::admit::Link {
        agent: known().id,
        boot: BootId([1; 16]),
        sequence,
        digest: Digest([sequence as u8; 32]),
        previous: Digest::default(),
        signed_at_ms: NOW,
        ahead: false,
    };
    let header = |sequence| picket_wire::Header {
        key: known().key,
        agent: known().id,
        boot: BootId([1; 16]),
        sequence,
        previous: Digest::default(),
        signed_at_ms: NOW,
    };
    for sequence in 0..LINKS_MAX as u64 * 2 {
        boots.commit(&link(sequence));
    }
    let place = |sequence| boots.place(&header(sequence), &Digest([0xee; 32]), false);
    assert_eq!(place(0), crate::admit::Place::Seen);
    assert_eq!(place(LINKS_MAX as u64 - 1), crate::admit::Place::Seen);
    assert_eq!(place(LINKS_MAX as u64), crate::admit::Place::Forks);
    boots.commit(&link(u64::MAX));
    boots.commit(&link(u64::MAX));
    assert_eq!(place_of(&boots, u64::MAX), crate::admit::Place::Forks);

    fn place_of(boots: &crate::admit::chain::Boots, sequence: u64) -> crate::admit::Place {
        let header = picket_wire::Header {
            key: known().key,
            agent: AgentId::default(),
            boot: BootId([1; 16]),
            sequence,
            previous: Digest::default(),
            signed_at_ms: NOW,
        };
        boots.place(&header, &Digest([0xee; 32]), false)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// In whatever order and however often, each envelope is admitted once, and in the end none is
    /// missing; a restart in the middle makes no difference.
    #[test]
    fn each_envelope_is_admitted_once(
        order in prop::collection::vec(0usize..12, 0..40),
        restart_at in 0usize..40,
        hits in prop::collection::vec(0usize..12, 0..6),
    ) {
        let run = mixed_run(12, &hits);
        let mut admission = admission();
        let mut links = Vec::new();
        let all = order.iter().copied().chain(0..12).enumerate();
        let mut last = None;
        for (step, at) in all {
            if step == restart_at {
                admission = self::admission();
                admission.restore(links.iter().rev().copied());
            }
            match admission.judge(&run[at], NOW) {
                Ok(admitted) => {
                    admission.commit(&admitted, NOW);
                    links.push(admitted.link());
                    last = Some(admitted.standing);
                }
                Err(refusal) => prop_assert_eq!(refusal.reason(), "replayed"),
            }
        }
        prop_assert_eq!(links.len(), 12);
        let complete = matches!(last, Some(Standing::Next | Standing::First | Standing::Late { missing: 0 }));
        prop_assert!(complete, "{:?}", last);
    }

    /// A change of any byte is refused, whatever it does.
    #[test]
    fn no_changed_byte_is_admitted(at in any::<prop::sample::Index>(), by in 1u8..) {
        let mut bytes = run(1, 1).remove(0);
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        prop_assert!(admission().judge(&bytes, NOW).is_err());
    }

    /// Any bytes are judged.
    #[test]
    fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(admission().judge(&bytes, NOW).is_err());
    }
}
