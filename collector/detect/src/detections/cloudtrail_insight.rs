//! Insights: CloudTrail itself says that an account makes far more of a call, or of an error, than it used to.
//! Reads: Insight events (`insightDetails`). Fires: when one begins; its end adds to what it said, and is no occurrence.
//! Evidence: the call, its usual and its present rate a minute, and who makes it by what program, with what was usual
//! beside it, in `additionalInfo`. Severity: low; medium where who makes most of the calls is not among those that
//! made them before.
//! Innocent look-alikes: a deployment, an audit, a script that a person wrote that morning, a retry without a pause.
//! ATT&CK T1580 for errors, T1578 for calls. Method: CloudTrail's own, "Working with CloudTrail Insights".
//! First look: the calls themselves in that time: management events of the same API, by whom and on what.
//! Actor key: who makes most of the calls.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::evidence_of::{self, quote};
use super::principal::principal;
use super::{Context, Detection, Occurrence};
use crate::event::{Event, SourceKind};
use crate::finding::{AccessKeyDetails, FindingType, Resource, Role};
use crate::logs::cloudtrail::ApiCall;

/// Settings of `cloudtrail_insight`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Severity where those do it who did it before: 3.0, since most of them are deployments.
    pub severity: f64,
    /// Severity where most of it is done by somebody who did not: 5.0.
    pub newcomer_severity: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            severity: 3.0,
            newcomer_severity: 5.0,
        }
    }
}

const CALLS: FindingType = FindingType::picket("Impact:IAMUser/UnusualCallRate", 3.0);
const ERRORS: FindingType = FindingType::picket("Discovery:IAMUser/UnusualErrorRate", 3.0);

/// What CloudTrail finds unusual.
pub(crate) struct CloudtrailInsight;

impl Detection for CloudtrailInsight {
    fn id(&self) -> &'static str {
        "cloudtrail_insight"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&CALLS, &ERRORS]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Cloudtrail
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Api(call) = event else {
            return;
        };
        if !call.is_insight() {
            return;
        }
        if let Some(insight) = Insight::of(call) {
            out.push(insight.occurrence(call, &context.settings.detections.cloudtrail_insight));
        }
    }
}

/// What an Insight event says.
#[derive(Debug, PartialEq)]
struct Insight<'a> {
    service: &'a str,
    api: &'a str,
    error: Option<&'a str>,
    /// Whether it begins; else it ends.
    begins: bool,
    /// Calls or errors a minute, before and now.
    usual: Option<f64>,
    now: Option<f64>,
    /// Who makes them, most first, with their share a minute.
    callers: Attribution<'a>,
    programs: Attribution<'a>,
}

/// Values of one attribute, each with its rate a minute: now, and before.
#[derive(Debug, PartialEq, Default)]
struct Attribution<'a> {
    now: Vec<(&'a str, f64)>,
    usual: Vec<(&'a str, f64)>,
}

impl<'a> Insight<'a> {
    fn of(call: &'a ApiCall) -> Option<Self> {
        let details = call.field("insightDetails")?;
        let text = |name: &str| details.get(name).and_then(Value::as_str);
        let average = |path: &str| details.pointer(path).and_then(Value::as_f64);
        let is_of_errors = text("insightType") == Some("ApiErrorRateInsight");
        Some(Self {
            service: text("eventSource").unwrap_or_default(),
            api: text("eventName")?,
            error: text("errorCode").or(is_of_errors.then_some("errors")),
            begins: text("state") != Some("End"),
            usual: average("/insightContext/statistics/baseline/average"),
            now: average("/insightContext/statistics/insight/average"),
            callers: Attribution::of(details, "userIdentityArn"),
            programs: Attribution::of(details, "userAgent"),
        })
    }

    /// Says whether most of it is done by somebody who did not do it before. Each run of a pipeline is a new
    /// session of the same role, and what AWS's services do by their own roles is nobody's doing.
    fn is_newcomers(&self) -> bool {
        let usual = &self.callers.usual;
        let is_usual = |who: &str| usual.iter().any(|(known, _)| bearer(known) == bearer(who));
        let is_service = |who: &str| who.contains(":assumed-role/AWSServiceRoleFor");
        let first = self.callers.now.first();
        !usual.is_empty() && first.is_some_and(|(who, _)| !is_usual(who) && !is_service(who))
    }

    fn occurrence(&self, call: &ApiCall, settings: &Settings) -> Occurrence {
        let who = principal(call);
        let kind = self.error.map_or(&CALLS, |_| &ERRORS);
        let is_newcomers = self.is_newcomers();
        let caller = self.callers.now.first().map_or("", |(caller, _)| caller);
        let api = quote(&format!("{}:{}", self.service, self.api));
        let what = match self.error {
            Some(error) => format!("{api} fails with {}", quote(error)),
            None => format!("{api} is called"),
        };
        let rate =
            |rate: Option<f64>| rate.map_or("an unknown number".to_owned(), |n| format!("{n:.2}"));
        let by = if caller.is_empty() {
            String::new()
        } else {
            format!(", mostly by {}", quote(caller))
        };
        let new = if is_newcomers {
            ", who was not among those before"
        } else {
            ""
        };
        let title = format!("{what} far more often than usual{by}");
        let value = serde_json::json!({
            "unusualBehavior": { "average": self.now, "userIdentityArns": names(&self.callers.now), "userAgents": names(&self.programs.now) },
            "profiledBehavior": { "average": self.usual, "userIdentityArns": names(&self.callers.usual), "userAgents": names(&self.programs.usual) },
        });
        Occurrence {
            kind,
            rule: CloudtrailInsight.id(),
            severity: if is_newcomers {
                settings.newcomer_severity
            } else {
                settings.severity
            },
            confidence: 0.5,
            account: who.account,
            region: who.region,
            subject: format!(
                "{}:{} {}",
                self.service,
                self.api,
                self.error.unwrap_or_default()
            ),
            actor: caller.to_owned(),
            resource: Resource::AccessKey {
                access_key: AccessKeyDetails {
                    user_name: name_of(caller).to_owned(),
                    ..AccessKeyDetails::default()
                },
            },
            role: Role::Actor,
            count: u64::from(self.begins),
            first_ns: call.event_time_ns,
            last_ns: call.event_time_ns,
            action: evidence_of::api_call(call),
            additional_info: BTreeMap::from([
                ("type".to_owned(), "default".to_owned()),
                ("value".to_owned(), value.to_string()),
            ]),
            evidence: vec![evidence_of::call(call)],
            mitre: if self.error.is_some() {
                &["T1580"]
            } else {
                &["T1578"]
            },
            description: format!(
                "{title}. CloudTrail Insights says so by the rates of the week before."
            ),
            why: format!(
                "{what} {} times a minute, {} usually{by}{new}",
                rate(self.now),
                rate(self.usual)
            ),
            title,
            first_look: &[
                "The calls themselves in that time: who made them, on what, from where.",
                "Whether something was deployed or tried out then.",
            ],
        }
    }
}

impl<'a> Attribution<'a> {
    fn of(details: &'a Value, attribute: &str) -> Self {
        let all = details.pointer("/insightContext/attributions");
        let all = all.and_then(Value::as_array);
        let is_it = |one: &&Value| one.get("attribute").and_then(Value::as_str) == Some(attribute);
        let Some(one) = all.and_then(|all| all.iter().find(is_it)) else {
            return Self::default();
        };
        Self {
            now: rates(one.get("insight")),
            usual: rates(one.get("baseline")),
        }
    }
}

/// Values with their rates, the largest first. CloudTrail tells five at most.
fn rates(list: Option<&Value>) -> Vec<(&str, f64)> {
    /// Values taken: more than CloudTrail tells.
    const VALUES_MAX: usize = 16;
    let list = list
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let pair = |one| {
        let one: &Value = one;
        let rate = one.get("average").and_then(Value::as_f64);
        Some((one.get("value")?.as_str()?, rate.unwrap_or_default()))
    };
    let mut all: Vec<(&str, f64)> = list.iter().take(VALUES_MAX).filter_map(pair).collect();
    all.sort_by(|one, other| other.1.total_cmp(&one.1));
    all
}

fn names(rates: &[(&str, f64)]) -> String {
    let names: Vec<String> = rates.iter().map(|(name, _)| quote(name)).collect();
    names.join(", ")
}

/// Who an ARN is of: a session its role, but where IAM Identity Center gave one role to many people.
fn bearer(arn: &str) -> &str {
    let is_session = arn.contains(":assumed-role/") && !arn.contains("/AWSReservedSSO_");
    let role = || {
        let (role, _) = arn.rsplit_once('/')?;
        role.contains('/').then_some(role)
    };
    role().filter(|_| is_session).unwrap_or(arn)
}

/// The name in an ARN: of a session its role's.
fn name_of(arn: &str) -> &str {
    let mut parts = arn.rsplit(':').next().unwrap_or_default().split('/');
    let kind = parts.next().unwrap_or_default();
    match (kind, parts.next(), parts.next_back()) {
        ("assumed-role", Some(role), _) => role,
        (_, Some(name), None) | (_, Some(_), Some(name)) => name,
        (name, None, _) => name,
    }
}

#[cfg(test)]
mod tests {
    use picket_intel::IndicatorSet;
    use serde_json::json;

    use super::*;
    use crate::testing::{analyze, api, brief};

    const RATE: &str = "Impact:IAMUser/UnusualCallRate";
    const ERROR: &str = "Discovery:IAMUser/UnusualErrorRate";
    const CI: &str = "arn:aws:sts::111122223333:assumed-role/ci/run-7";
    const EVE: &str = "arn:aws:iam::111122223333:user/eve";

    fn insight(state: &str, kind: &str, by: &str, usual: &[&str]) -> Value {
        let rate = |who: &str, average: f64| json!({"value": who, "average": average});
        let usual: Vec<Value> = usual.iter().map(|who| rate(who, 0.1)).collect();
        json!({
            "eventVersion": "1.09", "eventTime": "2023-11-14T22:13:20Z", "awsRegion": "eu-west-1",
            "eventID": format!("875240ac-e821-4fc6-a311-{state}"), "eventType": "AwsCloudTrailInsight",
            "recipientAccountId": "111122223333", "sharedEventID": "s", "eventCategory": "Insight",
            "insightDetails": {
                "state": state, "eventSource": "ssm.amazonaws.com", "eventName": "SendCommand", "insightType": kind,
                "insightContext": {
                    "statistics": {"baseline": {"average": 0.1}, "insight": {"average": 12.5}, "insightDuration": 3},
                    "attributions": [
                        {"attribute": "userIdentityArn", "insight": [rate(CI, 0.5), rate(by, 12.0)], "baseline": usual},
                        {"attribute": "userAgent", "insight": [rate("curl", 12.0)], "baseline": []},
                    ],
                },
            },
        })
    }

    #[track_caller]
    fn check(events: &[Value], expected: &[(&str, f64, u64)]) {
        let events = events.iter().map(|one| Event::Api(api(&one.to_string())));
        let (findings, _) = analyze(IndicatorSet::default(), events);
        assert_eq!(brief(&findings), expected);
    }

    #[test]
    fn what_cloudtrail_finds_unusual_is_told() {
        let rate = "ApiCallRateInsight";
        check(
            &[insight("Start", rate, EVE, &[CI, EVE])],
            &[(RATE, 3.0, 1)],
        );
        check(&[insight("Start", rate, EVE, &[CI])], &[(RATE, 5.0, 1)]);
        check(&[insight("Start", rate, EVE, &[])], &[(RATE, 3.0, 1)]);
        check(
            &[insight("Start", "ApiErrorRateInsight", EVE, &[CI])],
            &[(ERROR, 5.0, 1)],
        );
        // A role's sessions are the role's, and a service's role is nobody's; people who share one are not.
        let role = |session: &str| format!("arn:aws:sts::111122223333:assumed-role/{session}");
        let by = |now: &str, before: &str, severity| {
            let event = insight("Start", rate, &role(now), &[&*role(before)]);
            check(&[event], &[(RATE, severity, 1)]);
        };
        by("ci/run-8", "ci/run-7", 3.0);
        by("ci/run-8", "ci", 3.0);
        by("ci2/run-7", "ci/run-7", 5.0);
        by("AWSServiceRoleForAutoScaling/AutoScaling", "ci/run-7", 3.0);
        by(
            "AWSReservedSSO_Admin_1/bob",
            "AWSReservedSSO_Admin_1/ann",
            5.0,
        );
        by(
            "AWSReservedSSO_Admin_1/ann",
            "AWSReservedSSO_Admin_1/ann",
            3.0,
        );
        // Its end is no second one.
        let both = ["Start", "End"].map(|state| insight(state, rate, EVE, &[CI]));
        check(&both, &[(RATE, 5.0, 1)]);
    }

    #[test]
    fn numbers_and_names_stand_in_it() {
        let one = insight("Start", "ApiCallRateInsight", EVE, &[CI]);
        let events = [Event::Api(api(&one.to_string()))];
        let (findings, _) = analyze(IndicatorSet::default(), events);
        let told = serde_json::to_value(&findings[0]).unwrap();
        assert_eq!(
            told["picket"]["why"],
            format!(
                "ssm.amazonaws.com:SendCommand is called 12.50 times a minute, 0.10 usually, mostly by {EVE}, \
                 who was not among those before"
            )
        );
        assert_eq!(told["resource"]["accessKeyDetails"]["userName"], "eve");
        let value = told["service"]["additionalInfo"]["value"].as_str().unwrap();
        let value: Value = serde_json::from_str(value).unwrap();
        assert_eq!(
            value["unusualBehavior"]["userIdentityArns"],
            format!("{EVE}, {CI}")
        );
        assert_eq!(value["profiledBehavior"]["average"], 0.1);
        assert_eq!(name_of(CI), "ci");
        assert_eq!(name_of("arn:aws:iam::1:user/a/b/bob"), "bob");
    }

    /// None of them was made by a call: no rule for calls fires, and nothing is learned from it.
    #[test]
    fn what_is_no_insight_is_none() {
        let mut end = insight("End", "ApiCallRateInsight", EVE, &[CI]);
        check(&[end.clone()], &[]);
        end["insightDetails"] = json!("words");
        check(&[end.clone()], &[]);
        let mut call = insight("Start", "ApiCallRateInsight", EVE, &[CI]);
        call["eventCategory"] = json!("Management");
        call["eventType"] = json!("AwsApiCall");
        call["eventName"] = json!("ListUsers");
        check(&[call], &[]);
        let mut stop = insight("Start", "ApiCallRateInsight", EVE, &[CI, EVE]);
        stop["insightDetails"]["eventSource"] = json!("cloudtrail.amazonaws.com");
        stop["insightDetails"]["eventName"] = json!("StopLogging");
        check(&[stop], &[(RATE, 3.0, 1)]);
    }
}
