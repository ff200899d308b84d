//! DNS tunnels of several kinds, rates and lengths, and days of ordinary hosts, all made here: what share of the
//! tunnels is found, and how many findings an ordinary day brings. The tables stand in
//! `docs/detection-curves.md`; when they change, this prints what to put there.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by panicking"
)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use picket_detect::{Analyzer, Event, Output, Settings};
use picket_intel::IndicatorSet;
use picket_wire::{Answer, Host, Net, Question, Summary, Transport, Window};

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_700_000_000 * SECOND;
const TUNNEL: &str = "Trojan:EC2/DNSDataExfiltration";

/// Numbers that are the same each time (xorshift, 64 bits).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn text(&mut self, alphabet: &[u8], chars: usize) -> String {
        let mut all = String::new();
        for at in 0..chars {
            if at > 0 && at % 60 == 0 {
                all.push('.');
            }
            all.push(char::from(
                alphabet[self.below(alphabet.len() as u64) as usize],
            ));
        }
        all
    }
}

const HEX: &[u8] = b"0123456789abcdef";
const BASE32: &[u8] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What a question of a tunnel looks like.
struct Shape {
    words: &'static str,
    /// Types asked for, of each name.
    qtypes: &'static [u16],
    alphabet: &'static [u8],
    chars: usize,
    back: Back,
}

enum Back {
    Nothing,
    Address,
    Data(usize),
}

const SHAPES: &[Shape] = &[
    Shape {
        words: "shell, TXT, 100 out, 100 back",
        qtypes: &[16],
        alphabet: HEX,
        chars: 100,
        back: Back::Data(100),
    },
    Shape {
        words: "network, CNAME, 24 out, 60 back",
        qtypes: &[5],
        alphabet: BASE32,
        chars: 24,
        back: Back::Data(60),
    },
    Shape {
        words: "network, KEY, 14 out, 120 back",
        qtypes: &[25],
        alphabet: BASE32,
        chars: 14,
        back: Back::Data(120),
    },
    Shape {
        words: "file out, A, 110 out, no such name",
        qtypes: &[1],
        alphabet: HEX,
        chars: 110,
        back: Back::Nothing,
    },
    Shape {
        words: "file out, A, 40 out, an address back",
        qtypes: &[1],
        alphabet: BASE32,
        chars: 40,
        back: Back::Address,
    },
    Shape {
        words: "file out, A and AAAA, 60 out, no such name",
        qtypes: &[1, 28],
        alphabet: HEX,
        chars: 60,
        back: Back::Nothing,
    },
    Shape {
        words: "file out, A and AAAA, 40 out, an address back",
        qtypes: &[1, 28],
        alphabet: BASE32,
        chars: 40,
        back: Back::Address,
    },
    Shape {
        words: "beacon, A, 16 out, an address back",
        qtypes: &[1],
        alphabet: BASE32,
        chars: 16,
        back: Back::Address,
    },
];

/// Seconds between questions, and for how long, in words.
const PACES: &[(u64, u64, &str)] = &[
    (1, 60, "1/s, 1 min"),
    (1, 600, "1/s, 10 min"),
    (10, 600, "6/min, 10 min"),
    (10, 3_600, "6/min, 1 h"),
    (60, 3_600, "1/min, 1 h"),
    (60, 86_400, "1/min, 1 d"),
    (600, 86_400, "6/h, 1 d"),
    (3_600, 86_400, "1/h, 1 d"),
];

const RUNS: u64 = 5;

fn question(name: String, qtype: u16, at_ns: u64) -> Question {
    Question {
        client: "10.0.0.1".parse().unwrap(),
        resolver: "10.0.0.2".parse().unwrap(),
        transport: Transport::Udp,
        name,
        qtype,
        asked: 1,
        answered: 1,
        nxdomain: 0,
        rcode: Some(0),
        answers: vec![],
        first_ns: at_ns,
        last_ns: at_ns,
        bytes: 100,
        process: None,
        also: vec![],
        asked_by_others: 0,
        unanswered: 0,
        failed: 0,
        truncated: 0,
        edns_bytes: None,
        latency: None,
        tunnel: None,
        tunnel_id: None,
    }
}

fn answered(mut question: Question, rtype: u16, data: String) -> Question {
    question.answers = vec![Answer { rtype, data }];
    question
}

fn absent(mut question: Question) -> Question {
    (question.nxdomain, question.rcode) = (1, Some(3));
    question
}

/// What a tunnel of this shape asks for one name.
fn carrying(shape: &Shape, dice: &mut Dice, at_ns: u64) -> Vec<Question> {
    let name = format!("{}.evil.example", dice.text(shape.alphabet, shape.chars));
    let mut ask = |qtype: &u16| {
        let asked = question(name.clone(), *qtype, at_ns);
        match shape.back {
            Back::Nothing => absent(asked),
            Back::Address if *qtype == 1 => answered(asked, 1, "192.0.2.9".into()),
            Back::Address => asked,
            Back::Data(chars) => answered(asked, *qtype, dice.text(HEX, chars)),
        }
    };
    shape.qtypes.iter().map(&mut ask).collect()
}

/// The question, and where it is for an address of IPv4 the one that programs ask with it.
fn with_aaaa(one: Question) -> impl Iterator<Item = Question> {
    let other = (one.qtype == 1).then(|| Question {
        qtype: 28,
        answers: vec![],
        ..one.clone()
    });
    std::iter::once(one).chain(other)
}

/// Findings by type, of one host's questions.
fn findings(questions: impl Iterator<Item = Question>) -> BTreeMap<String, u64> {
    let mut windows: BTreeMap<u64, Vec<Question>> = BTreeMap::new();
    for question in questions {
        let window = question.first_ns / (10 * SECOND);
        windows.entry(window).or_default().push(question);
    }
    let mut analyzer = Analyzer::new(Settings::default(), IndicatorSet::default());
    for (window, questions) in windows {
        let start_ns = window * 10 * SECOND;
        let summary = Summary {
            version: 1,
            host: Host {
                instance: "i-0123456789abcdef0".into(),
                account: "111122223333".into(),
                region: "eu-west-1".into(),
                capture: "tcx".into(),
                local: vec![Net {
                    address: "10.0.0.1".parse().unwrap(),
                    prefix: 32,
                }],
                ..Host::default()
            },
            window: Window {
                start_ns,
                end_ns: start_ns + 10 * SECOND,
            },
            questions,
            ..Summary::default()
        };
        analyzer.on_event(Event::Summary(Box::new(summary)));
    }
    analyzer.finish();
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    while let Some(output) = analyzer.poll_output() {
        if let Output::Finding(finding) = output {
            all.insert(finding.id.clone(), finding.type_name().to_owned());
        }
    }
    let mut counts = BTreeMap::new();
    for name in all.into_values() {
        *counts.entry(name).or_insert(0) += 1;
    }
    counts
}

fn recall(shape: &Shape, every_s: u64, for_s: u64) -> u64 {
    let found = (1..=RUNS).filter(|run| {
        let mut dice = Dice(run.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut at_ns = START;
        let mut questions = Vec::new();
        while at_ns < START + for_s * SECOND {
            questions.extend(carrying(shape, &mut dice, at_ns));
            // A third of jitter either way.
            let jitter = dice.below(every_s * SECOND * 2 / 3 + 1);
            at_ns += every_s * SECOND * 2 / 3 + jitter;
        }
        findings(questions.into_iter()).contains_key(TUNNEL)
    });
    found.count() as u64 * 100 / RUNS
}

/// An ordinary host and the questions of its day.
type Day = fn(&mut Dice, u64) -> Question;

const DAYS: &[(&str, u64, Day)] = &[
    (
        "web server: endpoints of AWS, a database, packages",
        2_000,
        |dice, at_ns| {
            let names = [
                "s3.eu-west-1.amazonaws.com",
                "sts.eu-west-1.amazonaws.com",
                "shop.c9akciq32.eu-west-1.rds.amazonaws.com",
                "security.ubuntu.com",
                "ip-10-0-3-17.eu-west-1.compute.internal",
                "api.payments.example.com",
            ];
            let name = names[dice.below(names.len() as u64) as usize];
            answered(question(name.into(), 1, at_ns), 1, "192.0.2.9".into())
        },
    ),
    (
        "mail server: block lists, MX and keys of many domains",
        6_000,
        |dice, at_ns| {
            let [a, b, c] = [dice.below(255), dice.below(255), dice.below(255)];
            match dice.below(4) {
                0 => absent(question(
                    format!("{a}.{b}.{c}.198.dnsbl.example.org"),
                    1,
                    at_ns,
                )),
                1 => question(format!("shop{a}{b}.example.com"), 15, at_ns),
                2 => {
                    let key = dice.text(HEX, 300);
                    let name = format!("selector{a}._domainkey.customer{b}.com");
                    answered(question(name, 16, at_ns), 16, key)
                }
                _ => answered(
                    question(format!("mx{c}.customer{b}.com"), 1, at_ns),
                    1,
                    "192.0.2.9".into(),
                ),
            }
        },
    ),
    (
        "Kubernetes node: services, every name tried with a suffix",
        8_000,
        |dice, at_ns| {
            let service = dice.below(300);
            match dice.below(3) {
                0 => {
                    let name = format!("service-{service}.default.svc.cluster.local");
                    answered(question(name, 1, at_ns), 1, "10.0.9.9".into())
                }
                1 => {
                    let name = format!("api-{service}.partner.com.eu-west-1.compute.internal");
                    absent(question(name, 1, at_ns))
                }
                _ => {
                    let name = format!("api-{service}.partner.com.corp.example.net");
                    absent(question(name, 1, at_ns))
                }
            }
        },
    ),
    (
        "crawler: thousands of sites, hosts of content networks",
        20_000,
        |dice, at_ns| {
            let (site, host) = (dice.below(5_000), dice.below(40));
            let name = match dice.below(3) {
                0 => format!("www.site-{site}.com"),
                1 => format!("images{host}.static.site-{site}.com"),
                _ => format!("{}.cdn-{host}.net", Dice(site + 1).text(HEX, 16)),
            };
            answered(question(name, 1, at_ns), 1, "192.0.2.9".into())
        },
    ),
    (
        "scanner of files: lookups by hash at a service that is allowed",
        10_000,
        |dice, at_ns| {
            let name = format!("{}.p.a.sophosxl.net", dice.text(HEX, 64));
            answered(question(name, 16, at_ns), 16, "w".into())
        },
    ),
];

fn ordinary(day: Day, questions: u64) -> BTreeMap<String, u64> {
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    for run in 1..=RUNS {
        let mut dice = Dice(run.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let step_ns = 86_400 * SECOND / questions;
        let asked = (0..questions).flat_map(|n| with_aaaa(day(&mut dice, START + n * step_ns)));
        for (name, count) in findings(asked.collect::<Vec<_>>().into_iter()) {
            *all.entry(name).or_default() += count;
        }
    }
    all
}

#[test]
fn the_tables_are_those_in_the_documentation() {
    let mut table = String::from("| tunnel |");
    for (_, _, words) in PACES {
        write!(table, " {words} |").unwrap();
    }
    table.push_str("\n|---|");
    table.push_str(&"---:|".repeat(PACES.len()));
    table.push('\n');
    for shape in SHAPES {
        write!(table, "| {} |", shape.words).unwrap();
        for (every_s, for_s, _) in PACES {
            write!(table, " {} % |", recall(shape, *every_s, *for_s)).unwrap();
        }
        table.push('\n');
    }
    table.push_str("\n| ordinary day | questions | findings in five days |\n|---|---:|---|\n");
    for (words, questions, day) in DAYS {
        let found = ordinary(*day, *questions);
        let told: Vec<String> = found
            .iter()
            .map(|(name, n)| format!("{n} {name}"))
            .collect();
        let told = if told.is_empty() {
            "none".into()
        } else {
            told.join(", ")
        };
        writeln!(table, "| {words} | {questions} | {told} |").unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/detection-curves.md");
    let page = std::fs::read_to_string(path).unwrap();
    assert!(
        page.contains(&table),
        "docs/detection-curves.md lacks:\n{table}"
    );
}
