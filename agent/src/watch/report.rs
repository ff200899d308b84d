//! What the watching thread says of itself when it is asked.

use serde::{Deserialize, Serialize};

use crate::capture::choice::Choice;
use crate::capture::live::{OwnerState, StageReport};
use crate::health::{Health, Packets};
use crate::telling::{LeftOut, Passed};

/// How the thread is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// The rung of the capture ladder in use.
    pub rung: String,
    /// Interfaces watched.
    pub interfaces: Vec<String>,
    /// Interfaces that are wanted and not watched, and why.
    #[serde(default)]
    pub skipped: Vec<Choice>,
    /// The loss equation since the start.
    pub packets: Packets,
    /// The sensor about itself.
    pub health: Health,
    /// Every counter since the start.
    pub counters: Vec<Count>,
    /// Flows in the table.
    #[serde(default)]
    pub flows: u64,
    /// Summaries passed on since the start.
    #[serde(default)]
    pub passed: Passed,
    /// What the filter left out since the start.
    #[serde(default)]
    pub left_out: LeftOut,
    /// What is hidden of names and paths, in words.
    #[serde(default)]
    pub privacy: Option<String>,
    /// Whether and where things are pinned that stay over a restart, in words.
    #[serde(default)]
    pub pinned: Option<String>,
    /// Capabilities that the watching thread has kept; no other thread has any.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// The indicators in use.
    pub indicators: Indicators,
    /// Where each stage of matching runs.
    #[serde(default)]
    pub stages: Vec<StageReport>,
    /// How well it is known which process has which socket.
    #[serde(default)]
    pub owners: OwnerState,
    /// Orders to block that are in force.
    pub blocks: u64,
    /// Orders of which it is only told what they would have blocked, as blocking is off.
    #[serde(default)]
    pub dry_run_blocks: u64,
    /// Why no order is in force that should be, in words.
    #[serde(default)]
    pub blocks_trouble: Option<String>,
}

/// A counter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Where it was counted.
    pub stage: String,
    /// Why.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// The indicators in use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Indicators {
    /// Version of the set.
    pub version: u64,
    /// Values on lists.
    pub count: u64,
    /// Lists.
    pub lists: u64,
    /// Whether the kernel matches addresses against this set; if not, why.
    pub kernel: String,
}
