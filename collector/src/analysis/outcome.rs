//! What one step of the analysis leaves behind, written in one transaction.

use picket_detect::{Finding, Gap, Incident};
use rusqlite::Transaction;

use crate::alert::{self, Rule};
use crate::store::backfill::{self, Progress};
use crate::store::baselines::{self, BaselineRow};
use crate::store::findings::{self, FindingRow, IncidentRow, Told};
use crate::store::gaps;
use crate::store::journal;
use crate::store::outbox::{self, Letter};
use crate::store::sources::{self, FileState, Memorable};
use crate::store::usage;
use crate::usage::Row;

/// What one step of the analysis leaves behind.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Findings that changed.
    pub(super) findings: Vec<Changed>,
    /// Incidents that changed.
    pub(super) incidents: Vec<IncidentRow>,
    /// A finding that somebody put away.
    pub(super) archived: Option<String>,
    /// How far the journal is analysed with it.
    pub(super) cursor: Option<u64>,
    /// The gaps that are held back, if they changed.
    pub(super) gaps: Option<Vec<Gap>>,
    /// Calls that were taken in.
    pub(super) seen: Vec<[u8; 24]>,
    /// Those of them that must be known after a restart.
    pub(super) memorable: Vec<Memorable>,
    /// What was analysed for it.
    pub(super) usage: Vec<Row>,
    /// How far a log file is read with it.
    pub(super) file: Option<(String, FileState)>,
    /// How far a back-fill is with it.
    pub(super) backfill: Option<(String, Progress)>,
    /// What is usual, as far as it changed and is written with it.
    pub(super) habits: Vec<BaselineRow>,
    /// A principal to forget.
    pub(super) forgotten: Option<String>,
}

/// A finding that changed.
#[derive(Debug)]
pub(super) struct Changed {
    /// As it stands now.
    pub(super) row: FindingRow,
    /// Whether nobody has put it away.
    pub(super) is_open: bool,
    /// Whether others may be told: not of a rule on trial.
    pub(super) may_page: bool,
}

/// What a commit has brought about.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Findings nobody had heard of: id, type, severity.
    pub(super) opened: Vec<(String, String, f64)>,
    /// Messages put out.
    pub(super) put_out: usize,
}

impl Outcome {
    /// Says whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.findings.is_empty()
            && self.incidents.is_empty()
            && self.archived.is_none()
            && self.cursor.is_none()
            && self.gaps.is_none()
            && self.seen.is_empty()
            && self.usage.is_empty()
            && self.file.is_none()
            && self.backfill.is_none()
            && self.habits.is_empty()
            && self.forgotten.is_none()
    }

    /// Writes all of it.
    pub(super) fn write(
        &self,
        transaction: &Transaction<'_>,
        rules: &[Rule],
        repeat_ms: u64,
        now_ms: u64,
    ) -> rusqlite::Result<Written> {
        let mut written = Written::default();
        for changed in &self.findings {
            let row = &changed.row;
            let (revision, told) = findings::put(transaction, row, now_ms)?;
            if !changed.is_open {
                // Put away by itself.
                findings::archive(transaction, &row.id, now_ms)?;
            }
            if revision == 1 {
                written
                    .opened
                    .push((row.id.clone(), row.kind.clone(), row.severity));
            }
            let now = Told {
                at_ms: now_ms,
                severity: row.severity,
                incident: row.incident.clone(),
            };
            let is_told = changed.is_open && changed.may_page;
            if is_told && alert::is_due(told.as_ref(), &now, repeat_ms) {
                written.put_out += put_out(transaction, rules, row, revision, now_ms)?;
                findings::note_told(transaction, &row.id, &now)?;
            }
        }
        for row in &self.incidents {
            findings::put_incident(transaction, row, now_ms)?;
        }
        if let Some(id) = &self.archived {
            findings::archive(transaction, id, now_ms)?;
        }
        usage::add(transaction, &self.usage)?;
        for key in &self.seen {
            sources::note_seen(transaction, key, now_ms)?;
        }
        for call in &self.memorable {
            sources::keep(transaction, call)?;
        }
        if let Some((path, state)) = &self.file {
            sources::put_file(transaction, path, state, now_ms)?;
        }
        if let Some((name, progress)) = &self.backfill {
            backfill::put(transaction, name, progress, now_ms)?;
        }
        baselines::put(transaction, &self.habits)?;
        if let Some(name) = &self.forgotten {
            baselines::remove(transaction, name)?;
        }
        if let Some(held) = &self.gaps {
            gaps::replace(transaction, held)?;
        }
        if let Some(id) = self.cursor {
            journal::advance(transaction, id)?;
        }
        Ok(written)
    }
}

/// Puts a message out for everyone whom a finding concerns; says for how many.
fn put_out(
    transaction: &Transaction<'_>,
    rules: &[Rule],
    row: &FindingRow,
    revision: u64,
    now_ms: u64,
) -> rusqlite::Result<usize> {
    let mut count = 0;
    for rule in rules.iter().filter(|rule| rule.wants(row.severity)) {
        let id = alert::delivery_id(&rule.channel, &row.id, revision);
        let body = alert::wrap(&id, row, now_ms)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let letter = Letter {
            finding: row.id.clone(),
            revision,
            attempts: 0,
            body,
        };
        outbox::put(transaction, &rule.channel, &letter, now_ms)?;
        count += 1;
    }
    Ok(count)
}

/// A finding as it is stored.
pub(super) fn finding_row(finding: &Finding) -> serde_json::Result<FindingRow> {
    Ok(FindingRow {
        id: finding.id.clone(),
        kind: finding.type_name.clone(),
        severity: finding.severity,
        account: finding.account_id.clone(),
        region: finding.region.clone(),
        title: finding.title.clone(),
        first_seen_ms: finding.service.event_first_seen.0 / 1_000_000,
        last_seen_ms: finding.service.event_last_seen.0 / 1_000_000,
        count: finding.service.count,
        incident: finding.picket.incident.clone(),
        body: serde_json::to_string(finding)?,
    })
}

/// An incident as it is stored.
pub(super) fn incident_row(incident: &Incident) -> serde_json::Result<IncidentRow> {
    Ok(IncidentRow {
        id: incident.id.clone(),
        severity: incident.severity,
        title: incident.title.clone(),
        updated_at_ms: incident.updated_at.0 / 1_000_000,
        body: serde_json::to_string(incident)?,
    })
}
