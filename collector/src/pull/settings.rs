//! `[[sqs]]` and `[[s3]]`: which queues and buckets, and in whose name.

use jiff::civil::Date;
use serde::{Deserialize, Deserializer, de};

use crate::aws::{self, s3};
use crate::config::BadValue;

/// What an object holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// What its key says, as AWS names its logs.
    #[default]
    ByKey,
    /// CloudTrail events, in any common shape.
    Cloudtrail,
    /// VPC flow logs.
    VpcFlow,
    /// Route 53 Resolver query logs.
    Resolver,
    /// Logs of RDS and Aurora databases.
    Rds,
    /// GuardDuty's findings.
    Guardduty,
}

/// In place of the names of buckets: any.
pub(super) const ANY_BUCKET: &str = "*";

/// In whose name AWS is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Name {
    pub(super) role_arn: Option<String>,
    pub(super) external_id: Option<String>,
}

/// One `[[sqs]]`: a queue of notifications about objects, and of events from EventBridge.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueSettings {
    /// Its address.
    pub queue_url: String,
    /// Its region, where its address does not say it.
    pub region: Option<String>,
    /// Role to assume for the queue and its buckets: a member account's.
    pub role_arn: Option<String>,
    /// What the role's trust policy asks for.
    pub external_id: Option<String>,
    /// The only buckets that are read; none if it is empty, and with [`ANY_BUCKET`] alone all that may be.
    #[serde(default)]
    pub buckets: Vec<String>,
    /// What objects hold.
    #[serde(default)]
    pub holds: Kind,
    /// Seconds that a question waits for messages.
    #[serde(default = "default_wait_s")]
    pub wait_s: u64,
    /// Seconds for which messages that are being read are ours alone; renewed while they are.
    #[serde(default = "default_hidden_s")]
    pub hidden_s: u64,
    /// Times that a message nobody understands may come before it is deleted.
    #[serde(default = "default_receives_max")]
    pub receives_max: u32,
}

fn default_wait_s() -> u64 {
    // The most that SQS allows: the fewest questions, and messages come at once all the same.
    20
}

fn default_hidden_s() -> u64 {
    // After a crash the messages come again after five minutes.
    300
}

fn default_receives_max() -> u32 {
    // More than the three to five that redrive policies usually have: those come first.
    10
}

/// One `[[s3]]`: a bucket whose past is read once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketSettings {
    /// Its name.
    pub bucket: String,
    /// What keys begin with.
    #[serde(default)]
    pub prefix: String,
    /// Its region.
    pub region: Option<String>,
    /// Role to assume.
    pub role_arn: Option<String>,
    /// What the role's trust policy asks for.
    pub external_id: Option<String>,
    /// First day (UTC) that is read; from the beginning without it.
    #[serde(default, deserialize_with = "day")]
    pub from: Option<Date>,
    /// Last day; to what is there now without it.
    #[serde(default, deserialize_with = "day")]
    pub to: Option<Date>,
    /// What objects hold.
    #[serde(default)]
    pub holds: Kind,
}

fn day<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Date>, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map(Some).map_err(|error| {
        de::Error::custom(format!("{text:?} is no day such as 2026-01-31: {error}"))
    })
}

fn check_name(table: &str, role: Option<&String>, id: Option<&String>) -> Result<(), BadValue> {
    if let Some(arn) = role
        && !arn.starts_with("arn:")
    {
        return Err(BadValue::new(
            format!("{table}.role_arn"),
            "must be the ARN of a role",
        ));
    }
    if id.is_some() && role.is_none() {
        return Err(BadValue::new(
            format!("{table}.external_id"),
            "says nothing without role_arn",
        ));
    }
    Ok(())
}

impl QueueSettings {
    pub(crate) fn check(&self, table: &str) -> Result<(), BadValue> {
        let bad = |key: &str, why: &str| Err(BadValue::new(format!("{table}.{key}"), why));
        if !self.queue_url.starts_with("https://") && !self.queue_url.starts_with("http://") {
            return bad("queue_url", "must be the address of a queue");
        }
        if let Some(region) = &self.region {
            aws::check_region(&format!("{table}.region"), region)?;
        }
        check_name(table, self.role_arn.as_ref(), self.external_id.as_ref())?;
        for (at, bucket) in self.buckets.iter().enumerate() {
            if bucket == ANY_BUCKET && self.buckets.len() > 1 {
                return bad(
                    &format!("buckets[{at}]"),
                    "stands alone: it means every bucket",
                );
            }
            if bucket != ANY_BUCKET && !s3::is_bucket(bucket) {
                return bad(&format!("buckets[{at}]"), "is no name of a bucket");
            }
        }
        if self.wait_s > 20 {
            return bad("wait_s", "must be at most 20");
        }
        if !(1..=43_200).contains(&self.hidden_s) {
            return bad("hidden_s", "must be between 1 and 43200");
        }
        if self.receives_max == 0 {
            return bad("receives_max", "must not be 0");
        }
        Ok(())
    }

    /// Says whether objects of a bucket are read. Who writes to the queue names them.
    pub(super) fn lists(&self, bucket: &str) -> bool {
        let is_it = |listed: &String| listed == bucket || listed == ANY_BUCKET;
        self.buckets.iter().any(is_it)
    }

    pub(super) fn name(&self) -> Name {
        Name {
            role_arn: self.role_arn.clone(),
            external_id: self.external_id.clone(),
        }
    }
}

impl BucketSettings {
    pub(crate) fn check(&self, table: &str, before: &[Self]) -> Result<(), BadValue> {
        let bad = |key: &str, why: &str| Err(BadValue::new(format!("{table}.{key}"), why));
        if !s3::is_bucket(&self.bucket) {
            return bad("bucket", "is no name of a bucket");
        }
        if let Some(region) = &self.region {
            aws::check_region(&format!("{table}.region"), region)?;
        }
        if self.prefix.len() > aws::limits::KEY_BYTES_MAX || self.prefix.starts_with('/') {
            return bad("prefix", "is none that a key begins with");
        }
        check_name(table, self.role_arn.as_ref(), self.external_id.as_ref())?;
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from > to
        {
            return bad("to", "is before from");
        }
        if before.iter().any(|other| other.id() == self.id()) {
            return bad("bucket", "is named above with the same prefix and days");
        }
        Ok(())
    }

    pub(super) fn name(&self) -> Name {
        Name {
            role_arn: self.role_arn.clone(),
            external_id: self.external_id.clone(),
        }
    }

    /// What it is remembered by: another stretch of time is another back-fill.
    pub(super) fn id(&self) -> String {
        let day = |day: Option<Date>| day.map_or_else(|| "-".to_owned(), |day| day.to_string());
        let Self { bucket, prefix, .. } = self;
        format!("s3://{bucket}/{prefix} {} {}", day(self.from), day(self.to))
    }
}
