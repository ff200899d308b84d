//! What a list says its entries are.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The category of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// Command-and-control servers.
    C2,
    /// Mining pools.
    Mining,
    /// Tor relays.
    Tor,
    /// Phishing sites.
    Phishing,
    /// Sinkholes and other addresses that take traffic in and give none back.
    Blackhole,
    /// Places where stolen data are left.
    Droppoint,
    /// Sites that serve exploits.
    Driveby,
    /// Names made by a known domain generator.
    Dga,
    /// Addresses that scan.
    Scanner,
    /// The operator's own list.
    Custom,
}

/// The text is no category's name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown category {0:?}")]
pub struct UnknownCategory(pub String);

impl Category {
    /// Every category, sorted as declared.
    pub const ALL: [Self; 10] = [
        Self::C2,
        Self::Mining,
        Self::Tor,
        Self::Phishing,
        Self::Blackhole,
        Self::Droppoint,
        Self::Driveby,
        Self::Dga,
        Self::Scanner,
        Self::Custom,
    ];

    /// The name used in file names, on the wire and in findings.
    pub fn name(self) -> &'static str {
        match self {
            Self::C2 => "c2",
            Self::Mining => "mining",
            Self::Tor => "tor",
            Self::Phishing => "phishing",
            Self::Blackhole => "blackhole",
            Self::Droppoint => "droppoint",
            Self::Driveby => "driveby",
            Self::Dga => "dga",
            Self::Scanner => "scanner",
            Self::Custom => "custom",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Category {
    type Err = UnknownCategory;

    fn from_str(text: &str) -> Result<Self, UnknownCategory> {
        let mut all = Self::ALL.into_iter();
        all.find(|category| category.name() == text)
            .ok_or_else(|| UnknownCategory(text.to_owned()))
    }
}
