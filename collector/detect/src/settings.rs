//! Everything about the analysis that an operator can set.

use serde::{Deserialize, Serialize};

use crate::correlations;
use crate::detections;

pub use crate::correlations::Settings as Correlations;
pub use crate::detections::Settings as Detections;

/// The analysis, as tables of the collector's configuration. An unknown key is an error.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whose accounts are ours.
    pub accounts: Accounts,
    /// One table per detection, named by its id.
    pub detections: detections::Settings,
    /// One table per correlation, named by its id.
    pub correlations: correlations::Settings,
}

/// Whose accounts are ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Accounts {
    /// The organisation's accounts. Empty (the default, as no list can be guessed): every account
    /// seen as recipient is ours.
    pub own: Vec<String>,
    /// Principals that change accounts by plan: deployment roles, infrastructure code. ARNs in which `*`
    /// and `?` may stand. What plans do every day is low for them. Empty by default.
    pub automation: Vec<String>,
}
