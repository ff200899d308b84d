//! What is usual, kept over restarts: read back before the first event, written at intervals and at the
//! end.
//!
//! What a crash loses is what was learned since it was last written, of [`CALLS_LOST_MAX`] calls at most.
//! A row that cannot be read back, or that another version wrote, is refused and counted; its principal is
//! learned anew.

use picket_detect::{Baseline, Learned, Traffic, TrafficOf, Whose};

use super::outcome::Outcome;
use super::{Analysis, Analyst};
use crate::clock;
use crate::follow::BATCH_CALLS;
use crate::store::baselines::{self, BaselineRow, VERSION};

/// Calls after which what they taught is written: those of a full batch, so that a back-fill loses none;
/// fewer would write the same rows for each event that comes by itself.
const CALLS_LOST_MAX: usize = BATCH_CALLS;

impl Analysis {
    /// Reads back what was usual before a restart.
    pub(super) fn recall_habits(&self, analyst: &mut Analyst) -> anyhow::Result<()> {
        use anyhow::Context as _;

        let rows = self
            .store
            .read(baselines::all)
            .context("read what was learned")?;
        let mut learned = Learned::default();
        let (mut taken, mut refused) = (0_u64, 0_u64);
        for row in rows {
            match read(&row) {
                Ok(one) => {
                    learned.extend(one);
                    taken += 1;
                }
                Err(reason) => {
                    refused += 1;
                    self.metrics.baselines_refused.add(reason, 1);
                }
            }
        }
        if refused > 0 {
            tracing::error!(
                taken,
                refused,
                "baselines not readable, or of another version; learned anew"
            );
        } else if taken > 0 {
            tracing::info!(taken, "baselines read back");
        }
        analyst.analyzer.set_learned(learned);
        // What was just read needs no writing.
        let _ = analyst.analyzer.poll_learned();
        analyst.habits_due_ms = clock::now_ms().saturating_add(self.habits_every_ms);
        Ok(())
    }

    /// Writes what was learned since it was last written, if it is time.
    pub(super) fn keep_habits_in_time(&self, analyst: &mut Analyst) {
        if clock::now_ms() >= analyst.habits_due_ms {
            self.keep_habits(analyst);
        }
    }

    /// Writes what was learned since it was last written; says whether it is.
    pub(super) fn keep_habits(&self, analyst: &mut Analyst) -> bool {
        let habits = self.habits(analyst);
        self.settle(Outcome {
            habits,
            ..Outcome::default()
        })
    }

    /// What calls taught is written with the mark that keeps them from being taught again: with each
    /// object of a back-fill, and after so many that a crash does not lose much.
    pub(super) fn habits_with(&self, analyst: &mut Analyst, batch: &Outcome) -> Vec<BaselineRow> {
        analyst.calls_taught += batch.seen.len();
        if batch.backfill.is_some() || analyst.calls_taught >= CALLS_LOST_MAX {
            self.habits(analyst)
        } else {
            Vec::new()
        }
    }

    /// What was learned since this was last asked; whoever asks writes it.
    fn habits(&self, analyst: &mut Analyst) -> Vec<BaselineRow> {
        analyst.habits_due_ms = clock::now_ms().saturating_add(self.habits_every_ms);
        analyst.calls_taught = 0;
        let mut rows = Vec::new();
        let mut put = |whose: &str,
                       name: String,
                       last_ns: u64,
                       body: serde_json::Result<String>| {
            match body {
                Ok(body) => rows.push(BaselineRow {
                    whose: whose.to_owned(),
                    name,
                    version: VERSION,
                    last_ms: last_ns / 1_000_000,
                    body,
                }),
                Err(error) => tracing::error!(%error, name, "baseline not written"),
            }
        };
        let mut learned = analyst.analyzer.poll_learned();
        for (of, name, traffic) in learned.take_traffic() {
            let body = serde_json::to_string(&traffic);
            put(of.name(), name, traffic.last_ns, body);
        }
        for (whose, name, baseline) in learned.into_rows() {
            let body = serde_json::to_string(&baseline);
            put(whose.name(), name, baseline.last_ns, body);
        }
        rows
    }

    /// Forgets a principal here and in the store; says whether it was known, or nothing if the process
    /// ends before it is stored.
    pub(super) fn forget_habit(&self, analyst: &mut Analyst, principal: String) -> Option<bool> {
        let is_known = analyst.analyzer.forget_principal(&principal);
        let forgotten = Outcome {
            forgotten: Some(principal),
            ..Outcome::default()
        };
        self.settle(forgotten).then_some(is_known)
    }
}

/// Reads a row back; the word for why not.
fn read(row: &BaselineRow) -> Result<Learned, &'static str> {
    if row.version != VERSION {
        return Err("version");
    }
    let of = TrafficOf::ALL.into_iter().find(|of| of.name() == row.whose);
    if let Some(of) = of {
        let traffic: Traffic = serde_json::from_str(&row.body).map_err(|_| "unreadable")?;
        return Ok(Learned::only_traffic(of, row.name.clone(), traffic));
    }
    let whose = [Whose::Principal, Whose::Peers, Whose::Account]
        .into_iter()
        .find(|whose| whose.name() == row.whose)
        .ok_or("unreadable")?;
    let baseline: Baseline = serde_json::from_str(&row.body).map_err(|_| "unreadable")?;
    Ok(Learned::only(whose, row.name.clone(), baseline))
}
