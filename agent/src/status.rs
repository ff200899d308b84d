//! Status: how the running agent is, told over a local socket.
//!
//! Whoever connects says `status` or `top` in a line, gets one line of JSON, a [`Status`] or a
//! [`Top`], and the connection closes. Who says nothing gets a status. The socket is its owner's and
//! group's alone.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use crate::block;
use crate::intel;
use crate::outbox::Shared;
use crate::ship;
use crate::spool::{Depth, Dropped};
use crate::top::Top;
use crate::watch;

/// Longest wait for the watching thread, and for whoever asks.
const WAIT: Duration = Duration::from_secs(2);

/// Wait for an asker to say what for.
const WISH_WAIT: Duration = Duration::from_millis(200);

/// Askers served at once; others wait in the listen queue.
const ASKERS_MAX: usize = 8;

/// Bytes of an answer: a status has some 10 KiB, as its lists come from closed sets; a top some
/// 100, as its lists are bounded.
const STATUS_BYTES_MAX: u64 = 1 << 20;

/// How the agent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Who it is, for the collector's `[[agents]]`.
    pub agent_id: String,
    /// Its public key, hex, for the same.
    pub public_key: String,
    /// This run.
    pub boot_id: String,
    /// Seconds since it began to see.
    pub uptime_s: u64,
    /// Whether what follows is of now. If not, the watching thread did not answer.
    pub fresh: bool,
    /// What it sees.
    #[serde(flatten)]
    pub watch: watch::Report,
    /// Where metrics are scraped, if they are.
    #[serde(default)]
    pub metrics: Option<String>,
    /// Memory of the agent that is resident, bytes; 0 if the system does not tell.
    #[serde(default)]
    pub resident_bytes: u64,
    /// Envelopes that the spool was given.
    #[serde(default)]
    pub spooled: u64,
    /// What waits for the collector.
    pub spool: Depth,
    /// What was dropped before the collector had it.
    pub dropped: Dropped,
    /// What is wrong with its identity, if anything: it was another host's, or that is not known.
    #[serde(default)]
    pub identity: Option<String>,
    /// Where it ships to.
    pub collector: String,
    /// How shipping goes.
    pub ship: ship::Report,
    /// How it stands with the collector's indicators, if any are asked for.
    #[serde(default)]
    pub intel: Option<intel::Report>,
    /// How it stands with the orders to block, if anybody gives any.
    #[serde(default)]
    pub orders: Option<block::Report>,
}

/// What does not change while the agent runs.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Who it is.
    pub agent_id: String,
    /// Its public key, hex.
    pub public_key: String,
    /// This run.
    pub boot_id: String,
    /// Where it ships to.
    pub collector: String,
    /// What is wrong with its identity, if anything.
    pub identity: Option<String>,
    /// Where metrics are scraped, if they are.
    pub metrics: Option<String>,
    /// When it began to see.
    pub since: Instant,
}

/// Everything a status is put together from.
pub struct Desk {
    /// What does not change.
    pub facts: Facts,
    /// The watching thread.
    pub commands: SyncSender<watch::Command>,
    /// The last it said.
    pub last: Mutex<watch::Report>,
    /// The spool.
    pub shared: Arc<Shared>,
    /// How shipping goes.
    pub ship: Arc<Mutex<ship::Report>>,
    /// How it stands with the collector's indicators, if any are asked for.
    pub intel: Option<Arc<intel::Shared>>,
    /// How it stands with the orders to block, if anybody gives any.
    pub orders: Option<Arc<block::Shared>>,
}

impl Desk {
    /// Asks who talks most; `None` if the watching thread does not answer.
    pub async fn top(&self) -> Option<Top> {
        let (answer, question) = oneshot::channel();
        self.commands.try_send(watch::Command::Top(answer)).ok()?;
        timeout(WAIT, question).await.ok()?.ok()
    }

    /// Puts a status together.
    pub async fn status(&self) -> Status {
        let (answer, question) = oneshot::channel();
        let asked = self
            .commands
            .try_send(watch::Command::Report(answer))
            .is_ok();
        let report = match asked {
            true => timeout(WAIT, question).await.ok().and_then(Result::ok),
            false => None,
        };
        let fresh = report.is_some();
        let watch = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(report) = report {
                *last = report;
            }
            last.clone()
        };
        let (spool, dropped) = {
            let spool = self.shared.spool();
            (spool.depth(), spool.dropped())
        };
        let facts = self.facts.clone();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            agent_id: facts.agent_id,
            public_key: facts.public_key,
            boot_id: facts.boot_id,
            uptime_s: facts.since.elapsed().as_secs(),
            fresh,
            watch,
            metrics: facts.metrics,
            intel: self.intel.as_ref().map(|intel| intel.report()),
            orders: self.orders.as_ref().map(|orders| orders.report()),
            resident_bytes: resident_bytes(),
            spooled: self.shared.tallies.spooled(),
            spool,
            dropped,
            identity: facts.identity,
            collector: facts.collector,
            ship: self
                .ship
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }
}

/// The socket that tells the status. Removed when dropped.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens at `path`, taking the place of a socket that nobody listens at any more.
    ///
    /// # Errors
    /// Somebody else listens there, or it is something else, or its folder cannot be made.
    pub fn bind(path: &Path) -> anyhow::Result<Self> {
        let name = || format!("listen at {}", path.display());
        match fs::symlink_metadata(path) {
            Err(_) => {}
            Ok(metadata) if !metadata.file_type().is_socket() => {
                bail!("{} is in the way: it is no socket", path.display());
            }
            Ok(_) if UnixStream::connect(path).is_ok() => {
                bail!("another agent listens at {}", path.display());
            }
            Ok(_) => fs::remove_file(path).with_context(name)?,
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(name)?;
        }
        let listener = UnixListener::bind(path).with_context(name)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).with_context(name)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Answers whoever connects, for ever.
    pub async fn serve(self, desk: Arc<Desk>) {
        let askers = Arc::new(Semaphore::new(ASKERS_MAX));
        loop {
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&askers).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((mut stream, _)) => {
                    let desk = Arc::clone(&desk);
                    tokio::spawn(async move {
                        // Longer than any wish: closing on unread bytes would break the answer off.
                        let mut wish = [0; 64];
                        let said = timeout(WISH_WAIT, stream.read(&mut wish)).await;
                        let bytes = said.ok().and_then(Result::ok).unwrap_or(0);
                        let line = match wish.get(..bytes) {
                            Some(b"top\n") => serde_json::to_vec(&desk.top().await),
                            _ => serde_json::to_vec(&desk.status().await),
                        };
                        let mut line = line.unwrap_or_default();
                        line.push(b'\n');
                        // An asker who is gone or does not read is no trouble of ours.
                        drop(timeout(WAIT, stream.write_all(&line)).await);
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "status not asked");
                    tokio::time::sleep(WAIT).await;
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // If it stays, the next start finds that nobody listens.
        drop(fs::remove_file(&self.path));
    }
}

/// Asks the agent that listens at `path`.
///
/// # Errors
/// Nobody answers there, or not with a status.
pub fn ask(path: &Path) -> anyhow::Result<Status> {
    ask_for(path, "status\n")
}

/// Asks the agent that listens at `path` who talks most.
///
/// # Errors
/// Nobody answers there, or the agent is stuck.
pub fn ask_top(path: &Path) -> anyhow::Result<Top> {
    let top: Option<Top> = ask_for(path, "top\n")?;
    top.context("the watching thread does not answer")
}

fn ask_for<T: DeserializeOwned>(path: &Path, wish: &str) -> anyhow::Result<T> {
    let name = || format!("ask the agent at {} (is it running?)", path.display());
    let mut stream = UnixStream::connect(path).with_context(name)?;
    stream.write_all(wish.as_bytes()).with_context(name)?;
    stream.set_read_timeout(Some(3 * WAIT)).with_context(name)?;
    let mut line = String::new();
    let read = stream.take(STATUS_BYTES_MAX).read_to_string(&mut line);
    read.and_then(|_| serde_json::from_str(&line).map_err(io::Error::from))
        .with_context(name)
}

/// What of our memory is resident, as the kernel says it in kilobytes.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.map_or(0, |kilobytes| kilobytes * 1024)
}
