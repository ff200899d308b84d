//! What speaks against a name, and what does not.

use picket_intel::Category;
use picket_wire::{Answer, Question, Summary};

use super::*;
use crate::finding::Finding;
use crate::testing::{analyze, brief, intel, later, mirror, question, speaker, summary};

const DAY_S: u64 = 86_400;

fn found(summaries: Vec<Summary>) -> Vec<Finding> {
    let lists = intel(&[
        (Category::C2, "192.0.2.66"),
        (Category::C2, "listed.duckdns.org"),
        (Category::Mining, "192.0.2.77"),
        (Category::Tor, "192.0.2.88"),
    ]);
    let events = summaries.into_iter().map(|s| Event::Summary(Box::new(s)));
    let (mut findings, _) = analyze(lists, events);
    findings.retain(|f| f.picket.rule == "domain_reputation");
    findings
}

fn asking(name: &str, address: &str) -> Summary {
    let answer = Answer {
        rtype: 1,
        data: address.to_owned(),
    };
    let one = Question {
        answers: vec![answer],
        ..question("10.0.0.1", name)
    };
    Summary {
        questions: vec![one],
        ..summary(speaker())
    }
}

#[track_caller]
fn check(name: &str, expected: &[(&str, f64, u64)]) {
    let findings = found(vec![asking(name, "192.0.2.1")]);
    assert_eq!(brief(&findings), expected, "{name}");
}

#[test]
fn names_that_were_got_for_nothing() {
    check("me.duckdns.org", &[(ABUSED.name, 2.0, 1)]);
    check("3f9a1c07e2b4.ngrok.io", &[(ABUSED.name, 2.0, 1)]);
    check("abc.oast.fun", &[(ABUSED.name, 5.0, 1)]);
    check("duckdns.org", &[]);
    check("someone.github.io", &[]);
    check("10-0-0-1.nip.io", &[]);
    check("listed.duckdns.org", &[]);
    let mut text = asking("me.duckdns.org", "192.0.2.1");
    text.questions[0].qtype = 16;
    assert_eq!(brief(&found(vec![text])), [(ABUSED.name, 5.0, 1)]);
}

#[test]
fn names_that_lead_where_listed_ones_do() {
    let leads = |address| found(vec![asking("www.example.com", address)]);
    assert_eq!(brief(&leads("192.0.2.66"))[0].0, MALICIOUS.name);
    assert_eq!(brief(&leads("192.0.2.77"))[0].0, BITCOIN.name);
    assert!(leads("192.0.2.88").is_empty() && leads("192.0.2.1").is_empty());
}

#[test]
fn names_made_like_pools() {
    check("xmr.pool.example", &[(BITCOIN.name, 2.0, 1)]);
    check("0.pool.ntp.org", &[]);
    check("pool.internal", &[]);
}

#[test]
fn what_is_new_to_the_fleet_and_odd() {
    let week = || later(asking("www.example.com", "192.0.2.1"), 0);
    let then = |name| vec![week(), later(asking(name, "192.0.2.1"), 8 * DAY_S)];
    let odd = "x7k2q9z4vb.top";
    assert_eq!(brief(&found(then(odd))), [(SUSPICIOUS.name, 2.0, 1)]);
    assert!(found(then("ordinary-shop.example")).is_empty(), "new");
    assert!(found(then("shop.top")).is_empty(), "new and cheap");
    assert!(found(vec![asking(odd, "192.0.2.1")]).is_empty(), "cold");
    let known = vec![
        asking(odd, "192.0.2.1"),
        later(asking(odd, "192.0.2.1"), 8 * DAY_S),
    ];
    assert!(found(known).is_empty(), "known for a week");
    let mut many = vec![week()];
    many.extend((0..3u8).map(|n| {
        let mut one = later(asking(odd, "192.0.2.1"), 8 * DAY_S + u64::from(n));
        one.host = mirror();
        one.host.instance = format!("i-{n}");
        one.questions[0].client = [10, 0, 1, n].into();
        one
    }));
    assert_eq!(found(many).len(), 2, "the third host makes it deployed");
    assert_eq!(
        brief(&found(then("me.duckdns.org"))),
        [(ABUSED.name, 5.0, 1)]
    );
}

#[test]
fn says_its_reasons() {
    let told = found(vec![asking("3f9a1c07e2b4.ngrok.io", "192.0.2.1")]);
    assert_eq!(
        told[0].picket.why,
        "10.0.0.1 asked 10.0.0.2 for 3f9a1c07e2b4.ngrok.io, which is on no list: it is a relay to a program \
         behind somebody's firewall (ngrok.io); its label is no word"
    );
}
