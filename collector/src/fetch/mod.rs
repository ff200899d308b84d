//! Fetches indicator lists from their makers into `<state_dir>/feeds`.
//!
//! ```text
//! due → ask (file, MISP, TAXII) → staging → judge → in its place → feeds.toml
//!                                              └──→ held back, until an operator takes it
//! ```
//!
//! Each feed has a task that sleeps until its time, which is kept over restarts; no two ask the same
//! server at once. What comes takes its place only if it can be read, did not lose more than half of its
//! entries and fits beside all else; until then the old stays, and that is a finding. The collector fetches so that its agents
//! need not: makers of lists count requests, and hosts often cannot reach them.

mod client;
mod error;
mod file;
mod folder;
mod judge;
mod limits;
mod line;
mod misp;
mod names;
mod pause;
pub(crate) mod settings;
mod taxii;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use picket_detect::{FeedEvent, FeedWord};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use crate::analysis::Inbox;
use crate::clock;
use crate::indicators::{Board, Room};
use crate::metrics::Metrics;
use crate::stop::Stop;
use crate::store::feeds::{self, FeedRow, Held, Validators, Version};
use crate::store::{Store, StoreError};

use client::Client;
use error::FetchError;
use folder::{Folder, Staging};
use judge::{Judged, Refusal, short};
use limits::SLEEP_MAX;
pub(crate) use line::FeedLine;
use line::line;
pub(crate) use settings::{Feed, Settings, Via};

/// What came of asking.
enum Came {
    /// What is in use is the latest; perhaps the server has new names for it.
    Unchanged(Option<Validators>),
    /// Something that lies in the staging folder; its entries are not counted yet.
    New(Version),
}

/// The fetcher. Clones share it.
#[derive(Clone)]
pub(crate) struct Fetcher {
    inner: Arc<Inner>,
}

struct Inner {
    feeds: Vec<Feed>,
    /// One for each feed: held while its state or its files change.
    busy: Vec<Mutex<()>>,
    /// One for each server.
    servers: HashMap<String, Arc<Mutex<()>>>,
    places: Semaphore,
    /// Held while `feeds.toml` is written.
    index: Mutex<()>,
    folder: Folder,
    store: Store,
    inbox: Inbox,
    metrics: Arc<Metrics>,
    board: Board,
    /// Held while what came is judged and put in its place.
    judging: Mutex<()>,
    /// What each feed takes that was put in its place since the start: it is published a little later.
    sizes: std::sync::Mutex<BTreeMap<String, Room>>,
    /// Account that the findings are about.
    account: String,
}

/// The configured feeds, with the store and the folder in line with them: what is read of the folder
/// from here on is configured.
pub(crate) struct Prepared {
    feeds: Vec<Feed>,
    folder: Folder,
    at_once_max: usize,
}

/// Whom the fetcher works with.
pub(crate) struct Means {
    /// Where everything is.
    pub(crate) store: Store,
    /// Where findings come from.
    pub(crate) inbox: Inbox,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// How much room there is.
    pub(crate) board: Board,
}

impl Prepared {
    /// Opens the folder, and brings the store and the folder in line with the configuration.
    pub(crate) async fn open(
        settings: &Settings,
        configured: &[Feed],
        state_dir: &Path,
        store: &Store,
    ) -> anyhow::Result<Self> {
        let feeds = settings::feeds(settings, configured)?;
        settings::check(settings, &feeds)?;
        let origins: Vec<(String, String)> = feeds
            .iter()
            .map(|feed| (feed.name.clone(), feed.origin()))
            .collect();
        store
            .write(move |transaction| feeds::settle(transaction, &origins, clock::now_ms()))
            .await
            .context("keep what is known of feeds")?;
        let folder = Folder::open(state_dir).context("open the folder of feeds")?;
        settle(store, &folder, &feeds)
            .await
            .context("put the folder of feeds in order")?;
        Ok(Self {
            feeds,
            folder,
            at_once_max: settings.at_once_max,
        })
    }
}

/// Brings `feeds.toml` and the folder in line with the versions in use.
async fn settle(store: &Store, folder: &Folder, feeds: &[Feed]) -> anyhow::Result<()> {
    let rows = store.read_async(feeds::list).await?;
    let used: BTreeMap<&str, &str> = rows
        .iter()
        .filter_map(|row| Some((row.name.as_str(), row.current.as_ref()?.content.as_str())))
        .collect();
    let lists: Vec<(&Feed, &str)> = feeds
        .iter()
        .filter_map(|feed| Some((feed, *used.get(feed.name.as_str())?)))
        .filter(|(_, content)| folder.path(content).exists())
        .collect();
    folder.settle(&lists).context("write feeds.toml")
}

impl Fetcher {
    /// One that goes on from what is known. `account` is the one that findings are about.
    pub(crate) fn new(prepared: Prepared, account: String, means: Means) -> Self {
        let Prepared {
            feeds,
            folder,
            at_once_max,
        } = prepared;
        let servers = feeds
            .iter()
            .map(|feed| (server(feed), Arc::default()))
            .collect();
        for feed in feeds.iter().filter(|feed| feed.url.starts_with("http:")) {
            tracing::warn!(
                feed = feed.name,
                "feed is fetched without TLS from this machine"
            );
        }
        let inner = Inner {
            busy: feeds.iter().map(|_| Mutex::new(())).collect(),
            feeds,
            servers,
            places: Semaphore::new(at_once_max),
            index: Mutex::new(()),
            folder,
            store: means.store,
            inbox: means.inbox,
            metrics: means.metrics,
            board: means.board,
            judging: Mutex::default(),
            sizes: std::sync::Mutex::default(),
            account,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Fetches each feed when it is due, until told to stop. What is under way then is dropped: it
    /// comes again.
    pub(crate) async fn run(self, mut stop: Stop) {
        let mut tasks = JoinSet::new();
        for at in 0..self.inner.feeds.len() {
            tasks.spawn(self.inner.clone().follow(at));
        }
        stop.told().await;
        tasks.shutdown().await;
    }

    /// How each feed does, by name.
    pub(crate) async fn list(&self) -> Result<Vec<FeedLine>, StoreError> {
        let rows = self.inner.store.read_async(feeds::list).await?;
        let (now_ms, standings) = (clock::now_ms(), self.inner.board.standings());
        let lines = rows.iter().map(|row| line(row, &standings, now_ms));
        Ok(lines.collect())
    }

    /// Takes what is held back of a feed.
    pub(crate) async fn accept(&self, name: &str) -> anyhow::Result<Accepted> {
        let inner = &self.inner;
        let Some(at) = inner.feeds.iter().position(|feed| feed.name == name) else {
            return Ok(Accepted::Nothing);
        };
        let _busy = inner.busy[at].lock().await;
        let mut row = inner.row(at).await?;
        let Some(held) = row.held.take() else {
            return Ok(Accepted::Nothing);
        };
        // What would be left out anyway must not cost what is in use.
        let _judging = inner.judging.lock().await;
        let (held_dir, room) = (inner.folder.held(name), inner.room_for(name));
        let judged = tokio::task::spawn_blocking(move || judge::judge(&held_dir, None, room));
        let judged = judged.await.context("judge what is held back")?;
        if let Some(refusal @ (Refusal::NoRoom(_) | Refusal::TooWide(_))) = judged.refusal {
            return Ok(Accepted::TooMuch(refusal.to_string()));
        }
        inner.note_size(name, judged.size);
        inner
            .folder
            .release(name, &held.version.content)
            .context("put what was held back in its place")?;
        row.current = Some(held.version);
        row.changed_ms = clock::now_ms();
        inner.keep(row).await?;
        inner.settle().await?;
        inner.tell(at, FeedWord::Good);
        tracing::info!(feed = name, "version of a feed that was held back is taken");
        Ok(Accepted::Taken)
    }
}

/// What became of taking what is held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// It is in use.
    Taken,
    /// There is no such feed, or nothing is held back of it.
    Nothing,
    /// It would not be looked for; why.
    TooMuch(String),
}

/// The server a feed is on, by name and port.
fn server(feed: &Feed) -> String {
    feed.url()
        .map_or_else(|_| String::new(), |url| url.origin().ascii_serialization())
}

impl Inner {
    async fn row(&self, at: usize) -> anyhow::Result<FeedRow> {
        let name = self.feeds[at].name.clone();
        let row = self
            .store
            .read_async(move |connection| feeds::one(connection, &name))
            .await?;
        row.context("the feed is not in the store")
    }

    /// What there is for a feed beside all others.
    fn room_for(&self, name: &str) -> Room {
        let sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        let others = self.feeds.iter().filter(|feed| feed.name != name);
        let others = others.map(|feed| (&*feed.name, sizes.get(&feed.name).copied()));
        self.board.standings().room_beside(others)
    }

    fn note_size(&self, name: &str, size: Room) {
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        sizes.insert(name.to_owned(), size);
    }

    async fn keep(&self, row: FeedRow) -> Result<(), StoreError> {
        self.store
            .write(move |transaction| feeds::put(transaction, &row))
            .await
    }

    /// Looks at a feed again and again.
    async fn follow(self: Arc<Self>, at: usize) {
        let feed = &self.feeds[at];
        loop {
            match self.row(at).await {
                Ok(row) => {
                    // A clock that was set back, and a pause that was configured once, must not keep
                    // it waiting.
                    let latest_ms = row
                        .checked_ms
                        .saturating_add(longest_ms(feed, row.failures));
                    let due_ms = row.next_ms.min(latest_ms);
                    let now_ms = clock::now_ms();
                    let is_back = now_ms < row.checked_ms;
                    if now_ms >= due_ms || is_back {
                        self.clone().round(at).await;
                        continue;
                    }
                    let left = Duration::from_millis(due_ms - now_ms);
                    tokio::time::sleep(left.min(SLEEP_MAX)).await;
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(feed = feed.name, error, "state of a feed not readable");
                    tokio::time::sleep(SLEEP_MAX).await;
                }
            }
        }
    }

    /// Fetches a feed once and keeps what came of it.
    async fn round(self: Arc<Self>, at: usize) {
        if let Err(error) = self.try_round(at).await {
            let (feed, error) = (&self.feeds[at].name, format!("{error:#}"));
            tracing::error!(feed, error, "what came of a feed could not be kept");
            tokio::time::sleep(SLEEP_MAX).await;
        }
    }

    async fn try_round(&self, at: usize) -> anyhow::Result<()> {
        let feed = &self.feeds[at];
        let server = self.servers.get(&server(feed)).cloned().unwrap_or_default();
        let _server = server.lock().await;
        let _place = self.places.acquire().await?;
        let _busy = self.busy[at].lock().await;
        let mut row = self.row(at).await?;
        let staging = self.folder.staging(&feed.name)?;
        let limit = Duration::from_secs(feed.timeout_s);
        let asked = tokio::time::timeout(limit, self.ask(feed, &row, &staging)).await;
        let came = asked.unwrap_or(Err(FetchError::Slow(feed.timeout_s)));
        row.checked_ms = clock::now_ms();
        let word = match came {
            Err(error) => self.failed(feed, &mut row, &error),
            Ok(Came::Unchanged(names)) => {
                if let (Some(names), Some(current)) = (names, &mut row.current) {
                    current.validators = names;
                }
                self.well(at, &mut row)?;
                "unchanged"
            }
            Ok(Came::New(version)) => self.weigh(at, &mut row, &staging, version).await?,
        };
        self.metrics.feed_fetches.add(word, 1);
        self.look_for_staleness(at, &mut row);
        self.keep(row).await?;
        self.settle().await
    }

    async fn ask(&self, feed: &Feed, row: &FeedRow, staging: &Staging) -> Result<Came, FetchError> {
        let client = Client::open(feed)?;
        let (current, folder) = (row.current.as_ref(), &self.folder);
        match feed.via {
            Via::File => file::fetch(&client, &feed.name, current, folder, staging).await,
            Via::Misp => misp::fetch(&client, &feed.name, current, folder, staging).await,
            Via::Taxii => taxii::fetch(&client, &feed.name, current, folder, staging).await,
        }
    }

    /// Notes a failure; returns its word.
    fn failed(&self, feed: &Feed, row: &mut FeedRow, error: &FetchError) -> &'static str {
        row.failures = row.failures.saturating_add(1);
        let why = short(&error.to_string());
        let pause_ms = pause::after_failure_ms(row.failures, feed.every_s, error.retry_after_s());
        row.next_ms = row.checked_ms.saturating_add(pause_ms);
        tracing::warn!(
            feed = feed.name,
            error = why,
            failures = row.failures,
            pause_s = pause_ms / 1_000,
            "feed not fetched; what is in use stays"
        );
        row.last_error = Some(why);
        error.word()
    }

    /// Notes an answer in full.
    fn answered(&self, feed: &Feed, row: &mut FeedRow) {
        row.failures = 0;
        row.last_error = None;
        row.success_ms = row.checked_ms;
        row.next_ms = row
            .checked_ms
            .saturating_add(pause::after_success_ms(feed.every_s));
    }

    /// Notes that what is in use is good, and that nothing is held back any more.
    fn well(&self, at: usize, row: &mut FeedRow) -> anyhow::Result<()> {
        let feed = &self.feeds[at];
        self.answered(feed, row);
        if row.held.take().is_some() {
            self.folder.drop_held(&feed.name)?;
            self.tell(at, FeedWord::Good);
        }
        Ok(())
    }

    /// Judges what came, and puts it in its place or aside; returns a word for it.
    async fn weigh(
        &self,
        at: usize,
        row: &mut FeedRow,
        staging: &Staging,
        mut version: Version,
    ) -> anyhow::Result<&'static str> {
        let feed = &self.feeds[at];
        let path = staging.path(&version.content);
        let root = self.folder.describe(staging, feed, &version.content)?;
        let before = row.current.as_ref().map(|current| current.entries);
        // One after the other, so that no two are given the same room.
        let _judging = self.judging.lock().await;
        let room = self.room_for(&feed.name);
        let judged = tokio::task::spawn_blocking(move || {
            if path.is_file() && judge::is_page(&std::fs::read(&path)?) {
                return Ok(Judged::nothing(Refusal::Page));
            }
            Ok::<_, std::io::Error>(judge::judge(&root, before, room))
        });
        let Judged {
            entries,
            size,
            refusal,
        } = judged.await.context("judge what came")??;
        version.entries = entries;
        let Some(refusal) = refusal else {
            tracing::info!(
                feed = feed.name,
                entries,
                bytes = version.bytes,
                "feed changed"
            );
            self.note_size(&feed.name, size);
            self.folder.adopt(staging, &version.content)?;
            row.changed_ms = row.checked_ms;
            row.current = Some(version);
            self.well(at, row)?;
            return Ok("changed");
        };
        let why = short(&refusal.to_string());
        tracing::error!(
            feed = feed.name,
            why,
            entries,
            "what came of a feed is held back; what is in use stays"
        );
        self.folder.hold(staging, &feed.name)?;
        self.answered(feed, row);
        row.held = Some(Held {
            since_ms: row
                .held
                .as_ref()
                .map_or(row.checked_ms, |held| held.since_ms),
            version,
            why: why.clone(),
        });
        self.tell(at, FeedWord::Refused { why });
        Ok(refusal.word())
    }

    /// Says once that no answer came for too long, and once that one came again.
    fn look_for_staleness(&self, at: usize, row: &mut FeedRow) {
        let since_ms = row.success_ms.max(row.added_ms);
        let limit_ms = self.feeds[at].stale_s().saturating_mul(1_000);
        let is_stale = row.checked_ms.saturating_sub(since_ms) >= limit_ms;
        if is_stale == row.is_stale_told {
            return;
        }
        row.is_stale_told = is_stale;
        self.tell(
            at,
            if is_stale {
                let why = row.last_error.clone().unwrap_or_default();
                FeedWord::Stale {
                    since_ns: since_ms.saturating_mul(1_000_000),
                    why,
                }
            } else {
                FeedWord::Fresh
            },
        );
    }

    fn tell(&self, at: usize, word: FeedWord) {
        let event = FeedEvent {
            account: self.account.clone(),
            feed: self.feeds[at].name.clone(),
            time_ns: clock::now_ms().saturating_mul(1_000_000),
            word,
        };
        if !self.inbox.feed(event) {
            self.metrics.sensor_events_dropped.add(1);
        }
    }

    async fn settle(&self) -> anyhow::Result<()> {
        let _index = self.index.lock().await;
        settle(&self.store, &self.folder, &self.feeds).await
    }
}

/// The longest that a feed may be left alone.
fn longest_ms(feed: &Feed, failures: u64) -> u64 {
    let longest_s = match failures {
        0 => feed.every_s,
        _ => feed.every_s.max(limits::RETRY_AFTER_MAX_S),
    };
    longest_s.saturating_mul(1_100)
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
