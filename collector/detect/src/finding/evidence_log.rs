//! The evidence of a finding: which of many events are kept.

use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::evidence::{ApiEvidence, Evidence, write_api};
use crate::limits::{EVIDENCE_DISTINCT_MAX, EVIDENCE_FIRST_MAX, EVIDENCE_LAST_MAX};
use crate::time::Time;

/// An event as it is kept.
#[derive(Debug, Clone)]
enum Kept {
    Whole(Box<Evidence>),
    /// A call like another one.
    Like {
        call: Arc<ApiEvidence>,
        event_id: Box<str>,
        time: Time,
    },
}

impl Kept {
    fn evidence(&self) -> Cow<'_, Evidence> {
        match self {
            Self::Whole(evidence) => Cow::Borrowed(evidence),
            Self::Like {
                call,
                event_id,
                time,
            } => Cow::Owned(Evidence::Cloudtrail(ApiEvidence {
                event_id: event_id.to_string(),
                time: *time,
                ..ApiEvidence::clone(call)
            })),
        }
    }
}

impl From<Evidence> for Kept {
    fn from(evidence: Evidence) -> Self {
        Self::Whole(evidence.into())
    }
}

/// The evidence of a finding: the first [`EVIDENCE_FIRST_MAX`] events, the last
/// [`EVIDENCE_LAST_MAX`], and from between the first of each API, peer and name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Evidence>", into = "Vec<Evidence>")]
pub struct EvidenceLog {
    first: Vec<Kept>,
    distinct: Vec<Kept>,
    /// The last ones, each with whether it is the first of its subject.
    last: VecDeque<(Kept, bool)>,
    subjects: BTreeSet<String>,
}

impl EvidenceLog {
    /// How many events are kept.
    pub fn len(&self) -> usize {
        self.first.len() + self.distinct.len() + self.last.len()
    }

    /// Says whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The events kept: in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = Cow<'_, Evidence>> {
        let last = self.last.iter().map(|(kept, _)| kept);
        let all = self.first.iter().chain(&self.distinct).chain(last);
        all.map(Kept::evidence)
    }

    /// Says whether another event takes the place of one, unless that is kept for its subject.
    pub(crate) fn is_full(&self) -> bool {
        self.last.len() >= EVIDENCE_LAST_MAX
    }

    /// Takes an event in, which becomes the last one.
    pub(crate) fn push(&mut self, evidence: Evidence) {
        self.put(&evidence.subject(), evidence.into());
    }

    /// Takes a call in as [`EvidenceLog::push`] does, which is like another one but for its id and its time: of
    /// ever so many calls only a few are ever read, so keeping one more must cost little. `subject` is room.
    pub(crate) fn push_like(
        &mut self,
        like: &Arc<ApiEvidence>,
        event_id: &str,
        time: Time,
        subject: &mut String,
    ) {
        write_api(&like.event_source, &like.event_name, subject);
        let kept = Kept::Like {
            call: like.clone(),
            event_id: event_id.into(),
            time,
        };
        self.put(subject, kept);
    }

    fn put(&mut self, subject: &str, kept: Kept) {
        let fresh = self.note_subject(subject);
        if self.first.len() < EVIDENCE_FIRST_MAX {
            self.first.push(kept);
            return;
        }
        self.last.push_back((kept, fresh));
        if self.last.len() > EVIDENCE_LAST_MAX
            && let Some((oldest, true)) = self.last.pop_front()
            && self.distinct.len() < EVIDENCE_DISTINCT_MAX
        {
            self.distinct.push(oldest);
        }
    }

    /// Says whether the subject is new; once the table is full, nothing is.
    fn note_subject(&mut self, subject: &str) -> bool {
        let room = EVIDENCE_FIRST_MAX + EVIDENCE_DISTINCT_MAX + EVIDENCE_LAST_MAX;
        if self.subjects.len() >= room || self.subjects.contains(subject) {
            return false;
        }
        self.subjects.insert(subject.to_owned())
    }
}

impl PartialEq for EvidenceLog {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl From<EvidenceLog> for Vec<Evidence> {
    fn from(log: EvidenceLog) -> Self {
        log.iter().map(Cow::into_owned).collect()
    }
}

impl From<Vec<Evidence>> for EvidenceLog {
    /// Sorts a stored list back into its three parts, which follow from their sizes.
    fn from(mut events: Vec<Evidence>) -> Self {
        let mut log = Self::default();
        let after_first = events.len().min(EVIDENCE_FIRST_MAX);
        let mut rest = events.split_off(after_first);
        let last = rest.split_off(rest.len().saturating_sub(EVIDENCE_LAST_MAX));
        for evidence in events.iter().chain(&rest) {
            log.note_subject(&evidence.subject());
        }
        rest.truncate(EVIDENCE_DISTINCT_MAX);
        log.first = events.into_iter().map(Kept::from).collect();
        log.distinct = rest.into_iter().map(Kept::from).collect();
        for evidence in last {
            let fresh = log.note_subject(&evidence.subject());
            log.last.push_back((evidence.into(), fresh));
        }
        log
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::SensorEvidence;

    fn sensor(at: u64, what: &str) -> Evidence {
        Evidence::Sensor(SensorEvidence {
            time: Time(at),
            agent: "a".into(),
            what: what.into(),
        })
    }

    fn times(log: &EvidenceLog) -> Vec<u64> {
        log.iter().map(|evidence| evidence.time().0).collect()
    }

    #[test]
    fn keeps_the_first_the_last_and_the_first_of_each_subject() {
        let mut log = EvidenceLog::default();
        for at in 0..1_000 {
            // A new subject at 150 and at 500 only, and one that stays in the last hundred.
            let what = match at {
                150 => "x",
                500 => "y",
                990 => "z",
                _ => "same",
            };
            log.push(sensor(at, what));
        }
        let expected: Vec<u64> = (0..100).chain([150, 500]).chain(900..1_000).collect();
        assert_eq!(times(&log), expected);
    }

    #[test]
    fn a_call_that_is_like_another_reads_as_one_that_is_pushed() {
        let (mut pushed, mut like) = (EvidenceLog::default(), EvidenceLog::default());
        let mut subject = String::new();
        let alike: Vec<Arc<ApiEvidence>> = (0..311)
            .map(|n| {
                Arc::new(ApiEvidence {
                    event_source: "s3.amazonaws.com".into(),
                    event_name: format!("Get{n}"),
                    error_code: (n % 7 == 0).then(|| "AccessDenied".into()),
                    ..ApiEvidence::default()
                })
            })
            .collect();
        for at in 0..1_000_u64 {
            let one = &alike[(at * at % 311) as usize];
            let event_id = at.to_string();
            like.push_like(one, &event_id, Time(at), &mut subject);
            let time = Time(at);
            pushed.push(Evidence::Cloudtrail(ApiEvidence {
                event_id,
                time,
                ..ApiEvidence::clone(one)
            }));
            assert_eq!(pushed, like, "after {at}");
        }
    }

    #[test]
    fn a_stored_log_goes_on_as_if_it_had_never_been_stored() {
        let mut log = EvidenceLog::default();
        for at in 0..2_000u64 {
            log.push(sensor(at, &format!("{}", at * at % 311)));
            if at % 97 == 0 {
                let json = serde_json::to_string(&log).unwrap();
                let stored: EvidenceLog = serde_json::from_str(&json).unwrap();
                assert_eq!(stored, log);
                let mut stored = stored;
                stored.push(sensor(at, "more"));
                let mut kept = log.clone();
                kept.push(sensor(at, "more"));
                assert_eq!(stored, kept, "after {at}");
            }
        }
    }

    #[test]
    fn is_bounded() {
        let mut log = EvidenceLog::default();
        for at in 0..5_000u64 {
            log.push(sensor(at, &format!("{at}")));
        }
        let most = EVIDENCE_FIRST_MAX + EVIDENCE_DISTINCT_MAX + EVIDENCE_LAST_MAX;
        assert_eq!(log.len(), most);
    }
}
