//! Where each temporary credential that AWS hands to a host, a function or a task is used: its home.

use super::table::Table;
use crate::limits::{HOME_PLACES_MAX, HOMES_MAX};

/// Places by credential.
#[derive(Debug)]
pub(crate) struct Homes(Table<String, Home>);

/// Where and by which programs a credential was used.
#[derive(Debug, Default, Clone)]
pub(crate) struct Home {
    /// Networks, the first of them the one it was first used from.
    pub(crate) networks: Vec<String>,
    /// Programs.
    pub(crate) agents: Vec<String>,
}

impl Default for Homes {
    fn default() -> Self {
        Self(Table::new(HOMES_MAX))
    }
}

impl Homes {
    /// The home of a credential, if it was used before.
    pub(crate) fn of(&self, key: &str) -> Option<&Home> {
        self.0.get(key)
    }

    /// Notes that a credential was used at home.
    pub(crate) fn note(&mut self, key: &str, network: &str, agent: &str, now_ns: u64) {
        let home = self.0.write_by(key, now_ns);
        for (known, new) in [(&mut home.networks, network), (&mut home.agents, agent)] {
            if known.len() < HOME_PLACES_MAX && !known.iter().any(|one| one == new) {
                known.push(new.to_owned());
            }
        }
    }

    pub(crate) fn expire(&mut self, before_ns: u64) {
        self.0.expire(before_ns);
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 1] {
        [("homes_evicted", self.0.evicted())]
    }
}
