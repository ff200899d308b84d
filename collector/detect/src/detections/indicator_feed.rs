//! A feed of indicators that cannot be trusted to be there: what its server sends is an error page,
//! empty, or half of what it was, or the server does not answer any more; or a list that is not looked
//! for, as it is too much. Who can take entries off a list is not seen by it.
//! Reads: what the collector noticed as it fetched lists and put them together, which `serve` alone has. Fires: at once.
//! Evidence: what was noticed. Severity: see the settings; the version in use stays in use.
//! Innocent look-alikes: a maker who cleans up (an operator accepts it), a server that moved.
//! ATT&CK T1562.006.
//! First look: what the feed's address shows; whether its maker announced anything; who else uses it.
//! Actor key: the name of the feed or list. Each finding is put away by itself when that is good again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Context, Detection, Issue, Occurrence};
use crate::event::{Event, FeedEvent, FeedWord, SourceKind};
use crate::finding::{Action, Evidence, FindingType, Resource, Role, SensorEvidence};
use crate::time::Time;

/// Settings of `indicator_feed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Severity of a version that was refused: 5.0, medium: somebody must look, and the old entries
    /// protect meanwhile.
    pub refused_severity: f64,
    /// Severity of a feed that does not answer: 3.0, low: servers come back, and lists age slowly.
    pub stale_severity: f64,
    /// Severity of a list of which nothing is looked for: 5.0, medium: what it names is not seen.
    pub left_out_severity: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            refused_severity: 5.0,
            stale_severity: 3.0,
            left_out_severity: 5.0,
        }
    }
}

const REFUSED: FindingType = FindingType::picket("DefenseEvasion:EC2/IndicatorFeedRefused", 5.0);
const STALE: FindingType = FindingType::picket("DefenseEvasion:EC2/IndicatorFeedStale", 3.0);
const LEFT_OUT: FindingType = FindingType::picket("DefenseEvasion:EC2/IndicatorListLeftOut", 5.0);

/// Where the collector's own findings happen: on no host that a sensor watches.
const SUBJECT: &str = "collector";

/// The region of what happens in none.
const REGION: &str = "local";

/// Feeds of indicators.
pub(crate) struct IndicatorFeed;

impl Detection for IndicatorFeed {
    fn id(&self) -> &'static str {
        "indicator_feed"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&REFUSED, &STALE, &LEFT_OUT]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Sensor
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Feed(event) = event else {
            return;
        };
        let settings = &context.settings.detections.indicator_feed;
        let feed = &event.feed;
        match &event.word {
            FeedWord::Refused { why } => out.push(occurrence(
                event,
                &REFUSED,
                settings.refused_severity,
                format!("what came of feed {feed} is not taken: {why}"),
            )),
            FeedWord::Stale { since_ns, why } => out.push(occurrence(
                event,
                &STALE,
                settings.stale_severity,
                format!(
                    "feed {feed} has not answered since {}: {why}",
                    Time(*since_ns)
                ),
            )),
            FeedWord::LeftOut { why } => out.push(occurrence(
                event,
                &LEFT_OUT,
                settings.left_out_severity,
                format!("nothing on list {feed} is looked for: {why}"),
            )),
            FeedWord::Good | FeedWord::Fresh | FeedWord::Used => {}
        }
    }

    fn settles(&self, event: &Event) -> Option<Issue> {
        let Event::Feed(event) = event else {
            return None;
        };
        let kind = match event.word {
            FeedWord::Good => &REFUSED,
            FeedWord::Fresh => &STALE,
            FeedWord::Used => &LEFT_OUT,
            FeedWord::Refused { .. } | FeedWord::Stale { .. } | FeedWord::LeftOut { .. } => {
                return None;
            }
        };
        Some(Issue {
            kind,
            account: event.account.clone(),
            region: REGION.to_owned(),
            subject: SUBJECT.to_owned(),
            actor: event.feed.clone(),
        })
    }
}

fn occurrence(
    event: &FeedEvent,
    kind: &'static FindingType,
    severity: f64,
    what: String,
) -> Occurrence {
    let title = format!("Indicators: {what}");
    Occurrence {
        kind,
        rule: IndicatorFeed.id(),
        severity,
        confidence: 0.9,
        account: event.account.clone(),
        region: REGION.to_owned(),
        subject: SUBJECT.to_owned(),
        actor: event.feed.clone(),
        resource: Resource::instance(SUBJECT.to_owned(), None),
        role: Role::Target,
        count: 1,
        first_ns: event.time_ns,
        last_ns: event.time_ns,
        action: Action::Sensor {},
        additional_info: BTreeMap::from([("feed".to_owned(), event.feed.clone())]),
        evidence: vec![Evidence::Sensor(SensorEvidence {
            time: Time(event.time_ns),
            agent: SUBJECT.to_owned(),
            what: what.clone(),
        })],
        mitre: &["T1562.006"],
        description: match event.word {
            FeedWord::LeftOut { .. } => format!("{title}. All other lists are looked for."),
            _ => format!("{title}. The entries in use stay in use."),
        },
        title,
        why: what,
        first_look: match event.word {
            FeedWord::LeftOut { .. } => &[
                "`picket-collector intel status` says how much each list takes, and what is left out.",
                "Whether the list has grown by what its maker says it has.",
                "If all of them are wanted: fewer entries on others, or `indicators.entries_max`.",
            ],
            _ => &[
                "What the feed's address shows, and whether its maker announced a change.",
                "`picket-collector intel feeds` says what is in use, and what is held back.",
                "If the change is meant: `picket-collector intel feeds accept NAME`.",
            ],
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{START, analyze, brief};
    use picket_intel::IndicatorSet;

    fn event(feed: &str, word: FeedWord) -> Event {
        Event::Feed(FeedEvent {
            account: "111122223333".into(),
            feed: feed.into(),
            time_ns: START,
            word,
        })
    }

    fn refused() -> FeedWord {
        FeedWord::Refused {
            why: "empty".into(),
        }
    }

    fn stale() -> FeedWord {
        FeedWord::Stale {
            since_ns: START,
            why: "no route".into(),
        }
    }

    /// What is told, and how much of it stays open.
    #[track_caller]
    fn check(events: Vec<Event>, expected: &[(&str, f64, u64)], open: usize) {
        let (findings, _) = analyze(IndicatorSet::default(), events);
        assert_eq!(brief(&findings), expected);
        assert_eq!(findings.iter().filter(|one| one.is_open()).count(), open);
    }

    const REFUSED: &str = "DefenseEvasion:EC2/IndicatorFeedRefused";
    const STALE: &str = "DefenseEvasion:EC2/IndicatorFeedStale";
    const LEFT_OUT: &str = "DefenseEvasion:EC2/IndicatorListLeftOut";

    #[test]
    fn each_feed_has_its_own_and_is_over_when_it_is_good_again() {
        check(vec![event("a", refused())], &[(REFUSED, 5.0, 1)], 1);
        check(
            vec![event("a", refused()), event("a", refused())],
            &[(REFUSED, 5.0, 2)],
            1,
        );
        check(vec![event("a", stale())], &[(STALE, 3.0, 1)], 1);
        check(
            vec![event("a", FeedWord::Good), event("a", FeedWord::Fresh)],
            &[],
            0,
        );
        check(
            vec![event("a", refused()), event("a", FeedWord::Good)],
            &[(REFUSED, 5.0, 1)],
            0,
        );
        let left_out = || FeedWord::LeftOut {
            why: "no room".into(),
        };
        check(
            vec![event("a", left_out()), event("a", FeedWord::Good)],
            &[(LEFT_OUT, 5.0, 1)],
            1,
        );
        check(
            vec![event("a", left_out()), event("a", FeedWord::Used)],
            &[(LEFT_OUT, 5.0, 1)],
            0,
        );
        // That it answers again does not make what it answers good, nor is another feed meant.
        check(
            vec![
                event("a", refused()),
                event("a", FeedWord::Fresh),
                event("b", FeedWord::Good),
            ],
            &[(REFUSED, 5.0, 1)],
            1,
        );
    }
}
