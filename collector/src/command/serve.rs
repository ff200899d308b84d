//! `serve`: the service.
//!
//! ```text
//! agents → listen → gate → journal ┐
//! folders of logs → follow ────────┤
//! queues, buckets → pull ──────────┴→ analysis → findings, outbox → alert channels
//! ```
//!
//! Everything is opened before the first agent is heard, so that a bad configuration shows at once.
//! On SIGTERM the way in closes first and the way out last; whatever is not done by then is on disk
//! and goes on at the next start. If one of the parts ends by itself, so does the process.

mod shared;

use std::fs::{DirBuilder, File, TryLockError};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use picket_intel::IndicatorSet;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::Outcome;
use crate::alert::{self, Office};
use crate::analysis::{self, Analysis, Inbox, Outlet};
use crate::api::{self, Desk, Guard, SocketPeer, Tokens};
use crate::claims::Claims;
use crate::clock;
use crate::config::{BadValue, Config, ConfigError};
use crate::digest::Keys;
use crate::enrol;
use crate::fetch::{self, Fetcher, Prepared};
use crate::files;
use crate::follow::{self, Follower};
use crate::indicators::door::{Door, Queue};
use crate::indicators::{self, Board, Crier, Hub, Inputs};
use crate::ingest::gate::Keeper;
use crate::ingest::health::Health;
use crate::ingest::{self, listen};
use crate::manager::Manager;
use crate::metrics;
use crate::orders::{self, Book};
use crate::portions::Log;
use crate::presence;
use crate::pull::{Backfill, Means as Pulling, Queue as LogQueue};
use crate::registry::Registry;
use crate::rules;
use crate::signing::SigningKey;
use crate::source::hosts;
use crate::store::{Store, upkeep};
use crate::tls;
use crate::trails;
use shared::Shared;

/// How long the parts behind the way in may take to end (chosen by hand: a batch and a flush each).
const END_MAX: Duration = Duration::from_secs(10);

/// What `serve` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Folder of indicator lists, in place of the configuration's
    #[arg(long, value_name = "DIR")]
    intel: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    let mut config = Config::load(&arguments.config)?;
    if arguments.intel.is_some() {
        config.intel_dir = arguments.intel;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let served = runtime.block_on(async { Service::open(config).await?.run().await });
    // Threads that wait for a slow disk are not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match served {
        Ok(()) => Ok(Outcome::Done),
        Err(error) => match error.downcast::<BadValue>() {
            Ok(bad) => Err(ConfigError::Value {
                path: arguments.config,
                bad,
            }
            .into()),
            Err(error) => Err(error),
        },
    }
}

/// Everything opened, nothing running.
struct Service {
    config: Config,
    store: Store,
    agents: Arc<Registry>,
    intel: IndicatorSet,
    hub: Hub,
    board: Board,
    feeds: Prepared,
    channels: Vec<alert::Channel>,
    tls: tls::Identity,
    signing: Arc<SigningKey>,
    orders: Arc<Book>,
    rules: Arc<rules::Book>,
    enrol: enrol::Opened,
    tokens: Arc<Tokens>,
    agents_door: TcpListener,
    operators_door: UnixListener,
    metrics_door: TcpListener,
    /// Held while the state folder is ours.
    _lock: File,
}

impl Service {
    async fn open(config: Config) -> anyhow::Result<Self> {
        files::allow(config.ingest.connections_max);
        let state_dir = &config.state_dir;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(|error| BadValue::file("state_dir", state_dir, &error))?;
        let lock = lock(state_dir)?;
        let store = Store::open(state_dir)
            .with_context(|| format!("open the store in {}", state_dir.display()))?;
        let agents = Registry::open(&config.agents, store.clone())
            .context("read the agents in the store")?;
        let tokens = Tokens::open(store.clone()).context("read the operators in the store")?;
        let channels = alert::open(&config.alert)?;
        let tls = tls::identity(&config.tls, state_dir)?;
        let signing = Arc::new(SigningKey::load_or_create(state_dir)?);
        let enrol = enrol::open(&config)?;
        let names = config.tls.names.clone();
        let orders = Book::open(store.clone(), config.block.clone(), names, config.listen)
            .await
            .context("read the orders to block in the store")?;
        if let Some(folder) = &config.rules.folder {
            std::fs::read_dir(folder)
                .map_err(|error| BadValue::file("rules.folder", folder, &error))?;
        }
        let rules = rules::Book::open(&config.rules, &config.detect(), store.clone())?;
        let inputs = Inputs {
            intel_dir: config.intel_dir.clone(),
            seed: config.seed,
            feeds_dir: state_dir.join("feeds"),
            signing: signing.clone(),
            settings: config.indicators.clone(),
        };
        let kept = store.clone();
        // Before the folder of feeds is read: what is not configured any more is not to be looked for.
        let feeds = Prepared::open(&config.fetch, &config.feed, state_dir, &store).await?;
        let (hub, board, intel) = tokio::task::spawn_blocking(move || Hub::open(inputs, &kept))
            .await
            .context("read indicators")??;
        let agents_door = bind("listen", config.listen).await?;
        let metrics_door = bind("metrics", config.metrics).await?;
        let operators_door = api::listen(&config.socket)
            .map_err(|error| BadValue::file("socket", &config.socket, &error))?;
        Ok(Self {
            agents: Arc::new(agents),
            store,
            intel,
            hub,
            board,
            feeds,
            channels,
            tls,
            signing,
            orders: Arc::new(orders),
            rules: Arc::new(rules),
            enrol,
            tokens: Arc::new(tokens),
            agents_door,
            operators_door,
            metrics_door,
            config,
            _lock: lock,
        })
    }

    async fn run(self) -> anyhow::Result<()> {
        let manager = Manager::of_environment()?;
        let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("wait for SIGINT")?;
        let hangup = signal(SignalKind::hangup()).context("wait for SIGHUP")?;
        let bound = self.agents_door.local_addr().context("ask for the port")?;
        let metrics_bound = self.metrics_door.local_addr().context("ask for the port")?;
        let (state_dir, socket) = (self.config.state_dir.clone(), self.config.socket.clone());
        let drain = Duration::from_secs(self.config.ingest.drain_s);
        let ca_file = self.tls.ca_file.clone();
        let signing_key = self.signing.public();
        let shared = Shared::new(&self.store)?;
        let kept = self.store.clone();

        let mut way_out = JoinSet::new();
        let mut parts = JoinSet::new();
        let (inbox, outlet) = analysis::inbox();
        let crier = Crier::open(
            inbox.clone(),
            shared.metrics.clone(),
            self.config.own_account(),
            &self.store,
        )
        .context("ask the store what was told of indicators")?;
        // Dropped with the wait below: the analysis ends when nobody can ask it anything.
        let reloads = rules::reload(hangup, self.rules.clone(), inbox.clone());
        let pulling = Pulling {
            store: self.store.clone(),
            analysis: inbox.clone(),
            metrics: shared.metrics.clone(),
            keys: Arc::new(self.config.digests.keys()?),
            copies: self.config.state_dir.clone(),
            is_checking: self.config.digests.check,
            account: self.config.only_account(),
            is_stopping: shared.is_stopping.clone(),
        };
        let keys = pulling.keys.clone();
        let pulled = pulled(&self.config, &pulling)?;
        // What is left of the way in would keep the analysis from its end.
        drop(pulling);
        self.start(
            &shared,
            (inbox, outlet),
            crier,
            (pulled, keys),
            &mut parts,
            &mut way_out,
        );
        write_whole(&state_dir.join("metrics"), &format!("{metrics_bound}\n"))?;
        write_whole(&state_dir.join("listen"), &format!("{bound}\n"))?;
        tracing::info!(
            listen = %bound,
            metrics = %metrics_bound,
            socket = %socket.display(),
            ca_file = ca_file.map(|file| file.display().to_string()),
            %signing_key,
            "collector runs"
        );

        let ended_early = tokio::select! {
            // These never end.
            () = reloads => None,
            () = manager.keep(kept, format!("listens on {bound}")) => None,
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
            ended = parts.join_next() => Some(ended),
        };
        manager.stopping();
        tracing::info!("collector stops");
        shared.is_stopping.store(true, Ordering::Relaxed);
        shared.stop_in.stop();
        let is_in_time = tokio::time::timeout(drain + END_MAX, all(&mut parts)).await;
        shared.stop_out.stop();
        let is_out = tokio::time::timeout(END_MAX, all(&mut way_out)).await;
        if is_in_time.is_err() || is_out.is_err() {
            tracing::warn!("some parts did not end in time; what they had not stored comes again");
        }
        let _ = std::fs::remove_file(socket);
        let _ = std::fs::remove_file(state_dir.join("listen"));
        let _ = std::fs::remove_file(state_dir.join("metrics"));
        match ended_early.flatten() {
            None => Ok(()),
            Some(Ok((part, Ok(())))) => Err(anyhow!("the {part} ended by itself")),
            Some(Ok((part, Err(error)))) => Err(error.context(format!("the {part} failed"))),
            Some(Err(error)) => Err(anyhow!(error).context("a part broke off")),
        }
    }

    /// Starts every part; what must run as long as the process goes to `parts`.
    fn start(
        self,
        shared: &Shared,
        (inbox, outlet): (Inbox, Outlet),
        crier: Crier,
        (pulled, keys): (Pulled, Arc<Keys>),
        parts: &mut Parts,
        way_out: &mut JoinSet<()>,
    ) {
        let alert = Arc::new(self.config.alert.clone());
        let fetcher = Fetcher::new(
            self.feeds,
            self.config.own_account(),
            fetch::Means {
                store: self.store.clone(),
                inbox: inbox.clone(),
                metrics: shared.metrics.clone(),
                board: self.board.clone(),
            },
        );
        let rules = self.channels.iter().map(alert::Channel::rule).collect();
        for channel in self.channels {
            let office = Office {
                store: self.store.clone(),
                metrics: shared.metrics.clone(),
                settings: alert.clone(),
                bell: shared.bell.clone(),
            };
            way_out.spawn(office.serve(channel, shared.stop_out.ear()));
        }
        let analysis = Analysis {
            store: self.store.clone(),
            book: self.rules.clone(),
            settings: self.config.detect(),
            gap_grace_ms: self.config.admission.gap_grace_ms,
            intel: self.intel,
            agents: self.agents.clone(),
            rules,
            repeat_ms: alert.repeat_s.saturating_mul(1_000),
            habits_every_ms: self.config.store.baselines_every_s.saturating_mul(1_000),
            bell: shared.bell.clone(),
            backlog: shared.backlog.clone(),
            metrics: shared.metrics.clone(),
            is_stopping: shared.is_stopping.clone(),
        };
        parts.spawn_blocking(move || ("analysis", analysis.run(outlet)));

        let keeper = Keeper {
            agents: self.agents.clone(),
            settings: self.config.admission.clone(),
            store: self.store.clone(),
            analysis: inbox.clone(),
            backlog: shared.backlog.clone(),
            metrics: shared.metrics.clone(),
            refusals: shared.refusals.clone(),
            health: Arc::new(Health::new(self.store.clone(), &self.config.state_dir)),
        };
        let ingest = self.config.ingest.clone();
        let (gate, queue) = keeper.gate(
            ingest.queue_requests_max,
            self.config.store.journal_envelopes_max,
        );
        parts.spawn_blocking(move || ("gate", keeper.run(queue).context("admit envelopes")));
        let enrolment = enrol::router(
            self.enrol,
            enrol::Means {
                registry: self.agents.clone(),
                store: self.store.clone(),
                signing: self.signing.clone(),
                analysis: inbox.clone(),
                metrics: shared.metrics.clone(),
                authorities: self.tls.authorities,
            },
        );
        let queue = Arc::new(Queue::new(self.config.indicators.polls_max));
        let door = Door {
            board: self.board.clone(),
            agents: self.agents.clone(),
            claims: Arc::new(Claims::since(clock::now_ms())),
            queue: queue.clone(),
            metrics: shared.metrics.clone(),
            stop: shared.stop_in.ear(),
        };
        let orders_door = orders::door::Door {
            book: self.orders.clone(),
            signing: self.signing.clone(),
            agents: self.agents.clone(),
            claims: door.claims.clone(),
            queue: Arc::new(Queue::new(self.config.block.polls_max)),
            metrics: shared.metrics.clone(),
            stop: shared.stop_in.ear(),
        };
        let (hub, stop) = (self.hub, shared.stop_in.ear());
        parts.spawn(async { ("publishing of indicators", hub.run(crier, stop).await) });
        let tls = TlsAcceptor::from(self.tls.config);
        let (metrics, stop) = (shared.metrics.clone(), shared.stop_in.ear());
        let guard = Arc::new(Guard::new(
            self.config.api.clone(),
            Duration::from_secs(ingest.body_timeout_s),
            self.tokens.clone(),
            self.store.clone(),
            shared.metrics.clone(),
        ));
        let desk = Desk {
            store: self.store.clone(),
            analysis: inbox.clone(),
            agents: self.agents.clone(),
            feeds: fetcher.clone(),
            tokens: self.tokens.clone(),
            refusals: shared.refusals.clone(),
            indicators: self.board.clone(),
            polls: queue,
            orders: self.orders,
            rules: self.rules,
            signing_key: self.signing.public(),
        };
        let operators = api::at_network(desk.clone(), &guard);
        parts.spawn(async move {
            let router = ingest::router(ingest.clone(), gate, metrics.clone());
            let router = router
                .merge(indicators::door::router(door))
                .merge(orders::door::router(orders_door))
                .merge(enrolment)
                .merge(operators);
            listen::serve(self.agents_door, tls, router, &ingest, metrics, stop).await;
            ("agents' door", Ok(()))
        });
        let router = api::at_socket(desk, &guard);
        let router = router.into_make_service_with_connect_info::<SocketPeer>();
        let operators =
            axum::serve(self.operators_door, router).with_graceful_shutdown(shared.stopping());
        parts.spawn(async {
            (
                "operators' door",
                operators.await.context("serve the socket"),
            )
        });
        let page = metrics::router(shared.metrics.clone(), self.store.clone());
        let metrics_door =
            axum::serve(self.metrics_door, page).with_graceful_shutdown(shared.stopping());
        parts.spawn(async { ("metrics' door", metrics_door.await.context("serve metrics")) });

        let stop = shared.stop_in.ear();
        parts.spawn(async move {
            fetcher.run(stop).await;
            ("fetching of feeds", Ok(()))
        });
        for (settings, log) in followed(&self.config) {
            let follower = Follower {
                settings,
                log,
                keys: self.config.digests.check.then(|| keys.clone()),
                store: self.store.clone(),
                analysis: inbox.clone(),
                copies: self.config.state_dir.clone(),
                metrics: shared.metrics.clone(),
                is_stopping: shared.is_stopping.clone(),
            };
            let stop = shared.stop_in.ear();
            parts.spawn(async { ("reading of log files", follower.run(stop).await) });
        }
        for queue in pulled.0 {
            let stop = shared.stop_in.ear();
            parts.spawn(async { ("reading of a queue", queue.run(stop).await) });
        }
        for backfill in pulled.1 {
            let stop = shared.stop_in.ear();
            parts.spawn(async { ("reading of a bucket", backfill.run(stop).await) });
        }
        beside(
            parts,
            shared,
            &self.config,
            self.store,
            self.agents,
            inbox,
            self._lock,
        );
    }
}

/// Starts what runs beside the way from agents to alerts.
fn beside(
    parts: &mut Parts,
    shared: &Shared,
    config: &Config,
    store: Store,
    agents: Arc<Registry>,
    inbox: Inbox,
    lock: File,
) {
    let stop = shared.stop_in.ear();
    let limits = upkeep::Limits {
        settings: config.store.clone(),
        clock_behind_ms: config.admission.clock_behind_ms,
    };
    let kept = store.clone();
    parts.spawn(async move {
        upkeep::run(kept, limits, stop).await;
        // The state folder is ours until the last part that writes to it has ended.
        drop(lock);
        ("upkeep", Ok(()))
    });
    let trails = trails::Watch {
        settings: config.trails.clone(),
        store: store.clone(),
        inbox: inbox.clone(),
    };
    let ear = shared.stop_in.ear();
    parts.spawn(async move {
        trails.run(ear).await;
        ("watch over trails", Ok(()))
    });
    let watch = presence::Watch {
        silence_s: config.ingest.silence_s,
        store,
        known: agents,
        refusals: shared.refusals.clone(),
        inbox,
        metrics: shared.metrics.clone(),
    };
    let stop = shared.stop_in.ear();
    parts.spawn(async move {
        watch.run(stop).await;
        ("watch over agents", Ok(()))
    });
}

/// What reads queues, and what reads buckets.
type Pulled = (Vec<LogQueue>, Vec<Backfill>);

/// Prepares what is read from AWS.
fn pulled(config: &Config, means: &Pulling) -> Result<Pulled, BadValue> {
    let queues = config.sqs.iter().enumerate().map(|(at, settings)| {
        LogQueue::open(
            &config.aws,
            settings.clone(),
            &format!("sqs[{at}]"),
            means.clone(),
        )
    });
    let backfills = config.s3.iter().enumerate().map(|(at, settings)| {
        Backfill::open(
            &config.aws,
            settings.clone(),
            &format!("s3[{at}]"),
            means.clone(),
        )
    });
    Ok((
        queues.collect::<Result<_, _>>()?,
        backfills.collect::<Result<_, _>>()?,
    ))
}

/// The folders that are followed, and which log each holds, if not CloudTrail.
fn followed(config: &Config) -> Vec<(follow::Settings, Option<Log>)> {
    let alike = [
        (&config.cloudtrail, None),
        (&config.vpc_flow, Some(Log::Hosts(hosts::Log::VpcFlow))),
        (
            &config.resolver,
            Some(Log::Hosts(hosts::Log::ResolverQuery)),
        ),
        (&config.guardduty, Some(Log::Guardduty)),
    ];
    let alike = alike.into_iter().flat_map(|(folders, log)| {
        let each = folders.iter();
        each.map(move |folder| (folder.clone(), log.clone()))
    });
    let rds = config.rds_log.iter();
    let rds = rds.map(|folder| (folder.folder(), Some(Log::Rds(folder.whence()))));
    alike.chain(rds).collect()
}

type Parts = JoinSet<(&'static str, anyhow::Result<()>)>;

/// Waits until every task of a set has ended, however it ended.
async fn all<T: 'static>(tasks: &mut JoinSet<T>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a part broke off");
        }
    }
}

async fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} (configuration key {key})"))
}

/// Makes sure that no other collector works in the folder.
fn lock(state_dir: &Path) -> anyhow::Result<File> {
    let path = state_dir.join("lock");
    let file = File::create(&path).with_context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another collector runs in {}", state_dir.display())
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("lock {}", path.display()))
        }
    }
}

/// Writes a file so that whoever finds it finds all of it.
pub(super) fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    let part = path.with_extension("part");
    std::fs::write(&part, text)
        .and_then(|()| std::fs::rename(&part, path))
        .with_context(|| format!("write {}", path.display()))
}
