//! A sensor that looks for yesterday's indicators: what the collector published has not reached its
//! host, or is over.
//! Reads: what each window says about the bundle of indicators in use. Fires: in each window that calls
//! it stale. Evidence: the version, its time, the agent's reason. Severity: medium, see the settings.
//! Innocent look-alikes: a collector that was away for long (then every host has it), a proxy that cuts
//! requests that wait, a host that was asleep. ATT&CK T1562.006.
//! First look: whether the host reaches the collector's address for indicators; what its agent says.
//! Actor key: the agent. The finding is put away by itself with the first window that is current again.

use std::collections::BTreeMap;

use picket_wire::Listing;
use serde::{Deserialize, Serialize};

use super::{Context, Detection, Issue, Occurrence};
use crate::event::{Event, SensorEvent, SensorWord, SourceKind};
use crate::finding::{Action, Evidence, FindingType, Resource, Role, SensorEvidence};
use crate::time::Time;

/// Settings of `sensor_indicators`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Severity: 5.0, medium: what is new is not met in the kernel there; the collector still matches
    /// what the host tells.
    pub severity: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { severity: 5.0 }
    }
}

const STALE: FindingType = FindingType::picket("DefenseEvasion:EC2/SensorIndicatorsStale", 5.0);

/// Stale indicators.
pub(crate) struct SensorIndicators;

impl Detection for SensorIndicators {
    fn id(&self) -> &'static str {
        "sensor_indicators"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&STALE]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Sensor
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Some((event, listing)) = listed(event) else {
            return;
        };
        if let Some(why) = &listing.stale {
            let severity = context.settings.detections.sensor_indicators.severity;
            out.push(occurrence(event, listing, why, severity));
        }
    }

    fn settles(&self, event: &Event) -> Option<Issue> {
        let (event, listing) = listed(event)?;
        listing.stale.is_none().then(|| Issue {
            kind: &STALE,
            account: event.host.account.clone(),
            region: event.host.region.clone(),
            subject: event.host.instance.clone(),
            actor: event.agent.to_string(),
        })
    }
}

fn listed(event: &Event) -> Option<(&SensorEvent, &Listing)> {
    let Event::Sensor(event) = event else {
        return None;
    };
    match &event.word {
        SensorWord::Listing(listing) => Some((event, listing)),
        _ => None,
    }
}

fn occurrence(event: &SensorEvent, listing: &Listing, reason: &str, severity: f64) -> Occurrence {
    let instance = &event.host.instance;
    let what = match listing.version {
        0 => format!("it has no indicators of the collector: {reason}"),
        version => format!(
            "its indicators are version {version} of {}: {reason}",
            Time(listing.issued_ms.saturating_mul(1_000_000))
        ),
    };
    let title = format!("The sensor of {instance} looks for old indicators: {what}");
    Occurrence {
        kind: &STALE,
        rule: SensorIndicators.id(),
        severity,
        confidence: 0.9,
        account: event.host.account.clone(),
        region: event.host.region.clone(),
        subject: instance.clone(),
        actor: event.agent.to_string(),
        resource: Resource::instance(instance.clone(), None),
        role: Role::Target,
        count: 1,
        first_ns: event.time_ns,
        last_ns: event.time_ns,
        action: Action::Sensor {},
        additional_info: BTreeMap::from([("agent".to_owned(), event.agent.to_string())]),
        evidence: vec![Evidence::Sensor(SensorEvidence {
            time: Time(event.time_ns),
            agent: event.agent.to_string(),
            what: what.clone(),
        })],
        mitre: &["T1562.006"],
        description: format!("{title}. What is new on lists is not met in the kernel there."),
        title,
        why: format!("agent {} of {instance}: {what}", event.agent),
        first_look: &[
            "Whether the host reaches the collector, and who is between them.",
            "`picket-agent status` on the host says what became of the last bundle.",
            "`picket-collector intel status` says how many agents are behind.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Host;
    use crate::testing::{START, analyze, brief};
    use picket_intel::IndicatorSet;
    use picket_wire::AgentId;

    const NAME: &str = "DefenseEvasion:EC2/SensorIndicatorsStale";

    fn window(instance: &str, stale: Option<&str>) -> Event {
        Event::Sensor(SensorEvent {
            agent: AgentId([1; 16]),
            host: Host {
                account: "111122223333".into(),
                region: "eu-west-1".into(),
                instance: instance.into(),
            },
            time_ns: START,
            word: SensorWord::Listing(Listing {
                version: 7,
                issued_ms: 1_700_000_000_000,
                stale: stale.map(str::to_owned),
            }),
        })
    }

    /// What is told, and how much of it stays open.
    #[track_caller]
    fn check(events: Vec<Event>, expected: &[(&str, f64, u64)], open: usize) {
        let (findings, _) = analyze(IndicatorSet::default(), events);
        assert_eq!(brief(&findings), expected);
        assert_eq!(findings.iter().filter(|one| one.is_open()).count(), open);
    }

    #[test]
    fn stale_indicators_are_told_until_they_are_current() {
        let (stale, current) = (|| window("i-1", Some("silent")), || window("i-1", None));
        check(vec![current(), current()], &[], 0);
        check(vec![stale()], &[(NAME, 5.0, 1)], 1);
        check(vec![stale(), stale()], &[(NAME, 5.0, 2)], 1);
        check(vec![stale(), current()], &[(NAME, 5.0, 1)], 0);
        // Another host's say nothing about this one's.
        check(vec![stale(), window("i-2", None)], &[(NAME, 5.0, 1)], 1);
    }
}
