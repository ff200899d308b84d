//! What a call takes away from a trail, an event store or a trail's bucket.

use serde_json::Value;

use crate::detections::evidence_of::quote;
use crate::history::{Trails, trail_name};
use crate::logs::cloudtrail::ApiCall;

/// What a call does to the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blow {
    pub(super) harm: Harm,
    /// The trail, event store or bucket.
    pub(super) target: String,
    /// The trail that writes to it, if it is a bucket.
    pub(super) trail: Option<String>,
    /// What was done to it, in words.
    pub(super) what: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Harm {
    Stops,
    Narrows,
}

/// What the call does to the record, if anything.
pub(super) fn blow(call: &ApiCall, trails: &Trails) -> Option<Blow> {
    match &*call.event_source {
        "cloudtrail.amazonaws.com" => blow_at_trail(call, trails),
        "s3.amazonaws.com" if &*call.event_name == "DeleteBucket" => {
            let bucket = call.request_parameters.text("bucketName")?;
            let trail = trails.writer(call.account().unwrap_or_default(), bucket)?;
            Some(Blow {
                harm: Harm::Stops,
                target: bucket.to_owned(),
                trail: Some(trail.to_owned()),
                what: format!("deleted the bucket of trail {}", quote(trail)),
            })
        }
        _ => None,
    }
}

fn blow_at_trail(call: &ApiCall, trails: &Trails) -> Option<Blow> {
    let stops = |what: &str| {
        Some(Blow {
            harm: Harm::Stops,
            target: target(call),
            trail: None,
            what: what.to_owned(),
        })
    };
    let narrows = |what: String| Blow {
        harm: Harm::Narrows,
        target: target(call),
        trail: None,
        what,
    };
    match &*call.event_name {
        "StopLogging" => stops("stopped the trail"),
        "DeleteTrail" => stops("deleted the trail"),
        "DeleteEventDataStore" => stops("deleted the event store"),
        "StopEventDataStoreIngestion" => stops("stopped the event store"),
        "UpdateTrail" => update_narrows(call, trails).map(narrows),
        "PutEventSelectors" => {
            selectors_narrow(&call.request_parameters).map(|what| narrows(what.to_owned()))
        }
        _ => None,
    }
}

/// The trail or event store a call names; an empty text if denial left the name out.
fn target(call: &ApiCall) -> String {
    let named = ["name", "trailName", "eventDataStore"]
        .into_iter()
        .find_map(|key| call.request_parameters.text(key));
    trail_name(named.unwrap_or_default()).to_owned()
}

/// What an update takes away from a trail. Values that are not mentioned stay as they are.
fn update_narrows(call: &ApiCall, trails: &Trails) -> Option<String> {
    let asked = &call.request_parameters;
    if call.error_code.is_some() && asked.is_absent() {
        return Some("tried to change the trail".to_owned());
    }
    let off = |key: &str| asked.get(key).and_then(Value::as_bool) == Some(false);
    if off("isMultiRegionTrail") {
        return Some("made the trail leave out other regions".to_owned());
    }
    if off("includeGlobalServiceEvents") {
        return Some("made the trail leave out global services".to_owned());
    }
    if off("enableLogFileValidation") {
        return Some("made the trail write without digests".to_owned());
    }
    let account = call.account().unwrap_or_default();
    let region = call.region.as_deref().unwrap_or_default();
    if let (Some(bucket), Some(before)) = (
        asked.text("s3BucketName"),
        trails.bucket(account, region, &target(call)),
    ) && bucket != before
    {
        return Some(format!(
            "moved the trail from bucket {} to {}",
            quote(before),
            quote(bucket)
        ));
    }
    if asked.text("cloudWatchLogsLogGroupArn") == Some("") {
        return Some("made the trail leave out CloudWatch Logs".to_owned());
    }
    let key_account = asked.text("kmsKeyId").and_then(arn_account);
    if key_account.is_some_and(|of_key| !account.is_empty() && of_key != account) {
        return Some("made the trail encrypt with another account's key".to_owned());
    }
    None
}

/// The account an ARN names, if it is an ARN.
fn arn_account(arn: &str) -> Option<&str> {
    let mut parts = arn.split(':');
    (parts.next() == Some("arn"))
        .then(|| parts.nth(3))
        .flatten()
}

/// What the selectors leave out of management events; `None` if some selector takes all of them in.
fn selectors_narrow(asked: &Value) -> Option<&'static str> {
    const LEFT_OUT: &str = "made the trail leave out management events";
    const HALF: &str = "made the trail leave out reading or writing calls";
    const SOURCES: &str = "made the trail leave out the management events of some services";
    if let Some(selectors) = asked
        .get("advancedEventSelectors")
        .and_then(Value::as_array)
    {
        let managing = selectors.iter().filter(|one| advanced_manages(one));
        let whole = |one: &Value| {
            fields(one).all(|field| field["field"] == "eventCategory" || leaves_out_volume(field))
        };
        return match managing.clone().count() {
            0 => Some(LEFT_OUT),
            _ if managing.clone().any(whole) => None,
            _ => Some(HALF),
        };
    }
    let selectors = asked.get("eventSelectors")?.as_array()?;
    let manages =
        |one: &&Value| one.get("includeManagementEvents").and_then(Value::as_bool) != Some(false);
    let managing = selectors.iter().filter(manages);
    if managing.clone().next().is_none() {
        return Some(LEFT_OUT);
    }
    let takes_all = |one: &Value| {
        !matches!(
            one["readWriteType"].as_str(),
            Some("ReadOnly" | "WriteOnly")
        )
    };
    if !managing.clone().any(takes_all) {
        return Some(HALF);
    }
    let excludes = |one: &Value| {
        let excluded = one["excludeManagementEventSources"].as_array();
        excluded
            .into_iter()
            .flatten()
            .any(|source| !is_voluminous(source))
    };
    managing.clone().all(excludes).then_some(SOURCES)
}

/// Says whether a service is one that is left out for its volume, as AWS itself suggests: KMS and
/// the RDS data API.
fn is_voluminous(source: &Value) -> bool {
    matches!(
        source.as_str(),
        Some("kms.amazonaws.com" | "rdsdata.amazonaws.com")
    )
}

/// Says whether all that a field of an advanced selector leaves out is such services.
fn leaves_out_volume(field: &Value) -> bool {
    let conditions = field.as_object().into_iter().flatten();
    field["field"] == "eventSource"
        && conditions
            .filter(|(name, _)| *name != "field")
            .all(|(name, values)| {
                name == "notEquals"
                    && values
                        .as_array()
                        .is_some_and(|values| values.iter().all(is_voluminous))
            })
}

fn fields(selector: &Value) -> impl Iterator<Item = &Value> {
    selector["fieldSelectors"].as_array().into_iter().flatten()
}

/// Says whether an advanced selector takes management events in.
fn advanced_manages(selector: &Value) -> bool {
    fields(selector).any(|field| {
        field["field"] == "eventCategory"
            && field["equals"]
                .as_array()
                .is_some_and(|values| values.iter().any(|value| value == "Management"))
    })
}
