//! The findings that are open: takes occurrences in, counts them exactly, and tells which findings
//! changed.

use std::collections::{HashMap, VecDeque};

use crate::detections::Occurrence;
use crate::finding::{Finding, Picket, Service, finding_id, partition};
use crate::limits::{
    ARCHIVED_MAX, EVIDENCE_FIRST_MAX, EVIDENCE_MAX, FINDING_DAYS_MAX, FINDINGS_MAX,
};
use crate::time::Time;

/// The open findings.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    open: HashMap<String, Entry>,
    /// Issues that were archived, with the ordinal that a new occurrence opens.
    ordinals: HashMap<String, u32>,
    /// Ids of findings that changed since they were polled, oldest change first.
    changed: VecDeque<String>,
    /// Findings that left while they had changes nobody had polled.
    leaving: VecDeque<Finding>,
    /// Pieces of evidence kept by all of them.
    evidence: usize,
    pub(crate) counters: Counters,
}

/// What the ledger turned away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Findings that left to make room.
    pub(crate) findings_evicted: u64,
    /// Pieces of evidence that found no room.
    pub(crate) evidence_left_out: u64,
    /// Occurrences beyond the days a finding counts by.
    pub(crate) days_left_out: u64,
}

#[derive(Debug)]
struct Entry {
    finding: Finding,
    changed: bool,
}

/// What became of an occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It opened a finding.
    Opened,
    /// It went to an open one.
    Added,
}

impl Ledger {
    /// Takes an occurrence in and shows the finding it went to; `None` for one that only adds to a
    /// finding that is not open.
    pub(crate) fn take(&mut self, occurrence: Occurrence) -> Option<(Taken, &Finding)> {
        let base = finding_id(
            occurrence.kind.name,
            &occurrence.account,
            &occurrence.region,
            &occurrence.subject,
            &occurrence.actor,
        );
        let id = match self.ordinals.get(&base) {
            Some(ordinal) => format!("{base}-{ordinal}"),
            None => base,
        };
        let taken = if self.open.contains_key(&id) {
            Taken::Added
        } else if occurrence.count == 0 {
            return None;
        } else {
            self.make_room();
            Taken::Opened
        };
        let entry = self.open.entry(id.clone()).or_insert_with(|| Entry {
            finding: opened(id.clone(), &occurrence),
            changed: false,
        });
        if !entry.changed {
            entry.changed = true;
            self.changed.push_back(id);
        }
        add(
            &mut entry.finding,
            occurrence,
            &mut self.evidence,
            &mut self.counters,
        );
        Some((taken, &entry.finding))
    }

    /// Says which incident a finding is part of.
    pub(crate) fn set_incident(&mut self, id: &str, incident: &str) {
        let Some(entry) = self.open.get_mut(id) else {
            return;
        };
        if entry.finding.picket.incident.as_deref() == Some(incident) {
            return;
        }
        entry.finding.picket.incident = Some(incident.to_owned());
        if !entry.changed {
            entry.changed = true;
            self.changed.push_back(id.to_owned());
        }
    }

    /// The next finding that changed since it was last polled, as it stands now.
    pub(crate) fn poll(&mut self) -> Option<Finding> {
        if let Some(finding) = self.leaving.pop_front() {
            return Some(finding);
        }
        while let Some(id) = self.changed.pop_front() {
            if let Some(entry) = self.open.get_mut(&id) {
                entry.changed = false;
                return Some(entry.finding.clone());
            }
        }
        None
    }

    /// Puts a finding away. The next occurrence of its issue opens another under the next ordinal.
    pub(crate) fn archive(&mut self, id: &str) -> Option<Finding> {
        let mut finding = self.open.remove(id)?.finding;
        self.evidence = self.evidence.saturating_sub(finding.picket.evidence.len());
        finding.service.archived = true;
        self.note_archived(id);
        Some(finding)
    }

    /// Takes a stored finding in as it was.
    pub(crate) fn restore(&mut self, finding: Finding) {
        if finding.service.archived {
            self.note_archived(&finding.id);
            return;
        }
        let (base, ordinal) = split(&finding.id);
        if ordinal > 1 {
            let known = self.ordinals.entry(base.to_owned()).or_insert(ordinal);
            *known = ordinal.max(*known);
        }
        self.make_room();
        self.evidence += finding.picket.evidence.len();
        let id = finding.id.clone();
        self.open.insert(
            id,
            Entry {
                finding,
                changed: false,
            },
        );
    }

    fn note_archived(&mut self, id: &str) {
        let (base, ordinal) = split(id);
        if self.ordinals.len() >= ARCHIVED_MAX && !self.ordinals.contains_key(base) {
            return;
        }
        let known = self.ordinals.entry(base.to_owned()).or_insert(1);
        *known = (*known).max(ordinal.saturating_add(1));
    }

    /// When the table is full, lets the sixteenth that was quiet longest leave.
    fn make_room(&mut self) {
        if self.open.len() < FINDINGS_MAX {
            return;
        }
        let mut ages: Vec<(Time, String)> = self
            .open
            .iter()
            .map(|(id, entry)| (entry.finding.updated_at, id.clone()))
            .collect();
        ages.sort_unstable();
        ages.truncate(FINDINGS_MAX / 16);
        for (_, id) in ages {
            let Some(entry) = self.open.remove(&id) else {
                continue;
            };
            self.counters.findings_evicted += 1;
            self.evidence = self
                .evidence
                .saturating_sub(entry.finding.picket.evidence.len());
            if entry.changed {
                self.leaving.push_back(entry.finding);
            }
        }
    }
}

/// The issue an id names and how often it was opened.
fn split(id: &str) -> (&str, u32) {
    match id.split_once('-') {
        Some((base, ordinal)) => (base, ordinal.parse().unwrap_or(1)),
        None => (id, 1),
    }
}

fn opened(id: String, occurrence: &Occurrence) -> Finding {
    let partition = partition(&occurrence.region);
    let (account, region) = (&occurrence.account, &occurrence.region);
    Finding {
        schema_version: "2.0".to_owned(),
        arn: format!("arn:{partition}:guardduty:{region}:{account}:detector/picket/finding/{id}"),
        account_id: account.clone(),
        region: region.clone(),
        partition: partition.to_owned(),
        id,
        type_name: occurrence.kind.name.to_owned(),
        resource: occurrence.resource.clone(),
        service: Service {
            service_name: "picket".to_owned(),
            detector_id: "picket".to_owned(),
            action: occurrence.action.clone(),
            archived: false,
            count: 0,
            event_first_seen: Time(occurrence.first_ns),
            event_last_seen: Time(occurrence.last_ns),
            resource_role: occurrence.role,
            user_feedback: None,
            additional_info: occurrence.additional_info.clone(),
        },
        severity: occurrence.severity,
        title: occurrence.title.clone(),
        description: occurrence.description.clone(),
        created_at: Time(occurrence.first_ns),
        updated_at: Time(occurrence.last_ns),
        picket: Picket {
            rule: occurrence.rule.to_owned(),
            mitre: occurrence.mitre.iter().map(|&id| id.to_owned()).collect(),
            confidence: occurrence.confidence,
            why: occurrence.why.clone(),
            evidence: Default::default(),
            evidence_left_out: 0,
            first_look: occurrence
                .first_look
                .iter()
                .map(|&line| line.to_owned())
                .collect(),
            incident: None,
            days: Default::default(),
        },
    }
}

/// Adds an occurrence to its finding. What is told in words and as action is the latest occurrence
/// of the highest severity met.
fn add(
    finding: &mut Finding,
    occurrence: Occurrence,
    evidence_kept: &mut usize,
    counters: &mut Counters,
) {
    let (first, last) = (Time(occurrence.first_ns), Time(occurrence.last_ns));
    let service = &mut finding.service;
    let is_latest = last >= service.event_last_seen;
    service.count += occurrence.count;
    service.event_first_seen = service.event_first_seen.min(first);
    service.event_last_seen = service.event_last_seen.max(last);
    finding.created_at = service.event_first_seen;
    finding.updated_at = service.event_last_seen;
    for (key, value) in occurrence.additional_info {
        service.additional_info.entry(key).or_insert(value);
    }
    if occurrence.severity > finding.severity
        || (occurrence.severity == finding.severity && is_latest)
    {
        finding.severity = occurrence.severity;
        service.action = occurrence.action;
        finding.resource = occurrence.resource;
        finding.title = occurrence.title;
        finding.description = occurrence.description;
        let picket = &mut finding.picket;
        picket.why = occurrence.why;
        picket.confidence = picket.confidence.max(occurrence.confidence);
    }
    let picket = &mut finding.picket;
    if occurrence.count > 0 {
        let day = first.day();
        if picket.days.len() < FINDING_DAYS_MAX || picket.days.contains_key(&day) {
            *picket.days.entry(day).or_insert(0) += occurrence.count;
        } else {
            counters.days_left_out += occurrence.count;
        }
    }
    for evidence in occurrence.evidence {
        let before = picket.evidence.len();
        // Past the common bound a finding still keeps its very first events.
        let full = *evidence_kept >= EVIDENCE_MAX && before >= EVIDENCE_FIRST_MAX / 10;
        if full {
            picket.evidence_left_out += 1;
            counters.evidence_left_out += 1;
            continue;
        }
        picket.evidence.push(evidence);
        let after = picket.evidence.len();
        *evidence_kept += after - before;
        if after == before {
            picket.evidence_left_out += 1;
        }
    }
}
