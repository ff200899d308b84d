//! The findings that are open: takes occurrences in, counts them exactly, and tells which findings
//! changed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::detections::{Issue, Occurrence};
use crate::finding::{
    ApiEvidence, EvidenceLog, Finding, Picket, RuntimeDetails, Service, ThreatEvidence, finding_id,
    partition,
};
use crate::limits::{ARCHIVED_MAX, EVIDENCE_ALWAYS, EVIDENCE_MAX, FINDING_DAYS_MAX, FINDINGS_MAX};
use crate::logs::ApiCall;
use crate::sigma::{Ruled, Told};
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
    /// Room for the subject of a piece.
    subject: String,
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

    /// Takes in what a rule matched of a call, as [`Ledger::take`] does.
    pub(crate) fn take_ruled(&mut self, ruled: Ruled, call: &ApiCall) -> Option<(Taken, &Finding)> {
        let told = match ruled {
            Ruled::New(told) => *told,
            Ruled::Again { finding, like } => return self.again(&finding, &like, call),
        };
        let (taken, finding) = self.take(told.occurrence)?;
        let id = finding.id.clone();
        let entry = self.open.get_mut(&id)?;
        if taken == Taken::Opened {
            Told::introduce(&told.set, told.number, &mut entry.finding);
        }
        Some((taken, &entry.finding))
    }

    /// Says whether a finding is open.
    pub(crate) fn is_open(&self, id: &str) -> bool {
        self.open.contains_key(id)
    }

    /// Counts another occurrence of which the finding says everything already.
    fn again(
        &mut self,
        id: &str,
        like: &Arc<ApiEvidence>,
        call: &ApiCall,
    ) -> Option<(Taken, &Finding)> {
        let entry = self.open.get_mut(id)?;
        if !entry.changed {
            entry.changed = true;
            self.changed.push_back(id.to_owned());
        }
        let finding = &mut entry.finding;
        let time = Time(call.event_time_ns);
        count(finding, (time, time), 1, &mut self.counters);
        keep(finding, &mut self.evidence, &mut self.counters, |log| {
            let event_id = call.event_id.as_deref().unwrap_or_default();
            log.push_like(like, event_id, time, &mut self.subject);
        });
        Some((Taken::Added, &entry.finding))
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

    /// The id of an issue's finding that is open.
    pub(crate) fn open(&self, issue: &Issue) -> Option<String> {
        let base = finding_id(
            issue.kind.name,
            &issue.account,
            &issue.region,
            &issue.subject,
            &issue.actor,
        );
        let id = match self.ordinals.get(&base) {
            Some(ordinal) => format!("{base}-{ordinal}"),
            None => base,
        };
        self.open.contains_key(&id).then_some(id)
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
            evidence: ThreatEvidence::of(&occurrence.additional_info),
            runtime_details: None,
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
    if service.runtime_details.is_none() {
        service.runtime_details = RuntimeDetails::of(&occurrence.evidence);
    }
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
    count(finding, (first, last), occurrence.count, counters);
    for evidence in occurrence.evidence {
        keep(finding, evidence_kept, counters, |log| log.push(evidence));
    }
}

/// Counts occurrences between two times.
fn count(finding: &mut Finding, times: (Time, Time), count: u64, counters: &mut Counters) {
    let (first, last) = times;
    let service = &mut finding.service;
    service.count += count;
    service.event_first_seen = service.event_first_seen.min(first);
    service.event_last_seen = service.event_last_seen.max(last);
    finding.created_at = service.event_first_seen;
    finding.updated_at = service.event_last_seen;
    if count == 0 {
        return;
    }
    let days = &mut finding.picket.days;
    let day = first.day();
    if days.len() < FINDING_DAYS_MAX || days.contains_key(&day) {
        *days.entry(day).or_insert(0) += count;
    } else {
        counters.days_left_out += count;
    }
}

/// Keeps a piece of evidence, if there is room for it.
fn keep(
    finding: &mut Finding,
    evidence_kept: &mut usize,
    counters: &mut Counters,
    push: impl FnOnce(&mut EvidenceLog),
) {
    let picket = &mut finding.picket;
    let before = picket.evidence.len();
    let grows = before >= EVIDENCE_ALWAYS && !picket.evidence.is_full();
    if grows && *evidence_kept >= EVIDENCE_MAX {
        picket.evidence_left_out += 1;
        counters.evidence_left_out += 1;
        return;
    }
    push(&mut picket.evidence);
    let after = picket.evidence.len();
    *evidence_kept += after - before;
    if after == before {
        picket.evidence_left_out += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::finding::{Action, Evidence, FindingType, Resource, Role, SensorEvidence};

    const KIND: FindingType = FindingType::picket("Test:EC2/Ledger", 5.0);

    fn occurrence(actor: &str, at: u64, severity: f64, evidence: usize) -> Occurrence {
        Occurrence {
            kind: &KIND,
            rule: "test",
            severity,
            confidence: 0.5,
            account: "111122223333".into(),
            region: "eu-west-1".into(),
            subject: "i-1".into(),
            actor: actor.into(),
            resource: Resource::instance("i-1".into(), None),
            role: Role::Actor,
            count: 1,
            first_ns: at,
            last_ns: at,
            action: Action::Sensor {},
            additional_info: BTreeMap::new(),
            evidence: (0..evidence)
                .map(|n| {
                    Evidence::Sensor(SensorEvidence {
                        time: Time(at),
                        agent: String::new(),
                        what: format!("{at}.{n}"),
                    })
                })
                .collect(),
            mitre: &[],
            title: format!("at {at}"),
            description: String::new(),
            why: String::new(),
            first_look: &[],
        }
    }

    #[test]
    fn the_worst_and_then_the_latest_occurrence_speaks() {
        let check = |steps: &[(u64, f64)], title: &str, severity: f64| {
            let mut ledger = Ledger::default();
            for &(at, severity) in steps {
                ledger.take(occurrence("a", at, severity, 1)).unwrap();
            }
            let finding = ledger.poll().unwrap();
            assert_eq!((&*finding.title, finding.severity), (title, severity));
            assert_eq!(ledger.poll(), None);
        };
        check(&[(1, 5.0), (2, 5.0)], "at 2", 5.0);
        check(&[(2, 5.0), (1, 5.0)], "at 2", 5.0);
        check(&[(1, 8.0), (2, 5.0)], "at 1", 8.0);
        check(&[(1, 5.0), (2, 8.0)], "at 2", 8.0);
    }

    #[test]
    fn counts_by_day_and_remembers_the_first_and_last() {
        const DAY: u64 = 86_400 * 1_000_000_000;
        let mut ledger = Ledger::default();
        for at in [3 * DAY, DAY, DAY + 1, 2 * DAY] {
            ledger.take(occurrence("a", at, 5.0, 1)).unwrap();
        }
        let finding = ledger.poll().unwrap();
        assert_eq!(finding.service.count, 4);
        assert_eq!(finding.service.event_first_seen, Time(DAY));
        assert_eq!(finding.service.event_last_seen, Time(3 * DAY));
        let days: Vec<u64> = finding.picket.days.values().copied().collect();
        assert_eq!(days, [2, 1, 1]);
    }

    #[test]
    fn what_only_adds_opens_nothing() {
        let mut ledger = Ledger::default();
        let more = |at| Occurrence {
            count: 0,
            ..occurrence("a", at, 5.0, 1)
        };
        assert!(ledger.take(more(1)).is_none());
        ledger.take(occurrence("a", 2, 5.0, 1)).unwrap();
        assert!(ledger.take(more(3)).is_some());
        let finding = ledger.poll().unwrap();
        assert_eq!((finding.count(), finding.picket.evidence.len()), (1, 2));
    }

    #[test]
    fn findings_that_leave_are_told_first_and_counted() {
        let mut ledger = Ledger::default();
        let all = FINDINGS_MAX + FINDINGS_MAX / 8;
        for at in 0..all {
            let actor = at.to_string();
            ledger.take(occurrence(&actor, at as u64, 5.0, 1)).unwrap();
            assert!(ledger.open.len() <= FINDINGS_MAX);
        }
        let told = std::iter::from_fn(|| ledger.poll()).count();
        assert_eq!(told, all);
        let evicted = ledger.counters.findings_evicted;
        assert_eq!(evicted as usize + ledger.open.len(), all);
        assert_eq!(ledger.evidence, ledger.open.len());
    }

    #[test]
    fn evidence_is_bounded_over_all_findings() {
        let mut ledger = Ledger::default();
        let mut pushed = 0;
        for at in 0..3_000u64 {
            ledger
                .take(occurrence(&at.to_string(), at, 5.0, 120))
                .unwrap();
            pushed += 120;
        }
        assert!(ledger.evidence <= EVIDENCE_MAX + 3_000 * EVIDENCE_ALWAYS);
        let left_out = ledger.counters.evidence_left_out as usize;
        assert_eq!(ledger.evidence + left_out, pushed);
        let shortest = ledger
            .open
            .values()
            .map(|e| e.finding.picket.evidence.len());
        assert_eq!(shortest.min(), Some(EVIDENCE_ALWAYS));
    }
}
