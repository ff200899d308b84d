//! What `docs/detection-curves.md` says of beacons: its rows are compared with those made here.

use super::*;
use crate::analyzer::Analyzer;
use crate::settings::Settings as All;
use crate::testing::{SECOND, START, conversation, drain, speaker, summary};
use picket_intel::IndicatorSet;

const HOUR: f64 = 3_600.0;

/// A generator of numbers that look random (xorshift64*), the same on every run.
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 to 1, neither.
    pub(super) fn draw(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        (high as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Time to the next of independent calls.
    pub(super) fn waits(&mut self, mean: f64) -> f64 {
        -mean * self.draw().ln()
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.draw().ln()).sqrt() * (std::f64::consts::TAU * self.draw()).cos()
    }
}

/// Seconds to the next call.
type Waits = fn(&mut Chance, f64) -> f64;

/// Whether calls of one host to one peer are found within so many hours.
fn is_found(seed: u64, hours: f64, mut wait: impl FnMut(&mut Chance) -> f64) -> bool {
    let mut chance = Chance::new(seed);
    let mut analyzer = Analyzer::new(All::default(), IndicatorSet::default());
    let mut at = chance.draw() * 10.0;
    let mut window = (0u64, Vec::new());
    while at < hours * HOUR {
        let of = (at / 10.0) as u64;
        if of != window.0 {
            if tells(&mut analyzer, &window) {
                return true;
            }
            window = (of, Vec::new());
        }
        window.1.push((at % 10.0 * 1_000.0) as u32);
        at += wait(&mut chance);
    }
    tells(&mut analyzer, &window)
}

fn tells(analyzer: &mut Analyzer, (at, starts): &(u64, Vec<u32>)) -> bool {
    let Some(first) = starts.first() else {
        return false;
    };
    let mut one = summary(speaker());
    let mut c = conversation("10.0.0.1", "192.0.2.1", 443);
    let start_ns = START + at * 10 * SECOND;
    (one.window.start_ns, one.window.end_ns) = (start_ns, start_ns + 10 * SECOND);
    c.first_ns = start_ns + u64::from(*first) * 1_000_000;
    c.last_ns = start_ns + 10 * SECOND;
    (c.flows, c.attempts) = (starts.len() as u32, starts.len() as u32);
    c.starts_ms = starts.iter().map(|start| start - first).take(16).collect();
    one.conversations = vec![c];
    analyzer.on_event(Event::Summary(Box::new(one)));
    let (findings, _) = drain(analyzer);
    findings
        .iter()
        .any(|finding| finding.type_name() == "Backdoor:EC2/Beaconing")
}

fn share(runs: u64, run: impl Fn(u64) -> bool) -> f64 {
    let found = (1..=runs).filter(|&seed| run(seed)).count();
    found as f64 / runs as f64
}

#[test]
fn the_page_says_what_is_found() {
    let mut rows = Vec::new();
    for interval in [2.2, 10.0, 60.0, 300.0, 1_800.0, 3_600.0] {
        for jitter in [0.0, 0.2, 0.5, 0.7, 0.9] {
            let of = |hours: f64| {
                share(if interval < 30.0 { 10 } else { 40 }, |seed| {
                    is_found(seed, hours, |chance| {
                        interval * (1.0 + jitter * (2.0 * chance.draw() - 1.0))
                    })
                })
            };
            let row = [0.25, 1.0, 8.0, 24.0].map(|hours| format!("{:.2}", of(hours)));
            let percent = jitter * 100.0;
            rows.push(format!(
                "| {interval} s | {percent:.0} % | {} |",
                row.join(" | ")
            ));
        }
    }
    compare(&rows);
}

#[test]
fn the_page_says_what_is_taken_for_a_beacon() {
    let benign: [(&str, f64, Waits); 8] = [
        ("independent calls, one in 10 s", 10.0, Chance::waits),
        ("independent calls, one a minute", 60.0, Chance::waits),
        ("independent calls, one in 10 min", 600.0, Chance::waits),
        ("independent calls, one an hour", 3_600.0, Chance::waits),
        (
            "bursts of eight, ten minutes apart at random",
            600.0,
            |chance, mean| {
                if chance.draw() < 0.125 {
                    chance.waits(mean)
                } else {
                    chance.waits(2.0)
                }
            },
        ),
        (
            "think times, log-normal with deviation 1.0",
            60.0,
            |chance, mean| mean * chance.normal().exp(),
        ),
        (
            "think times, log-normal with deviation 0.8",
            60.0,
            |chance, mean| mean * (0.8 * chance.normal()).exp(),
        ),
        ("retries, Pareto 1.2 from 20 s", 20.0, |chance, least| {
            least * chance.draw().powf(-1.0 / 1.2)
        }),
    ];
    let rows = benign.map(|(name, mean, wait)| {
        let runs = if mean < 30.0 { 40 } else { 200 };
        let told = share(runs, |seed| {
            is_found(seed, 24.0, |chance| wait(chance, mean))
        });
        format!("| {name} | {told:.3} |")
    });
    compare(&rows);
}

/// Compares rows with the page's.
#[track_caller]
fn compare(rows: &[String]) {
    let page = include_str!("../../../../../docs/detection-curves.md");
    let missing = rows.iter().any(|row| !page.contains(row.as_str()));
    assert!(!missing, "the page should have:\n{}", rows.join("\n"));
}
