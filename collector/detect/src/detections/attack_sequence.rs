//! Attack sequence: steps of an attack that one principal takes within a day, none of which says as much
//! alone as all do together.
//! Reads: what the other detections found of the calls of each principal, medium or worse.
//! Fires: for credentials, when signs of `tactics_min` tactics and `kinds_min` kinds came together, at
//! least one of them high, and at least two tactics being such as no set-up of an account needs: taking
//! credentials or data, hiding, destroying, looking round. For data, when a bucket's data was taken out,
//! opened or destroyed (once high, or in two ways) by a principal of which other things were found that are
//! of two more tactics, one of them such.
//! What infrastructure code does by plan is low, and so no sign. A user that was made within the hour is
//! counted to whoever made it. People who share a role of IAM Identity Center are looked at one by one.
//! Evidence: calls of each sign, and each that follows. Severity: critical, as GuardDuty's.
//! Innocent look-alikes: people who test the guards; an administrator who clears a whole account away by
//! hand. ATT&CK T1078.004, T1530, T1485.
//! First look: from where the credential was used; the signs in their order; what was made that outlives
//! the credential.
//! Actor key: none: there is one of each kind a principal.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::evidence_of::{self, quote};
use super::principal::principal;
use super::{Context, Detection, Occurrence};
use crate::event::{Event, SourceKind};
use crate::finding::{Band, Evidence, FindingType, Role, tactic};
use crate::history::{CALL_FACTS_NS, Sign};
use crate::logs::cloudtrail::ApiCall;

/// Settings of `attack_sequence`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Severity of a sequence: 9.0, critical, as GuardDuty's.
    pub severity: f64,
    /// Different tactics that signs must be of: 3, the least that is a sequence. Chosen by hand.
    pub tactics_min: usize,
    /// Different kinds of signs that there must be: 4. Chosen by hand.
    pub kinds_min: usize,
    /// Hours within which signs belong together: 24, as GuardDuty's; a day at most.
    pub window_h: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            severity: 9.0,
            tactics_min: 3,
            kinds_min: 4,
            window_h: 24,
        }
    }
}

const CREDENTIALS: FindingType =
    FindingType::guardduty("AttackSequence:IAM/CompromisedCredentials", 9.0);
const DATA: FindingType = FindingType::guardduty("AttackSequence:S3/CompromisedData", 9.0);

/// Tactics that the set-up of an account, a host or a program does not look like. What sets up makes users,
/// gives them power, runs commands and signs in.
const TELLING: [&str; 5] = [
    "Collection",
    "Credential Access",
    "Defense Evasion",
    "Exfiltration",
    "Impact",
];

/// Tactics of those that are about a bucket's data.
const OF_DATA: [&str; 3] = ["Collection", "Exfiltration", "Impact"];

/// Sequences of an attack.
pub(crate) struct AttackSequence;

impl Detection for AttackSequence {
    fn id(&self) -> &'static str {
        "attack_sequence"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&CREDENTIALS, &DATA]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Cloudtrail
    }

    fn evaluate(&self, _: &Event, _: &mut Context<'_>, _: &mut Vec<Occurrence>) {}

    fn conclude(&self, event: &Event, context: &mut Context<'_>, all: &mut Vec<Occurrence>) {
        let Event::Api(call) = event else {
            return;
        };
        let signs: Vec<Sign> = all.iter().filter_map(sign).collect();
        let Some(actor) = call.identity.bearer().filter(|_| !signs.is_empty()) else {
            return;
        };
        let account = call.account().unwrap_or_default();
        let user = call.identity.user_name.as_deref().unwrap_or_default();
        let made = context.history.actors.made(call, user);
        let whose = made.map_or_else(|| actor.to_owned(), |made| made.by.clone());
        let settings = &context.settings.detections.attack_sequence;
        let window_ns = settings.window_h.saturating_mul(3_600 * 1_000_000_000);
        let begin_ns = (call.event_time_ns).saturating_sub(window_ns.min(CALL_FACTS_NS));
        for sign in signs {
            let evidence = sign.evidence.clone();
            let sequences = &mut context.history.sequences;
            let known = sequences.note(account, &whose, sign, begin_ns);
            let found = [
                (&CREDENTIALS, of_credentials(known.all(), settings)),
                (&DATA, of_data(known.all())),
            ];
            for (kind, story) in found {
                let Some(story) = story else {
                    continue;
                };
                let evidence = if known.tell(kind.name, call.event_time_ns) {
                    evidence.clone()
                } else {
                    let all = known.all().iter().flat_map(|sign| &sign.evidence);
                    all.cloned().collect()
                };
                all.push(occurrence(call, kind, &whose, &story, evidence, settings));
            }
        }
    }
}

/// What an occurrence tells of its principal, if it is medium or worse.
fn sign(occurrence: &Occurrence) -> Option<Sign> {
    let is_policy = occurrence.kind.name.starts_with("Policy:IAMUser/");
    let is_own = occurrence.rule == AttackSequence.id();
    let behaviour = occurrence.additional_info.get("behaviour");
    let is_one = Band::of(occurrence.severity) >= Band::Medium && !is_policy && !is_own;
    is_one.then(|| Sign {
        kind: occurrence.kind.name,
        behaviour: behaviour.cloned().unwrap_or_default(),
        severity: occurrence.severity,
        first_ns: occurrence.first_ns,
        last_ns: occurrence.last_ns,
        evidence: occurrence.evidence.clone(),
    })
}

/// What a sequence consists of.
struct Story {
    /// Tactics, in the order of their first signs.
    tactics: Vec<&'static str>,
    signs: usize,
    high: usize,
    first_ns: u64,
}

fn story(signs: &[Sign]) -> Story {
    let mut order: Vec<&Sign> = signs.iter().collect();
    order.sort_by_key(|sign| sign.first_ns);
    let mut tactics = Vec::new();
    for sign in &order {
        let tactic = tactic(sign.kind);
        if !tactics.contains(&tactic) {
            tactics.push(tactic);
        }
    }
    Story {
        tactics,
        signs: signs.len(),
        high: signs.iter().filter(|sign| is_high(sign)).count(),
        first_ns: order.first().map_or(0, |sign| sign.first_ns),
    }
}

fn is_high(sign: &Sign) -> bool {
    Band::of(sign.severity) >= Band::High
}

fn is_telling(tactic: &&'static str) -> bool {
    TELLING.contains(tactic)
}

fn of_credentials(signs: &[Sign], settings: &Settings) -> Option<Story> {
    if signs.len() < settings.kinds_min {
        return None;
    }
    let kinds: BTreeSet<&str> = signs.iter().map(|sign| sign.kind).collect();
    let story = story(signs);
    let telling = story.tactics.iter().filter(|one| is_telling(one)).count();
    let is_one = kinds.len() >= settings.kinds_min
        && story.tactics.len() >= settings.tactics_min
        && telling >= 2
        && story.high > 0;
    is_one.then_some(story)
}

fn of_data(signs: &[Sign]) -> Option<Story> {
    let is_of_data =
        |sign: &&Sign| sign.kind.contains(":S3/") && OF_DATA.contains(&tactic(sign.kind));
    let (data, rest): (Vec<&Sign>, Vec<&Sign>) = signs.iter().partition(is_of_data);
    let ways: BTreeSet<(&str, &str)> = data.iter().map(|one| (one.kind, &*one.behaviour)).collect();
    let is_worth = ways.len() >= 2 || data.iter().any(|sign| is_high(sign));
    let before: BTreeSet<&'static str> = rest.iter().map(|sign| tactic(sign.kind)).collect();
    let is_one = is_worth && before.len() >= 2 && before.iter().any(is_telling);
    is_one.then(|| story(signs))
}

fn occurrence(
    call: &ApiCall,
    kind: &'static FindingType,
    whose: &str,
    story: &Story,
    evidence: Vec<Evidence>,
    settings: &Settings,
) -> Occurrence {
    let who = principal(call);
    let name = quote(whose.rsplit('/').next().unwrap_or(whose));
    let tactics = story.tactics.join(", ");
    let what = if kind.name == DATA.name {
        "took steps of an attack on a bucket's data"
    } else {
        "took steps of an attack"
    };
    let title = format!("{name} {what}: {tactics}");
    let hours = call.event_time_ns.saturating_sub(story.first_ns) as f64 / 3.6e12;
    Occurrence {
        kind,
        rule: AttackSequence.id(),
        severity: settings.severity,
        confidence: 0.8,
        account: who.account,
        region: String::new(),
        subject: whose.to_owned(),
        actor: String::new(),
        resource: who.resource,
        role: Role::Actor,
        count: evidence.len().max(1) as u64,
        first_ns: story.first_ns.min(call.event_time_ns),
        last_ns: call.event_time_ns,
        action: evidence_of::api_call(call),
        additional_info: BTreeMap::from([("tactics".to_owned(), tactics.clone())]),
        evidence,
        mitre: &["T1078.004", "T1530", "T1485"],
        description: format!(
            "{title}. Each step has a finding of its own. Innocent look-alikes: people who test the guards; \
             an administrator who clears a whole account away by hand."
        ),
        why: format!(
            "{} kinds of signs of {} tactics in {hours:.1} h, {} of them high: {tactics}",
            story.signs,
            story.tactics.len(),
            story.high
        ),
        title,
        first_look: &[
            "From where the credential was used, and who holds it.",
            "The steps, in their order: each has a finding of its own.",
            "What was made that outlives the credential: users, keys, roles, trust.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{IdentityKind, SessionIssuer};
    use crate::testing::{START, analyze, api};
    use picket_intel::IndicatorSet;

    const HOUR_NS: u64 = 3_600 * 1_000_000_000;

    /// A step: service, call and parameters, as it is found by others.
    type Step = (&'static str, &'static str, &'static str);

    const HIDES: Step = ("guardduty", "DeleteDetector", "{}");
    const TAKES: Step = ("secretsmanager", "BatchGetSecretValue", "{}");
    const STAYS: Step = ("iam", "CreateLoginProfile", r#"{"userName":"bob"}"#);
    const RISES: Step = (
        "iam",
        "AttachUserPolicy",
        r#"{"userName":"bob","policyArn":"arn:aws:iam::aws:policy/AdministratorAccess"}"#,
    );
    const RUNS: Step = (
        "ssm",
        "SendCommand",
        r#"{"documentName":"AWS-RunShellScript","instanceIds":["i-1"]}"#,
    );
    const NOTE: Step = (
        "s3",
        "PutObject",
        r#"{"bucketName":"b","key":"HOW_TO_DECRYPT_FILES.txt"}"#,
    );

    fn calls(user: &str, steps: &[Step], apart_ns: u64) -> Vec<Event> {
        let of = |(n, (service, name, parameters)): (usize, &Step)| {
            let mut call = api(&format!(
                r#"{{"eventID":"{user}-{n}","eventName":"{name}","eventSource":"{service}.amazonaws.com",
                "awsRegion":"eu-west-1","recipientAccountId":"111122223333","sourceIPAddress":"192.0.2.1",
                "userAgent":"aws-cli/2","requestParameters":{parameters},"userIdentity":{{"type":"IAMUser",
                "userName":"{user}","arn":"arn:aws:iam::111122223333:user/{user}"}}}}"#
            ));
            call.event_time_ns = START + n as u64 * apart_ns;
            Event::Api(call)
        };
        steps.iter().enumerate().map(of).collect()
    }

    #[track_caller]
    fn check(events: Vec<Event>, expected: &[(&str, usize)]) {
        let (findings, _) = analyze(IndicatorSet::default(), events);
        let own = findings
            .iter()
            .filter(|f| f.picket.rule == AttackSequence.id());
        let mut found: Vec<(&str, usize)> = own
            .map(|f| (f.type_name(), f.picket.evidence.len()))
            .collect();
        found.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn steps_that_make_a_sequence() {
        let all = [HIDES, TAKES, STAYS, RISES];
        let name = CREDENTIALS.name;
        check(calls("eve", &all, HOUR_NS), &[(name, 4)]);
        check(calls("eve", &all[..3], HOUR_NS), &[]);
        let longer = [HIDES, TAKES, STAYS, RISES, RUNS];
        check(calls("eve", &longer, HOUR_NS), &[(name, 5)]);
        // What sets an account up.
        check(calls("eve", &[STAYS, RISES, RUNS, TAKES], HOUR_NS), &[]);
        check(calls("eve", &all, 10 * HOUR_NS), &[]);
        let mut by_two = calls("eve", &all[..2], HOUR_NS);
        by_two.extend(calls("ann", &all[2..], HOUR_NS));
        check(by_two, &[]);
    }

    #[test]
    fn a_role_is_many_peoples() {
        let name = CREDENTIALS.name;
        let all = [HIDES, TAKES, STAYS, RISES];
        let by = |role: &str, sessions: [&str; 4]| {
            let mut events = calls("eve", &all, HOUR_NS);
            for (session, event) in sessions.iter().zip(&mut events) {
                let Event::Api(call) = event else { continue };
                let arn = format!("arn:aws:sts::111122223333:assumed-role/{role}/{session}");
                let issuer = format!("arn:aws:iam::111122223333:role/{role}");
                call.identity.kind = IdentityKind::AssumedRole;
                call.identity.user_name = None;
                call.identity.arn = Some(arn.into());
                call.identity.session_issuer = Some(Box::new(SessionIssuer {
                    arn: Some(issuer.into()),
                    ..SessionIssuer::default()
                }));
            }
            events
        };
        let center = "AWSReservedSSO_Admin_1";
        check(by(center, ["a@x", "b@x", "c@x", "d@x"]), &[]);
        check(by(center, ["a@x", "a@x", "a@x", "a@x"]), &[(name, 4)]);
        // Whoever takes another role may call the session what it likes.
        check(by("admin", ["a@x", "b@x", "c@x", "d@x"]), &[(name, 4)]);
    }

    #[test]
    fn a_user_just_made_is_its_makers() {
        let make: Step = ("iam", "CreateUser", r#"{"userName":"mallory"}"#);
        let mut events = calls("eve", &[make, HIDES, TAKES], 60_000_000_000);
        events.extend(calls("mallory", &[STAYS, RISES], 120_000_000_000));
        let (findings, _) = analyze(IndicatorSet::default(), events);
        let own: Vec<_> = findings
            .iter()
            .filter(|f| f.picket.rule == AttackSequence.id())
            .collect();
        assert_eq!(own.len(), 1);
        assert!(own[0].title.starts_with("eve "), "{}", own[0].title);
    }

    #[test]
    fn steps_that_end_at_a_buckets_data() {
        let name = DATA.name;
        check(calls("eve", &[TAKES, STAYS, NOTE], HOUR_NS), &[(name, 3)]);
        check(calls("eve", &[STAYS, RISES, NOTE], HOUR_NS), &[]);
        check(calls("eve", &[TAKES, NOTE], HOUR_NS), &[]);
        check(calls("eve", &[NOTE, NOTE, NOTE], HOUR_NS), &[]);
    }

    #[test]
    fn infrastructure_code_gives_no_signs() {
        let reads = ["GetUser", "GetRole", "ListRoles", "ListUsers", "GetPolicy"];
        let reads: Vec<Step> = reads.map(|name| ("iam", name, "{}")).to_vec();
        let steps = [&reads[..], &[HIDES, TAKES, STAYS, RISES, RUNS]].concat();
        let mut events = calls("eve", &steps, 1_000_000_000);
        for event in &mut events {
            if let Event::Api(call) = event {
                call.user_agent = Some("APN/1.0 HashiCorp/1.0 Terraform/1.1.2".into());
            }
        }
        // User agents are looked at once: these have not been yet.
        check(events, &[]);
    }
}
