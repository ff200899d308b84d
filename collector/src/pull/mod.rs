//! Logs that lie in buckets: announced by a queue, or listed.
//!
//! ```text
//! queue    SQS → notice → object ┐
//!                       → event ─┴→ analysis, then the message is deleted
//! backfill S3 listing, day by day → object → analysis, with the mark behind which to go on
//! ```
//!
//! A message is deleted, and a mark moves, once what it stands for is analysed and stored: everything
//! comes in at least once, and what came before is left out by its event's identity. An object that is
//! damaged costs one report and holds nobody up; one that cannot be had for now is tried again.

mod backfill;
mod body;
mod digest;
mod key;
mod limits;
mod notice;
mod object;
mod queue;
mod settings;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::analysis::Inbox;
use crate::aws::{self, Aws, AwsError, credentials};
use crate::config::BadValue;
use crate::digest::Keys;
use crate::metrics::Metrics;
use crate::quiet::Quiet;
use crate::store::Store;

pub(crate) use backfill::Backfill;
pub(crate) use queue::Queue;
pub(crate) use settings::{BucketSettings, QueueSettings};

/// What reading logs from AWS takes besides its settings.
#[derive(Clone)]
pub(crate) struct Means {
    /// Where it is remembered how far things were read.
    pub(crate) store: Store,
    /// Who gets what was read.
    pub(crate) analysis: Inbox,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// Public keys of digests that are configured.
    pub(crate) keys: Arc<Keys>,
    /// Whose a database is whose log does not say it.
    pub(crate) account: Option<String>,
    /// Where tables are copied to before they are read.
    pub(crate) copies: PathBuf,
    /// Whether digests are checked.
    pub(crate) is_checking: bool,
    /// Set when the process is to end.
    pub(crate) is_stopping: Arc<AtomicBool>,
}

/// Opens the way to objects in the name that settings say.
fn open(
    settings: &aws::Settings,
    name: &settings::Name,
    means: Means,
) -> Result<object::Objects, AwsError> {
    let role = name.role_arn.clone().map(|arn| credentials::Role {
        arn,
        external_id: name.external_id.clone(),
        session: credentials::SESSION.to_owned(),
    });
    Ok(object::Objects {
        aws: Aws::open(settings, role)?,
        means,
        quiet: Quiet::default().into(),
        asked: tokio::sync::Mutex::default(),
    })
}

/// The region of a table of the configuration, or which key is missing.
fn region(own: Option<&String>, aws: &Aws, table: &str) -> Result<String, BadValue> {
    let region = own.map(String::as_str).or(aws.region());
    region.map(str::to_owned).ok_or_else(|| {
        BadValue::new(
            format!("{table}.region"),
            "is needed: neither [aws] nor the environment or profile name one",
        )
    })
}
