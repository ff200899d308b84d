//! Blocking: orders from a signed bundle, into the kernel and out of it again.
//!
//! ```text
//! collector → Client (claim, long poll) → file ┐
//! bundle laid into a file ─────────────────────┴→ Desk: verify, newer than the last
//!       → watch thread: InForce → kernel tables
//!                  ↘ what became of each order → summaries
//! ```
//!
//! Off unless `[block]` says otherwise: then orders of the collector are a dry run, of which it is told
//! what would have been blocked, and nothing is. What is protected is never blocked, whatever an order
//! says; each order ends by itself; and the kernel stops blocking when it has not heard of the
//! agent for thirty seconds.

mod client;
mod desk;
mod inforce;
mod protected;
mod report;

use std::path::PathBuf;

use picket_wire::Net;
use serde::Deserialize;

use crate::command::BadConfig;
use crate::config::bad;
use crate::net;

pub use client::Client;
pub use desk::{Desk, Givers, LOOK_EVERY, Posted};
pub use inforce::InForce;
pub use protected::resolvers;
pub use report::{Report, Shared};

/// Networks an operator can name as trusted. The host's own few need the rest of the kernel's
/// table.
const TRUSTED_MAX: usize = 2_048;

/// What becomes of packets that an order names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Force {
    /// They are dropped.
    #[default]
    Drops,
    /// They go on, and it is told that they would have been dropped.
    DryRun,
}

/// Table `[block]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BlockConfig {
    /// Whether orders are carried out. If not, it is told what those of the collector would have blocked.
    pub enabled: bool,
    /// A bundle of orders, looked at every second, in place of those of the collector.
    pub orders_file: Option<PathBuf>,
    /// The public key that must have signed it: 32 bytes in hexadecimal.
    pub key_file: Option<PathBuf>,
    /// Networks that no order can block, besides the metadata service, resolvers, the collector
    /// and the host itself.
    pub trusted: Vec<String>,
}

impl BlockConfig {
    /// Checks the table.
    ///
    /// # Errors
    /// The key that is wrong.
    pub fn check(&self) -> Result<(), BadConfig> {
        self.trusted_nets()?;
        if self.trusted.len() > TRUSTED_MAX {
            return Err(bad("block.trusted", "more than 2048 networks"));
        }
        if self.enabled && self.orders_file.is_none() && self.key_file.is_some() {
            let problem = "needed for block.key_file; orders of the collector need neither";
            return Err(bad("block.orders_file", problem));
        }
        if self.enabled && self.orders_file.is_some() && self.key_file.is_none() {
            return Err(bad("block.key_file", "needed for block.orders_file"));
        }
        Ok(())
    }

    /// What becomes of packets that an order names.
    #[must_use]
    pub fn force(&self) -> Force {
        if self.enabled {
            Force::Drops
        } else {
            Force::DryRun
        }
    }

    /// The trusted networks.
    ///
    /// # Errors
    /// One is no network.
    pub fn trusted_nets(&self) -> Result<Vec<Net>, BadConfig> {
        let parsed = self.trusted.iter().map(|text| net::parse(text));
        parsed
            .collect::<Result<_, _>>()
            .map_err(|error| bad("block.trusted", &error.to_string()))
    }
}
