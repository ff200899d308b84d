//! What is usual, kept over restarts: read back before the first event, written at intervals and at the
//! end.
//!
//! What a crash loses is what was learned since it was last written. A row that cannot be read back, or
//! that another version wrote, is refused and counted; its principal is learned anew.

use picket_detect::{Baseline, Learned, Whose};

use super::{Analysis, Analyst};
use crate::clock;
use crate::store::baselines::{self, BaselineRow, VERSION};

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

    /// Writes what was learned since it was last written.
    pub(super) fn keep_habits(&self, analyst: &mut Analyst) {
        analyst.habits_due_ms = clock::now_ms().saturating_add(self.habits_every_ms);
        let learned = analyst.analyzer.poll_learned();
        if learned.is_empty() {
            return;
        }
        let mut rows = Vec::new();
        for (whose, name, baseline) in learned.into_rows() {
            match serde_json::to_string(&baseline) {
                Ok(body) => rows.push(BaselineRow {
                    whose: whose.name().to_owned(),
                    name,
                    version: VERSION,
                    last_ms: baseline.last_ns / 1_000_000,
                    body,
                }),
                Err(error) => tracing::error!(%error, name, "baseline not written"),
            }
        }
        let count = rows.len();
        let written = self
            .store
            .write_blocking(move |transaction| baselines::put(transaction, &rows));
        match written {
            Ok(()) => tracing::debug!(count, "baselines written"),
            // They are written with the next ones of the same principals.
            Err(error) => tracing::error!(%error, count, "baselines not written"),
        }
    }

    /// Forgets a principal here and in the store; says whether it was known.
    pub(super) fn forget_habit(&self, analyst: &mut Analyst, principal: &str) -> bool {
        let is_known = analyst.analyzer.forget_principal(principal);
        let name = principal.to_owned();
        let removed = self
            .store
            .write_blocking(move |transaction| baselines::remove(transaction, &name));
        if let Err(error) = removed {
            tracing::error!(%error, principal, "baseline not removed from the store");
        }
        is_known
    }
}

/// Reads a row back; the word for why not.
fn read(row: &BaselineRow) -> Result<Learned, &'static str> {
    if row.version != VERSION {
        return Err("version");
    }
    let whose = [Whose::Principal, Whose::Peers, Whose::Account]
        .into_iter()
        .find(|whose| whose.name() == row.whose)
        .ok_or("unreadable")?;
    let baseline: Baseline = serde_json::from_str(&row.body).map_err(|_| "unreadable")?;
    Ok(Learned::only(whose, row.name.clone(), baseline))
}
