//! One object: asked for, inflated and cut into events as it comes, analysed, and remembered.
//!
//! What an object is known by is its bucket, key and version (ETag), stored with what came of it: one
//! that is announced twice is read once. Damage is reported once and the rest of the object is
//! given up, as the rest of a file would be; only what the network broke is tried again.

use std::sync::Mutex;

use anyhow::Context as _;
use picket_detect::logs::{Piece, Reported, SplitError, Splitter};
use reqwest::Response;
use reqwest::header::ETAG;

use super::Means;
use super::body::Body;
use super::digest::Check;
use super::key::{self, Log};
use crate::analysis::{Batch, Call};
use crate::aws::s3::Place;
use crate::aws::{Aws, AwsError};
use crate::clock;
use crate::digest::Keys;
use crate::follow::BATCH_CALLS;
use crate::portions::{self, Portions};
use crate::quiet::Quiet;
use crate::source::inflate::{Input, InputError};
use crate::source::limits::CHUNK_BYTES;
use crate::source::rds::Whence;
use crate::store::backfill::Progress;
use crate::store::sources::{self, FileState, MARK_BYTES};

/// An object to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) place: Place,
    pub(super) key: String,
    pub(super) log: Log,
}

impl Object {
    /// The name it is remembered by.
    pub(super) fn name(&self) -> String {
        format!("s3://{}/{}", self.place.bucket, self.key)
    }
}

/// An object whose bytes are on their way.
pub(super) struct Opened {
    object: Object,
    /// `None` if it is gone, or known.
    response: Option<Response>,
    state: FileState,
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Done with: read, or known, or gone, or damaged.
    Done,
    /// The process is to end; it was not read to its end.
    Stopped,
}

/// A back-fill that moves with an object.
pub(super) type Backfilled = Option<(String, Progress)>;

/// Reads objects with one set of credentials.
pub(super) struct Objects {
    pub(super) aws: Aws,
    pub(super) means: Means,
    pub(super) quiet: Mutex<Quiet>,
    /// Public keys that CloudTrail was asked for last.
    pub(super) asked: tokio::sync::Mutex<Keys>,
}

impl Objects {
    /// Writes a line about `word` unless one was written just now.
    pub(super) fn may_say(&self, word: &'static str) -> Option<u64> {
        let mut quiet = self
            .quiet
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        quiet.may_say(word, clock::now_ms())
    }

    /// Asks for an object.
    ///
    /// # Errors
    /// It cannot be had for now. That it is gone is none.
    pub(super) async fn open(&self, object: Object) -> Result<Opened, AwsError> {
        let mut object = object;
        let mut asked = self.aws.object(&object.place, &object.key).await;
        // Notices of CloudTrail name no region, so the queue's was taken.
        if let Err(error) = &asked
            && let Some(region) = error.elsewhere()
            && region != object.place.region
        {
            object.place.region = region.to_owned();
            asked = self.aws.object(&object.place, &object.key).await;
        }
        let response = match asked {
            Ok(response) => Some(response),
            Err(error) if error.is_gone() => {
                self.means.metrics.log_objects.add("gone", 1);
                if let Some(unsaid) = self.may_say("gone") {
                    tracing::warn!(object = object.name(), unsaid, "log object is gone");
                }
                None
            }
            Err(error) => return Err(error),
        };
        let etag = response
            .as_ref()
            .and_then(|response| response.headers().get(ETAG));
        let mut mark = etag.map_or_else(Vec::new, |etag| etag.as_bytes().to_vec());
        mark.truncate(MARK_BYTES);
        Ok(Opened {
            state: FileState {
                bytes: response
                    .as_ref()
                    .and_then(Response::content_length)
                    .unwrap_or(0),
                modified_ms: 0,
                read_to: 0,
                mark,
            },
            object,
            response,
        })
    }

    /// An object that a back-fill leaves out, as it can never be read.
    pub(super) fn left_out(&self, object: Object, error: &AwsError) -> Opened {
        self.means.metrics.log_objects.add("refused", 1);
        self.damaged(&object.name(), &error.to_string());
        Opened {
            object,
            response: None,
            state: FileState::default(),
        }
    }

    /// Reads an object to its end and waits until what came of it is stored, with the mark of the
    /// back-fill that it belongs to.
    ///
    /// # Errors
    /// The network or the store failed: it has to be read again.
    pub(super) async fn read(&self, opened: Opened, backfill: Backfilled) -> anyhow::Result<End> {
        let Opened {
            object,
            response,
            state,
        } = opened;
        let name = object.name();
        let asked = name.clone();
        let known = self
            .means
            .store
            .read_async(move |connection| sources::file(connection, &asked))
            .await?;
        // The same version of it; read to its end if there is no place to go on at.
        let known = known.filter(|known| {
            (known.bytes, &known.mark) == (state.bytes, &state.mark) && !state.mark.is_empty()
        });
        let done = known.as_ref().map_or(0, |known| known.read_to);
        let is_known = known.is_some() && done == 0;
        let response = response.filter(|_| !is_known);
        if is_known {
            self.means.metrics.log_objects.add("known", 1);
        }
        let response = match response {
            Some(response) if object.log == Log::Digest && self.means.is_checking => {
                let check = Check {
                    place: object.place,
                    key: object.key,
                    file: (name, state),
                    backfill,
                };
                return self.check(check, response).await;
            }
            // What is not to be checked is passed over.
            other => other.filter(|_| object.log != Log::Digest),
        };
        let body = response.map(|response| Body::of(response, self.means.is_stopping.clone()));
        let means = self.means.clone();
        // What an event without a time has, if none is before it in its object.
        let written_ns = key::stamp_ns(&object.key).unwrap_or_default();
        let file = (name.clone(), state);
        let held = held(&object, &means);
        let log = object.log;
        let read = tokio::task::spawn_blocking(move || {
            let mut reading = Reading::new(&means, backfill);
            reading.time_ns = written_ns;
            match body {
                Some(body) => reading.whole(body, log, held, file, done),
                None => Ok(reading.skip()),
            }
        });
        let outcome = read.await.context("reading broke off")??;
        if let Some(why) = outcome.damage {
            self.damaged(&name, &why);
        }
        Ok(outcome.end)
    }

    /// Reports an object that could not be read whole.
    pub(super) fn damaged(&self, name: &str, why: &str) {
        self.means.metrics.log_files_damaged.add(1);
        if let Some(unsaid) = self.may_say("damage") {
            tracing::warn!(
                object = name,
                error = why,
                unsaid,
                "log object not read whole"
            );
        }
    }

    /// Analyses a finding of GuardDuty's that came as the text of a message; answers as [`Objects::text`] does.
    ///
    /// # Errors
    /// Reading broke off.
    pub(super) async fn finding(&self, text: String) -> anyhow::Result<Option<bool>> {
        let means = self.means.clone();
        let read = tokio::task::spawn_blocking(move || {
            let read = Reported::parse(text.as_bytes()).unwrap_or_default();
            let all: Vec<Reported> = read.into_iter().flatten().collect();
            let had = !all.is_empty();
            let (samples, reported): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|finding| finding.is_sample);
            let refused = &means.metrics.log_events_refused;
            refused.add("sample", samples.len() as u64);
            let is_stored = reported.is_empty()
                || means.analysis.batch(Batch {
                    reported,
                    ..Batch::default()
                });
            is_stored.then_some(had)
        });
        read.await.context("reading broke off")
    }

    /// Analyses the events that came as the text of a message; says whether it had any, or nothing if the
    /// analysis has ended before they were stored.
    ///
    /// # Errors
    /// Reading broke off.
    pub(super) async fn text(&self, text: String) -> anyhow::Result<Option<bool>> {
        let means = self.means.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut reading = Reading::new(&means, None);
            let had = reading.text(&text)?;
            reading.flush(None).then_some(had)
        });
        read.await.context("reading broke off")
    }
}

/// How reading went.
struct Outcome {
    end: End,
    /// What is wrong with the object.
    damage: Option<String>,
}

/// Where reading ended.
enum Read {
    /// At the end, or where it cannot be read on; with what is wrong with the object.
    Whole(Option<String>),
    /// Before, as the process is to end.
    Stopped,
}

/// Events on their way to the analysis.
struct Reading<'a> {
    means: &'a Means,
    calls: Vec<Call>,
    time_ns: u64,
    events: u64,
    fault: Option<(u64, SplitError)>,
    backfill: Backfilled,
    /// What is left of a log that is read in portions, once it is read.
    last: Batch,
}

/// What an object holds that is read in portions.
fn held(object: &Object, means: &Means) -> Option<portions::Log> {
    match object.log {
        Log::Hosts(log) => Some(portions::Log::Hosts(log)),
        // Buckets mostly lie where the databases are whose logs they hold.
        Log::Rds => Some(portions::Log::Rds(Whence {
            account: means.account.clone(),
            region: Some(object.place.region.clone()),
            instance: None,
        })),
        Log::Guardduty => Some(portions::Log::Guardduty),
        Log::Cloudtrail | Log::Insight | Log::Digest => None,
    }
}

impl<'a> Reading<'a> {
    fn new(means: &'a Means, backfill: Backfilled) -> Self {
        Self {
            means,
            calls: Vec::new(),
            time_ns: 0,
            events: 0,
            fault: None,
            backfill,
            last: Batch::default(),
        }
    }

    /// Hands in what there is; says whether it is stored.
    fn flush(&mut self, file: Option<(String, FileState)>) -> bool {
        let is_last = file.is_some();
        let backfill = if is_last { self.backfill.take() } else { None };
        let calls = std::mem::take(&mut self.calls);
        if calls.is_empty() && file.is_none() && backfill.is_none() {
            return true;
        }
        self.means.analysis.batch(Batch {
            calls,
            file,
            backfill,
            ..std::mem::take(&mut self.last)
        })
    }

    /// Only the mark moves.
    fn skip(&mut self) -> Outcome {
        let backfill = self.backfill.take();
        let is_stored = backfill.is_none()
            || self.means.analysis.batch(Batch {
                backfill,
                ..Batch::default()
            });
        Outcome {
            end: if is_stored { End::Done } else { End::Stopped },
            damage: None,
        }
    }

    /// Reads an object, of which `done` portions are stored if it is `held` to be read in portions.
    fn whole(
        &mut self,
        body: Body,
        log: Log,
        held: Option<portions::Log>,
        file: (String, FileState),
        done: u64,
    ) -> anyhow::Result<Outcome> {
        let metrics = &self.means.metrics;
        let bytes = file.1.bytes;
        let read = match (Input::new(body), held) {
            (Err(InputError::Read(error)), _) => return Err(error).context("read the object"),
            (Err(error), _) => Read::Whole(Some(error.to_string())),
            (Ok(input), Some(held)) => self.portions(input, &held, &file, done)?,
            (Ok(input), None) => self.events(input)?,
        };
        let Read::Whole(damage) = read else {
            return Ok(Outcome {
                end: End::Stopped,
                damage: None,
            });
        };
        if let Some((_, progress)) = &mut self.backfill {
            progress.bytes += bytes;
            progress.events += self.events;
            progress.damaged += u64::from(damage.is_some());
        }
        let is_stored = self.flush(Some(file));
        if is_stored {
            metrics.log_objects.add(log.name(), 1);
            metrics.log_bytes_read.add(bytes);
        }
        Ok(Outcome {
            end: if is_stored { End::Done } else { End::Stopped },
            damage: damage.filter(|_| is_stored),
        })
    }

    /// Reads the events of CloudTrail.
    fn events(&mut self, mut input: Input) -> anyhow::Result<Read> {
        let mut splitter = Splitter::default();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            if self.is_stopping() {
                return Ok(Read::Stopped);
            }
            let count = match input.read(&mut chunk) {
                Ok(count) => count,
                Err(InputError::Read(error)) => return Err(error).context("read the object"),
                Err(error) => return Ok(Read::Whole(Some(error.to_string()))),
            };
            if count == 0 {
                splitter.end();
            } else {
                splitter.push(&chunk[..count]);
            }
            if !self.pieces(&mut splitter) {
                return Ok(Read::Stopped);
            }
            if count == 0 {
                let why = |(line, why): &(u64, SplitError)| format!("line {line}: {why}");
                return Ok(Read::Whole(self.fault.as_ref().map(why)));
            }
        }
    }

    /// Reads what a log tells whose records are not CloudTrail's.
    fn portions(
        &mut self,
        mut input: Input,
        log: &portions::Log,
        (name, state): &(String, FileState),
        done: u64,
    ) -> anyhow::Result<Read> {
        let portions = Portions {
            analysis: &self.means.analysis,
            name,
            state,
            done,
            copies: &self.means.copies,
            is_stopping: &self.means.is_stopping,
        };
        let Ok(told) = portions.read(&mut input, log) else {
            return Ok(Read::Stopped);
        };
        if let Some(error) = told.broken {
            return Err(error).context("read the object");
        }
        self.events += told.records;
        self.last = told.last;
        let refused = &self.means.metrics.log_events_refused;
        refused.add("unreadable", told.refused);
        refused.add("sample", told.samples);
        Ok(Read::Whole(told.damage))
    }

    /// Takes the events out of the text of a message; says whether there were any, or nothing if those
    /// handed in were not stored.
    fn text(&mut self, text: &str) -> Option<bool> {
        let before = self.events;
        let mut splitter = Splitter::default();
        splitter.push(text.as_bytes());
        splitter.end();
        self.pieces(&mut splitter).then_some(self.events > before)
    }

    fn is_stopping(&self) -> bool {
        self.means
            .is_stopping
            .load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Takes the pieces that the splitter has; says whether those that were handed in are stored.
    fn pieces(&mut self, splitter: &mut Splitter) -> bool {
        let refused = &self.means.metrics.log_events_refused;
        while let Some(piece) = splitter.next_piece() {
            match piece {
                Piece::Event(event) => match Call::read(event.json, &mut self.time_ns) {
                    Ok(call) => {
                        self.events += 1;
                        self.calls.push(call);
                    }
                    Err(_) => refused.add("unreadable", 1),
                },
                Piece::Foreign(_) => refused.add("foreign", 1),
                Piece::Fault(place, why) => {
                    refused.add("fault", 1);
                    self.fault.get_or_insert((place.line, why));
                }
            }
            if self.calls.len() >= BATCH_CALLS && !self.flush(None) {
                return false;
            }
        }
        true
    }
}
