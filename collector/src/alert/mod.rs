//! Alerts: who is told about a finding, and the tireless messenger of each.
//!
//! The analysis puts a message into the outbox in the same transaction that stores the finding
//! ([`policy`] says when). For each channel one task takes what is due, delivers it, and takes it
//! out; what fails is tried again with growing pauses, and in the end kept as a dead letter. So each
//! message arrives at least once; its delivery id is the same each time.
//!
//! A new channel is a file beside this one and a line in [`channels!`] below: its name is its config
//! table `[[alert.x]]` and its label in metrics. The file brings `Settings` (with `name`,
//! `severity_min`, `check`) and `open`.

mod event;
mod policy;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Deserialize;
use tokio::sync::Notify;

use crate::clock;
use crate::config::BadValue;
use crate::metrics::Metrics;
use crate::stop::Stop;
use crate::store::outbox::{self, Letter, Retry};
use crate::store::{Store, StoreError};

pub(crate) use event::{delivery_id, wrap};
pub(crate) use policy::is_due;

macro_rules! channels {
    ($($(#[$doc:meta])* $kind:ident),* $(,)?) => {
        $(mod $kind;)*

        /// Whom to tell, and how hard to try.
        #[derive(Debug, Clone, PartialEq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Settings {
            /// Seconds between two alerts that say no more than that a finding occurred again.
            pub repeat_s: u64,
            /// Deliveries tried before a message becomes a dead letter.
            pub attempts_max: u32,
            /// Pause after the first failed delivery; it doubles with each further one.
            pub retry_first_ms: u64,
            /// The longest pause, in seconds.
            pub retry_max_s: u64,
            $($(#[$doc])* pub $kind: Vec<$kind::Settings>,)*
        }

        impl Default for Settings {
            fn default() -> Self {
                Self {
                    // As often as the quickest setting of GuardDuty's exports.
                    repeat_s: 900,
                    // With the pauses below: more than eight hours of an unreachable receiver.
                    attempts_max: 100,
                    retry_first_ms: 500,
                    retry_max_s: 300,
                    $($kind: Vec::new(),)*
                }
            }
        }

        impl Settings {
            fn check_channels(&self) -> Result<(), BadValue> {
                let mut names: Vec<&str> = Vec::new();
                $(for (at, settings) in self.$kind.iter().enumerate() {
                    let table = format!(concat!("alert.", stringify!($kind), "[{}]"), at);
                    check_name(&table, &settings.name, &mut names)?;
                    check_severity(&table, settings.severity_min)?;
                    settings.check(&table)?;
                })*
                Ok(())
            }
        }

        /// Opens every configured channel.
        ///
        /// # Errors
        /// A [`BadValue`] that names the key.
        pub(crate) fn open(settings: &Settings) -> Result<Vec<Channel>, BadValue> {
            let mut channels = Vec::new();
            $(for (at, channel) in settings.$kind.iter().enumerate() {
                let table = format!(concat!("alert.", stringify!($kind), "[{}]"), at);
                channels.push(Channel {
                    name: channel.name.clone(),
                    kind: stringify!($kind),
                    severity_min: channel.severity_min,
                    messenger: Box::new($kind::open(channel, &table)?),
                });
            })*
            Ok(channels)
        }
    };
}

channels! {
    /// Files that get a line per alert.
    jsonl,
    /// Web addresses that get a signed POST per alert.
    webhook,
}

impl Settings {
    /// Checks what can be checked without reading files.
    pub(crate) fn check(&self) -> Result<(), BadValue> {
        if self.attempts_max == 0 {
            return Err(BadValue::new("alert.attempts_max", "must not be 0"));
        }
        if self.retry_first_ms == 0 {
            return Err(BadValue::new("alert.retry_first_ms", "must not be 0"));
        }
        self.check_channels()
    }
}

fn check_name<'a>(table: &str, name: &'a str, names: &mut Vec<&'a str>) -> Result<(), BadValue> {
    if name.is_empty() {
        return Err(BadValue::new(format!("{table}.name"), "must not be empty"));
    }
    if names.contains(&name) {
        let why = format!("{name:?} is the name of another channel");
        return Err(BadValue::new(format!("{table}.name"), why));
    }
    names.push(name);
    Ok(())
}

fn check_severity(table: &str, severity: f64) -> Result<(), BadValue> {
    if (0.0..=10.0).contains(&severity) {
        Ok(())
    } else {
        Err(BadValue::new(
            format!("{table}.severity_min"),
            "must lie between 0 and 10",
        ))
    }
}

/// One whom to tell.
pub(crate) struct Channel {
    /// Its name in the config and in the outbox.
    name: String,
    /// What it is, as a label of metrics.
    kind: &'static str,
    /// It hears of findings at least this severe.
    severity_min: f64,
    messenger: Box<dyn Messenger>,
}

/// What a channel wants to hear.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    /// Its name.
    pub(crate) channel: String,
    severity_min: f64,
}

impl Rule {
    /// Says whether a finding is severe enough.
    pub(crate) fn wants(&self, severity: f64) -> bool {
        severity >= self.severity_min
    }
}

impl Channel {
    /// What it wants to hear.
    pub(crate) fn rule(&self) -> Rule {
        Rule {
            channel: self.name.clone(),
            severity_min: self.severity_min,
        }
    }
}

/// Delivers one message.
trait Messenger: Send + Sync {
    /// Returns once the receiver has the message for good.
    fn deliver<'a>(&'a self, message: &'a Message) -> Delivery<'a>;
}

type Delivery<'a> = Pin<Box<dyn Future<Output = Result<(), Undelivered>> + Send + 'a>>;

/// Why a message was not delivered, for the log and the dead letters.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Undelivered(String);

/// What is delivered.
struct Message {
    /// The same for each delivery of the same message.
    id: String,
    /// JSON.
    body: String,
}

/// What a channel's task shares with the rest.
#[derive(Clone)]
pub(crate) struct Office {
    /// Where the outbox is.
    pub(crate) store: Store,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// How hard to try.
    pub(crate) settings: Arc<Settings>,
    /// Rung after each commit that put something out.
    pub(crate) bell: Arc<Notify>,
}

impl Office {
    /// Delivers for `channel` until told to stop.
    pub(crate) async fn serve(self, channel: Channel, mut stop: Stop) {
        loop {
            // Asked for before the outbox is read, so that no ring is missed in between.
            let rung = self.bell.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            let pause = match self.next(&channel).await {
                Ok(Ok(letter)) => {
                    tokio::select! {
                        () = self.attempt(&channel, letter) => continue,
                        // What is under way is not waited for: it will be delivered again.
                        () = stop.told() => return,
                    }
                }
                Ok(Err(due_ms)) => {
                    due_ms.map(|due| Duration::from_millis(due.saturating_sub(clock::now_ms())))
                }
                Err(error) => {
                    tracing::error!(channel = channel.name, %error, "outbox not readable");
                    Some(Duration::from_secs(1))
                }
            };
            tokio::select! {
                () = rung => {}
                () = sleep_or_forever(pause) => {}
                () = stop.told() => return,
            }
        }
    }

    async fn next(&self, channel: &Channel) -> Result<Result<Letter, Option<u64>>, StoreError> {
        let name = channel.name.clone();
        self.store
            .read_async(move |connection| outbox::next(connection, &name, clock::now_ms()))
            .await
    }

    async fn attempt(&self, channel: &Channel, letter: Letter) {
        let message = Message {
            id: delivery_id(&channel.name, &letter.finding, letter.revision),
            body: letter.body.clone(),
        };
        let outcome = channel.messenger.deliver(&message).await;
        let name = channel.name.clone();
        let noted = match outcome {
            Ok(()) => {
                self.metrics.alerts_delivered.add(channel.kind, 1);
                tracing::debug!(channel = name, finding = letter.finding, "alert delivered");
                self.store
                    .write(move |transaction| outbox::delivered(transaction, &name, &letter))
                    .await
            }
            Err(error) => {
                let retry = self.retry(letter.attempts);
                match retry {
                    Retry::At(_) => self.metrics.alerts_failed.add(channel.kind, 1),
                    Retry::Never => self.metrics.alerts_buried.add(channel.kind, 1),
                }
                tracing::warn!(
                    channel = name,
                    finding = letter.finding,
                    attempt = letter.attempts + 1,
                    will_retry = retry != Retry::Never,
                    %error,
                    "alert not delivered"
                );
                self.store
                    .write(move |transaction| {
                        outbox::failed(transaction, &name, &letter, retry, &error.0)
                    })
                    .await
            }
        };
        if let Err(error) = noted {
            tracing::error!(channel = channel.name, %error, "outcome of a delivery not noted");
            // Without the note the same message is due again at once.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// When to try again after `attempts` failures and one more: a pause that doubles, shortened by
    /// up to a half by chance, so that many messages do not come back at the same instant.
    fn retry(&self, attempts: u32) -> Retry {
        if attempts + 1 >= self.settings.attempts_max {
            return Retry::Never;
        }
        let longest_ms = self.settings.retry_max_s.saturating_mul(1_000);
        let factor = 1u64.checked_shl(attempts.min(32)).unwrap_or(u64::MAX);
        let pause_ms = self
            .settings
            .retry_first_ms
            .saturating_mul(factor)
            .min(longest_ms);
        let mut chance = [0; 2];
        // Without chance the pause is the full one.
        let _ = SystemRandom::new().fill(&mut chance);
        let shorter_ms = (pause_ms / 2).saturating_mul(u64::from(u16::from_be_bytes(chance))) >> 16;
        Retry::At(clock::now_ms() + (pause_ms - shorter_ms))
    }
}

async fn sleep_or_forever(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}
