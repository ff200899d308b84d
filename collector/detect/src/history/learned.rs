//! Baselines written out, to be kept, carried elsewhere, read and taken back.
//!
//! Whatever is taken back is cut to what could have been learned: a file from elsewhere cannot keep a
//! value usual for longer than one that was met.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::baseline::Baseline;
use super::traffic::Traffic;

/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;

/// Baselines written out: of principals, of groups of peers, of accounts, each by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learned {
    version: u32,
    /// By the principal's ARN.
    #[serde(default)]
    pub principals: BTreeMap<String, Baseline>,
    /// By account and kind of principal.
    #[serde(default)]
    pub peers: BTreeMap<String, Baseline>,
    /// By account number.
    #[serde(default)]
    pub accounts: BTreeMap<String, Baseline>,
    /// What is usual on the network, by account, region and host.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<String, Traffic>,
    /// The same of hosts alike, by account, region and the beginning of their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts_alike: BTreeMap<String, Traffic>,
}

/// Why baselines were not taken back.
#[derive(Debug, thiserror::Error)]
pub enum LearnedError {
    /// Cut, damaged, or something else.
    #[error("not baselines: {0}")]
    Unreadable(serde_json::Error),
    /// Written by another version of the program.
    #[error("baselines of version {found}, this program reads version {VERSION}")]
    Version {
        /// What it says.
        found: u64,
    },
}

impl LearnedError {
    /// One word, for counting.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Version { .. } => "version",
        }
    }
}

/// Of whom it is told what is usual on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrafficOf {
    /// Of one host.
    Host,
    /// Of hosts alike.
    HostsAlike,
}

impl TrafficOf {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Host, Self::HostsAlike];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::HostsAlike => "hosts_alike",
        }
    }
}

/// Whose baseline it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// A principal's: a user's, or a role's over all its sessions.
    Principal,
    /// A group of peers': the principals of one kind in one account.
    Peers,
    /// An account's.
    Account,
}

impl Whose {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Principal => "principal",
            Self::Peers => "peers",
            Self::Account => "account",
        }
    }
}

impl Default for Learned {
    fn default() -> Self {
        Self {
            version: VERSION,
            principals: BTreeMap::new(),
            peers: BTreeMap::new(),
            accounts: BTreeMap::new(),
            hosts: BTreeMap::new(),
            hosts_alike: BTreeMap::new(),
        }
    }
}

impl Learned {
    /// Reads what [`Learned::to_json`] wrote.
    ///
    /// # Errors
    /// Every [`LearnedError`]. The version is looked at first, so that what another version wrote is not
    /// called damaged.
    pub fn from_json(json: &[u8]) -> Result<Self, LearnedError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }

        let versioned: Versioned =
            serde_json::from_slice(json).map_err(LearnedError::Unreadable)?;
        if versioned.version != u64::from(VERSION) {
            return Err(LearnedError::Version {
                found: versioned.version,
            });
        }
        serde_json::from_slice(json).map_err(LearnedError::Unreadable)
    }

    /// The text: one line, the same for the same baselines.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("maps of text and numbers can be written")
    }

    /// One baseline alone.
    pub fn only(whose: Whose, name: String, baseline: Baseline) -> Self {
        let mut learned = Self::default();
        learned.of_mut(whose).insert(name, baseline);
        learned
    }

    /// What is usual on the network for one host, or for hosts alike, alone.
    pub fn only_traffic(of: TrafficOf, name: String, traffic: Traffic) -> Self {
        let mut learned = Self::default();
        learned.traffic_mut(of).insert(name, traffic);
        learned
    }

    /// Puts those of `other` in, in place of those of the same names.
    pub fn extend(&mut self, other: Self) {
        self.principals.extend(other.principals);
        self.peers.extend(other.peers);
        self.accounts.extend(other.accounts);
        self.hosts.extend(other.hosts);
        self.hosts_alike.extend(other.hosts_alike);
    }

    /// Says whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        let of_calls = self.principals.len() + self.peers.len() + self.accounts.len();
        of_calls + self.hosts.len() + self.hosts_alike.len()
    }

    /// Takes out what is usual on the network, each with of whom and its name, in order.
    pub fn take_traffic(&mut self) -> impl Iterator<Item = (TrafficOf, String, Traffic)> + use<> {
        let rows = |of, all: &mut BTreeMap<String, Traffic>| {
            let all = std::mem::take(all);
            all.into_iter().map(move |(name, one)| (of, name, one))
        };
        let hosts = rows(TrafficOf::Host, &mut self.hosts);
        hosts.chain(rows(TrafficOf::HostsAlike, &mut self.hosts_alike))
    }

    /// Those of calls, each with whose and its name, in order.
    pub fn into_rows(self) -> impl Iterator<Item = (Whose, String, Baseline)> {
        let rows = |whose, all: BTreeMap<String, Baseline>| {
            all.into_iter().map(move |(name, one)| (whose, name, one))
        };
        rows(Whose::Principal, self.principals)
            .chain(rows(Whose::Peers, self.peers))
            .chain(rows(Whose::Account, self.accounts))
    }

    fn traffic_mut(&mut self, of: TrafficOf) -> &mut BTreeMap<String, Traffic> {
        match of {
            TrafficOf::Host => &mut self.hosts,
            TrafficOf::HostsAlike => &mut self.hosts_alike,
        }
    }

    fn of_mut(&mut self, whose: Whose) -> &mut BTreeMap<String, Baseline> {
        match whose {
            Whose::Principal => &mut self.principals,
            Whose::Peers => &mut self.peers,
            Whose::Account => &mut self.accounts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let one = Learned::only(Whose::Peers, "1 users".to_owned(), Baseline::default());
        let json = one.to_json();
        assert_eq!(Learned::from_json(json.as_bytes()).unwrap(), one);
        let refused = |json: &str| Learned::from_json(json.as_bytes()).unwrap_err().word();
        assert_eq!(refused(&json[..json.len() - 2]), "unreadable");
        assert_eq!(refused(""), "unreadable");
        assert_eq!(refused("{}"), "unreadable");
        assert_eq!(refused(r#"{"version":2,"whatever":[]}"#), "version");
        assert_eq!(refused(r#"{"version":1,"whatever":[]}"#), "unreadable");
        let torn = json.replace("\"calls\":0", "\"calls\":-1");
        assert_eq!(refused(&torn), "unreadable");
    }

    #[test]
    fn rows_and_back() {
        let mut all = Learned::default();
        for (whose, name) in [
            (Whose::Account, "1"),
            (Whose::Principal, "a"),
            (Whose::Peers, "1 users"),
        ] {
            all.extend(Learned::only(whose, name.to_owned(), Baseline::default()));
        }
        for of in TrafficOf::ALL {
            let one = Learned::only_traffic(of, "1 r i-1".to_owned(), Traffic::default());
            all.extend(one);
        }
        let mut again = Learned::default();
        let mut rest = all.clone();
        for (of, name, traffic) in rest.take_traffic() {
            again.extend(Learned::only_traffic(of, name, traffic));
        }
        assert_eq!((again.len(), rest.len()), (2, 3));
        for (whose, name, baseline) in rest.into_rows() {
            again.extend(Learned::only(whose, name, baseline));
        }
        assert_eq!(again, all);
        assert!(!again.is_empty() && Learned::default().is_empty());
    }
}
