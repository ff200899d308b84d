//! A log that is no list of CloudTrail's events on its way to the analysis, portion by portion.
//!
//! Records of flow logs, queries and logs of databases have no identity of their own, so what is read once is known
//! by the log itself and by how many portions of it are stored: after a crash those are read over, and not
//! analysed again. GuardDuty's findings have one, and are left out by it.

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use picket_detect::logs::{Login, Place, Reported};

use crate::analysis::{Batch, Inbox};
use crate::source::inflate::{Input, InputError};
use crate::source::{guardduty, hosts, rds};
use crate::store::sources::FileState;
use crate::usage::Usage;

/// Logins, or findings, in one portion: as many as calls of CloudTrail are handed in at once.
const PORTION: usize = crate::follow::BATCH_CALLS;

/// Which log.
#[derive(Debug, Clone)]
pub(crate) enum Log {
    /// About hosts.
    Hosts(hosts::Log),
    /// Of databases, with what neither path nor log tell of them.
    Rds(rds::Whence),
    /// GuardDuty's findings.
    Guardduty,
}

/// A log that is read.
pub(crate) struct Portions<'a> {
    /// Who gets what it tells.
    pub(crate) analysis: &'a Inbox,
    /// What it is remembered by: its path, or where it lies in a bucket.
    pub(crate) name: &'a str,
    /// What is stored of it with each portion, but for their number.
    pub(crate) state: &'a FileState,
    /// Portions of it that are stored.
    pub(crate) done: u64,
    /// Where what has to be copied before it can be read is copied to.
    pub(crate) copies: &'a Path,
    /// Set when the process is to end.
    pub(crate) is_stopping: &'a Arc<AtomicBool>,
}

/// The process is to end, or the analysis has: what was read is not stored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stopped;

/// What came of a log.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Records in it.
    pub(crate) records: u64,
    /// Pieces that could not be read.
    pub(crate) refused: u64,
    /// Findings that are samples.
    pub(crate) samples: u64,
    /// What is wrong with it first.
    pub(crate) damage: Option<String>,
    /// Why it could not be read on, if it could not be had.
    pub(crate) broken: Option<io::Error>,
    /// What is to be handed in with the word that it is done.
    pub(crate) last: Batch,
}

impl Portions<'_> {
    /// Reads a log to its end. What it returns is not stored yet; all before that is.
    ///
    /// # Errors
    /// The analysis has ended, or the process is to. Whatever else goes wrong is told.
    pub(crate) fn read(&self, input: &mut Input, log: &Log) -> Result<Told, Stopped> {
        let is_ended = Cell::new(false);
        let read = match log {
            Log::Hosts(log) => self.hosts(input, *log, &is_ended),
            Log::Rds(whence) => self.rds(input, whence, &is_ended),
            Log::Guardduty => self.guardduty(input, &is_ended),
        };
        match read {
            Ok(told) => Ok(told),
            Err(_) if is_ended.get() || self.is_stopping.load(Ordering::Relaxed) => Err(Stopped),
            Err(error) => Ok(Told {
                broken: Some(error),
                ..Told::default()
            }),
        }
    }

    fn hosts(&self, input: &mut Input, log: hosts::Log, is_ended: &Cell<bool>) -> io::Result<Told> {
        let mut reader = hosts::Reader::new(log).serving(self.copies, self.is_stopping);
        let (mut damage, mut at) = (None, 0);
        let mut told = |place: Option<Place>, why: String| {
            damage.get_or_insert_with(|| placed(place, &why));
        };
        let broken = reader.take(input, &mut told, &mut |summaries| {
            let batch = Batch {
                summaries,
                ..Batch::default()
            };
            self.portion(&mut at, batch, is_ended)
        })?;
        let mut out = Told {
            records: reader.totals.records,
            refused: reader.totals.refused,
            damage,
            last: of_usage(reader.usage),
            ..Told::default()
        };
        out.broke_off(broken.map(|(place, error)| (Some(place), error)));
        Ok(out)
    }

    fn rds(
        &self,
        input: &mut Input,
        whence: &rds::Whence,
        is_ended: &Cell<bool>,
    ) -> io::Result<Told> {
        let mut reader = rds::Reader::new(whence.clone());
        let (mut damage, mut at) = (None, 0);
        let mut waiting: Vec<Login> = Vec::new();
        let mut told = |place: Option<Place>, why: String| {
            damage.get_or_insert_with(|| placed(place, &why));
        };
        let path = Path::new(self.name);
        let broken = reader.take(input, path, &mut told, &mut |_, logins| {
            waiting.extend(logins);
            if waiting.len() < PORTION {
                return Ok(());
            }
            let batch = Batch {
                logins: std::mem::take(&mut waiting),
                ..Batch::default()
            };
            self.portion(&mut at, batch, is_ended)
        })?;
        let mut out = Told {
            records: reader.totals.logins,
            refused: reader.totals.refused,
            damage,
            last: Batch {
                logins: waiting,
                ..of_usage(reader.usage)
            },
            ..Told::default()
        };
        out.broke_off(broken);
        Ok(out)
    }

    fn guardduty(&self, input: &mut Input, is_ended: &Cell<bool>) -> io::Result<Told> {
        let mut reader = guardduty::Reader::default();
        let mut damage = None;
        let mut waiting: Vec<Reported> = Vec::new();
        let mut told = |place: Place, why: String| {
            damage.get_or_insert_with(|| placed(Some(place), &why));
        };
        let broken = reader.take(input, &mut told, &mut |_, finding| {
            waiting.push(finding);
            if waiting.len() < PORTION {
                return Ok(());
            }
            let batch = Batch {
                reported: std::mem::take(&mut waiting),
                ..Batch::default()
            };
            self.hand_in(batch, is_ended)
        })?;
        let mut out = Told {
            records: reader.totals.findings,
            refused: reader.totals.refused,
            samples: reader.totals.samples,
            damage,
            last: Batch {
                reported: waiting,
                ..Batch::default()
            },
            ..Told::default()
        };
        out.broke_off(broken.map(|(place, error)| (Some(place), error)));
        Ok(out)
    }

    /// Hands in the next portion, unless it is stored; `at` counts them.
    fn portion(&self, at: &mut u64, batch: Batch, is_ended: &Cell<bool>) -> io::Result<()> {
        *at += 1;
        if *at <= self.done {
            return Ok(());
        }
        let state = FileState {
            read_to: *at,
            ..self.state.clone()
        };
        let batch = Batch {
            file: Some((self.name.to_owned(), state)),
            ..batch
        };
        self.hand_in(batch, is_ended)
    }

    /// Hands in a batch; notes it if the analysis has ended.
    fn hand_in(&self, batch: Batch, is_ended: &Cell<bool>) -> io::Result<()> {
        if self.analysis.batch(batch) {
            return Ok(());
        }
        is_ended.set(true);
        Err(io::Error::other("the analysis has ended"))
    }
}

impl Told {
    fn broke_off(&mut self, broken: Option<(Option<Place>, InputError)>) {
        match broken {
            Some((_, InputError::Read(error) | InputError::Copy(error))) => {
                self.broken = Some(error);
            }
            Some((place, error)) => {
                let why = || placed(place, &error.to_string());
                self.damage.get_or_insert_with(why);
            }
            None => {}
        }
    }
}

fn of_usage(usage: Usage) -> Batch {
    Batch {
        usage,
        ..Batch::default()
    }
}

fn placed(place: Option<Place>, why: &str) -> String {
    let line = place.map(|place| format!("line {}: ", place.line));
    format!("{}{why}", line.unwrap_or_default())
}
