//! Run: the service. A thread watches, a thread keeps what was seen, and the runtime ships it and
//! tells the status. Stopping is a drain with a deadline.
//!
//! ```text
//! watch (capture, sensor) ──summaries──→ outbox (seal, spool) ──wake──→ shipper ──→ collector
//!    ↑ commands: indicators, report, stop                                  status socket
//! ```

mod reload;

use std::fs::{self, File, TryLockError};
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use picket_intel::IndicatorSet;
use picket_wire::{AgentId, Host, PublicKey, Summary};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use crate::block::{self, Desk as OrderDesk, Givers};
use crate::capture::heap;
use crate::config::Config;
use crate::enrol::{self, own};
use crate::feeds::{self, Feeds, Seed};
use crate::identity::{Identity, Sealer, former, random_boot};
use crate::intel;
use crate::manager::Manager;
use crate::metrics::Server;
use crate::outbox::{Outbox, Shared, Tallies};
use crate::privilege::{self, Keep};
use crate::ship::{self, Collector, Shipper};
use crate::spool::Spool;
use crate::standalone;
use crate::state::StateFile;
use crate::status::{Desk, Facts, Socket};
use crate::tls::Pins;
use crate::watch::{self, COMMANDS_WAITING_MAX, Command, Plan, SUMMARIES_WAITING_MAX};

use reload::Reload;

/// Time for the last window to reach the spool once we are told to stop.
const DRAIN_WAIT: Duration = Duration::from_secs(10);

/// Time for what is in the spool to reach the collector then. What does not, waits for the next
/// start.
const LAST_SHIPPING_WAIT: Duration = Duration::from_secs(5);

/// A watching thread and the ways to it.
struct Watching {
    commands: SyncSender<Command>,
    thread: JoinHandle<anyhow::Result<()>>,
    /// Rung when the thread ends.
    ended: oneshot::Receiver<()>,
    report: watch::Report,
}

/// The signals we answer to, from before we say that we watch.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    /// Listens from now on; within a runtime.
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("listen for SIGINT")?,
            reload: signal(SignalKind::hangup()).context("listen for SIGHUP")?,
        })
    }
}

/// Runs the service until SIGTERM or SIGINT.
///
/// # Errors
/// It cannot start, or capture breaks off.
pub fn service(mut config: Config) -> anyhow::Result<()> {
    privilege::become_owner(&config.state_dir, Keep::Watching)?;
    privilege::gain_nothing()?;
    heap::keep_little();
    fs::create_dir_all(&config.state_dir)
        .with_context(|| format!("make {}", config.state_dir.display()))?;
    let _lock = lock(&config.state_dir)?;
    let manager = Arc::new(Manager::of_environment()?);
    let runtime = runtime()?;
    // Before anything is said in anybody's name.
    let found = runtime.block_on(own::settle(&mut config))?;
    config.check_shipping()?;
    let config = &config;
    let identity = Identity::load_or_create(&config.key_file())?;
    let (agent, boot) = (identity.agent(), random_boot()?);
    let url = config.collector.clone().unwrap_or_default();
    let pins = config.pins()?;
    let proxy = config.proxy()?;
    let collector = Collector::over(&url, &pins, proxy.as_ref())?;
    let freshening = freshening(config, &pins)?;
    let feeds = load_feeds(config)?;
    let agents = (agent, former(&config.key_file()));
    let orders = Ordered::open(
        config,
        agents,
        config.collector_keys()?,
        collector.address(),
    )?;
    let mut spool = Spool::open(&config.spool_dir(), config.spool)?;
    let renamed = drop_of_other_name(&mut spool, config, agent);
    let (state, before) = StateFile::begin(&config.state_dir, boot, spool.newest_window());
    let kept_ns = before.as_ref().map_or(0, |(finished_ns, _)| *finished_ns);
    let shared = Shared::new(spool, kept_ns);
    shared.tallies.count_cloned(found.set_aside + renamed);
    let (socket, signals) = {
        let _in_runtime = runtime.enter();
        (Socket::bind(&config.socket)?, Signals::listen()?)
    };

    // A sensor without metrics still sees; status and doctor say that there are none.
    let metrics = runtime
        .block_on(Server::bind(config.metrics))
        .unwrap_or_else(|error| {
            tracing::error!(error = format!("{error:#}"), "metrics not served");
            None
        });
    let public_key = identity.public_key_hex();
    let given = Given::open(config, &feeds)?;
    let mut plan = plan(config, before, &feeds)?;
    if let Some(given) = &given {
        plan.set = Arc::clone(&given.set);
    }
    let intel = match (&given, config.no_indicators()?) {
        (Some(given), _) => Some(Arc::clone(&given.shared)),
        (None, Some(why)) => {
            tracing::error!(why, "indicators of the collector are not asked for");
            Some(intel::Shared::none(why))
        }
        (None, None) => None,
    };
    plan.intel.clone_from(&intel);
    plan.options.handover = config.handover(kept_ns);
    let pulse = Arc::clone(&plan.pulse);
    let (summaries, kept) = mpsc::channel(SUMMARIES_WAITING_MAX);
    let watching = start_watching(plan, summaries, Arc::clone(&shared.tallies))?;
    // Threads that start from here on begin with none either.
    privilege::keep_nothing()?;
    // Not before: a start that fails is no run that was killed.
    state
        .write()
        .with_context(|| format!("write to {}", config.state_dir.display()))?;
    let sealer = Sealer::new(agent, boot, identity);
    let outbox = Outbox {
        sealer,
        shared: Arc::clone(&shared),
        state,
    };
    let outbox = thread::Builder::new()
        .name("outbox".into())
        .spawn(move || outbox.run(kept))
        .context("start the outbox thread")?;
    tracing::info!(
        agent_id = %agent, public_key, %boot, rung = watching.report.rung,
        interfaces = ?watching.report.interfaces, collector = url, "watching"
    );

    let report = Arc::new(Mutex::new(ship::Report {
        trouble: found.nobody.clone(),
        ..ship::Report::default()
    }));
    let desk = Arc::new(Desk {
        facts: Facts {
            agent_id: agent.to_string(),
            public_key,
            boot_id: boot.to_string(),
            collector: url,
            identity: found.trouble().map(str::to_owned),
            metrics: metrics.as_ref().map(|server| server.address().to_string()),
            since: Instant::now(),
        },
        commands: watching.commands.clone(),
        last: Mutex::new(watching.report.clone()),
        shared: Arc::clone(&shared),
        ship: Arc::clone(&report),
        intel,
        orders: orders.as_ref().map(|orders| Arc::clone(&orders.shared)),
    });
    let listening = orders
        .as_ref()
        .map(|orders| orders.client(config, &collector, &watching.commands))
        .transpose()?
        .flatten();
    let mut standing = standing(&desk.last.lock().unwrap_or_else(PoisonError::into_inner));
    if let Some(trouble) = found.trouble() {
        standing = format!("{standing}; {trouble}");
    }
    let is_nobody = found.nobody.is_some();
    let anew = own::begin_anew(config.clone(), found);
    let reload = given.as_ref().map(|_| Arc::new(Notify::new()));
    let client = given.map(|given| given.client(&collector, &feeds, &watching.commands));
    let shipper = Shipper::new(collector, agent, shared, report);
    let outcome = runtime.block_on(async {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let mut shipping = match is_nobody {
            // Nothing can be sent that anybody would take.
            true => tokio::spawn(async {}),
            false => tokio::spawn(shipper.run(stopped)),
        };
        let scraped = metrics.map(|server| tokio::spawn(server.serve(Arc::clone(&desk))));
        let serving = tokio::spawn(socket.serve(desk));
        let freshening = freshening.map(tokio::spawn);
        let keeping = Arc::clone(&manager).keep(pulse, config.window(), standing);
        let keeping = tokio::spawn(keeping);
        let asking = client
            .zip(reload.clone())
            .map(|(client, reload)| tokio::spawn(client.run(config.clone(), reload)));
        let listening = listening.map(|client| tokio::spawn(client.run()));
        let lists = match reload {
            Some(reload) => Reload::Client(reload),
            None => Reload::Here(feeds.set.next_expiry_ms()),
        };
        let mut outcome = until_stopped(config, watching, orders, signals, lists, anew).await;
        keeping.abort();
        manager.stopping();
        for asking in [asking, listening].into_iter().flatten() {
            asking.abort();
        }
        match timeout(DRAIN_WAIT, joined(outbox)).await {
            Ok(Some(())) => {}
            Ok(None) => outcome = outcome.and(Err(anyhow!("the outbox thread broke off"))),
            Err(_) => tracing::error!("the last window did not reach the spool in time"),
        }
        stop.send_replace(true);
        if timeout(LAST_SHIPPING_WAIT, &mut shipping).await.is_err() {
            shipping.abort();
            tracing::info!("not everything reached the collector; it waits for the next start");
        }
        if let Some(scraped) = scraped {
            scraped.abort();
        }
        if let Some(freshening) = freshening {
            freshening.abort();
        }
        serving.abort();
        // Until the task is gone its socket is.
        drop(serving.await);
        outcome
    });
    // A thread that did not end in time holds nobody up.
    runtime.shutdown_background();
    outcome
}

/// What keeps the enrolment fresh, where this host is enrolled.
fn freshening(
    config: &Config,
    pins: &Arc<Pins>,
) -> anyhow::Result<Option<impl Future<Output = ()> + Send + 'static>> {
    let Some(enrolment) = config.enrolment.clone() else {
        return Ok(None);
    };
    let client = ship::collector::client(pins, config.proxy()?.as_ref())?;
    let desk = enrol::Desk::new(client, &enrolment.collector)?;
    let identity = Identity::load(&config.key_file())?;
    // Pins that the configuration names stay; what the collector announces is only written down.
    let followed = config.ca_files.is_empty().then(|| Arc::clone(pins));
    let state_dir = config.state_dir.clone();
    Ok(Some(
        desk.keep_fresh(identity, enrolment, followed, state_dir),
    ))
}

/// Watches without a collector and prints hits until SIGTERM, SIGINT or the end of the output.
///
/// # Errors
/// It cannot start, capture breaks off, or the output cannot be written.
pub fn standalone(config: &Config) -> anyhow::Result<()> {
    privilege::gain_nothing()?;
    heap::keep_little();
    let feeds = load_feeds(config)?;
    let nobody = (AgentId::default(), Vec::new());
    let orders = Ordered::open(config, nobody, Vec::new(), None)?;
    let runtime = runtime()?;
    let signals = {
        let _in_runtime = runtime.enter();
        Signals::listen()?
    };
    let (summaries, hits) = mpsc::channel(SUMMARIES_WAITING_MAX);
    let watching = start_watching(plan(config, None, &feeds)?, summaries, Arc::default())?;
    privilege::keep_nothing()?;
    tracing::info!(
        rung = watching.report.rung, interfaces = ?watching.report.interfaces, "watching"
    );
    let commands = watching.commands.clone();
    let printing = thread::Builder::new()
        .name("print".into())
        .spawn(move || {
            let outcome = standalone::run(hits, io::stdout().lock());
            // Nobody reads any more: there is nothing left to watch for.
            drop(commands.try_send(Command::Stop));
            outcome
        })
        .context("start the printing thread")?;
    let lists = Reload::Here(feeds.set.next_expiry_ms());
    let never = std::future::pending();
    runtime.block_on(until_stopped(
        config, watching, orders, signals, lists, never,
    ))?;
    match printing.join() {
        Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("write hits")
        }
        Ok(_) => Ok(()),
        Err(_) => bail!("the printing thread broke off"),
    }
}

/// What the collector gave before, and the way to more.
struct Given {
    kept: intel::Kept,
    shared: Arc<intel::Shared>,
    identity: Identity,
    /// What is kept of it, with the host's own lists.
    set: Arc<IndicatorSet>,
}

impl Given {
    /// Opens what is kept, if a collector's key is named.
    fn open(config: &Config, feeds: &Feeds) -> anyhow::Result<Option<Self>> {
        let keys = config.collector_keys()?;
        if keys.is_empty() {
            return Ok(None);
        }
        let mut kept = intel::Kept::open(&config.state_dir, keys)?;
        let set = match kept.set(&feeds.set) {
            Some(Ok(set)) => Arc::new(set),
            Some(Err(refusal)) => {
                tracing::error!(error = refusal.why, "kept indicators not used");
                Arc::clone(&feeds.set)
            }
            None => Arc::clone(&feeds.set),
        };
        Ok(Some(Self {
            kept,
            shared: intel::Shared::new(Duration::from_secs(config.indicators.stale_after_s)),
            identity: Identity::load(&config.key_file())?,
            set,
        }))
    }

    fn client(
        self,
        collector: &Collector,
        feeds: &Feeds,
        commands: &SyncSender<Command>,
    ) -> intel::Client {
        intel::Client::new(
            collector.clone(),
            self.identity,
            self.kept,
            Arc::clone(&feeds.set),
            self.shared,
            commands.clone(),
        )
    }
}

/// Orders to block: where they come in, and who asks for them.
struct Ordered {
    desk: OrderDesk,
    givers: Givers,
    shared: Arc<block::Shared>,
    /// Rung when there is something new for the desk.
    bell: Arc<Notify>,
}

impl Ordered {
    /// Opens the desk, if anybody gives orders to this host: the agent it is, and those it was.
    fn open(
        config: &Config,
        agents: (AgentId, Vec<AgentId>),
        keys: Vec<PublicKey>,
        collector: Option<(String, u16)>,
    ) -> anyhow::Result<Option<Self>> {
        let (block, state_dir) = (&config.block, &config.state_dir);
        let Some(givers) = Givers::of(block, state_dir, agents, keys)? else {
            return Ok(None);
        };
        let shared = block::Shared::of(&givers);
        let told = Arc::clone(&shared);
        Ok(Some(Self {
            desk: OrderDesk::open(block, state_dir, givers.clone(), collector, told)?,
            givers,
            shared,
            bell: Arc::default(),
        }))
    }

    /// Who asks the collector, if it is to be asked.
    fn client(
        &self,
        config: &Config,
        collector: &Collector,
        commands: &SyncSender<Command>,
    ) -> anyhow::Result<Option<block::Client>> {
        if !self.givers.is_collector() {
            return Ok(None);
        }
        Ok(Some(block::Client::new(
            collector.clone(),
            Identity::load(&config.key_file())?,
            (self.givers.clone(), &config.state_dir),
            Arc::clone(&self.shared),
            commands.clone(),
            Arc::clone(&self.bell),
        )))
    }
}

/// One runtime on the main thread: it waits far more than it works.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().context("start the runtime")
}

/// Two agents with one state folder would fork the chain.
fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("another agent runs in {}", folder.display()),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("lock {}", path.display()))
        }
    }
}

fn load_feeds(config: &Config) -> anyhow::Result<Feeds> {
    let feeds = Feeds::gather(config.intel_dir.as_deref(), Seed::of(config.seed));
    let feeds = feeds.map_err(feeds::as_config)?;
    for complaint in feeds.complaints() {
        tracing::warn!(complaint, "indicators");
    }
    Ok(feeds)
}

fn plan(config: &Config, before: Option<(u64, String)>, feeds: &Feeds) -> anyhow::Result<Plan> {
    let identity = config.identity.clone();
    Ok(Plan {
        host: Host {
            instance: identity.instance,
            account: identity.account,
            region: identity.region,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Host::default()
        },
        capture: config.capture.clone(),
        options: config.options(),
        window: config.window(),
        before,
        set: Arc::clone(&feeds.set),
        filter: config.filter.filter()?,
        privacy: config.privacy.open()?,
        intel: None,
        block: config.block.force(),
        pulse: Arc::default(),
    })
}

/// What the service manager shows of us.
fn standing(report: &watch::Report) -> String {
    match report.interfaces.as_slice() {
        [] => format!("no interface to watch yet ({})", report.rung),
        some => format!("watches {} ({})", some.join(" "), report.rung),
    }
}

/// Starts the watching thread and waits until it captures.
fn start_watching(
    plan: Plan,
    summaries: mpsc::Sender<Summary>,
    tallies: Arc<Tallies>,
) -> anyhow::Result<Watching> {
    let (commands, told) = sync_channel(COMMANDS_WAITING_MAX);
    let (started, starting) = oneshot::channel();
    let (ending, ended) = oneshot::channel();
    let thread = thread::Builder::new()
        .name("watch".into())
        .spawn(move || {
            let outcome = watch::run(plan, &told, summaries, tallies, started);
            let _ = ending.send(());
            outcome
        })
        .context("start the watching thread")?;
    let report = starting
        .blocking_recv()
        .context("the watching thread broke off")??;
    Ok(Watching {
        commands,
        thread,
        ended,
        report,
    })
}

/// Waits for a signal, the end of the watching thread or a reason to begin anew, reloading indicators on SIGHUP. Then
/// stops the thread; its last summaries are on their way when this returns.
async fn until_stopped(
    config: &Config,
    watching: Watching,
    mut orders: Option<Ordered>,
    mut signals: Signals,
    mut lists: Reload,
    anew: impl Future<Output = String>,
) -> anyhow::Result<()> {
    let Watching {
        commands,
        thread,
        mut ended,
        ..
    } = watching;
    let mut look = interval(block::LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let bell = orders.as_ref().map(|orders| Arc::clone(&orders.bell));
    let bell = bell.unwrap_or_default();
    let mut anew = pin!(anew);
    let mut begins_anew = None;
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = &mut ended => break,
            why = &mut anew => {
                begins_anew = Some(why);
                break;
            }
            () = time_to_look(&mut look, &bell), if orders.is_some() => if let Some(Ordered { desk, .. }) = &mut orders {
                let command = match desk.look().await {
                    Ok(posted) => posted.map(Command::Orders),
                    Err(error) => Some(Command::OrdersRefused(format!("{error:#}"))),
                };
                if command.is_some_and(|command| commands.try_send(command).is_err()) {
                    tracing::warn!("orders not passed on yet: the watching thread is busy");
                    desk.forget();
                }
            },
            _ = signals.reload.recv() => lists.reload(config, &commands),
            () = feeds::over(lists.over_ms()) => lists.reload(config, &commands),
        }
    }
    // Fails when it has ended already, or when it is stuck, and then so are we: the manager kills.
    drop(commands.try_send(Command::Stop));
    drop(commands);
    joined(thread)
        .await
        .unwrap_or_else(|| Err(anyhow!("the watching thread broke off")))?;
    // Whoever started us does it again: nothing here is in a name that is good any more.
    begins_anew.map_or(Ok(()), |why| {
        Err(anyhow!("ended to be started anew: {why}"))
    })
}

/// Lets go of what waits of our own if it speaks of another name than this host has now: it was seen
/// before the host was enrolled as something else, and would be taken for words in another's name. Says how
/// many envelopes that were.
fn drop_of_other_name(spool: &mut Spool, config: &Config, agent: AgentId) -> u64 {
    let is_other = spool.newest_instance().is_some_and(|(of, instance)| {
        of == agent && instance != config.identity.instance && config.enrolment.is_some()
    });
    if !is_other {
        return 0;
    }
    let envelopes = spool.clear();
    tracing::warn!(
        envelopes,
        "dropped what waited under another name of this host"
    );
    envelopes
}

/// Waits until orders are to be looked for: soon, or when it is known that there are some.
async fn time_to_look(look: &mut Interval, bell: &Notify) {
    tokio::select! {
        _ = look.tick() => {}
        () = bell.notified() => {}
    }
}

/// The outcome of a thread, `None` if it panicked.
async fn joined<T: Send + 'static>(thread: JoinHandle<T>) -> Option<T> {
    let waiting = tokio::task::spawn_blocking(move || thread.join().ok());
    waiting.await.ok().flatten()
}
