//! CloudTrail: the public keys that its digests are signed with.

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::json;

use super::{Aws, AwsError, Call};

/// How long before a digest the key it is signed with may have become valid (chosen by hand: a day; the
/// service answers with every key whose time meets the stretch).
const BEFORE: SignedDuration = SignedDuration::from_hours(24);

impl Aws {
    /// The public keys of a region that were valid about a time, as the service writes them.
    ///
    /// # Errors
    /// Every [`AwsError`].
    pub(crate) async fn public_keys(
        &self,
        region: &str,
        at: Timestamp,
    ) -> Result<Vec<u8>, AwsError> {
        if !super::is_region(region) {
            return Err(AwsError::Request(format!("no region can be {region:?}")));
        }
        let from = at.checked_sub(BEFORE).unwrap_or(at);
        let asked = json!({ "StartTime": from.as_second(), "EndTime": at.as_second() });
        self.text(Call {
            service: "cloudtrail",
            region,
            method: Method::POST,
            host: None,
            path: "/".to_owned(),
            query: Vec::new(),
            headers: vec![
                ("content-type", "application/x-amz-json-1.1".to_owned()),
                (
                    "x-amz-target",
                    "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.ListPublicKeys"
                        .to_owned(),
                ),
            ],
            body: asked.to_string().into_bytes(),
        })
        .await
    }
}
