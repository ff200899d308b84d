//! What a receiver reads: the finding inside the envelope that EventBridge puts round GuardDuty's,
//! so that what was written for those understands it. Only `source` is ours.

use picket_detect::finding::shape::Envelope;
use picket_wire::Digest;
use serde_json::value::RawValue;

use crate::clock;
use crate::store::findings::FindingRow;

/// The finding as one line of JSON. `id` names the message.
pub(crate) fn wrap(id: &str, row: &FindingRow, now_ms: u64) -> serde_json::Result<String> {
    let detail: &RawValue = serde_json::from_str(&row.body)?;
    let time = clock::rfc3339(now_ms);
    let event = Envelope::new(id.to_owned(), time, &row.account, &row.region, detail);
    serde_json::to_string(&event)
}

/// Names a message: the same each time it is delivered, another for another channel, finding or
/// state of it.
pub(crate) fn delivery_id(channel: &str, finding: &str, revision: u64) -> String {
    let text = format!("{channel}\n{finding}\n{revision}");
    let mut hex = Digest::of(text.as_bytes()).to_string();
    hex.truncate(32);
    hex
}
