//! Indicators from the collector: signed bundles, into the kernel beside the host's own lists.
//!
//! ```text
//! collector → client (claim, long poll) → file → build (verify, all or nothing) → watch thread
//!                                            └────────── kept for the next start ←──┘ taken
//! ```
//!
//! Nothing of a bundle is used unless all of it can be: signed by the collector's key, newer than any
//! before, not over, changing the version that is in use, and its content what was signed. What is
//! refused leaves what is in use in use, is counted by reason and tried again.

mod build;
mod client;
mod kept;
mod reader;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use picket_wire::{Digest, PublicKey};
use serde::Deserialize;

use crate::command::BadConfig;
use crate::config::bad;

pub use client::Client;
pub use kept::{Kept, Refusal};
pub use report::{Report, Shared};

/// Keys of collectors that may be named: the one in use and the next. Chosen by hand.
const KEYS_MAX: usize = 4;

/// Table `[indicators]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IndicatorsConfig {
    /// The collector's public key, 64 hexadecimal digits; a second line may name the next. Without it
    /// the key counts that the host was told when it enrolled; else it has its own lists alone.
    pub key_file: Option<PathBuf>,
    /// Seconds without an answer of the collector after which indicators count as stale.
    pub stale_after_s: u64,
}

impl Default for IndicatorsConfig {
    fn default() -> Self {
        Self {
            key_file: None,
            // A collector that is updated and its host restarted is back by then.
            stale_after_s: 900,
        }
    }
}

impl IndicatorsConfig {
    /// Checks the table.
    ///
    /// # Errors
    /// The key that is wrong.
    pub fn check(&self) -> Result<(), BadConfig> {
        if self.stale_after_s < 60 {
            return Err(bad("indicators.stale_after_s", "must not be below 60"));
        }
        Ok(())
    }

    /// The collector's keys; none if none is named.
    ///
    /// # Errors
    /// The file cannot be read or holds no key.
    pub fn keys(&self) -> anyhow::Result<Vec<PublicKey>> {
        self.key_file
            .as_deref()
            .map_or_else(|| Ok(Vec::new()), read_keys)
    }
}

/// Public keys, one a line, as 64 hexadecimal digits.
fn read_keys(path: &Path) -> anyhow::Result<Vec<PublicKey>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("read {shown}"))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: Vec<PublicKey> = lines
        .map(|line| line.parse().map(|key: Digest| PublicKey(key.0)))
        .collect::<Result<_, _>>()
        .with_context(|| format!("{shown} holds no public key"))?;
    if keys.is_empty() || keys.len() > KEYS_MAX {
        bail!("{shown} holds {} keys, 1 to {KEYS_MAX} needed", keys.len());
    }
    Ok(keys)
}
