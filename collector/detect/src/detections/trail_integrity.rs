//! CloudTrail's own record was tampered with: a log file that a digest names has other content or is not
//! there, the chain of signed digests does not hold, or nothing comes of an account any more.
//! Reads: what the collector found as it checked digest files (CloudTrail user guide, "Validating
//! CloudTrail log file integrity") and as it waited for more. Fires: at once; silence is put away by itself
//! when the account is heard again.
//! Evidence: each file. Severity: see the settings.
//! Innocent look-alikes: a lifecycle rule that deletes logs before their digests; a copy of the bucket
//! that leaves some out; a trail that was deleted and made anew under the same name.
//! ATT&CK T1565.001, T1070.
//! First look: who wrote to the bucket or deleted from it (its data events, its versions); whether a
//! lifecycle rule did; what was done in the hour that the file is of.
//! Actor key: account and region of the trail's files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Context, Detection, Issue, Occurrence};
use crate::event::{Event, SourceKind, TrailEvent, TrailWord};
use crate::finding::{Action, Evidence, FindingType, Resource, Role, SensorEvidence};
use crate::time::Time;

/// Settings of `trail_integrity`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Severity of a log file with other content than CloudTrail wrote: 8.0, high: that is no accident.
    pub altered_severity: f64,
    /// Severity of one that is not there: 7.0, high, as whoever deletes logs hides; lifecycle rules do
    /// it, too.
    pub missing_severity: f64,
    /// Severity of a chain of digests that does not hold: 7.0, high.
    pub chain_severity: f64,
    /// Severity of an account of which nothing comes any more: 5.0, medium, as mostly our own way to the
    /// logs is cut off, and that must be mended all the same.
    pub quiet_severity: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            altered_severity: 8.0,
            missing_severity: 7.0,
            chain_severity: 7.0,
            quiet_severity: 5.0,
        }
    }
}

const ALTERED: FindingType = FindingType::picket("Stealth:S3/CloudTrailLogAltered", 8.0);
const MISSING: FindingType = FindingType::picket("Stealth:S3/CloudTrailLogMissing", 7.0);
const CHAIN: FindingType = FindingType::picket("Stealth:S3/CloudTrailDigestBroken", 7.0);
const QUIET: FindingType = FindingType::picket("Stealth:IAMUser/CloudTrailQuiet", 5.0);

/// Actor key of silence.
const SILENCE: &str = "quiet";

/// Where the collector's own findings happen: on no host that a sensor watches.
const SUBJECT: &str = "collector";

/// The record of CloudTrail.
pub(crate) struct TrailIntegrity;

impl Detection for TrailIntegrity {
    fn id(&self) -> &'static str {
        "trail_integrity"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&ALTERED, &MISSING, &CHAIN, &QUIET]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Sensor
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Trail(event) = event else {
            return;
        };
        let settings = &context.settings.detections.trail_integrity;
        let file = &event.file;
        out.push(match &event.word {
            TrailWord::Altered => occurrence(
                event,
                &ALTERED,
                settings.altered_severity,
                format!("log file {file} is not what CloudTrail wrote"),
            ),
            TrailWord::Missing => occurrence(
                event,
                &MISSING,
                settings.missing_severity,
                format!("log file {file} is not there, though CloudTrail wrote it"),
            ),
            TrailWord::Chain { why } => occurrence(
                event,
                &CHAIN,
                settings.chain_severity,
                format!("digest {file} does not hold: {why}"),
            ),
            TrailWord::Quiet { since_ns } => quiet(event, settings.quiet_severity, *since_ns),
            TrailWord::Heard => return,
        });
    }

    fn settles(&self, event: &Event) -> Option<Issue> {
        let Event::Trail(event) = event else {
            return None;
        };
        (event.word == TrailWord::Heard).then(|| Issue {
            kind: &QUIET,
            account: event.account.clone(),
            region: event.region.clone(),
            subject: SUBJECT.to_owned(),
            actor: SILENCE.to_owned(),
        })
    }
}

fn quiet(event: &TrailEvent, severity: f64, since_ns: u64) -> Occurrence {
    let hours = event.time_ns.saturating_sub(since_ns) / (3_600 * 1_000_000_000);
    let account = &event.account;
    let why =
        format!("nothing of account {account} has come for {hours} hours, and much did before");
    Occurrence {
        actor: SILENCE.to_owned(),
        additional_info: BTreeMap::new(),
        mitre: &["T1562.008"],
        confidence: 0.5,
        first_ns: since_ns,
        title: format!("CloudTrail of account {account} has gone quiet"),
        description: format!(
            "CloudTrail delivers within minutes, and an account that is used makes calls all day. Of account \
             {account} nothing has come for {hours} hours."
        ),
        first_look: &[
            "Whether the trail still logs: `aws cloudtrail get-trail-status`.",
            "Whether the bucket, its notifications or the queue were changed.",
            "Whether the collector may still read them: its log says what it was refused.",
        ],
        ..occurrence(event, &QUIET, severity, why)
    }
}

fn occurrence(
    event: &TrailEvent,
    kind: &'static FindingType,
    severity: f64,
    what: String,
) -> Occurrence {
    let place = event.bucket.clone();
    Occurrence {
        kind,
        rule: TrailIntegrity.id(),
        severity,
        confidence: 0.9,
        account: event.account.clone(),
        region: event.region.clone(),
        subject: SUBJECT.to_owned(),
        actor: format!("{}/{}/{}", event.bucket, event.account, event.region),
        resource: Resource::instance(SUBJECT.to_owned(), None),
        role: Role::Target,
        count: 1,
        first_ns: event.time_ns,
        last_ns: event.time_ns,
        action: Action::Sensor {},
        additional_info: BTreeMap::from([
            ("bucket".to_owned(), event.bucket.clone()),
            ("file".to_owned(), event.file.clone()),
        ]),
        evidence: vec![Evidence::Sensor(SensorEvidence {
            time: Time(event.time_ns),
            agent: SUBJECT.to_owned(),
            what: what.clone(),
        })],
        mitre: &["T1565.001", "T1070"],
        title: format!("CloudTrail's record in {place} was tampered with: {what}"),
        description: format!(
            "CloudTrail signs which log files it wrote and what was in them. In {place}, {what}."
        ),
        why: what,
        first_look: &[
            "Who wrote to the bucket or deleted from it: its data events, its versions.",
            "Whether a lifecycle rule or a copy that leaves files out explains it.",
            "What was done in the account in the hour that the file is of.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{START, analyze, brief};
    use picket_intel::IndicatorSet;

    fn event(region: &str, file: &str, word: TrailWord) -> Event {
        Event::Trail(TrailEvent {
            account: "111122223333".into(),
            region: region.into(),
            bucket: "trail".into(),
            file: file.into(),
            time_ns: START,
            word,
        })
    }

    #[test]
    fn silence_is_told_once_and_put_away_when_it_is_over() {
        let quiet = |account: &str| {
            Event::Trail(TrailEvent {
                account: account.into(),
                region: String::new(),
                bucket: String::new(),
                file: String::new(),
                time_ns: START + 7 * 3_600 * 1_000_000_000,
                word: TrailWord::Quiet { since_ns: START },
            })
        };
        let heard = |account: &str| match quiet(account) {
            Event::Trail(event) => Event::Trail(TrailEvent {
                word: TrailWord::Heard,
                ..event
            }),
            other => other,
        };
        let open = |events: Vec<Event>| {
            let (found, _) = analyze(IndicatorSet::default(), events);
            found.iter().filter(|f| !f.service.archived).count()
        };
        assert_eq!(open(vec![quiet("1"), quiet("2")]), 2);
        assert_eq!(open(vec![quiet("1"), heard("1")]), 0);
        assert_eq!(open(vec![quiet("1"), heard("2")]), 1);
        assert_eq!(open(vec![heard("1")]), 0);
    }

    #[test]
    fn each_kind_is_one_finding_a_trail() {
        let chain = || TrailWord::Chain {
            why: "the signature is another".into(),
        };
        for (name, events, expected) in [
            ("nothing", vec![], vec![]),
            (
                "two files of one trail",
                vec![
                    event("eu-central-1", "a", TrailWord::Altered),
                    event("eu-central-1", "b", TrailWord::Altered),
                ],
                vec!["Stealth:S3/CloudTrailLogAltered"],
            ),
            (
                "two regions",
                vec![
                    event("eu-central-1", "a", TrailWord::Missing),
                    event("us-east-1", "b", TrailWord::Missing),
                ],
                vec!["Stealth:S3/CloudTrailLogMissing"; 2],
            ),
            (
                "a chain and what it says",
                vec![
                    event("eu-central-1", "d", chain()),
                    event("eu-central-1", "a", TrailWord::Missing),
                ],
                vec![
                    "Stealth:S3/CloudTrailDigestBroken",
                    "Stealth:S3/CloudTrailLogMissing",
                ],
            ),
        ] {
            let (found, _) = analyze(IndicatorSet::default(), events);
            let mut kinds: Vec<&str> = brief(&found).into_iter().map(|(kind, ..)| kind).collect();
            kinds.sort_unstable();
            assert_eq!(kinds, expected, "{name}");
        }
    }
}
