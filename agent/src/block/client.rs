//! The client: asks the collector for orders, and lays what is good where the desk looks.
//!
//! ```text
//! GET <collector>/v1/orders?have=V&wait=30     authorization: Picket <claim>
//! 200 the bundle · 204 no other · 401 with its time, if ours is off · 409 · 429 and 503 come later
//! 404 it gives none: a collector of an older version
//! 401 `revoked`: nothing that it gave counts any more
//! ```
//!
//! One request waits at a time, so that an order is here as soon as it is given, and so is its end.
//! Nothing of a bundle is kept unless all of it can be read: signed by the collector's key, for this
//! agent, not older than any before, not over. While the collector is away what was taken stays, each
//! order to its own end.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use picket_wire::limits::ORDERS_BYTES_MAX;
use picket_wire::{Orders, OrdersError, Purpose};
use reqwest::header::AUTHORIZATION;
use reqwest::{Response, StatusCode};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::desk::{Givers, read_version};
use super::report::Shared;
use crate::identity::Identity;
use crate::ship::collector::{ahead_ms, retry_after};
use crate::ship::{Collector, jittered};
use crate::state;
use crate::watch::{Command, now_ns};

/// How long the collector is asked to wait for another bundle.
const WAIT_S: u64 = 30;

/// Longest wait for its answer to begin: that, and a round trip over a bad line.
const ANSWER_WAIT: Duration = Duration::from_secs(WAIT_S + 15);

/// Longest time for all of it: 4 MiB at half a megabit.
const ALL_WAIT: Duration = Duration::from_secs(60);

/// Bytes of a refusal that are read; it is a word.
const REFUSAL_BYTES_MAX: usize = 1 << 10;

/// First pause after a failure, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Shortest time between two requests that were answered at once.
const REQUEST_GAP: Duration = Duration::from_millis(200);

/// Asks for orders.
pub struct Client {
    collector: Collector,
    identity: Identity,
    givers: Givers,
    version_file: PathBuf,
    shared: Arc<Shared>,
    commands: SyncSender<Command>,
    /// Rung when there is something for the desk.
    bell: Arc<Notify>,
    /// The version that is kept; 0 for none that is good.
    have: u64,
    /// How far the collector's clock is ahead of ours, milliseconds.
    ahead_ms: i64,
}

/// How a request went.
enum Outcome {
    /// The collector answered.
    Answered,
    /// It did not, or with what is of no use.
    Failed,
    /// It is to be left alone for so long.
    Busy(Duration),
}

/// Why a bundle is not taken.
struct Refusal {
    /// The reason as it is counted.
    word: &'static str,
    why: String,
}

impl Client {
    /// A client that goes on from what is kept.
    #[must_use]
    pub fn new(
        collector: Collector,
        identity: Identity,
        (givers, state_dir): (Givers, &Path),
        shared: Arc<Shared>,
        commands: SyncSender<Command>,
        bell: Arc<Notify>,
    ) -> Self {
        // What is wrong with what is kept, the desk tells. What an agent was given that this host was
        // before is none of ours to have: the collector is asked for it anew.
        let kept = std::fs::read(givers.file()).ok();
        let kept = kept.and_then(|bytes| givers.open(&bytes).ok());
        let have = kept.as_ref().map_or(0, |orders| orders.version);
        let mut report = shared.note();
        report.version = have;
        report.orders = kept.map_or(0, |orders| orders.orders.len() as u64);
        drop(report);
        Self {
            collector,
            identity,
            version_file: givers.version_file(state_dir),
            givers,
            shared,
            commands,
            bell,
            have,
            ahead_ms: 0,
        }
    }

    /// Asks for ever.
    pub async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            let rest = match self.ask().await {
                Outcome::Answered => {
                    pause = PAUSE_MIN;
                    REQUEST_GAP
                }
                Outcome::Failed => {
                    let rest = jittered(pause);
                    pause = (pause * 2).min(PAUSE_MAX);
                    rest
                }
                Outcome::Busy(asked) => asked + jittered(asked),
            };
            sleep(rest).await;
        }
    }

    async fn ask(&mut self) -> Outcome {
        let response = match timeout(ANSWER_WAIT, self.request()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return self.fail(format!("{error:#}")),
            Err(_) => return self.fail("the collector does not answer in time".to_owned()),
        };
        match response.status() {
            StatusCode::NO_CONTENT => self.answered(),
            StatusCode::OK => match timeout(ALL_WAIT, receive(response, ORDERS_BYTES_MAX)).await {
                Ok(Ok(bytes)) => self.take(&bytes),
                Ok(Err(error)) => self.fail(format!("{error:#}")),
                Err(_) => self.fail("orders did not come in time".to_owned()),
            },
            StatusCode::NOT_FOUND => self.not_offered(),
            StatusCode::UNAUTHORIZED => {
                self.ahead_ms = ahead_ms(&response, now_ms()).unwrap_or(self.ahead_ms);
                match timeout(ALL_WAIT, receive(response, REFUSAL_BYTES_MAX)).await {
                    Ok(Ok(bytes)) if says_revoked(&bytes) => self.let_go(),
                    _ => self.fail(format!(
                        "the collector answered {}",
                        StatusCode::UNAUTHORIZED
                    )),
                }
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let asked = retry_after(&response).clamp(PAUSE_MIN, PAUSE_MAX);
                self.fail("the collector asks to come later".to_owned());
                Outcome::Busy(asked)
            }
            StatusCode::CONFLICT => {
                self.fail("the collector's orders are older than ours: it was set back".to_owned())
            }
            status => self.fail(format!("the collector answered {status}")),
        }
    }

    async fn request(&self) -> anyhow::Result<Response> {
        // Without any, whatever there is comes at once.
        let wait_s = if self.have == 0 { 0 } else { WAIT_S };
        let now_ms = now_ms().saturating_add_signed(self.ahead_ms);
        let claim = self.identity.claim(Purpose::Orders, now_ms)?;
        let request = self
            .collector
            .get(&format!("orders?have={}&wait={wait_s}", self.have))?;
        let request = request
            .header(AUTHORIZATION, claim)
            .timeout(ANSWER_WAIT + ALL_WAIT);
        request.send().await.map_err(crate::ship::collector::told)
    }

    /// Judges what was received and keeps it; the desk has it put in force.
    fn take(&mut self, bytes: &[u8]) -> Outcome {
        let orders = match self.judge(bytes) {
            Ok(orders) => orders,
            Err(refusal) => return self.refuse(refusal),
        };
        if let Err(error) = state::replace(self.givers.file(), bytes) {
            let why = format!("write {}: {error}", self.givers.file().display());
            return self.refuse(Refusal { word: "disk", why });
        }
        self.bell.notify_one();
        self.have = orders.version;
        tracing::info!(
            version = orders.version,
            orders = orders.orders.len(),
            "orders of the collector taken"
        );
        let mut report = self.shared.note();
        report.version = orders.version;
        report.orders = orders.orders.len() as u64;
        report.taken += 1;
        drop(report);
        self.answered()
    }

    fn judge(&self, bytes: &[u8]) -> Result<Orders, Refusal> {
        let orders = self.givers.open(bytes).map_err(|error| Refusal {
            word: word(&error),
            why: format!("{error:#}"),
        })?;
        let refuse = |word, why| Err(Refusal { word, why });
        let highest = read_version(&self.version_file).map_err(|error| Refusal {
            word: "disk",
            why: format!("{error:#}"),
        })?;
        // The very same may be given again, to one that has lost it.
        let least = highest.max(self.have.saturating_add(u64::from(self.have != 0)));
        if orders.version < least {
            let version = orders.version;
            let newest = highest.max(self.have);
            return refuse(
                "rollback",
                format!("version {version} is not newer than {newest}, which was taken before"),
            );
        }
        let now_ms = now_ms();
        if orders.expires_ms <= now_ms {
            let over_s = (now_ms - orders.expires_ms) / 1_000;
            return refuse("expired", format!("it was over {over_s} s ago"));
        }
        Ok(orders)
    }

    fn refuse(&mut self, refusal: Refusal) -> Outcome {
        let Refusal { word, why } = refusal;
        let why = format!("orders of the collector: {why}");
        let mut report = self.shared.note();
        *report.refused.entry(word.to_owned()).or_default() += 1;
        let is_new = report.trouble.as_ref() != Some(&why);
        report.trouble = Some(why.clone());
        drop(report);
        if is_new {
            // Written down there; if the thread is busy it is told with the next attempt's words.
            drop(self.commands.try_send(Command::OrdersRefused(why)));
        }
        Outcome::Failed
    }

    fn fail(&mut self, why: String) -> Outcome {
        let mut report = self.shared.note();
        if report.trouble.as_ref() != Some(&why) {
            tracing::warn!(error = why, "no orders from the collector");
            report.trouble = Some(why);
        }
        Outcome::Failed
    }

    /// The collector does not know this host any more, and so would never lift what it ordered.
    fn let_go(&mut self) -> Outcome {
        let file = self.givers.file();
        match std::fs::remove_file(file) {
            Ok(()) => {
                tracing::error!("this host's key is revoked: orders of the collector let go of");
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                let shown = file.display();
                return self.fail(format!(
                    "this host's key is revoked; remove {shown}: {error}"
                ));
            }
        }
        self.bell.notify_one();
        self.have = 0;
        let mut report = self.shared.note();
        (report.version, report.orders) = (0, 0);
        drop(report);
        self.fail(
            "the collector says that this host's key is revoked: no order of it holds".to_owned(),
        )
    }

    /// Nothing is wrong then; it is said once.
    fn not_offered(&mut self) -> Outcome {
        let mut report = self.shared.note();
        report.answered_ms = now_ms();
        report.trouble = None;
        if !std::mem::replace(&mut report.not_offered, true) {
            tracing::warn!(
                "the collector does not give orders to block: it is of an older version"
            );
        }
        Outcome::Busy(PAUSE_MAX)
    }

    fn answered(&mut self) -> Outcome {
        let mut report = self.shared.note();
        report.answered_ms = now_ms();
        report.trouble = None;
        report.not_offered = false;
        Outcome::Answered
    }
}

/// Whether a refusal says that our key is revoked.
fn says_revoked(bytes: &[u8]) -> bool {
    let said = serde_json::from_slice::<serde_json::Value>(bytes);
    said.is_ok_and(|said| said["error"] == "revoked")
}

/// The body of an answer, of so many bytes at most.
async fn receive(mut response: Response, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let told = crate::ship::collector::told;
    while let Some(piece) = response.chunk().await.map_err(told)? {
        bytes.extend_from_slice(&piece);
        anyhow::ensure!(
            bytes.len() <= bytes_max,
            "the collector sends more than {bytes_max} bytes"
        );
    }
    Ok(bytes)
}

/// The reason for an error, as it is counted.
fn word(error: &anyhow::Error) -> &'static str {
    match error.downcast_ref::<OrdersError>() {
        Some(OrdersError::Signature) => "signature",
        Some(OrdersError::NotOrders) => "no_orders",
        Some(OrdersError::TooLarge { .. } | OrdersError::TooMany { .. }) => "too_large",
        Some(_) => "malformed",
        None => "foreign",
    }
}

fn now_ms() -> u64 {
    now_ns() / 1_000_000
}
