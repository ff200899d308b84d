//! What looks generated, and what only seems so.

use super::*;
use crate::testing::{analyze, brief, ip, mirror, question, speaker, summary};
use picket_intel::IndicatorSet;
use picket_wire::{Answer, Summary};

const TYPE: &str = "Trojan:EC2/DGADomainRequest.B";

/// A congruence, a letter of each step.
fn made_up(seed: u32, length: usize) -> String {
    let mut state = seed.wrapping_mul(2_654_435_761);
    let next = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + ((*state >> 16) % 26) as u8)
    };
    (0..length).map(|_| next(&mut state)).collect()
}

const WORDS: &[&str] = &[
    "garden", "river", "winter", "silver", "market", "bridge", "forest", "copper", "summer",
    "castle",
];

/// Two words put together.
fn of_words(at: usize) -> String {
    format!("{}{}", WORDS[at % 10], WORDS[(at / 10 + at) % 10])
}

fn failing(name: &str) -> Question {
    Question {
        nxdomain: 1,
        rcode: Some(3),
        ..question("10.0.0.1", name)
    }
}

fn found(name: &str) -> Question {
    let answers = vec![Answer {
        rtype: 1,
        data: "192.0.2.1".into(),
    }];
    Question {
        answers,
        ..question("10.0.0.1", name)
    }
}

#[track_caller]
fn check(questions: Vec<Question>, expected: Option<(f64, u64)>) -> Option<String> {
    let window = Summary {
        questions,
        ..summary(speaker())
    };
    let (findings, _) = analyze(IndicatorSet::default(), [Event::Summary(Box::new(window))]);
    let expected: Vec<_> = expected
        .map(|(severity, count)| (TYPE, severity, count))
        .into_iter()
        .collect();
    assert_eq!(brief(&findings), expected);
    findings.first().map(|finding| finding.picket.why.clone())
}

#[test]
fn ten_made_up_names_that_do_not_exist() {
    let names = |count: u32| {
        (0..count)
            .map(|at| failing(&format!("{}.com", made_up(at, 9))))
            .collect()
    };
    check(names(10), Some((8.0, 10)));
    check(names(9), None);
    // The same name again is no other name.
    check(
        (0..30)
            .map(|at| failing(&format!("{}.com", made_up(at % 5, 9))))
            .collect(),
        None,
    );
}

#[test]
fn without_answers_each_must_look_generated() {
    let names = |length| -> Vec<Question> {
        (0..30)
            .map(|at| question("10.0.0.1", &format!("{}.net", made_up(at, length))))
            .collect()
    };
    assert!(check(names(18), Some((8.0, 30))).is_some());
    // Amid many others they are a share too small.
    let mut mixed: Vec<Question> = names(18).into_iter().take(12).collect();
    mixed.extend((0..90).map(|at| found(&format!("{}{at}.org", WORDS[at % 10]))));
    check(mixed, None);
}

#[test]
fn words_are_told_by_what_comes_back() {
    let words = |count: usize, suffix: &dyn Fn(usize) -> &'static str| -> Vec<Question> {
        let names: BTreeSet<String> = (0..count)
            .map(|at| format!("{}.{}", of_words(at), suffix(at)))
            .collect();
        names.iter().map(|name| failing(name)).collect()
    };
    check(words(40, &|_| "net"), Some((5.0, 40)));
    check(words(20, &|_| "net"), None);
    // A crawler's names end in many ways.
    check(
        words(40, &|at| ["com", "org", "net", "de", "fr"][at % 5]),
        None,
    );
    // Names that exist are somebody's.
    let found: Vec<Question> = (0..40)
        .map(|at| found(&format!("{}.net", of_words(at))))
        .collect();
    check(found, None);
}

#[test]
fn says_what_exists_at_last() {
    let mut names: Vec<Question> = (0..12)
        .map(|at| failing(&format!("{}.ru", made_up(at, 14))))
        .collect();
    names.push(found(&format!("{}.ru", made_up(99, 14))));
    let why = check(names, Some((8.0, 12))).unwrap();
    assert!(
        why.contains("12 registered names within 900 s that do not exist and look generated"),
        "{why}"
    );
    assert!(
        why.contains(&format!(
            "12 of 13 do not exist; {}.ru exists",
            made_up(99, 14)
        )),
        "{why}"
    );
}

#[test]
fn innocent_names_that_look_so() {
    let all = |name: &dyn Fn(u32) -> String| -> Vec<Question> {
        (0..60).map(|at| failing(&name(at))).collect()
    };
    // A browser's probes, a search list, mDNS, reverse zones, providers' names, one domain's hosts.
    check(all(&|at| made_up(at, 12)), None);
    check(all(&|at| format!("{}.ec2.internal", made_up(at, 12))), None);
    check(
        all(&|at| format!("{}.corp.example.com", made_up(at, 12))),
        None,
    );
    check(all(&|at| format!("{}.local", made_up(at, 12))), None);
    check(all(&|at| format!("{at}.2.0.192.in-addr.arpa")), None);
    check(
        all(&|at| format!("{}.cloudfront.net", made_up(at, 14))),
        None,
    );
    check(
        all(&|at| format!("{}.lambda-url.eu-west-1.on.aws", made_up(at, 32))),
        None,
    );
    check(all(&|at| format!("{at}.0.0.127.zen.spamhaus.org")), None);
}

/// Twelve names that look generated, as a sensor's host or a mirror's client asks for them.
fn of_client(host: Speaker, client: &str, ask: &dyn Fn(&str) -> Question) -> Summary {
    let names = (0..12).map(|at| format!("{}.com", made_up(at, 18)));
    let questions = names.map(|name| Question {
        client: ip(client),
        ..ask(&name)
    });
    Summary {
        questions: questions.collect(),
        ..summary(host)
    }
}

fn with_sensor(host: usize) -> Speaker {
    Speaker {
        instance: format!("i-{host:017x}"),
        ..speaker()
    }
}

fn told(windows: impl Iterator<Item = Summary>) -> usize {
    let events = windows.map(|window| Event::Summary(Box::new(window)));
    let (mut findings, _) = analyze(IndicatorSet::default(), events);
    findings.retain(|finding| finding.type_name() == TYPE);
    findings.len()
}

#[test]
fn what_the_whole_fleet_finds_is_its_own_business() {
    let many = Settings::default().hosts_many;
    let fleet = |ask: fn(&str) -> Question| {
        (0..25).map(move |host| of_client(with_sensor(host), "10.0.0.1", &ask))
    };
    assert_eq!(told(fleet(found)), many - 1);
    // An outbreak is not, nor what nobody answers.
    assert_eq!(told(fleet(failing)), 25);
    assert_eq!(told(fleet(|name| question("10.0.0.1", name))), 25);
    // Nor what the many clients of one sensor claim to ask.
    let client = |host: usize| of_client(mirror(), &format!("10.0.1.{host}"), &found);
    assert_eq!(told((0..25).map(client)), 25);
}

#[test]
fn who_answers_others_is_not_who_asks() {
    let resolver = |asked_of_it: u32| {
        let mut window = of_client(mirror(), "10.0.0.53", &failing);
        let client = of_client(mirror(), "10.0.0.77", &|name| Question {
            resolver: ip("10.0.0.53"),
            answered: asked_of_it,
            ..failing(name)
        });
        // Most of what it was asked lies before the window.
        window
            .questions
            .extend(client.questions.into_iter().take(1));
        told([window].into_iter())
    };
    assert_eq!(resolver(1), 0);
    assert_eq!(resolver(0), 1);
}

#[test]
fn a_summary_of_invented_clients_is_bounded() {
    let client = |at: u32| std::net::Ipv4Addr::from(0x0a00_0100 + at).to_string();
    let asked = |ask: &dyn Fn(u32) -> u32, clients: u32| {
        let mut window = summary(mirror());
        window.questions = (0..clients)
            .flat_map(|at| {
                let names = (0..12).map(|n| format!("{}.com", made_up(n, 14)));
                names
                    .map(move |name| Question {
                        client: ip(&client(at)),
                        ..failing(&name)
                    })
                    .take(ask(at) as usize)
            })
            .collect();
        told([window].into_iter())
    };
    assert_eq!(asked(&|_| 12, 1_200), GENERATED_HOSTS_TOLD_MAX);
    assert_eq!(asked(&|at| if at < 3 { 12 } else { 1 }, 1_200), 3);
}
