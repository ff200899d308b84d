//! What is a tunnel and what only looks like one.

use picket_intel::IndicatorSet;
use picket_wire::{Answer, Question, Summary};

use super::*;
use crate::finding::Finding;
use crate::testing::{
    SECOND, START, analyze, brief, conversation, ip, later, mirror, question, speaker, summary,
};

const HIGH: (&str, f64) = ("Trojan:EC2/DNSDataExfiltration", 8.0);

/// Hexadecimal digits that differ with `seed`, as encoded data does.
fn data(seed: u64, chars: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut digit = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b"0123456789abcdef"[(state % 16) as usize])
    };
    let all: String = (0..chars).map(|_| digit()).collect();
    let labels: Vec<&str> = (0..chars)
        .step_by(60)
        .map(|at| &all[at..chars.min(at + 60)])
        .collect();
    labels.join(".")
}

/// A question for data below `domain`.
fn carrying(seed: u64, chars: usize, domain: &str, qtype: u16) -> Question {
    let name = format!("{}.{domain}", data(seed, chars));
    Question {
        qtype,
        ..question("10.0.0.1", &name)
    }
}

fn answered(mut question: Question, rtype: u16, data: &str) -> Question {
    question.answers = vec![Answer {
        rtype,
        data: data.to_owned(),
    }];
    question
}

fn absent(question: Question) -> Question {
    Question {
        nxdomain: 1,
        rcode: Some(3),
        ..question
    }
}

/// One window per question, so many seconds apart.
fn paced(questions: impl Iterator<Item = Question>, seconds: u64) -> Vec<Summary> {
    let one = |(at, question): (usize, Question)| {
        let window = Summary {
            questions: vec![question],
            ..summary(speaker())
        };
        later(window, at as u64 * seconds)
    };
    questions.enumerate().map(one).collect()
}

fn at_once(questions: impl Iterator<Item = Question>) -> Vec<Summary> {
    vec![Summary {
        questions: questions.collect(),
        ..summary(speaker())
    }]
}

fn tunnels(summaries: Vec<Summary>) -> Vec<Finding> {
    let events = summaries.into_iter().map(|s| Event::Summary(Box::new(s)));
    let (mut findings, _) = analyze(IndicatorSet::default(), events);
    findings.retain(|f| f.type_name() == HIGH.0);
    findings
}

/// Type and severity of each finding.
fn found(summaries: Vec<Summary>) -> Vec<(String, f64)> {
    tunnels(summaries)
        .iter()
        .map(|f| (f.type_name().to_owned(), f.severity()))
        .collect()
}

#[track_caller]
fn check(name: &str, summaries: Vec<Summary>, expected: &[(&str, f64)]) {
    let expected: Vec<(String, f64)> = expected
        .iter()
        .map(|(t, s)| ((*t).to_owned(), *s))
        .collect();
    assert_eq!(found(summaries), expected, "{name}");
}

#[test]
fn tools_and_their_look_alikes() {
    let text = data(7, 120);
    let txt = |n| answered(carrying(n, 100, "t.evil.example", 16), 16, &text);
    check("dnscat2 TXT", at_once((0..60).map(txt)), &[HIGH]);
    check("a handful of such", at_once((0..10).map(txt)), &[]);
    let key = |n| answered(carrying(n, 14, "evil.example", 25), 25, &text);
    check("dns2tcp KEY", at_once((0..40).map(key)), &[HIGH]);
    let null = |n| carrying(n, 30, "evil.example", 10);
    check(
        "iodine NULL without answers",
        at_once((0..40).map(null)),
        &[HIGH],
    );
    let spread = |n| carrying(n, 30, &format!("d{n}.example"), 10);
    check("NULL, of many domains", at_once((0..40).map(spread)), &[]);
    let exfil = |n| absent(carrying(n, 110, "evil.example", 1));
    check("A out, nothing back", at_once((0..40).map(exfil)), &[HIGH]);
    let one = |_| absent(carrying(1, 110, "evil.example", 1));
    check(
        "one long name over and over",
        at_once((0..400).map(one)),
        &[],
    );
}

/// The two questions of one look for addresses.
fn both(question: Question) -> [Question; 2] {
    let other = Question {
        qtype: 28,
        answers: vec![],
        ..question.clone()
    };
    [question, other]
}

/// As [`paced`], each question with its other.
fn both_paced(questions: impl Iterator<Item = Question>, seconds: u64) -> Vec<Summary> {
    let mut windows = paced(questions, seconds);
    for window in &mut windows {
        window.questions = both(window.questions.remove(0)).to_vec();
    }
    windows
}

#[test]
fn the_two_types_of_address_are_no_repetition() {
    let out = |n| absent(carrying(n, 60, "evil.example", 1));
    let exfil = both_paced((0..100).map(out), 36);
    check("A and AAAA, nothing back", exfil.clone(), &[HIGH]);
    let mut logged = exfil.clone();
    logged
        .iter_mut()
        .for_each(|window| window.host.capture = QUERY_LOG.into());
    let seen_twice = exfil.into_iter().zip(logged);
    let seen_twice = seen_twice.flat_map(|(one, other)| [one, other]).collect();
    check("seen on the wire and logged", seen_twice, &[HIGH]);
    let known = |n: u64| absent(carrying(n % 20, 60, "dead.example", 1));
    check(
        "a few dead names over and over",
        both_paced((0..100).map(known), 36),
        &[],
    );
    let hosts = |n: u32| {
        let name = format!("static-images-{n}.eu-west.cdn.example");
        answered(question("10.0.0.1", &name), 1, "192.0.2.9")
    };
    check(
        "many hosts of one domain",
        both_paced((0..90).map(hosts), 36),
        &[],
    );
    let reused = |n: u32| Question {
        asked: 9,
        ..hosts(n % 400)
    };
    check(
        "asked again and again",
        both_paced((0..800).map(reused), 36),
        &[],
    );
}

#[test]
fn a_tool_without_a_domain() {
    let bare = |n: u64| {
        let name = format!("tool.{}", data(n, 90));
        answered(
            Question {
                qtype: 5,
                ..question("10.0.0.1", &name)
            },
            5,
            &data(n, 80),
        )
    };
    let findings = tunnels(at_once((0..40).map(bare)));
    assert_eq!(brief(&findings), [(HIGH.0, HIGH.1, 1)]);
    let info = &findings[0].service.additional_info;
    assert_eq!(
        info.get("domain").map(String::as_str),
        Some("tool at 10.0.0.2")
    );
}

#[test]
fn services_that_ask_by_name() {
    let of = |domain: &'static str| move |n| absent(carrying(n, 60, domain, 16));
    check("allowed", at_once((0..400).map(of("a.sophosxl.net"))), &[]);
    check(
        "not allowed",
        at_once((0..400).map(of("a.sophosxl.example"))),
        &[HIGH],
    );
    let listed = |n: u32| {
        let [a, b, c, d] = n.to_be_bytes();
        absent(question(
            "10.0.0.1",
            &format!("{d}.{c}.{b}.{a}.dnsbl.example"),
        ))
    };
    check("block list", at_once((0..500).map(listed)), &[]);
    let searched = |n: u32| {
        absent(question(
            "10.0.0.1",
            &format!("www.shop-number-{n}.com.corp.example"),
        ))
    };
    check("search suffix", at_once((0..500).map(searched)), &[]);
}

#[test]
fn ordinary_names() {
    let hosts = |n: u32| {
        let one = question(
            "10.0.0.1",
            &format!("static-images-{n}.eu-west.cdn.example"),
        );
        answered(one, 1, "192.0.2.9")
    };
    check("many hosts of one domain", at_once((0..90).map(hosts)), &[]);
    let reused = |n: u32| Question {
        asked: 9,
        ..hosts(n)
    };
    check("asked again and again", at_once((0..400).map(reused)), &[]);
    let hashed = |n| answered(carrying(n, 24, "cdn.example", 1), 1, "192.0.2.9");
    let mut called = at_once((0..200).map(hashed));
    check(
        "addresses that nobody called",
        called.clone(),
        &[(HIGH.0, 5.0)],
    );
    let mut talk = conversation("10.0.0.1", "192.0.2.9", 443);
    talk.dns_name = Some(format!("{}.cdn.example", data(1, 24)));
    called[0].conversations = vec![talk];
    check("and some that somebody did", called, &[]);
}

#[test]
fn slow_ones_add_up_over_a_day_and_not_beyond() {
    let slow = |n| absent(carrying(n, 120, "evil.example", 1));
    check("every ten minutes", paced((0..140).map(slow), 600), &[HIGH]);
    check("every hour", paced((0..140).map(slow), 3_600), &[]);
    let short = |n| answered(carrying(n, 16, "evil.example", 1), 1, "192.0.2.9");
    check("short and slow", paced((0..140).map(short), 600), &[]);
    check(
        "and many",
        paced((0..400).map(short), 120),
        &[(HIGH.0, 5.0)],
    );
    let mut logged = paced((0..400).map(short), 120);
    logged
        .iter_mut()
        .for_each(|window| window.host.capture = QUERY_LOG.into());
    check("in a log that has no connections", logged, &[]);
}

#[test]
fn who_passes_questions_on_is_not_who_asks() {
    let upstream = |n| answered(carrying(n, 100, "evil.example", 16), 16, "x");
    let mut window = at_once((0..60).map(upstream)).remove(0);
    let asked: Vec<Question> = window
        .questions
        .iter()
        .map(|q| Question {
            client: ip("10.0.0.77"),
            resolver: ip("10.0.0.1"),
            ..q.clone()
        })
        .collect();
    window.questions.extend(asked);
    let mirrored = Summary {
        host: mirror(),
        ..window.clone()
    };
    for window in [window, mirrored] {
        let findings = tunnels(vec![window]);
        let subjects: Vec<_> = findings.iter().map(|f| f.resource.instance_id()).collect();
        assert_eq!(subjects, [Some("10.0.0.77")]);
    }
}

#[test]
fn says_what_was_carried_and_why_it_is_one() {
    let txt = |n| answered(carrying(n, 60, "t.evil.example", 16), 16, &data(n, 70));
    let mut window = at_once((0..60).map(txt));
    window[0].host = mirror();
    let findings = tunnels(window);
    assert_eq!(
        findings[0].picket.why,
        "10.0.0.1 asked 10.0.0.2 for evil.example: 60 different names below it within 10 min, 3660 bytes out \
         and 4200 back; asked for types that carry text or names, very long names, answers full of data, labels \
         that are no words, hardly a name asked twice"
    );
    assert_eq!(findings[0].picket.evidence.len(), EVIDENCE_PER_WINDOW);
    assert!(findings[0].service.event_first_seen.0 >= START + SECOND);
}
