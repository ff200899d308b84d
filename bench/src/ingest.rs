//! What an envelope costs the collector until it is verified, durable and acknowledged, against what
//! its signature alone costs. A real collector takes them in over TLS from some agents at once, by
//! the agent's own client; the summaries are of a capture that the agent read.
//!
//! `collector/ingest_vs_verify` posts the smallest summaries, those of quiet hosts, so that what is
//! measured is taking in. `collector/ingest_typical` posts whole ones, whose analysis, which goes on
//! beside, is part of the process's time. `collector/ingest_vs_fsync` posts small ones, each in a
//! request of its own that waits for its answer, against the wall clock: agents that come at once
//! share a sync, so the disk does not bound them as it bounds who syncs after each.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use picket_agent::identity::Envelope;
use picket_tests::product::story;
use picket_wire::{PublicKey, Sealed, Signer, Summary};

use crate::Setting;
use crate::capture;
use crate::cpu::process_s;
use crate::report::Report;
use crate::rounds::{Samples, thread_ns};
use crate::stand::{Agent, Collector};

/// Agents that ship at once.
const AGENTS: u32 = 8;
/// Agents that ship at once where each request is one envelope.
const AGENTS_SINGLE: u32 = 64;
/// Envelopes of a request: what has gathered over a short outage.
const BATCH: usize = 32;
/// Requests of each agent in a round.
const BATCHES_SMALL: usize = 32;
/// The same with whole summaries.
const BATCHES_TYPICAL: usize = 2;
/// The same where each request is one envelope.
const BATCHES_SINGLE: usize = 32;
/// Envelopes that the bare file is synced after.
const SYNCS: usize = 64;
/// Packets of the capture that the summaries tell of.
const PACKETS: u32 = 50_000;
/// The same of a quiet host.
pub(crate) const PACKETS_QUIET: u32 = 10;

/// Measures.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    // Another part may have chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let typical = summary(setting, PACKETS)?;
    let small = summary(setting, PACKETS_QUIET)?;
    let rounds = setting.rounds.min(5);

    let mut stand = Stand::raise(setting, "small", AGENTS, &small)?;
    let mut samples = Samples::default();
    for _ in 0..rounds {
        let envelopes = stand.envelopes(BATCHES_SMALL * BATCH)?;
        let bare = stand.verify(&envelopes)?;
        samples.add(
            take_in(&stand.collector, &envelopes, BATCH)?.per_cpu_s,
            bare,
        );
    }
    report.add("collector/ingest_vs_verify", &samples);
    drop(stand);

    let mut stand = Stand::raise(setting, "single", AGENTS_SINGLE, &small)?;
    let mut samples = Samples::default();
    for _ in 0..rounds {
        let envelopes = stand.envelopes(BATCHES_SINGLE)?;
        let bare = sync_each(&setting.scratch, &envelopes[0][0].bytes)?;
        samples.add(take_in(&stand.collector, &envelopes, 1)?.per_s, bare);
    }
    report.add("collector/ingest_vs_fsync", &samples);
    drop(stand);

    let mut stand = Stand::raise(setting, "typical", AGENTS, &typical)?;
    let (mut samples, mut megabytes) = (Samples::default(), Samples::default());
    for _ in 0..rounds {
        let envelopes = stand.envelopes(BATCHES_TYPICAL * BATCH)?;
        let bare = stand.verify(&envelopes)?;
        let taken = take_in(&stand.collector, &envelopes, BATCH)?;
        let each = envelopes[0][0].bytes.len() as f64 / 1e6;
        samples.add(taken.per_cpu_s, bare);
        megabytes.add(taken.per_cpu_s * each, bare * each);
    }
    report.add("collector/ingest_typical", &samples);
    report.add("collector/ingest_typical_bytes", &megabytes);
    Ok(())
}

/// A collector and the agents that it knows.
struct Stand<'a> {
    agents: Vec<Agent>,
    collector: Collector,
    summary: &'a Summary,
}

impl<'a> Stand<'a> {
    fn raise(setting: &Setting, name: &str, agents: u32, summary: &'a Summary) -> Result<Self> {
        let folder = setting.scratch.join(format!("ingest-{name}"));
        let agents: Vec<Agent> = (1..=agents).map(Agent::new).collect();
        let collector = Collector::start(&setting.binaries.collector, &folder, &agents, summary)?;
        Ok(Self {
            agents,
            collector,
            summary,
        })
    }

    /// So many new envelopes of each agent.
    fn envelopes(&mut self, count: usize) -> Result<Vec<Vec<Envelope>>> {
        let summary = self.summary;
        let each = self.agents.iter_mut();
        each.map(|agent| agent.envelopes(summary, count)).collect()
    }

    fn verify(&self, envelopes: &[Vec<Envelope>]) -> Result<f64> {
        verify(&self.agents, envelopes)
    }
}

/// How many envelopes a second are durable that are written to one file, synced after each.
fn sync_each(folder: &Path, envelope: &[u8]) -> Result<f64> {
    let mut file = fs::File::create(folder.join("synced")).context("make a file to sync")?;
    let began = Instant::now();
    for _ in 0..SYNCS {
        file.write_all(envelope)?;
        file.sync_data()?;
    }
    Ok(SYNCS as f64 / began.elapsed().as_secs_f64())
}

/// The fullest summary that the agent makes of a capture of so many packets.
pub(crate) fn summary(setting: &Setting, packets: u32) -> Result<Summary> {
    let path = setting.scratch.join("told.pcap");
    capture::write(&path, packets)?;
    let out = setting.scratch.join("told.cbor");
    let output = Command::new(&setting.binaries.agent)
        .arg("replay")
        .arg(&path)
        .args([
            "--local",
            "10.77.0.10/32",
            "--instance",
            "i-0123456789abcdef0",
        ])
        .args([
            "--account",
            "111122223333",
            "--region",
            "eu-central-1",
            "--out",
        ])
        .arg(&out)
        .output()
        .context("start picket-agent replay")?;
    ensure!(
        output.status.success(),
        "picket-agent replay: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let stream = fs::read(&out).context("read its envelopes")?;
    let told = story::open_all(&stream, &Signer::development().public_key())?;
    told.into_iter()
        .map(|one| one.summary)
        .max_by_key(|summary| summary.conversations.len())
        .context("no summary")
}

/// Envelopes whose signature one CPU second checks.
fn verify(agents: &[Agent], envelopes: &[Vec<Envelope>]) -> Result<f64> {
    let mut count = 0;
    let before = thread_ns();
    for (agent, envelopes) in agents.iter().zip(envelopes) {
        let key: PublicKey = agent.signer.public_key();
        for envelope in envelopes {
            std::hint::black_box(Sealed::parse(&envelope.bytes)?.verify(&key)?);
            count += 1;
        }
    }
    Ok(f64::from(count) / (thread_ns() - before) * 1e9)
}

/// Envelopes that a collector took in.
struct Taken {
    /// By the wall clock.
    per_s: f64,
    /// By its own.
    per_cpu_s: f64,
}

/// Posts all, each agent's in order, `batch` in a request, and waits until all are acknowledged.
fn take_in(collector: &Collector, envelopes: &[Vec<Envelope>], batch: usize) -> Result<Taken> {
    let pid = collector.id();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let before = process_s(pid)?;
    let began = Instant::now();
    let accepted: usize = runtime.block_on(async {
        let mut tasks = Vec::new();
        for chain in envelopes {
            let (client, chain) = (collector.client.clone(), chain.clone());
            tasks.push(tokio::spawn(async move {
                let mut accepted = 0;
                for batch in chain.chunks(batch) {
                    for verdict in client.post(batch).await? {
                        let is_in =
                            verdict.status == picket_agent::ship::collector::Status::Accepted;
                        ensure!(is_in, "refused: {verdict:?}");
                        accepted += 1;
                    }
                }
                Ok(accepted)
            }));
        }
        let mut sum = 0;
        for task in tasks {
            sum += task.await??;
        }
        Ok::<_, anyhow::Error>(sum)
    })?;
    let expected: usize = envelopes.iter().map(Vec::len).sum();
    ensure!(accepted == expected, "{accepted} of {expected} accepted");
    Ok(Taken {
        per_s: accepted as f64 / began.elapsed().as_secs_f64(),
        per_cpu_s: accepted as f64 / (process_s(pid)? - before),
    })
}
