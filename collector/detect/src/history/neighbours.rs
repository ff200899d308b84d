//! Who calls from the same address: for each address a few principals, and since when it is known.

use std::net::IpAddr;

use super::compared::hash;
use super::table::Table;
use crate::limits::{ADDRESS_CALLERS_MAX, CALLER_ADDRESSES_MAX};
use crate::logs::cloudtrail::ApiCall;

/// Principals by account and address.
#[derive(Debug)]
pub(crate) struct Neighbours(Table<(u64, IpAddr), Address>);

#[derive(Debug, Default)]
struct Address {
    first_ns: Option<u64>,
    callers: Vec<Neighbour>,
    /// More called from here than are remembered: an office, a gateway.
    is_crowded: bool,
}

/// Who called from an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Neighbour {
    hash: u64,
    /// What stays the same over its sessions.
    pub(crate) actor: String,
    /// What it is called: a user by its name, a session by its own.
    pub(crate) name: String,
    /// Whether AWS made its credential for a host, a function or a task.
    pub(crate) is_workload: bool,
    /// Whether it had never been there, though it was known for long.
    pub(crate) was_elsewhere: bool,
}

/// What is found where a caller comes to an address of others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Others<'a> {
    /// Who was there before.
    pub(crate) before: &'a [Neighbour],
    /// Since when the address is known.
    pub(crate) first_ns: u64,
}

impl Default for Neighbours {
    fn default() -> Self {
        Self(Table::new(CALLER_ADDRESSES_MAX))
    }
}

impl Neighbours {
    /// Says whether a caller was met at its address before, or so many were that one more says nothing.
    /// Every other call ends here.
    pub(crate) fn is_known(&self, call: &ApiCall, address: IpAddr) -> bool {
        let row = self.0.get(&(key(call), address));
        row.is_some_and(|row| {
            let who = hash(call.identity.actor().unwrap_or_default());
            row.is_crowded || row.callers.iter().any(|one| one.hash == who)
        })
    }

    /// Who was at an address before a caller that is new there.
    pub(crate) fn others(&self, call: &ApiCall, address: IpAddr) -> Option<Others<'_>> {
        let row = self.0.get(&(key(call), address))?;
        Some(Others {
            before: &row.callers,
            first_ns: row.first_ns?,
        })
    }

    /// Notes a caller that is new at its address.
    pub(crate) fn note(
        &mut self,
        call: &ApiCall,
        address: IpAddr,
        is_workload: bool,
        was_elsewhere: bool,
    ) {
        let now_ns = call.event_time_ns;
        let row = self.0.write((key(call), address), now_ns);
        row.first_ns.get_or_insert(now_ns);
        if row.callers.len() >= ADDRESS_CALLERS_MAX {
            row.is_crowded = true;
            return;
        }
        let actor = call.identity.actor().unwrap_or_default();
        row.callers.push(Neighbour {
            hash: hash(actor),
            actor: actor.to_owned(),
            name: called(call).to_owned(),
            is_workload,
            was_elsewhere,
        });
    }

    pub(crate) fn expire(&mut self, before_ns: u64) {
        self.0.expire(before_ns);
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 1] {
        [("caller_addresses_evicted", self.0.evicted())]
    }
}

/// What a caller is called: a user by its name, a role's session by its own, which is the person's where
/// people take the role.
pub(crate) fn called(call: &ApiCall) -> &str {
    let identity = &call.identity;
    let of_arn = || identity.arn.as_deref()?.rsplit('/').next();
    (identity.session_name())
        .or(identity.user_name.as_deref())
        .or_else(of_arn)
        .unwrap_or_default()
}

fn key(call: &ApiCall) -> u64 {
    hash(call.account().unwrap_or_default())
}
