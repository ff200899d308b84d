//! The envelope that EventBridge puts round GuardDuty's findings (GuardDuty user guide, "Processing GuardDuty
//! findings with Amazon EventBridge"), so that what was written for those understands ours. Only `source` is
//! ours: nobody but AWS may say `aws.guardduty`.

use serde::Serialize;

use crate::finding::{Finding, id_of};

/// A finding as an event.
#[derive(Debug, Serialize)]
pub struct Envelope<'a, D> {
    version: &'static str,
    id: String,
    #[serde(rename = "detail-type")]
    detail_type: &'static str,
    source: &'static str,
    account: &'a str,
    time: String,
    region: &'a str,
    resources: [&'a str; 0],
    detail: D,
}

impl<'a, D> Envelope<'a, D> {
    /// Wraps `detail`, a finding. `id` names the event, `time` (RFC 3339) is when it is told.
    pub fn new(id: String, time: String, account: &'a str, region: &'a str, detail: D) -> Self {
        Self {
            version: "0",
            id,
            detail_type: "GuardDuty Finding",
            source: "picket",
            account,
            time,
            region,
            resources: [],
            detail,
        }
    }
}

impl<'a> Envelope<'a, &'a Finding> {
    /// Wraps a finding as it stands: the event's id is made of the finding's and of how often it occurred, its
    /// time is that of the last occurrence.
    pub fn of(finding: &'a Finding) -> Self {
        let hex = id_of(&[&finding.id, &finding.service.count.to_string()]);
        // The form of a UUID, which parsers of events ask for.
        let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
        let parts = parts.map(|(from, to)| hex.get(from..to).unwrap_or_default());
        let time = finding.updated_at.to_string();
        Self::new(
            parts.join("-"),
            time,
            &finding.account_id,
            &finding.region,
            finding,
        )
    }
}
