use picket_wire::{AgentId, BootId, Chain, Digest, Gap, Signer, Summary};

use super::{Admission, Admitted, KnownAgent, Refusal, Settings, Standing};
use crate::event::SensorWord;
use crate::testing::{speaker, summary};

mod chains;

const NOW: u64 = 1_700_000_000_000;
const HOUR: u64 = 3_600_000;

fn signer() -> Signer {
    Signer::from_seed(&[7; 32])
}

fn known() -> KnownAgent {
    let host = speaker();
    let key = signer().public_key();
    KnownAgent {
        id: AgentId::of_key(&key.0),
        key,
        account: host.account,
        region: host.region,
        instance: host.instance,
        revoked: false,
        until_ms: None,
        replaced_ms: None,
    }
}

fn admission() -> Admission {
    Admission::new([known()], Settings::default())
}

fn chain(boot: u8) -> Chain {
    Chain::new(known().id, BootId([boot; 16]))
}

fn seal(chain: &mut Chain) -> Vec<u8> {
    chain.seal(&summary(speaker()), NOW, &signer())
}

/// Envelopes 0..n of one run.
fn run(boot: u8, n: usize) -> Vec<Vec<u8>> {
    let mut chain = chain(boot);
    (0..n).map(|_| seal(&mut chain)).collect()
}

fn admit(admission: &mut Admission, bytes: &[u8]) -> Result<Standing, Refusal> {
    let admitted = admission.judge(bytes, NOW)?;
    admission.commit(&admitted, NOW);
    Ok(admitted.standing)
}

/// Writes `to` over the one place where `from` stands.
fn overwritten(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from);
    let at = at.unwrap();
    let mut bytes = bytes.to_vec();
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

fn reason(judged: Result<Admitted, Refusal>) -> &'static str {
    judged.map_or_else(|refusal| refusal.reason(), |_| "admitted")
}

#[test]
fn a_chain_is_admitted_in_order() {
    let mut admission = admission();
    let run = run(1, 3);
    assert_eq!(admit(&mut admission, &run[0]), Ok(Standing::First));
    assert_eq!(admit(&mut admission, &run[1]), Ok(Standing::Next));
    assert_eq!(admit(&mut admission, &run[2]), Ok(Standing::Next));
    assert_eq!(admission.counters()["admitted"], 3);
}

#[test]
fn each_refusal_has_its_own_reason_and_is_counted_and_leaves_no_trace() {
    let good = run(1, 1).remove(0);
    let mut tampered = good.clone();
    // The signature takes the last 66 bytes; before it ends the payload.
    let in_payload = tampered.len() - 70;
    tampered[in_payload] ^= 1;
    let stranger = Signer::from_seed(&[8; 32]);
    let by_stranger = chain(1).seal(&summary(speaker()), NOW, &stranger);
    // The agent's key in the header makes it no better: the stranger still signed it.
    let with_our_key = overwritten(&by_stranger, &stranger.public_key().0, &known().key.0);
    let stranger_id = AgentId::of_key(&stranger.public_key().0);
    let unknown =
        Chain::new(stranger_id, BootId([1; 16])).seal(&summary(speaker()), NOW, &stranger);
    let nobody =
        Chain::new(AgentId([9; 16]), BootId([1; 16])).seal(&summary(speaker()), NOW, &signer());
    let development = chain(1).seal(&summary(speaker()), NOW, &Signer::development());
    let mut elsewhere = summary(speaker());
    elsewhere.host.instance = "i-0ffffffffffffffff".into();
    let wrong_host = chain(1).seal(&elsewhere, NOW, &signer());
    let early = chain(1).seal(&summary(speaker()), NOW + HOUR, &signer());
    let late = chain(1).seal(&summary(speaker()), NOW - 24 * 8 * HOUR, &signer());
    let large = vec![0xd2; picket_wire::limits::ENVELOPE_BYTES_MAX + 1];
    let rows: [(&str, &[u8]); 11] = [
        ("tampered", &tampered),
        ("tampered", &with_our_key),
        ("wrong_key", &by_stranger),
        ("wrong_key", &nobody),
        ("unknown_key", &unknown),
        ("development_key", &development),
        ("wrong_host", &wrong_host),
        ("clock", &early),
        ("clock", &late),
        ("malformed", b"{\"not\":\"an envelope\"}"),
        ("too_large", &large),
    ];
    let mut admission = admission();
    for (expected, bytes) in rows {
        let before = admission.counters()[expected];
        assert_eq!(reason(admission.judge(bytes, NOW)), expected);
        assert_eq!(admission.counters()[expected], before + 1);
    }
    // None of them took a place: the chain begins as if nothing had been.
    assert_eq!(admit(&mut admission, &good), Ok(Standing::First));
    assert_eq!(reason(admission.judge(&good, NOW)), "replayed");
}

#[test]
fn every_reason_is_counted_from_the_beginning() {
    let counters = admission().counters();
    assert_eq!(counters.len(), Refusal::REASONS.len() + 1);
    assert!(Refusal::REASONS.is_sorted());
}

/// Takes in what a run signs now, or signed a while ago; returns whether two hosts were told of.
fn speaks(admission: &mut Admission, chain: &mut Chain, now_ms: u64, ago_ms: u64) -> bool {
    let bytes = chain.seal(&summary(speaker()), now_ms - ago_ms, &signer());
    let admitted = admission.judge(&bytes, now_ms).unwrap();
    let told = admission.commit(&admitted, now_ms);
    if let Some(event) = &told {
        assert!(matches!(event.word, SensorWord::Cloned { .. }), "{event:?}");
        assert_eq!(event.host.instance, speaker().instance);
    }
    told.is_some()
}

#[test]
fn a_key_that_two_hosts_speak_with_is_told_though_their_chains_hold() {
    let told_after = |ago_ms: u64| {
        let mut admission = admission();
        let (mut one, mut other) = (chain(1), chain(2));
        (0..60_u64).find(|window| {
            let now_ms = NOW + window * 10_000;
            let first = speaks(&mut admission, &mut one, now_ms, 0);
            let second = speaks(&mut admission, &mut other, now_ms, ago_ms);
            first || second
        })
    };
    assert_eq!(told_after(0), Some(18), "three minutes of windows");
    assert_eq!(told_after(59_000), Some(18), "a clock that is nearly right");
    assert_eq!(told_after(HOUR), None, "what waited in a spool");
    // A run after the other, for as long as each.
    let mut admission = admission();
    for boot in 0..4 {
        let mut run = chain(boot);
        let begun_ms = NOW + u64::from(boot) * HOUR;
        for window in 0..60 {
            assert!(!speaks(
                &mut admission,
                &mut run,
                begun_ms + window * 10_000,
                0
            ));
        }
    }
}

#[test]
fn the_host_is_account_region_and_instance() {
    let fields: [fn(&mut Summary); 3] = [
        |s| s.host.account = "999999999999".into(),
        |s| s.host.region = "us-east-1".into(),
        |s| s.host.instance = "i-1".into(),
    ];
    for change in fields {
        let mut other = summary(speaker());
        change(&mut other);
        let bytes = chain(1).seal(&other, NOW, &signer());
        assert_eq!(reason(admission().judge(&bytes, NOW)), "wrong_host");
    }
}

#[test]
fn a_revoked_agent_and_the_development_key_are_refused() {
    let good = run(1, 1).remove(0);
    let mut admission = admission();
    let revoked = KnownAgent {
        revoked: true,
        ..known()
    };
    admission.set_agent(revoked);
    assert_eq!(reason(admission.judge(&good, NOW)), "revoked");
    // Whoever only knows its name cannot have its misuse told.
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(reason(admission.judge(&forged, NOW)), "tampered");
    admission.set_agent(known());
    assert_eq!(reason(admission.judge(&good, NOW)), "admitted");

    // Not even where somebody let it in by hand.
    let key = Signer::development().public_key();
    let agent = KnownAgent {
        id: AgentId::of_key(&key.0),
        key,
        ..known()
    };
    let mut chain = Chain::new(agent.id, BootId([1; 16]));
    let mut admission = Admission::new([agent], Settings::default());
    let bytes = chain.seal(&summary(speaker()), NOW, &Signer::development());
    assert_eq!(reason(admission.judge(&bytes, NOW)), "development_key");
}

/// A key that was followed by another goes on with the runs that are known, and begins none.
#[test]
fn a_key_that_was_followed_begins_no_run() {
    let mut admission = admission();
    let mut before = chain(1);
    let mut seal = |at_ms| before.seal(&summary(speaker()), at_ms, &signer());
    let (first, second) = (seal(NOW), seal(NOW + 9));
    assert_eq!(admit(&mut admission, &first), Ok(Standing::First));
    admission.set_agent(KnownAgent {
        until_ms: Some(NOW + HOUR),
        replaced_ms: Some(NOW),
        ..known()
    });
    assert_eq!(reason(admission.judge(&first, NOW + 10)), "replayed");
    assert_eq!(reason(admission.judge(&second, NOW + 10)), "admitted");
    let ahead_ms = Settings::default().clock_ahead_ms;
    let mut check = |signed_at_ms, is_told| {
        let bytes = chain(2).seal(&summary(speaker()), signed_at_ms, &signer());
        let refusal = admission.judge(&bytes, NOW + HOUR).unwrap_err();
        assert_eq!(refusal.reason(), "succeeded", "{signed_at_ms}");
        let told = admission.sensor_event(&refusal, NOW + HOUR);
        assert_eq!(told.is_some(), is_told, "{signed_at_ms}");
    };
    // What the host had not sent yet when it changed its key is lost, and is nobody's impersonation.
    check(NOW + ahead_ms, false);
    check(NOW + ahead_ms + 1, true);
    admission.set_agent(KnownAgent {
        until_ms: Some(NOW + HOUR),
        ..known()
    });
    let refused = admission.judge(&second, NOW + HOUR + 1);
    assert_eq!(reason(refused), "revoked");
}

/// A host that was revoked, released and enrolled anew still has envelopes under its old key.
#[test]
fn what_a_host_left_behind_is_no_impersonation() {
    let mut admission = admission();
    let mut check = |replaced_ms, signed_at_ms, is_told| {
        admission.set_agent(KnownAgent {
            revoked: true,
            replaced_ms,
            ..known()
        });
        let bytes = chain(1).seal(&summary(speaker()), signed_at_ms, &signer());
        let refusal = admission.judge(&bytes, NOW + HOUR).unwrap_err();
        assert_eq!(refusal.reason(), "revoked");
        let told = admission.sensor_event(&refusal, NOW + HOUR);
        assert_eq!(told.is_some(), is_told, "{replaced_ms:?} {signed_at_ms}");
    };
    check(None, NOW, true);
    check(Some(NOW), NOW - HOUR, false);
    check(Some(NOW), NOW + HOUR, true);
}

#[test]
fn the_clock_may_be_five_minutes_fast_and_a_spool_seven_days_old() {
    let check = |signed_at_ms, expected| {
        let bytes = chain(1).seal(&summary(speaker()), signed_at_ms, &signer());
        assert_eq!(reason(admission().judge(&bytes, NOW)), expected);
    };
    check(NOW + 5 * 60_000, "admitted");
    check(NOW + 5 * 60_000 + 1, "clock");
    check(NOW - 7 * 24 * HOUR, "admitted");
    check(NOW - 7 * 24 * HOUR - 1, "clock");
    check(u64::MAX, "clock");
    check(0, "clock");
}

#[test]
fn judging_alone_changes_nothing() {
    let mut admission = admission();
    let run = run(1, 2);
    for _ in 0..3 {
        let admitted = admission.judge(&run[0], NOW).unwrap();
        assert_eq!(admitted.standing, Standing::First);
    }
    let gap = admission.judge(&run[1], NOW).unwrap();
    assert_eq!(
        gap.standing,
        Standing::Gap {
            from: 0,
            missing: 1
        }
    );
    assert_eq!(admit(&mut admission, &run[0]), Ok(Standing::First));
}

#[test]
fn what_the_agent_says_of_its_own_blindness_is_told() {
    let mut blind = summary(speaker());
    blind.gap = Some(Gap {
        from_ns: 5,
        to_ns: 9,
        why: "killed".into(),
    });
    let bytes = chain(1).seal(&blind, NOW, &signer());
    let events = admission().judge(&bytes, NOW).unwrap().sensor_events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].host.instance, speaker().instance);
    assert!(matches!(&events[0].word, SensorWord::Blind { why, .. } if why == "killed"));
}

#[test]
fn refusals_speak_of_a_sensor_only_where_they_name_one() {
    let mut admission = admission();
    let run = run(1, 2);
    admit(&mut admission, &run[0]).unwrap();
    let mut elsewhere = summary(speaker());
    elsewhere.host.instance = "i-1".into();
    let mut chain_on = Chain {
        sequence: 1,
        previous: Digest::of(&run[0]),
        ..chain(1)
    };
    let wrong_host = chain_on.seal(&elsewhere, NOW, &signer());
    let refusal = admission.judge(&wrong_host, NOW).unwrap_err();
    let event = admission.sensor_event(&refusal, NOW).unwrap();
    assert_eq!(event.host.instance, speaker().instance);
    assert_eq!(
        event.word,
        SensorWord::Refused {
            reason: "wrong_host"
        }
    );
    let stranger = Signer::from_seed(&[8; 32]);
    for (signer, reason) in [
        (&stranger, "wrong_key"),
        (&Signer::development(), "development_key"),
    ] {
        let in_its_name = chain(1).seal(&summary(speaker()), NOW, signer);
        let refusal = admission.judge(&in_its_name, NOW).unwrap_err();
        let event = admission.sensor_event(&refusal, NOW).unwrap();
        assert_eq!(event.word, SensorWord::Refused { reason });
    }
    // A replay that was sent here by mistake, and whoever else is not known.
    let replayed = Chain::new(AgentId([9; 16]), BootId([1; 16])).seal(
        &summary(speaker()),
        NOW,
        &Signer::development(),
    );
    for bytes in [&run[0][..], &replayed, b"junk"] {
        let refusal = admission.judge(bytes, NOW).unwrap_err();
        assert_eq!(admission.sensor_event(&refusal, NOW), None);
    }
}
