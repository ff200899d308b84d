//! A finding, in GuardDuty's JSON shape with one object of ours.
//!
//! The same issue has the same id, which is made of what it is, where, and by whom, and of no time.
//! Text that an adversary chose (names, paths, user agents) stands in values only and is escaped by
//! the JSON writer.

mod action;
mod evidence;
mod evidence_log;
mod kind;
mod resource;
mod runtime;
pub mod shape;

use std::collections::BTreeMap;

use picket_wire::Digest;
use serde::{Deserialize, Serialize};

use crate::time::{Day, Time};

pub(crate) use action::protocol_name;
pub use action::{
    Action, AwsApiCallAction, DnsRequestAction, DomainDetails, LocalIpDetails, LoginAttribute,
    NetworkConnectionAction, PortDetails, PortProbeAction, PortProbeDetail, RdsLoginAttemptAction,
    RemoteIpDetails,
};
pub use evidence::{
    ApiEvidence, DnsEvidence, Evidence, FlowEvidence, HitEvidence, LoginEvidence, ParentEvidence,
    ProcessEvidence, SensorEvidence, TunnelEvidence, ViaEvidence,
};
pub use evidence_log::EvidenceLog;
pub(crate) use kind::tactic;
pub use kind::{Band, FindingType, Origin};
pub use resource::{
    AccessKeyDetails, Host, InstanceDetails, LambdaDetails, NetworkInterface, RdsDbInstanceDetails,
    RdsDbUserDetails, Resource,
};
pub use runtime::{Ancestor, RuntimeDetails, RuntimeProcess};

/// One issue, with all its occurrences so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// `2.0`, as GuardDuty's.
    pub schema_version: String,
    /// The account it concerns.
    pub account_id: String,
    /// The region it concerns.
    pub region: String,
    /// `aws`, `aws-cn` or `aws-us-gov`.
    pub partition: String,
    /// 32 hex digits, and `-2`, `-3`, … when it came again after having been archived.
    pub id: String,
    /// Made of the rest.
    pub arn: String,
    /// `ThreatPurpose:Resource/Family.Mechanism!Artifact`.
    #[serde(rename = "type")]
    pub type_name: String,
    /// What it befell, or what did it.
    pub resource: Resource,
    /// What happened, how often, when.
    pub service: Service,
    /// 1.0 to 10.0.
    pub severity: f64,
    /// One line.
    pub title: String,
    /// One sentence or two.
    pub description: String,
    /// First occurrence, in event time.
    pub created_at: Time,
    /// Last occurrence, in event time.
    pub updated_at: Time,
    /// What GuardDuty has no place for.
    pub picket: Picket,
}

/// What happened, how often, when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// `picket`.
    pub service_name: String,
    /// `picket`.
    pub detector_id: String,
    /// The last occurrence.
    pub action: Action,
    /// Put away by a person or a rule.
    pub archived: bool,
    /// All occurrences.
    pub count: u64,
    /// The first.
    pub event_first_seen: Time,
    /// The last.
    pub event_last_seen: Time,
    /// Whether the resource did it or had it done to it.
    pub resource_role: Role,
    /// A person's word on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_feedback: Option<Feedback>,
    /// The list that matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<ThreatEvidence>,
    /// The process behind it, where a host told one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_details: Option<RuntimeDetails>,
    /// The same as text, the sensor that saw it, and the like.
    pub additional_info: BTreeMap<String, String>,
}

/// GuardDuty's `service.evidence`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ThreatEvidence {
    /// The lists.
    pub threat_intelligence_details: Vec<ThreatIntelligence>,
}

/// A list that matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ThreatIntelligence {
    /// Its name.
    pub threat_list_name: String,
    /// What it says the entry is.
    pub threat_names: Vec<String>,
}

impl ThreatEvidence {
    /// Reads the list off `additionalInfo`, if one matched.
    pub(crate) fn of(additional_info: &BTreeMap<String, String>) -> Option<Self> {
        let list = additional_info.get("threatListName")?;
        Some(Self {
            threat_intelligence_details: vec![ThreatIntelligence {
                threat_list_name: list.clone(),
                threat_names: additional_info
                    .get("threatName")
                    .into_iter()
                    .cloned()
                    .collect(),
            }],
        })
    }
}

/// The part the resource played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Role {
    /// It did it.
    Actor,
    /// It was done to it.
    Target,
}

/// A person's word on a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Feedback {
    /// It was worth the look.
    Useful,
    /// It was not.
    NotUseful,
}

/// Which rule, which numbers, which events, what to look at first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Picket {
    /// The detection's id.
    pub rule: String,
    /// ATT&CK technique ids.
    pub mitre: Vec<String>,
    /// How sure the rule is that this is what it says, 0.0 to 1.0.
    pub confidence: f64,
    /// One sentence with the numbers.
    pub why: String,
    /// The first hundred and last hundred occurrences, and the first of each API, peer and name.
    pub evidence: EvidenceLog,
    /// Pieces of evidence that were not kept.
    #[serde(default)]
    pub evidence_left_out: u64,
    /// What a person should look at first.
    pub first_look: Vec<String>,
    /// The incident it is part of.
    pub incident: Option<String>,
    /// Occurrences per day (UTC).
    #[serde(default)]
    pub days: BTreeMap<Day, u64>,
}

impl Finding {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its type.
    pub fn type_name(&self) -> &str {
        &self.type_name
    }

    /// Its severity, 1.0 to 10.0.
    pub fn severity(&self) -> f64 {
        self.severity
    }

    /// The band of its severity.
    pub fn band(&self) -> Band {
        Band::of(self.severity)
    }

    /// Says whether nobody has put it away.
    pub fn is_open(&self) -> bool {
        !self.service.archived
    }

    /// All occurrences so far.
    pub fn count(&self) -> u64 {
        self.service.count
    }
}

/// Names an issue: the first 32 hex digits of SHA-256 over the parts, each behind its length, so that
/// no two lists of parts read alike.
pub fn finding_id(
    type_name: &str,
    account: &str,
    region: &str,
    resource: &str,
    actor: &str,
) -> String {
    id_of(&[type_name, account, region, resource, actor])
}

/// The first 32 hex digits of SHA-256 over `parts`, each preceded by its length as 8 bytes.
pub(crate) fn id_of(parts: &[&str]) -> String {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part.as_bytes());
    }
    let mut hex = Digest::of(&bytes).to_string();
    hex.truncate(32);
    hex
}

/// The partition a region lies in.
pub(crate) fn partition(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "aws-cn"
    } else if region.starts_with("us-gov-") {
        "aws-us-gov"
    } else {
        "aws"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_made_of_its_parts_and_their_borders() {
        let id = finding_id("A:B/C", "1", "eu-west-1", "i-1", "192.0.2.1");
        assert_eq!(id.len(), 32);
        assert_eq!(
            id,
            finding_id("A:B/C", "1", "eu-west-1", "i-1", "192.0.2.1")
        );
        assert_ne!(
            id,
            finding_id("A:B/C", "1", "eu-west-1", "i-1", "192.0.2.2")
        );
        assert_ne!(id_of(&["ab", "c"]), id_of(&["a", "bc"]));
        assert_ne!(id_of(&["ab"]), id_of(&["ab", ""]));
    }

    #[test]
    fn partitions() {
        assert_eq!(partition("eu-west-1"), "aws");
        assert_eq!(partition("cn-north-1"), "aws-cn");
        assert_eq!(partition("us-gov-east-1"), "aws-us-gov");
        assert_eq!(partition("local"), "aws");
    }
}
