//! Listed callers at databases: somebody connects to a database of RDS from a listed address.
//! Reads: connections that the logs of databases tell of. Fires: at once; by what came of it as a login, a
//! failed one, or a look round (nobody named a user).
//! Evidence: the connection, with the list and its entry. Severity: GuardDuty's: high for a login, medium for
//! the rest; less where the list is not sure.
//! Innocent look-alikes: a list that names our own way out, research scanners. ATT&CK T1078, T1110, T1046.
//! First look: why the database can be reached from the internet; what the user did afterwards.
//! Actor key: the address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use picket_intel::{Category, Match};
use serde::{Deserialize, Serialize};

use super::evidence_of::{self, quote};
use super::verdict::{Standing, graded};
use super::{Context, Detection, Occurrence};
use crate::event::{Event, SourceKind};
use crate::finding::{FindingType, LoginAttribute, Role};
use crate::logs::{Login, LoginOutcome};

/// Settings of `rds_login_caller`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Severity of a login: 8.0, GuardDuty's.
    pub login_severity: f64,
    /// Severity of a login that failed: 5.0, GuardDuty's.
    pub failed_severity: f64,
    /// Severity of a connection without a try to log in: 5.0, GuardDuty's.
    pub probe_severity: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            login_severity: 8.0,
            failed_severity: 5.0,
            probe_severity: 5.0,
        }
    }
}

const LOGIN: FindingType = FindingType::guardduty(
    "CredentialAccess:RDS/MaliciousIPCaller.SuccessfulLogin",
    8.0,
);
const FAILED: FindingType =
    FindingType::guardduty("CredentialAccess:RDS/MaliciousIPCaller.FailedLogin", 5.0);
const PROBE: FindingType = FindingType::guardduty("Discovery:RDS/MaliciousIPCaller", 5.0);
const TOR_LOGIN: FindingType =
    FindingType::guardduty("CredentialAccess:RDS/TorIPCaller.SuccessfulLogin", 8.0);
const TOR_FAILED: FindingType =
    FindingType::guardduty("CredentialAccess:RDS/TorIPCaller.FailedLogin", 5.0);
const TOR_PROBE: FindingType = FindingType::guardduty("Discovery:RDS/TorIPCaller", 5.0);

/// Listed callers at databases.
pub(crate) struct RdsLoginCaller;

impl Detection for RdsLoginCaller {
    fn id(&self) -> &'static str {
        "rds_login_caller"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&LOGIN, &FAILED, &PROBE, &TOR_LOGIN, &TOR_FAILED, &TOR_PROBE]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Rds
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Login(login) = event else {
            return;
        };
        let Some(address) = login.address else {
            return;
        };
        let settings = &context.settings.detections.rds_login_caller;
        let mut seen: Vec<&FindingType> = Vec::new();
        // Entries with a port name a service that is called, not one that calls.
        for found in context.intel.match_address(address, 0) {
            let kind = kind(found.list.category, login.outcome);
            let standing = Standing::from(found.list);
            if standing.direction.covers_inbound() && !seen.contains(&kind) {
                seen.push(kind);
                out.push(occurrence(login, address, kind, &found, settings));
            }
        }
    }
}

fn kind(category: Category, outcome: LoginOutcome) -> &'static FindingType {
    match (category, outcome) {
        (Category::Tor, LoginOutcome::Succeeded) => &TOR_LOGIN,
        (Category::Tor, LoginOutcome::Failed) => &TOR_FAILED,
        (Category::Tor, LoginOutcome::Probed) => &TOR_PROBE,
        (_, LoginOutcome::Succeeded) => &LOGIN,
        (_, LoginOutcome::Failed) => &FAILED,
        (_, LoginOutcome::Probed) => &PROBE,
    }
}

fn occurrence(
    login: &Login,
    address: IpAddr,
    kind: &'static FindingType,
    found: &Match<'_>,
    settings: &Settings,
) -> Occurrence {
    let standing = Standing::from(found.list);
    let database = quote(&login.database.instance);
    let user = quote(&login.user);
    let list = &found.list.name;
    let (severity, what, mitre): (_, _, &'static [&'static str]) = match login.outcome {
        LoginOutcome::Succeeded => {
            let what = format!("{user} logged in to {database}");
            (settings.login_severity, what, &["T1078"])
        }
        LoginOutcome::Failed => {
            let what = format!("{user} was refused at {database}");
            (settings.failed_severity, what, &["T1110"])
        }
        LoginOutcome::Probed => {
            let what = format!("Somebody looked at {database} without logging in");
            (settings.probe_severity, what, &["T1046"])
        }
    };
    let title = format!("{what} from {address}, which is listed");
    let attribute = LoginAttribute {
        failed_login_attempts: u64::from(login.outcome == LoginOutcome::Failed),
        successful_login_attempts: u64::from(login.outcome == LoginOutcome::Succeeded),
        ..evidence_of::login_attribute(&login.user, &login.program)
    };
    Occurrence {
        kind,
        rule: RdsLoginCaller.id(),
        severity: graded(severity, standing.confidence),
        confidence: standing.at_most(0.9),
        account: login.database.account.clone(),
        region: login.database.region.clone(),
        subject: login.database.instance.clone(),
        actor: address.to_string(),
        resource: evidence_of::database(login),
        role: Role::Target,
        count: 1,
        first_ns: login.time_ns,
        last_ns: login.time_ns,
        action: evidence_of::login_attempt(Some(address), vec![attribute]),
        additional_info: BTreeMap::from([
            ("threatListName".to_owned(), list.clone()),
            ("threatName".to_owned(), found.list.category.to_string()),
        ]),
        evidence: vec![evidence_of::login(login)],
        mitre,
        description: format!("{title} as {} on {list}.", found.indicator),
        why: format!(
            "{what}; {} stands on {list} ({})",
            found.indicator, found.list.category
        ),
        title,
        first_look: &[
            "Why the database can be reached from there.",
            "What the user did in the database afterwards.",
            "What else came from that address, to other databases and to the account.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{analyze, brief, intel, login};

    #[track_caller]
    fn check(from: &str, outcome: LoginOutcome, expected: &[(&str, f64, u64)]) {
        let lists = intel(&[
            (Category::Custom, "192.0.2.0/24"),
            (Category::Tor, "198.51.100.1"),
            (Category::Scanner, "198.51.100.2"),
            (Category::Phishing, "198.51.100.3"),
            (Category::C2, "198.51.100.4:443"),
        ]);
        let events = [Event::Login(Box::new(login(outcome, "eve", from, 0)))];
        let (findings, _) = analyze(lists, events);
        assert_eq!(brief(&findings), expected, "{from} {outcome:?}");
    }

    #[test]
    fn who_is_listed_is_told_by_what_came_of_it() {
        use LoginOutcome::{Failed, Probed, Succeeded};
        check(
            "192.0.2.9",
            Succeeded,
            &[(
                "CredentialAccess:RDS/MaliciousIPCaller.SuccessfulLogin",
                8.0,
                1,
            )],
        );
        check(
            "192.0.2.9",
            Failed,
            &[("CredentialAccess:RDS/MaliciousIPCaller.FailedLogin", 5.0, 1)],
        );
        check(
            "192.0.2.9",
            Probed,
            &[("Discovery:RDS/MaliciousIPCaller", 5.0, 1)],
        );
        check(
            "198.51.100.1",
            Succeeded,
            &[("CredentialAccess:RDS/TorIPCaller.SuccessfulLogin", 8.0, 1)],
        );
        check(
            "198.51.100.1",
            Failed,
            &[("CredentialAccess:RDS/TorIPCaller.FailedLogin", 5.0, 1)],
        );
        check(
            "198.51.100.1",
            Probed,
            &[("Discovery:RDS/TorIPCaller", 5.0, 1)],
        );
    }

    #[test]
    fn a_list_that_is_less_sure_makes_less_of_it() {
        let listed = intel(&[(Category::Scanner, "198.51.100.2")]);
        let found = listed.match_address("198.51.100.2".parse().unwrap(), 0);
        let severity = found
            .iter()
            .map(|found| graded(8.0, found.list.confidence))
            .next()
            .unwrap();
        let expected = [(
            "CredentialAccess:RDS/MaliciousIPCaller.SuccessfulLogin",
            severity,
            1,
        )];
        check("198.51.100.2", LoginOutcome::Succeeded, &expected);
    }

    #[test]
    fn who_is_not_listed_as_a_caller_is_not_told() {
        for from in ["192.0.3.9", "198.51.100.3", "198.51.100.4", "10.0.0.5"] {
            check(from, LoginOutcome::Probed, &[]);
        }
    }
}
