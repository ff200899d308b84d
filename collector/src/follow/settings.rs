//! `[[cloudtrail]]`, `[[rds_log]]` and their like: which folders are followed.

use std::path::PathBuf;

use serde::Deserialize;

use crate::aws;
use crate::config::{BadValue, check_account};
use crate::source::rds::Whence;

/// One `[[cloudtrail]]`, `[[vpc_flow]]`, `[[resolver]]` or `[[guardduty]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The folder.
    pub path: PathBuf,
    /// Seconds between two looks at it.
    #[serde(default = "default_poll_s")]
    pub poll_s: u64,
}

fn default_poll_s() -> u64 {
    // CloudTrail delivers every five minutes; a folder that is written by hand should not wait.
    2
}

impl Settings {
    pub(crate) fn check(&self, table: &str) -> Result<(), BadValue> {
        if self.path.as_os_str().is_empty() {
            return Err(BadValue::new(format!("{table}.path"), "must not be empty"));
        }
        if self.poll_s == 0 {
            return Err(BadValue::new(format!("{table}.poll_s"), "must not be 0"));
        }
        Ok(())
    }
}

/// One `[[rds_log]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RdsSettings {
    /// The folder.
    pub path: PathBuf,
    /// Seconds between two looks at it.
    #[serde(default = "default_poll_s")]
    pub poll_s: u64,
    /// Account of the databases, where neither path nor log say.
    pub account: Option<String>,
    /// Region, alike.
    pub region: Option<String>,
    /// Identifier of the DB instance, whatever path and log say.
    pub instance: Option<String>,
}

impl RdsSettings {
    pub(crate) fn check(&self, table: &str) -> Result<(), BadValue> {
        self.folder().check(table)?;
        if let Some(account) = &self.account {
            check_account(format!("{table}.account"), account)?;
        }
        if let Some(region) = &self.region {
            aws::check_region(&format!("{table}.region"), region)?;
        }
        Ok(())
    }

    pub(crate) fn folder(&self) -> Settings {
        Settings {
            path: self.path.clone(),
            poll_s: self.poll_s,
        }
    }

    /// What neither path nor log tell of the databases.
    pub(crate) fn whence(&self) -> Whence {
        Whence {
            account: self.account.clone(),
            region: self.region.clone(),
            instance: self.instance.clone(),
        }
    }
}
