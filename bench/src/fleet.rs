//! A fleet of ten thousand quiet hosts at one collector: what it holds and what it computes while each
//! of them waits for indicators and ships a small envelope every window, all over connections of their
//! own, by the agent's own client. Windows end everywhere at once, so all of them ship in one moment.
//!
//! The fleet lives in this process, on the same machine, and signs and encrypts as much as the collector
//! verifies and decrypts: the time to an acknowledgement is that of a machine that does both.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use picket_agent::identity::Envelope;
use picket_agent::ship::Collector as Client;
use picket_agent::ship::collector::{PostError, Status};
use picket_wire::bundle::Manifest;
use picket_wire::{AgentId, Claim, PublicKey, Purpose, Signer, Summary};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::Setting;
use crate::cpu::{process_s, resident_mib};
use crate::ingest::{PACKETS_QUIET, summary};
use crate::report::Report;
use crate::rounds::Samples;
use crate::stand::{Agent, Collector};

/// Hosts.
const HOSTS: u32 = 10_000;
/// How often each ships: the length of a window.
const WINDOW: Duration = Duration::from_secs(10);
/// Windows that are measured, each a round.
const WINDOWS: u32 = 5;
/// Connections that are made at once.
const CONNECTING: usize = 64;
/// How long the collector is asked to wait for news.
const WAIT_S: u64 = 30;
/// Longest time until the answer is there.
const ANSWER_WAIT: Duration = Duration::from_secs(WAIT_S + 30);
/// Descriptors that this process needs: a connection each, and some.
const FILES: u64 = HOSTS as u64 + 1_000;

/// Measures.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    // Another part may have chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    raise_files()?;
    let told = summary(setting, PACKETS_QUIET)?;
    let mut agents: Vec<Agent> = (1..=HOSTS).map(Agent::new).collect();
    let folder = setting.scratch.join("fleet");
    let collector = Collector::start(&setting.binaries.collector, &folder, &agents, &told)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let figures = runtime
        .block_on(live(&collector, &mut agents, &told))
        .with_context(|| format!("the collector's log ends: {}", collector.tail()))?;
    report.add(
        "fleet/10k_connected",
        &Samples::alone(vec![figures.connected_s]),
    );
    report.add("fleet/10k_cpu", &Samples::alone(figures.cpu));
    report.add(
        "fleet/10k_acknowledged",
        &Samples::alone(figures.acknowledged_ms),
    );
    report.add(
        "fleet/10k_turned_away",
        &Samples::alone(figures.turned_away),
    );
    report.add("fleet/10k_rss", &Samples::alone(figures.resident));
    Ok(())
}

/// What a fleet costs.
#[derive(Debug, Default)]
struct Figures {
    /// Until each host had its first envelope acknowledged.
    connected_s: f64,
    /// CPU seconds of the collector a second, for each window.
    cpu: Vec<f64>,
    /// Of every envelope, from its post until it was acknowledged.
    acknowledged_ms: Vec<f64>,
    /// How often the collector asked to come later, in each window.
    turned_away: Vec<f64>,
    /// The collector's memory at the end of each window.
    resident: Vec<f64>,
}

async fn live(collector: &Collector, agents: &mut [Agent], told: &Summary) -> Result<Figures> {
    let clients: Vec<_> = agents
        .iter()
        .map(|_| collector.another_client())
        .collect::<Result<_>>()?;
    let began = Instant::now();
    let gate = Arc::new(Semaphore::new(CONNECTING));
    let mut first = JoinSet::new();
    for (agent, client) in agents.iter_mut().zip(&clients) {
        let (client, gate) = (client.clone(), Arc::clone(&gate));
        let envelopes = agent.envelopes(told, 1)?;
        first.spawn(async move {
            let _place = gate.acquire().await?;
            accepted(&client, &envelopes).await
        });
    }
    all(first).await?;
    let mut figures = Figures {
        connected_s: began.elapsed().as_secs_f64(),
        ..Figures::default()
    };
    let key = collector.key()?;
    let mut waiting = JoinSet::new();
    for (agent, client) in agents.iter().zip(&clients) {
        let (id, signer, client) = (agent.chain.agent, Arc::clone(&agent.signer), client.clone());
        waiting.spawn(wait_for_news(id, signer, client, key));
    }
    for _ in 0..WINDOWS {
        let (before, began) = (process_s(collector.id())?, tokio::time::Instant::now());
        let mut window = JoinSet::new();
        for (agent, client) in agents.iter_mut().zip(&clients) {
            let (envelopes, client) = (agent.envelopes(told, 1)?, client.clone());
            window.spawn(async move {
                let began = Instant::now();
                let turned_away = accepted(&client, &envelopes).await?;
                Ok((began.elapsed().as_secs_f64() * 1e3, turned_away))
            });
        }
        let (times, turned_away): (Vec<f64>, Vec<u32>) = all(window).await?.into_iter().unzip();
        figures.acknowledged_ms.extend(times);
        figures
            .turned_away
            .push(f64::from(turned_away.iter().sum::<u32>()));
        tokio::time::sleep_until(began + WINDOW).await;
        let took = began.elapsed().as_secs_f64();
        figures
            .cpu
            .push((process_s(collector.id())? - before) / took);
        figures
            .resident
            .push(resident_mib(collector.id(), "VmRSS")?);
    }
    if let Some(ended) = waiting.try_join_next() {
        ended??;
    }
    Ok(figures)
}

/// Ships one batch, as often as it takes; returns how often the collector asked to come later.
async fn accepted(client: &Client, envelopes: &[Envelope]) -> Result<u32> {
    let mut turned_away = 0;
    loop {
        match client.post(envelopes).await {
            Ok(verdicts) => {
                for verdict in verdicts {
                    ensure!(verdict.status == Status::Accepted, "refused: {verdict:?}");
                }
                return Ok(turned_away);
            }
            Err(PostError::Busy { pause }) => {
                turned_away += 1;
                tokio::time::sleep(pause).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for indicators, again and again, until something is not as it should be.
async fn wait_for_news(
    agent: AgentId,
    signer: Arc<Signer>,
    client: Client,
    key: PublicKey,
) -> Result<()> {
    let mut have = 0;
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let mut once = [0; 16];
        once[..8].copy_from_slice(&u64::try_from(now.as_nanos())?.to_be_bytes());
        let claim = Claim {
            agent,
            purpose: Purpose::Indicators,
            issued_ms: u64::try_from(now.as_millis())?,
            once,
            body: None,
        };
        let request = client
            .get(&format!("indicators?have={have}&wait={WAIT_S}"))?
            .header("authorization", claim.header(&signer))
            .timeout(ANSWER_WAIT);
        let response = request.send().await.context("ask for indicators")?;
        if response.status().as_u16() == 429 || response.status().as_u16() == 503 {
            tokio::time::sleep(WINDOW).await;
            continue;
        }
        ensure!(
            response.status().is_success(),
            "asked: {}",
            response.status()
        );
        if response.status().as_u16() == 200 {
            let bytes = response.bytes().await.context("take indicators")?;
            let signed = Manifest::bytes(&bytes)?.context("a manifest in pieces")?;
            have = Manifest::open(&bytes[..signed], &key)?.version;
        }
    }
}

/// What every one of them gives.
async fn all<T: 'static>(mut tasks: JoinSet<Result<T>>) -> Result<Vec<T>> {
    let mut out = Vec::with_capacity(tasks.len());
    while let Some(task) = tasks.join_next().await {
        out.push(task??);
    }
    Ok(out)
}

/// Lets this process open as many files as the fleet needs.
fn raise_files() -> Result<()> {
    let had = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= FILES);
    if enough(had.current) {
        return Ok(());
    }
    let maximum = if enough(had.maximum) {
        had.maximum
    } else {
        Some(FILES)
    };
    let limit = Rlimit {
        current: Some(FILES),
        maximum,
    };
    setrlimit(Resource::Nofile, limit).context("open as many files as the fleet has connections")
}
