//! An incident: findings and API calls that tell one story, in the order of time.

use serde::{Deserialize, Serialize};

use crate::finding::Band;
use crate::time::Time;

/// One story.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Always `incident`: tells the line from a finding's.
    pub kind: IncidentKind,
    /// 32 hex digits, made of the correlation and what it joins, and of no time.
    pub id: String,
    /// The correlation's id.
    pub rule: String,
    /// One line.
    pub title: String,
    /// 1.0 to 10.0.
    pub severity: f64,
    /// One sentence: what joins the stages, and why the severity is what it is.
    pub why: String,
    /// First stage.
    pub created_at: Time,
    /// Last stage.
    pub updated_at: Time,
    /// What happened, in order.
    pub stages: Vec<Stage>,
    /// Who and what took part.
    pub entities: Entities,
    /// Ids of its findings, in the order of their stages.
    pub findings: Vec<String>,
}

/// The one value of [`Incident::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IncidentKind {
    /// It is an incident.
    #[default]
    Incident,
}

/// One thing that happened: a finding or a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// ATT&CK tactic.
    pub tactic: String,
    /// When, or when first.
    pub time: Time,
    /// When last.
    pub last: Time,
    /// How often.
    pub count: u64,
    /// One line.
    pub title: String,
    /// The finding's id, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<String>,
    /// The finding's type, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding_type: Option<String>,
    /// The finding's severity, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<f64>,
    /// The call, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<StageEvent>,
}

/// A call of the AWS API as a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageEvent {
    /// CloudTrail's event id, of the first if there were several.
    pub event_id: String,
    /// Service.
    pub event_source: String,
    /// Operation.
    pub event_name: String,
    /// From where.
    pub source_ip: String,
    /// By whom.
    pub principal: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// What the call was to the host.
    pub part: Part,
    /// Whether it came from an address that is not the host's.
    pub outside_host: bool,
}

/// What a call was to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// It launched the host.
    Launch,
    /// The host's role made it.
    RoleCall,
}

/// Who and what took part.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Entities {
    /// Account.
    pub account: String,
    /// Region.
    pub region: String,
    /// The host.
    pub instance: String,
    /// Its addresses.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// The instance profile it was launched with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_profile: Option<String>,
    /// The role its sessions come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Who launched it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launched_by: Option<String>,
    /// From where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launched_from: Option<String>,
    /// Addresses its role was used from.
    #[serde(default)]
    pub role_used_from: Vec<String>,
}

impl Incident {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The band of its severity.
    pub fn band(&self) -> Band {
        Band::of(self.severity)
    }
}
