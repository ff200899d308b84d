//! Which bucket each trail writes to, as far as calls have told.

use super::table::Table;
use crate::limits::TRAILS_MAX;
use crate::logs::cloudtrail::ApiCall;

/// Buckets of trails.
#[derive(Debug)]
pub(crate) struct Trails {
    /// Bucket by (account, region, trail name).
    bucket: Table<(String, String, String), String>,
    /// Trail names by (account, bucket).
    writers: Table<(String, String), Vec<String>>,
}

/// Trails remembered for one bucket: one that collects for an organisation has many, and one is
/// enough to know what it is.
const WRITERS_MAX: usize = 8;

impl Default for Trails {
    fn default() -> Self {
        Self {
            bucket: Table::new(TRAILS_MAX),
            writers: Table::new(TRAILS_MAX),
        }
    }
}

impl Trails {
    /// Notes what a successful call tells of a trail.
    pub(crate) fn note(&mut self, call: &ApiCall) {
        if &*call.event_source != "cloudtrail.amazonaws.com" || !call.succeeded() {
            return;
        }
        if !matches!(&*call.event_name, "CreateTrail" | "UpdateTrail") {
            return;
        }
        let named = |key| {
            call.response_elements
                .text(key)
                .or_else(|| call.request_parameters.text(key))
        };
        let (Some(trail), Some(bucket)) = (named("name"), named("s3BucketName")) else {
            return;
        };
        let account = call.account().unwrap_or_default().to_owned();
        let trail = short(trail).to_owned();
        let region = call.region.as_deref().unwrap_or_default().to_owned();
        let key = (account.clone(), region, trail.clone());
        *self.bucket.write(key, call.event_time_ns) = bucket.to_owned();
        let writers = self
            .writers
            .write((account, bucket.to_owned()), call.event_time_ns);
        if writers.len() < WRITERS_MAX && !writers.contains(&trail) {
            writers.push(trail);
        }
    }

    /// The bucket that a trail was last known to write to.
    pub(crate) fn bucket(&self, account: &str, region: &str, trail: &str) -> Option<&str> {
        let key = (
            account.to_owned(),
            region.to_owned(),
            short(trail).to_owned(),
        );
        self.bucket.get(&key).map(String::as_str)
    }

    /// A trail that is known to write to a bucket.
    pub(crate) fn writer(&self, account: &str, bucket: &str) -> Option<&str> {
        let key = (account.to_owned(), bucket.to_owned());
        self.writers.get(&key)?.first().map(String::as_str)
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 1] {
        let evicted = self.bucket.evicted() + self.writers.evicted();
        [("trails_evicted", evicted)]
    }
}

/// A trail's name, of its name or ARN.
pub(crate) fn short(trail: &str) -> &str {
    trail.rsplit_once(":trail/").map_or(trail, |(_, name)| name)
}
