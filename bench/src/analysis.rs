//! What the analysis of agents' summaries costs with every detection on: summaries and conversations a
//! CPU second, against what it takes to decode the same summaries and do nothing with them; and whether
//! time and memory grow with the number of hosts and no faster.
//!
//! Each host tells what the agent makes of mixed traffic, a slice of its own of it under its own address. What
//! its detections remember is held by a process of its own, which nothing else has left memory to.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use picket_detect::{Analyzer, Event, Settings, SourceKind};
use picket_intel::IndicatorSet;
use picket_wire::{Net, Summary, Window};

use crate::Setting;
use crate::capture::Random;
use crate::cpu::resident_mib;
use crate::ingest::summary;
use crate::report::Report;
use crate::rounds::{Samples, interleaved, thread_ns};

/// Packets of the traffic that hosts tell of: some hundred conversations and as many names.
const PACKETS: u32 = 8_000;
/// Conversations and questions of one host in one window.
const CONVERSATIONS: usize = 40;
const QUESTIONS: usize = 20;
/// Hosts whose summaries are decoded and analysed.
const HOSTS: u32 = 100;
/// Windows of each, ten seconds long.
const WINDOWS: u32 = 30;
const WINDOW_NS: u64 = 10_000_000_000;
/// 2026-11-01T00:00:00Z.
const START_NS: u64 = 1_793_491_200_000_000_000;
/// How late agents may be ([`SourceKind::lateness_ns`]).
const LATE_WINDOWS: u64 = 3;
/// Fleets that are compared.
const FLEETS: [u32; 3] = [10, 1_000, 10_000];
/// Windows of each fleet, and how far they lie apart: two hours in all, so that what is remembered of a
/// host for an hour is all there.
const FLEET_WINDOWS: u32 = 12;
const FLEET_APART_NS: u64 = 60 * WINDOW_NS;

/// Measures.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let told = summary(setting, PACKETS)?;
    ensure!(
        told.conversations.len() >= CONVERSATIONS && told.questions.len() >= QUESTIONS,
        "too little traffic: {} conversations, {} questions",
        told.conversations.len(),
        told.questions.len()
    );
    let encoded: Vec<Vec<u8>> = fleet(&told, HOSTS, WINDOWS, WINDOW_NS)
        .map(|summary| summary.to_bytes())
        .collect();
    let columns = interleaved(
        setting.rounds,
        &mut [&mut || analyse(&encoded), &mut || decode(&encoded)],
    )?;
    let [ours, baseline]: [Vec<f64>; 2] = columns.try_into().ok().context("two columns")?;
    let conversations = ours.iter().map(|n| n * CONVERSATIONS as f64).collect();
    report.add("collector/analysis_vs_decode", &Samples { ours, baseline });
    report.add(
        "collector/analysis_conversations",
        &Samples::alone(conversations),
    );
    growth(setting, &told, report)
}

/// Compares fleets by what each summary of them costs, and what is held of each host.
fn growth(setting: &Setting, told: &Summary, report: &mut Report) -> Result<()> {
    let template = setting.scratch.join("told-by-fleet.cbor");
    std::fs::write(&template, told.to_bytes()).context("write what hosts tell")?;
    let [few, some, many] = FLEETS.map(|hosts| Held::by_process(&template, hosts));
    let (few, some, many) = (few?, some?, many?);
    report.add(
        "collector/analysis_10k_hosts",
        &Samples {
            ours: vec![many.per_s],
            baseline: vec![few.per_s],
        },
    );
    let each = |less: &Held, more: &Held| {
        (more.mib - less.mib) * 1024.0 / f64::from(more.hosts - less.hosts)
    };
    report.add(
        "collector/analysis_memory_per_host",
        &Samples {
            ours: vec![each(&some, &many)],
            baseline: vec![each(&few, &some)],
        },
    );
    Ok(())
}

/// What analysing a fleet took.
struct Held {
    hosts: u32,
    /// Summaries a CPU second.
    per_s: f64,
    /// MiB that what is remembered of it takes.
    mib: f64,
}

impl Held {
    /// Has another process of this program do it, which nothing was held in before.
    fn by_process(template: &std::path::Path, hosts: u32) -> Result<Self> {
        let output = Command::new(std::env::current_exe().context("find this program")?)
            .args(["--object", "none", "--hold", &hosts.to_string()])
            .arg("--template")
            .arg(template)
            .output()
            .context("start this program")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut numbers = text.split_whitespace().map(str::parse::<f64>);
        let mut next = || Ok::<_, anyhow::Error>(numbers.next().context("a number is missing")??);
        Ok(Self {
            hosts,
            per_s: next()?,
            mib: next()?,
        })
    }
}

/// Analyses a fleet that tells what stands in the file, and prints what that took: summaries a CPU second, MiB.
pub(crate) fn hold(template: &std::path::Path, hosts: u32) -> Result<()> {
    let bytes = std::fs::read(template).context("read what hosts tell")?;
    let told = Summary::from_bytes(&bytes)?;
    let pid = std::process::id();
    let before_mib = resident_mib(pid, "VmRSS")?;
    let mut analyzer = Analyzer::new(Settings::default(), IndicatorSet::default());
    let (mut spent_ns, mut count) = (0.0, 0.0);
    for summary in fleet(&told, hosts, FLEET_WINDOWS, FLEET_APART_NS) {
        let before = thread_ns();
        take(&mut analyzer, summary);
        spent_ns += thread_ns() - before;
        count += 1.0;
    }
    let mib = resident_mib(pid, "VmRSS")? - before_mib;
    println!("{} {mib}", count / spent_ns * 1e9);
    Ok(())
}

/// Summaries of so many hosts, window by window.
fn fleet(
    told: &Summary,
    hosts: u32,
    windows: u32,
    apart_ns: u64,
) -> impl Iterator<Item = Summary> + '_ {
    let mut random = Random::new(7);
    (0..windows)
        .flat_map(move |window| (0..hosts).map(move |host| (window, host)))
        .map(move |(window, host)| of_host(told, host, u64::from(window) * apart_ns, &mut random))
}

/// What one host tells in the window that begins so long after the start.
fn of_host(told: &Summary, host: u32, after_ns: u64, random: &mut Random) -> Summary {
    let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + host + 1));
    let start_ns = START_NS + after_ns;
    let local: Vec<IpAddr> = told.host.local.iter().map(|net| net.address).collect();
    let own = |other: IpAddr| {
        if local.contains(&other) {
            address
        } else {
            other
        }
    };
    let shift = |time_ns: u64| start_ns + time_ns.saturating_sub(told.window.start_ns);
    let from = |all: usize, random: &mut Random| random.below(all as u32) as usize;
    let mut summary = Summary {
        host: picket_wire::Host {
            instance: format!("i-0{host:016x}"),
            local: vec![Net {
                address,
                prefix: 32,
            }],
            ..told.host.clone()
        },
        window: Window {
            start_ns,
            end_ns: start_ns + WINDOW_NS,
        },
        ..Summary::default()
    };
    let skip = from(told.conversations.len(), random);
    let all = told.conversations.iter().cycle().skip(skip);
    summary.conversations = all.take(CONVERSATIONS).cloned().collect();
    for conversation in &mut summary.conversations {
        conversation.client = own(conversation.client);
        conversation.server = own(conversation.server);
        conversation.first_ns = shift(conversation.first_ns);
        conversation.last_ns = shift(conversation.last_ns);
    }
    let skip = from(told.questions.len(), random);
    let all = told.questions.iter().cycle().skip(skip);
    summary.questions = all.take(QUESTIONS).cloned().collect();
    for question in &mut summary.questions {
        question.client = own(question.client);
        question.first_ns = shift(question.first_ns);
        question.last_ns = shift(question.last_ns);
    }
    summary
}

/// Summaries analysed in a CPU second, decoding included.
fn analyse(encoded: &[Vec<u8>]) -> Result<f64> {
    let before = thread_ns();
    let mut analyzer = Analyzer::new(Settings::default(), IndicatorSet::default());
    for bytes in encoded {
        take(&mut analyzer, Summary::from_bytes(bytes)?);
    }
    analyzer.finish();
    while analyzer.poll_output().is_some() {}
    Ok(encoded.len() as f64 / (thread_ns() - before) * 1e9)
}

/// Shows one summary to every detection, as `serve` does.
fn take(analyzer: &mut Analyzer, summary: Summary) {
    let watermark_ns = summary.window.end_ns - LATE_WINDOWS * WINDOW_NS;
    analyzer.on_event(Event::Summary(Box::new(summary)));
    analyzer.advance(SourceKind::Agent, watermark_ns);
    while analyzer.poll_output().is_some() {}
}

/// Summaries decoded in a CPU second.
fn decode(encoded: &[Vec<u8>]) -> Result<f64> {
    let before = thread_ns();
    for bytes in encoded {
        std::hint::black_box(Summary::from_bytes(bytes)?);
    }
    Ok(encoded.len() as f64 / (thread_ns() - before) * 1e9)
}
