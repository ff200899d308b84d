//! What a detection reports: one occurrence of an issue, or several at once.

use std::collections::BTreeMap;

use crate::finding::{Action, Evidence, FindingType, Resource, Role};

/// One occurrence of an issue, or several at once.
#[derive(Debug)]
pub(crate) struct Occurrence {
    pub(crate) kind: &'static FindingType,
    /// The detection's id.
    pub(crate) rule: &'static str,
    pub(crate) severity: f64,
    /// 0.0 to 1.0.
    pub(crate) confidence: f64,
    pub(crate) account: String,
    pub(crate) region: String,
    /// The resource's part of the finding's id.
    pub(crate) subject: String,
    /// The actor's part of the finding's id.
    pub(crate) actor: String,
    pub(crate) resource: Resource,
    pub(crate) role: Role,
    /// How many: 0 where it only adds evidence to what was counted before.
    pub(crate) count: u64,
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
    pub(crate) action: Action,
    pub(crate) additional_info: BTreeMap<String, String>,
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) mitre: &'static [&'static str],
    pub(crate) title: String,
    pub(crate) description: String,
    /// One sentence with the numbers.
    pub(crate) why: String,
    pub(crate) first_look: &'static [&'static str],
}
