//! Follows folders of log files, above all of CloudTrail: reads what is new, whatever its shape, inflated or not.
//!
//! What was read of each file is remembered in the store together with what came of it. A file that
//! has changed is read again and events seen before are left out; one whose events follow each other
//! without a wrapper (JSON lines) goes on where it ended. The last event of a file that is still
//! being written is taken once it is whole.
//!
//! Logs about hosts (VPC flow logs, resolver query logs) have records without an identity: a file of them is
//! read once, when nobody has written to it for a while, and what is added later is reported and not read.
//! Logs of databases grow: what is added to one of lines is read once a minute, also after it was renamed. A file with GuardDuty's
//! findings that has changed is read again, and those seen before are left out.

mod part;
mod settings;

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use picket_detect::logs::{Piece, SplitError, Splitter};

use crate::analysis::{Batch, Call, Inbox};
use crate::clock;
use crate::digest::{self, Keys};
use crate::metrics::Metrics;
use crate::portions::{Log, Portions};
use crate::quiet::Quiet;
use crate::source::Report;
use crate::source::files::{self, LOG_ENDINGS};
use crate::source::hosts;
use crate::source::inflate::Input;
use crate::source::limits::CHUNK_BYTES;
use crate::stop::Stop;
use crate::store::Store;
use crate::store::sources::{self, FileState, MARK_BYTES};

use part::{Part, goes_on, is_lines, is_packed, lines_end, mark_before, resume_at};
pub(crate) use settings::{RdsSettings, Settings};

/// Calls handed to the analysis at once: enough to share a flush, few enough to stay small.
pub(crate) const BATCH_CALLS: usize = 1_000;

/// Files looked at in one folder and those below it (chosen by hand: a year of one account and
/// region, at one file every five minutes).
const FILES_MAX: usize = 100_000;

/// How long nobody may have written to a file of any log but CloudTrail's before it is read (chosen by hand: copying
/// one takes seconds).
const SETTLED_MS: u64 = 60_000;

/// How long nobody may have written to a digest before it is checked: what copies a bucket brings the files
/// that it names within this (chosen by hand).
const DIGEST_SETTLED_MS: u64 = 10 * 60_000;

/// Reads one folder.
pub(crate) struct Follower {
    /// Which, and how often.
    pub(crate) settings: Settings,
    /// Which log it holds, if not CloudTrail.
    pub(crate) log: Option<Log>,
    /// Public keys of CloudTrail's digests, if those are checked.
    pub(crate) keys: Option<Arc<Keys>>,
    /// Where it is remembered how far each file was read.
    pub(crate) store: Store,
    /// Who gets the calls.
    pub(crate) analysis: Inbox,
    /// Where tables are copied to before they are read.
    pub(crate) copies: PathBuf,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// Set when the process is to end.
    pub(crate) is_stopping: Arc<AtomicBool>,
}

impl Follower {
    /// Looks again and again until told to stop.
    pub(crate) async fn run(self, mut stop: Stop) -> anyhow::Result<()> {
        let pause = Duration::from_secs(self.settings.poll_s);
        let follower = Arc::new(std::sync::Mutex::new((self, Quiet::default())));
        loop {
            let turn = follower.clone();
            let looked = tokio::task::spawn_blocking(move || {
                let mut turn = turn
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                let (follower, log) = &mut *turn;
                follower.look(log);
            });
            if looked.await.is_err() {
                tracing::error!("reading of log files broke off; it goes on with the next look");
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.told() => return Ok(()),
            }
        }
    }

    /// Reads what is new in the folder, oldest file first.
    fn look(&self, log: &mut Quiet) {
        for (modified_ms, path, bytes) in self.list(log) {
            if self.is_stopping.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = self.file(&path, bytes, modified_ms) {
                self.metrics.log_files_damaged.add(1);
                if let Some(unsaid) = log.may_say("file", clock::now_ms()) {
                    let file = path.display();
                    tracing::warn!(%file, error = format!("{error:#}"), unsaid, "log file not read whole");
                }
            }
        }
    }

    /// The files of the folder: when they were written, their path and size.
    fn list(&self, log: &mut Quiet) -> Vec<(u64, PathBuf, u64)> {
        let mut told = Vec::new();
        let mut report = Report::new(&mut told);
        let mut files = Vec::new();
        let folder = &self.settings.path;
        let endings = match &self.log {
            None | Some(Log::Guardduty) => LOG_ENDINGS,
            Some(Log::Hosts(_)) => hosts::ENDINGS,
            // Names of rotated logs end in an hour or a number: every file counts.
            Some(Log::Rds(_)) => &[],
        };
        let listed = files::for_each(folder, endings, &mut report, &mut |path, _| {
            if files.len() >= FILES_MAX {
                return Err(format!("more than {FILES_MAX} files"));
            }
            // A file may go between being listed and being looked at.
            if let Ok(metadata) = std::fs::metadata(path) {
                files.push((modified_ms(&metadata), path.to_owned(), metadata.len()));
            }
            Ok(())
        });
        let why = match listed {
            Err(why) => Some(why),
            Ok(()) if !told.is_empty() => Some(String::from_utf8_lossy(&told).trim().to_owned()),
            Ok(()) if files.is_empty() && !folder.exists() => Some("not there".to_owned()),
            Ok(()) => None,
        };
        if let Some(why) = why
            && let Some(unsaid) = log.may_say("folder", clock::now_ms())
        {
            let folder = folder.display();
            tracing::warn!(%folder, why, unsaid, "folder of log files not readable");
        }
        files.sort();
        files
    }

    /// Reads a file if it has changed.
    fn file(&self, path: &Path, bytes: u64, modified_ms: u64) -> anyhow::Result<()> {
        let name = path.to_string_lossy().into_owned();
        let known = self
            .store
            .read(|connection| sources::file(connection, &name))?;
        if let Some(known) = &known
            && (known.bytes, known.modified_ms) == (bytes, modified_ms)
            && (self.log.is_none() || known.read_to == 0)
        {
            return Ok(());
        }
        if let Some(log) = &self.log {
            let is_settled = clock::now_ms().saturating_sub(modified_ms) >= SETTLED_MS;
            let mut bytes = bytes;
            let part = match (log, known) {
                (Log::Rds(_), known) => {
                    let known = self.before(path, known)?;
                    let part = Part::next(path, known.as_ref(), bytes)?;
                    if !is_settled {
                        let start = part.as_ref().map_or(bytes, |part| part.start);
                        bytes = self.early(path, known.as_ref(), start, (bytes, modified_ms))?;
                        if bytes <= start {
                            return Ok(());
                        }
                    }
                    part
                }
                _ if !is_settled => return Ok(()),
                (Log::Hosts(_), known) => Part::once(known.as_ref()),
                (Log::Guardduty, _) => Some(Part::default()),
            };
            return self.portions(path, name, log, part, (bytes, modified_ms));
        }
        if let Some(keys) = self.keys.as_ref().filter(|_| digest::is_digest(path)) {
            return self.digest(path, name, keys, (bytes, modified_ms));
        }
        let mut reading = Reading::open(path, known.as_ref())?;
        let outcome = self.read(&mut reading);
        if matches!(outcome, Ok(End::Stopped)) {
            // The file is not known to be read: the next start takes it up again.
            return Ok(());
        }
        // What could be read is settled even if the rest could not: it is looked at again when the
        // file changes.
        let state = FileState {
            bytes,
            modified_ms,
            read_to: reading.read_to,
            mark: reading.mark.clone(),
        };
        let last = Batch {
            calls: std::mem::take(&mut reading.calls),
            file: Some((name, state)),
            ..Batch::default()
        };
        self.analysis.batch(last);
        self.metrics.log_files_read.add(1);
        outcome.map(|_| ())
    }

    /// What is known of a log of a database: if it is none that was read by this name, maybe by another, as logs are
    /// renamed when they are rotated.
    fn before(&self, path: &Path, known: Option<FileState>) -> anyhow::Result<Option<FileState>> {
        let mut file = File::open(path)?;
        if let Some(known) = &known
            && goes_on(&mut file, known)?
        {
            return Ok(Some(known.clone()));
        }
        if !is_lines(&mut file)? {
            return Ok(known);
        }
        let beside = self
            .store
            .read(|connection| sources::beside(connection, path))?;
        for other in beside {
            if !other.mark.is_empty() && goes_on(&mut file, &other)? {
                return Ok(Some(other));
            }
        }
        Ok(known)
    }

    /// Where what can be read of a log that is still being written ends: at its last line, once a minute. What is not
    /// what it was may be on its way here, and waits.
    fn early(
        &self,
        path: &Path,
        known: Option<&FileState>,
        start: u64,
        (bytes, modified_ms): (u64, u64),
    ) -> io::Result<u64> {
        let mut file = File::open(path)?;
        if !is_lines(&mut file)? {
            return Ok(start);
        }
        if let Some(known) = known {
            let is_soon = modified_ms < known.modified_ms.saturating_add(SETTLED_MS);
            if is_soon || !goes_on(&mut file, known)? {
                return Ok(start);
            }
        }
        lines_end(&mut file, start, bytes)
    }

    /// Checks a digest, once what it names has had the time to come.
    fn digest(
        &self,
        path: &Path,
        name: String,
        keys: &Keys,
        (bytes, modified_ms): (u64, u64),
    ) -> anyhow::Result<()> {
        if clock::now_ms().saturating_sub(modified_ms) < DIGEST_SETTLED_MS {
            return Ok(());
        }
        let checked = digest::folder::check(path, keys)?;
        let (trail, outcome) = match checked {
            Ok(trail) => (trail, Ok(())),
            Err(why) => (Vec::new(), Err(anyhow::anyhow!(why))),
        };
        let state = FileState {
            bytes,
            modified_ms,
            read_to: 0,
            mark: Vec::new(),
        };
        self.analysis.batch(Batch {
            trail,
            file: Some((name, state)),
            ..Batch::default()
        });
        self.metrics.log_files_read.add(1);
        outcome
    }

    /// Reads a part of a file that is no list of CloudTrail's events.
    fn portions(
        &self,
        path: &Path,
        name: String,
        log: &Log,
        part: Option<Part>,
        (bytes, modified_ms): (u64, u64),
    ) -> anyhow::Result<()> {
        let mut file = File::open(path)?;
        let state = FileState {
            bytes,
            modified_ms,
            read_to: 0,
            mark: match log {
                Log::Rds(_) => mark_before(&mut file, bytes)?,
                Log::Hosts(_) | Log::Guardduty => Vec::new(),
            },
        };
        let mut outcome = Ok(());
        let mut last = Batch::default();
        match part {
            None => outcome = Err(anyhow::anyhow!("changed after it was read; not read again")),
            Some(part) => {
                file.seek(SeekFrom::Start(part.start))?;
                let mut input = Input::new(file.take(bytes - part.start))?;
                let begun = part.state.unwrap_or_else(|| state.clone());
                let portions = Portions {
                    analysis: &self.analysis,
                    name: &name,
                    state: &begun,
                    done: part.done,
                    copies: &self.copies,
                    is_stopping: &self.is_stopping,
                };
                let Ok(told) = portions.read(&mut input, log) else {
                    // The next start takes it up again.
                    return Ok(());
                };
                // It has to be read again, all but the portions of it that are stored.
                if let Some(error) = told.broken {
                    return Err(error).context("read the log");
                }
                let refused = &self.metrics.log_events_refused;
                refused.add("unreadable", told.refused);
                refused.add("sample", told.samples);
                if let Some(why) = told.damage {
                    outcome = Err(anyhow::anyhow!(why));
                }
                self.metrics.log_files_read.add(1);
                last = told.last;
            }
        }
        self.analysis.batch(Batch {
            file: Some((name, state)),
            ..last
        });
        outcome
    }

    fn read(&self, reading: &mut Reading) -> anyhow::Result<End> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut fault = None;
        let mut broken = None;
        loop {
            if self.is_stopping.load(Ordering::Relaxed) {
                return Ok(End::Stopped);
            }
            let count = reading.source.read(&mut chunk).unwrap_or_else(|error| {
                broken = Some(error);
                0
            });
            if count == 0 {
                reading.splitter.end();
            } else {
                reading.note(&chunk[..count]);
                reading.splitter.push(&chunk[..count]);
            }
            self.pieces(reading, &mut fault);
            if count == 0 {
                break;
            }
        }
        if let Some(error) = broken {
            return Err(error.into());
        }
        match fault {
            // The end of lines that are still being written is no damage.
            Some((_, SplitError::Cut)) if reading.is_lines => Ok(End::Reached),
            Some((line, why)) => Err(anyhow::anyhow!("line {line}: {why}")),
            None => Ok(End::Reached),
        }
    }

    /// Takes the pieces that the splitter has; keeps the first fault.
    fn pieces(&self, reading: &mut Reading, fault: &mut Option<(u64, SplitError)>) {
        let is_resumed = reading.start > 0;
        while let Some(piece) = reading.splitter.next_piece() {
            match piece {
                Piece::Event(event) => {
                    let start = event.place.byte;
                    if reading.first.is_none() {
                        reading.first = Some(start);
                        reading.is_lines = is_resumed || (start == 0 && !reading.is_gz);
                    }
                    let end = start + event.json.len() as u64;
                    match Call::read(event.json, &mut reading.time_ns) {
                        Ok(call) => reading.calls.push(call),
                        Err(_) => self.metrics.log_events_refused.add("unreadable", 1),
                    }
                    if reading.is_lines {
                        reading.advance(end);
                    }
                }
                Piece::Foreign(_) => self.metrics.log_events_refused.add("foreign", 1),
                Piece::Fault(place, why) => {
                    self.metrics.log_events_refused.add("fault", 1);
                    fault.get_or_insert((place.line, why));
                }
            }
            if reading.calls.len() >= BATCH_CALLS {
                let calls = std::mem::take(&mut reading.calls);
                self.analysis.batch(Batch {
                    calls,
                    ..Batch::default()
                });
            }
        }
    }
}

/// Where reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// At the end of the file.
    Reached,
    /// Before it, as the process is to end.
    Stopped,
}

/// A file while it is read.
struct Reading {
    source: Input,
    is_gz: bool,
    splitter: Splitter,
    /// Where in the file reading began.
    start: u64,
    /// Where the first event was found, from there.
    first: Option<u64>,
    /// Whether events follow each other without a wrapper, so that the next look can go on here.
    is_lines: bool,
    calls: Vec<Call>,
    time_ns: u64,
    /// End of the last event; 0 if the file must be read from its beginning next time.
    read_to: u64,
    /// The bytes before it, to know the file by.
    mark: Vec<u8>,
    /// The last bytes read, and where they end.
    recent: Vec<u8>,
    recent_end: u64,
}

impl Reading {
    fn open(path: &Path, known: Option<&FileState>) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let start = resume_at(&mut file, known)?;
        let is_gz = is_packed(&mut file)?;
        file.seek(SeekFrom::Start(start))?;
        let source = Input::new(file).map_err(io::Error::other)?;
        Ok(Self {
            source,
            is_gz,
            splitter: Splitter::default(),
            start,
            first: None,
            is_lines: start > 0,
            calls: Vec::new(),
            time_ns: 0,
            read_to: start,
            mark: known
                .filter(|_| start > 0)
                .map_or_else(Vec::new, |known| known.mark.clone()),
            recent: Vec::new(),
            recent_end: start,
        })
    }

    /// Keeps the last bytes that were read, as many as an event and its mark can take.
    fn note(&mut self, chunk: &[u8]) {
        self.recent.extend_from_slice(chunk);
        self.recent_end += chunk.len() as u64;
        let room = picket_detect::logs::limits::EVENT_BYTES_MAX + CHUNK_BYTES + MARK_BYTES;
        if self.recent.len() > 2 * room {
            self.recent.drain(..self.recent.len() - room);
        }
    }

    /// Notes that events up to `end`, counted from where reading began, were taken.
    fn advance(&mut self, end: u64) {
        let end = self.start + end;
        let behind = usize::try_from(self.recent_end.saturating_sub(end)).unwrap_or(usize::MAX);
        let Some(until) = self.recent.len().checked_sub(behind) else {
            return;
        };
        let from = until.saturating_sub(MARK_BYTES);
        self.read_to = end;
        self.mark = self.recent[from..until].to_vec();
    }
}

fn modified_ms(metadata: &Metadata) -> u64 {
    let modified = metadata.modified().ok();
    let since = modified.and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests;
