//! A log about hosts (VPC flow logs, resolver query logs) on its way to the analysis, portion by portion.
//!
//! Its records have no identity of their own, so what is read once is known by the log itself and by how
//! many portions of it are stored: after a crash those are read over, and not analysed again.

use std::io;

use crate::analysis::{Batch, Inbox};
use crate::source::hosts::{Log, Reader};
use crate::source::inflate::{Input, InputError};
use crate::store::sources::FileState;
use crate::usage::Usage;

/// A log that is read.
pub(crate) struct Portions<'a> {
    /// Who gets what it tells.
    pub(crate) analysis: &'a Inbox,
    /// What it is remembered by.
    pub(crate) name: &'a str,
    /// What it was when it was opened.
    pub(crate) state: &'a FileState,
    /// Portions of it that are stored.
    pub(crate) done: u64,
}

/// What came of a log.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Records in it.
    pub(crate) records: u64,
    /// Lines that could not be read.
    pub(crate) refused: u64,
    /// What its lines were, by account and day.
    pub(crate) usage: Usage,
    /// What is wrong with it first.
    pub(crate) damage: Option<String>,
    /// Why it could not be read on, if it could not be had.
    pub(crate) broken: Option<io::Error>,
}

impl Portions<'_> {
    /// Reads a log to its end; all of it but its last word, that it is done, is stored then.
    ///
    /// # Errors
    /// The analysis has ended.
    pub(crate) fn read(&self, input: &mut Input, log: Log) -> io::Result<Told> {
        let mut reader = Reader::new(log);
        let (mut damage, mut at) = (None, 0);
        let mut told = |place: Option<picket_detect::logs::Place>, why: String| {
            let line = place.map(|place| format!("line {}: ", place.line));
            damage.get_or_insert_with(|| format!("{}{why}", line.unwrap_or_default()));
        };
        let broken = reader.take(input, &mut told, &mut |summaries| {
            at += 1;
            if at <= self.done {
                return Ok(());
            }
            let state = FileState {
                read_to: at,
                ..self.state.clone()
            };
            let is_stored = self.analysis.batch(Batch {
                summaries,
                file: Some((self.name.to_owned(), state)),
                ..Batch::default()
            });
            is_stored
                .then_some(())
                .ok_or_else(|| io::Error::other("the analysis has ended"))
        })?;
        let mut out = Told {
            records: reader.totals.records,
            refused: reader.totals.refused,
            usage: reader.usage,
            damage,
            broken: None,
        };
        match broken {
            Some((_, InputError::Read(error))) => out.broken = Some(error),
            Some((place, error)) => {
                let why = || format!("line {}: {error}", place.line);
                out.damage.get_or_insert_with(why);
            }
            None => {}
        }
        Ok(out)
    }
}
