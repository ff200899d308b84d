//! Which bucket each trail writes to and whose infrastructure code made it, as far as calls have told.

use super::table::Table;
use crate::limits::TRAILS_MAX;
use crate::logs::agent_words::Says;
use crate::logs::cloudtrail::ApiCall;

/// Buckets of trails.
#[derive(Debug)]
pub(crate) struct Trails {
    /// By (account, region, trail name).
    trails: Table<(String, String, String), Trail>,
    /// Trail names by (account, bucket).
    writers: Table<(String, String), Vec<String>>,
}

/// What is known of a trail.
#[derive(Debug, Default)]
struct Trail {
    bucket: String,
    /// The principal whose infrastructure code made it.
    maker: Option<String>,
}

/// Trails remembered for one bucket: one that collects for an organisation has many, and one is
/// enough to know what it is.
const WRITERS_MAX: usize = 8;

impl Default for Trails {
    fn default() -> Self {
        Self {
            trails: Table::new(TRAILS_MAX),
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
        let known = self.trails.write(key, call.event_time_ns);
        bucket.clone_into(&mut known.bucket);
        if &*call.event_name == "CreateTrail" {
            let maker = call.identity.actor().filter(|_| is_planned(call));
            known.maker = maker.map(str::to_owned);
        }
        let writers = self
            .writers
            .write((account, bucket.to_owned()), call.event_time_ns);
        if writers.len() < WRITERS_MAX && !writers.contains(&trail) {
            writers.push(trail);
        }
    }

    /// The bucket that a trail was last known to write to.
    pub(crate) fn bucket(&self, account: &str, region: &str, trail: &str) -> Option<&str> {
        Some(&self.of(account, region, trail)?.bucket)
    }

    /// Says whether the caller's infrastructure code made the trail, and now calls again.
    pub(crate) fn is_own_plan(&self, call: &ApiCall, trail: &str) -> bool {
        let account = call.account().unwrap_or_default();
        let region = call.region.as_deref().unwrap_or_default();
        let maker = self
            .of(account, region, trail)
            .and_then(|trail| trail.maker.as_deref());
        maker.is_some() && maker == call.identity.actor() && is_planned(call)
    }

    fn of(&self, account: &str, region: &str, trail: &str) -> Option<&Trail> {
        let key = (
            account.to_owned(),
            region.to_owned(),
            short(trail).to_owned(),
        );
        self.trails.get(&key)
    }

    /// A trail that is known to write to a bucket.
    pub(crate) fn writer(&self, account: &str, bucket: &str) -> Option<&str> {
        let key = (account.to_owned(), bucket.to_owned());
        self.writers.get(&key)?.first().map(String::as_str)
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 1] {
        let evicted = self.trails.evicted() + self.writers.evicted();
        [("trails_evicted", evicted)]
    }
}

/// Says whether a program that carries out a plan made the call. Anybody may say so of himself.
fn is_planned(call: &ApiCall) -> bool {
    call.agent_words().has(Says::Planner)
        || call.source_ip.as_deref() == Some("cloudformation.amazonaws.com")
}

/// A trail's name, of its name or ARN.
pub(crate) fn short(trail: &str) -> &str {
    trail.rsplit_once(":trail/").map_or(trail, |(_, name)| name)
}
