//! The settings of enrolment.

use std::path::PathBuf;

use picket_detect::identity::is_region;
use reqwest::Url;
use serde::Deserialize;

use crate::config::{BadValue, check_account};

/// Longest life of a challenge, in seconds: the 15 minutes for which what a role signs is good (AWS
/// Signature Version 4), which is all that a nonce keeps from being shown again.
const CHALLENGE_S_MAX: u64 = 900;

/// Who may enrol, and how.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Accounts whose EC2 instances may enrol; those of `accounts.own` if there are none.
    pub accounts: Vec<String>,
    /// Regions whose instances may; any if there are none.
    pub regions: Vec<String>,
    /// What becomes of an instance that has a document of AWS and no role to sign with.
    pub document_only: DocumentOnly,
    /// Such instances that may wait for an operator, at most.
    pub pending_max: u64,
    /// Seconds for which they may.
    pub pending_s: u64,
    /// Folder of certificates of AWS' regions, `<region>.pem` or `<region>.der`, that count in place of
    /// the built-in ones.
    pub certificates_dir: Option<PathBuf>,
    /// Where STS is asked in place of each region's own host.
    pub sts_endpoint: Option<String>,
    /// Challenges that may be unanswered, at most.
    pub challenges_max: usize,
    /// Seconds a challenge is good for.
    pub challenge_s: u64,
    /// Attempts in a minute by one address; a challenge and its answer are two.
    pub attempts_per_minute: u64,
    /// Attempts in a minute by all.
    pub attempts_per_minute_all: u64,
    /// Seconds that the old key of a host is still believed once it has a new one.
    pub rotation_overlap_s: u64,
}

/// What becomes of an instance that shows a document and nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DocumentOnly {
    /// It is refused.
    Refuse,
    /// It waits until an operator lets it in.
    Approve,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            accounts: Vec::new(),
            regions: Vec::new(),
            // Any process of an instance can read the document, and so can whoever can make one fetch.
            document_only: DocumentOnly::Refuse,
            // As many as a person can look through.
            pending_max: 1_000,
            // Somebody looks within a week.
            pending_s: 7 * 86_400,
            certificates_dir: None,
            sts_endpoint: None,
            // A fleet that starts at once.
            challenges_max: 10_000,
            // IMDS, two signatures and a round trip take a second; a host that starts up is slow.
            challenge_s: 60,
            // Thirty hosts behind one address.
            attempts_per_minute: 60,
            // Ten enrolments a second, each with a question to STS.
            attempts_per_minute_all: 1_200,
            // What a spool holds, as in `admission.clock_behind_ms`.
            rotation_overlap_s: 7 * 86_400,
        }
    }
}

impl Settings {
    /// Says which key is wrong and why.
    pub(crate) fn check(&self) -> Result<(), BadValue> {
        for (at, account) in self.accounts.iter().enumerate() {
            check_account(format!("enrol.accounts[{at}]"), account)?;
        }
        for (at, region) in self.regions.iter().enumerate() {
            if !is_region(region) {
                let why = format!("{region:?} is no name of a region");
                return Err(BadValue::new(format!("enrol.regions[{at}]"), why));
            }
        }
        self.endpoint()?;
        if self.challenge_s > CHALLENGE_S_MAX {
            let why = format!("must not be above {CHALLENGE_S_MAX}");
            return Err(BadValue::new("enrol.challenge_s", why));
        }
        for (key, value) in [
            ("challenges_max", self.challenges_max as u64),
            ("challenge_s", self.challenge_s),
            ("pending_s", self.pending_s),
            ("attempts_per_minute", self.attempts_per_minute),
            ("attempts_per_minute_all", self.attempts_per_minute_all),
        ] {
            if value == 0 {
                return Err(BadValue::new(format!("enrol.{key}"), "must not be 0"));
            }
        }
        Ok(())
    }

    /// Where STS is asked, if not at each region's own host.
    pub(super) fn endpoint(&self) -> Result<Option<Url>, BadValue> {
        let Some(text) = &self.sts_endpoint else {
            return Ok(None);
        };
        let refuse = |why: String| BadValue::new("enrol.sts_endpoint", why);
        let url = Url::parse(text).map_err(|error| refuse(error.to_string()))?;
        match url.scheme() {
            "http" | "https" => Ok(Some(url)),
            other => Err(refuse(format!("{other:?} is neither http nor https"))),
        }
    }
}
