//! Anomalous behaviour: a principal calls what it never called, from where or by what it never did.
//! Reads: CloudTrail calls that somebody's credentials made; what was usual so far for the principal (the
//! role, not its session), for its peers and for its account.
//! Fires: when a call is new to a principal that has been known for `learning_days` and `calls_min` calls,
//! and its points reach `points_min`: one or two each for a call, service, region or program that is new to
//! the principal and perhaps to the account, two or three for a network, one each for an odd hour, a loud
//! one, a denial of somebody who is seldom denied.
//! Evidence: the call; what is unusual and what is usual side by side in `additionalInfo`. Severity: that of
//! GuardDuty's family if the network is new too, else low: that something was never seen says little.
//! Innocent look-alikes: people who travel, new tools, moves to another network. ATT&CK T1078.004.
//! First look: whether the principal's owner made the call; what else came from that network.
//! Actor key: the network.

mod explain;
mod families;
mod score;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::evidence_of::{self, quote};
use super::principal::{origin, principal};
use super::{Context, Detection, Occurrence};
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, Role};
use crate::history::{Baseline, Dimension, Usual, network};
use crate::logs::cloudtrail::ApiCall;
use score::Verdict;

/// Settings of `anomalous_behaviour`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Days for which a principal is only learned from: 7, so that every day of a week was seen once.
    pub learning_days: u64,
    /// Calls below which a principal is only learned from: 100, since less tells no habit.
    pub calls_min: u64,
    /// Points from which a call is told: 4, which a new call from a new network by a new program has.
    pub points_min: u32,
    /// Severity at most where the network is known: 3.0, low.
    pub known_network_severity_max: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            learning_days: 7,
            calls_min: 100,
            points_min: 4,
            known_network_severity_max: 3.0,
        }
    }
}

/// Anomalous behaviour.
pub(crate) struct AnomalousBehaviour;

impl Detection for AnomalousBehaviour {
    fn id(&self) -> &'static str {
        "anomalous_behaviour"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        families::ALL
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Cloudtrail
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Api(call) = event else {
            return;
        };
        if call.is_by_service() {
            return;
        }
        let settings = &context.settings.detections.anomalous_behaviour;
        let baselines = &context.history.baselines;
        let learned = baselines.of_principal(call);
        if !learned.is_some_and(|principal| is_learned(call, principal, settings)) {
            return;
        }
        let Some(usual) = baselines.of(call) else {
            return;
        };
        let verdict = score::judge(call, &usual);
        if !verdict.has(Dimension::Api) || verdict.points() < settings.points_min {
            return;
        }
        let Some(kind) = families::family(call) else {
            return;
        };
        let severity = if verdict.has(Dimension::Network) {
            kind.severity
        } else {
            kind.severity.min(settings.known_network_severity_max)
        };
        out.push(occurrence(call, kind, severity, &verdict, &usual));
    }
}

/// Says whether enough is known of a principal to say that something is unusual.
fn is_learned(call: &ApiCall, principal: &Baseline, settings: &Settings) -> bool {
    principal.calls >= settings.calls_min
        && principal.age_days(call.event_time_ns) >= settings.learning_days
}

fn occurrence(
    call: &ApiCall,
    kind: &'static FindingType,
    severity: f64,
    verdict: &Verdict,
    usual: &Usual<'_>,
) -> Occurrence {
    let who = principal(call);
    let name = quote(&who.name);
    let told: Vec<String> = verdict
        .unusual
        .iter()
        .map(|one| {
            let whom = if one.in_account {
                " (for the whole account)"
            } else {
                ""
            };
            let value = if one.value.is_empty() {
                String::new()
            } else {
                format!(" {}", quote(&one.value))
            };
            format!("{}{value}{whom}", one.what.words())
        })
        .collect();
    let title = format!("{name} called {}, which is unusual for it", call.event_name);
    let mut additional_info = BTreeMap::new();
    additional_info.insert("type".to_owned(), "default".to_owned());
    additional_info.insert("value".to_owned(), explain::explain(call, verdict, usual));
    let days = usual.principal.age_days(call.event_time_ns);
    Occurrence {
        kind,
        rule: AnomalousBehaviour.id(),
        severity,
        confidence: (f64::from(verdict.points()) / 10.0).min(0.9),
        account: who.account,
        region: who.region,
        subject: who.subject,
        actor: call.source_address.map(network).unwrap_or_default(),
        resource: who.resource,
        role: Role::Actor,
        count: 1,
        first_ns: call.event_time_ns,
        last_ns: call.event_time_ns,
        action: evidence_of::api_call(call),
        additional_info,
        evidence: vec![evidence_of::call(call)],
        mitre: &["T1078.004"],
        description: format!(
            "{title}. Innocent look-alikes: people who travel, new tools, moves to another network."
        ),
        why: format!(
            "{} points over {} calls of {days} days: new {} from {}",
            verdict.points(),
            usual.principal.calls,
            told.join(", "),
            quote(origin(call))
        ),
        title,
        first_look: &[
            "Whether the principal's owner made the call.",
            "What else came from that network, with other credentials too.",
            "What was usual, which stands beside it.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{START, analyze, api};
    use picket_intel::IndicatorSet;

    const DAY_NS: u64 = 24 * 3_600 * 1_000_000_000;

    #[derive(Clone, Copy)]
    struct Made<'a> {
        service: &'a str,
        name: &'a str,
        address: &'a str,
        agent: &'a str,
        day: u64,
    }

    const HOME: Made<'static> = Made {
        service: "ec2",
        name: "DescribeInstances",
        address: "192.0.2.1",
        agent: "aws-cli/2.1",
        day: 0,
    };

    fn event(made: &Made<'_>) -> Event {
        let mut call = api(&format!(
            r#"{{"eventName":"{}","eventSource":"{}.amazonaws.com","awsRegion":"eu-west-1",
            "recipientAccountId":"111122223333","sourceIPAddress":"{}","userAgent":"{}",
            "userIdentity":{{"type":"IAMUser","userName":"bob","arn":"arn:aws:iam::111122223333:user/bob"}}}}"#,
            made.name, made.service, made.address, made.agent
        ));
        call.event_time_ns = START + made.day * DAY_NS;
        Event::Api(call)
    }

    /// A habit of so many days, and then a call on the day after.
    #[track_caller]
    fn check(days: u64, last: Made<'_>, expected: &[(&str, f64)]) {
        let mut events = Vec::new();
        for day in 0..days {
            events.extend((0..20).map(|_| event(&Made { day, ..HOME })));
        }
        events.push(event(&Made { day: days, ..last }));
        let (findings, _) = analyze(IndicatorSet::default(), events);
        let own = findings
            .iter()
            .filter(|f| f.picket.rule == AnomalousBehaviour.id());
        let found: Vec<(&str, f64)> = own.map(|f| (f.type_name(), f.severity)).collect();
        assert_eq!(found, expected);
    }

    const ELSEWHERE: Made<'static> = Made {
        address: "203.0.113.9",
        agent: "Boto3/1.9",
        ..HOME
    };

    #[test]
    fn a_new_call_from_a_new_place() {
        let stolen = |service, name| Made {
            service,
            name,
            ..ELSEWHERE
        };
        let persists = "Persistence:IAMUser/AnomalousBehavior";
        check(10, stolen("ec2", "ImportKeyPair"), &[(persists, 5.0)]);
        let taken = "Exfiltration:S3/AnomalousBehavior";
        check(10, stolen("s3", "GetObject"), &[(taken, 8.0)]);
        let looked = "Discovery:IAMUser/AnomalousBehavior";
        check(10, stolen("ec2", "DescribeImages"), &[(looked, 2.0)]);
        let asked = "Impact:IAMUser/AnomalousModelInvocation";
        check(10, stolen("bedrock", "InvokeModel"), &[(asked, 2.0)]);
        check(10, ELSEWHERE, &[]);
        check(10, stolen("ec2", "AllocateAddress"), &[]);
    }

    #[test]
    fn never_seen_alone_is_little() {
        let new = |service, name| Made {
            service,
            name,
            ..HOME
        };
        check(10, new("ec2", "ImportKeyPair"), &[]);
        check(10, new("iam", "CreateUser"), &[]);
        let tool = Made {
            agent: "Boto3/1",
            ..new("iam", "CreateRole")
        };
        check(10, tool, &[("Persistence:IAMUser/AnomalousBehavior", 3.0)]);
    }

    #[test]
    fn who_is_not_known_yet_is_only_learned_from() {
        let stolen = || Made {
            name: "ImportKeyPair",
            ..ELSEWHERE
        };
        check(6, stolen(), &[]);
        check(0, stolen(), &[]);
        check(
            7,
            stolen(),
            &[("Persistence:IAMUser/AnomalousBehavior", 5.0)],
        );
    }

    #[test]
    fn the_unusual_and_the_usual_stand_side_by_side() {
        let mut events: Vec<Event> = (0..200)
            .map(|n| {
                event(&Made {
                    day: n / 20,
                    ..HOME
                })
            })
            .collect();
        events.push(event(&Made {
            name: "ImportKeyPair",
            day: 10,
            ..ELSEWHERE
        }));
        let (findings, _) = analyze(IndicatorSet::default(), events);
        let own = findings
            .iter()
            .find(|f| f.picket.rule == AnomalousBehaviour.id())
            .unwrap();
        let told: serde_json::Value =
            serde_json::from_str(&own.service.additional_info["value"]).unwrap();
        assert_eq!(
            told["unusualBehavior"]["unusualAPIsUserIdentityProfiling"],
            "ec2:ImportKeyPair"
        );
        assert_eq!(
            told["unusualBehavior"]["unusualNetworksAccountProfiling"],
            "203.0.0.0/16"
        );
        assert_eq!(
            told["unusualBehavior"]["unusualRegionsAccountProfiling"],
            ""
        );
        let usual = &told["profiledBehavior"]["frequentProfiledAPIsUserIdentityProfiling"];
        assert_eq!(usual, "ec2:DescribeInstances");
        assert_eq!(
            told["anomalies"]["anomalousAPIs"],
            "ec2.amazonaws.com:[ImportKeyPair:success]"
        );
    }
}
