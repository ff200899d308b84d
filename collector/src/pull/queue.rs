//! A queue: its messages are received, done, deleted; in this order, and none twice at a time.
//!
//! While messages are worked on they are kept from other readers. One whose object cannot be had for now
//! stays in the queue and comes again; one that nobody understands comes again until the queue's redrive
//! policy takes it or it has come `receives_max` times.

use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::key::Log;
use super::limits::{PAUSE_FIRST, PAUSE_MAX};
use super::notice::{self, Announced, Notice};
use super::object::{End, Object, Objects};
use super::settings::QueueSettings;
use super::{Means, open, region};
use crate::aws::s3::{self, Place};
use crate::aws::sqs::{self, Message};
use crate::aws::{self, AwsError};
use crate::config::BadValue;
use crate::stop::Stop;

/// Reads one queue.
pub(crate) struct Queue {
    settings: QueueSettings,
    region: String,
    objects: Objects,
}

/// What becomes of a message.
enum Fate {
    /// It is done with.
    Delete(&'static str),
    /// It comes again.
    Keep,
    /// The process is to end.
    Stopped,
}

impl Queue {
    /// Prepares it; nothing is asked yet.
    ///
    /// # Errors
    /// A key of its table, which `table` names, is missing or cannot be used.
    pub(crate) fn open(
        aws: &aws::Settings,
        settings: QueueSettings,
        table: &str,
        means: Means,
    ) -> Result<Self, BadValue> {
        let objects = open(aws, &settings.name(), means)
            .map_err(|error| BadValue::new(table, error.to_string()))?;
        let named = settings.region.clone();
        let named = named.or_else(|| sqs::region_of(&settings.queue_url));
        Ok(Self {
            region: region(named.as_ref(), &objects.aws, table)?,
            settings,
            objects,
        })
    }

    /// Reads until told to stop.
    pub(crate) async fn run(self, mut stop: Stop) -> anyhow::Result<()> {
        let QueueSettings {
            queue_url,
            wait_s,
            hidden_s,
            ..
        } = &self.settings;
        let mut pause = PAUSE_FIRST;
        loop {
            let asked = self
                .objects
                .aws
                .receive(&self.region, queue_url, *wait_s, *hidden_s);
            let received = tokio::select! {
                received = asked => received,
                () = stop.told() => return Ok(()),
            };
            match received {
                Ok(messages) => {
                    pause = PAUSE_FIRST;
                    let goes_on = tokio::select! {
                        goes_on = self.round(messages) => goes_on,
                        () = stop.told() => return Ok(()),
                    };
                    if goes_on {
                        continue;
                    }
                    stop.told().await;
                    return Ok(());
                }
                Err(error) => {
                    self.objects.means.metrics.queue_failures.add(1);
                    tracing::warn!(queue = queue_url, %error, "queue not readable; trying again");
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = stop.told() => return Ok(()),
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Does what messages say; says whether to go on.
    async fn round(&self, messages: Vec<Message>) -> bool {
        let third = Duration::from_secs(self.settings.hidden_s) / 3;
        let mut tick = tokio::time::interval(third.max(Duration::from_millis(100)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.tick().await;
        for (at, message) in messages.iter().enumerate() {
            let work = self.message(message);
            tokio::pin!(work);
            let fate = loop {
                tokio::select! {
                    fate = &mut work => break fate,
                    _ = tick.tick() => self.hide(&messages[at..]).await,
                }
            };
            match fate {
                Fate::Delete(outcome) => {
                    self.objects.means.metrics.queue_messages.add(outcome, 1);
                    self.delete(message).await;
                }
                Fate::Keep => {}
                Fate::Stopped => return false,
            }
        }
        true
    }

    /// Keeps messages from other readers for longer.
    async fn hide(&self, messages: &[Message]) {
        let QueueSettings {
            queue_url,
            hidden_s,
            ..
        } = &self.settings;
        for message in messages {
            let aws = &self.objects.aws;
            let hidden = aws.hide(&self.region, queue_url, &message.receipt, *hidden_s);
            if let Err(error) = hidden.await {
                // Then it may come again early, and what was seen of it is left out.
                tracing::debug!(%error, message = message.id, "message not kept for longer");
            }
        }
    }

    async fn delete(&self, message: &Message) {
        let aws = &self.objects.aws;
        let queue = &self.settings.queue_url;
        if let Err(error) = aws.delete(&self.region, queue, &message.receipt).await {
            // It comes again, and what it announces is known by then.
            self.objects.means.metrics.queue_failures.add(1);
            tracing::warn!(%error, message = message.id, "message not deleted");
        }
    }

    async fn message(&self, message: &Message) -> Fate {
        match notice::read(&message.body) {
            Notice::Nothing => Fate::Delete("nothing"),
            Notice::Unknown(why) => self.poison(message, why),
            Notice::Objects(announced) => self.announced(message, announced).await,
            Notice::Finding(body) => match self.objects.finding(body).await {
                Ok(Some(true)) => Fate::Delete("finding"),
                Ok(Some(false)) => self.poison(message, "no finding that can be read"),
                Ok(None) => Fate::Stopped,
                Err(error) => self.poison(message, &error.to_string()),
            },
            Notice::Event => match self.objects.text(message.body.clone()).await {
                Ok(Some(true)) => Fate::Delete("event"),
                Ok(Some(false)) => self.poison(message, "neither an object nor an event"),
                // The analysis has ended.
                Ok(None) => Fate::Stopped,
                Err(error) => self.poison(message, &error.to_string()),
            },
        }
    }

    /// A message that nobody understands.
    fn poison(&self, message: &Message, why: &str) -> Fate {
        self.objects.means.metrics.queue_messages.add("poisoned", 1);
        let (id, receives) = (&message.id, message.receives);
        if receives >= self.settings.receives_max {
            tracing::error!(
                message = id,
                why,
                receives,
                "message not understood; deleted"
            );
            return Fate::Delete("given_up");
        }
        if let Some(unsaid) = self.may_say("poison") {
            tracing::warn!(
                message = id,
                why,
                receives,
                unsaid,
                "message not understood"
            );
        }
        Fate::Keep
    }

    fn may_say(&self, word: &'static str) -> Option<u64> {
        self.objects.may_say(word)
    }

    /// Reads the objects that a message announces, each whatever becomes of the others; those that were
    /// read are known when it comes again.
    async fn announced(&self, message: &Message, announced: Vec<Announced>) -> Fate {
        let mut fate = Fate::Delete("objects");
        for one in announced {
            let region = one.region.unwrap_or_else(|| self.region.clone());
            if !s3::is_bucket(&one.bucket) || !aws::is_region(&region) {
                fate = self.poison(message, "names no bucket");
                continue;
            }
            if !self.settings.lists(&one.bucket) {
                fate = self.unlisted(message, &one.bucket);
                continue;
            }
            let Some(log) = Log::of(&one.key, self.settings.holds) else {
                self.objects.means.metrics.log_objects.add("other", 1);
                continue;
            };
            let object = Object {
                place: Place {
                    region,
                    bucket: one.bucket,
                },
                key: one.key,
                log,
            };
            match self.object(object).await {
                Ok(End::Done) => {}
                Ok(End::Stopped) => return Fate::Stopped,
                Err(error) => match error.downcast_ref::<AwsError>() {
                    // It cannot be asked for, today or tomorrow.
                    Some(AwsError::Request(why)) => fate = self.poison(message, why),
                    _ => {
                        self.objects.means.metrics.queue_messages.add("failed", 1);
                        if let Some(unsaid) = self.may_say("failed") {
                            let error = format!("{error:#}");
                            tracing::warn!(
                                message = message.id,
                                error,
                                unsaid,
                                "object not read; trying again"
                            );
                        }
                        fate = Fate::Keep;
                    }
                },
            }
        }
        fate
    }

    /// A message about a bucket that is not listed: kept, as the list may have a slip in it.
    fn unlisted(&self, message: &Message, bucket: &str) -> Fate {
        self.objects.means.metrics.queue_messages.add("unlisted", 1);
        if let Some(unsaid) = self.may_say("unlisted") {
            let id = &message.id;
            tracing::warn!(
                message = id,
                bucket,
                unsaid,
                "bucket is not among those to be read"
            );
        }
        Fate::Keep
    }

    async fn object(&self, object: Object) -> anyhow::Result<End> {
        let opened = self.objects.open(object).await?;
        self.objects.read(opened, None).await
    }
}
