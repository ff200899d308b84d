//! What was denied to whom in the last minutes, so that what is allowed at last is noticed.

use std::collections::{BTreeMap, BTreeSet};

use super::compared::hash;
use super::table::Table;
use crate::limits::{REFUSED_APIS_MAX, REFUSED_CALLERS_MAX};
use crate::logs::cloudtrail::ApiCall;

/// Denied calls by account and caller.
#[derive(Debug)]
pub(crate) struct Refusals {
    callers: Table<(u64, u64), Refused>,
    left_out: u64,
}

/// What was denied to one caller, by the call's name.
#[derive(Debug, Default)]
struct Refused(BTreeMap<u64, Refusal>);

/// When a call was denied last, of which service it is, and what was asked.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    at_ns: u64,
    service: u64,
    asked: u64,
}

/// Which call is the one that was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alike {
    /// Of the same name.
    InName,
    /// Of the same name, and about the same.
    InWhatIsAsked,
}

/// How much was denied to a caller within a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Denied {
    /// Different calls.
    pub(crate) apis: usize,
    /// Their services.
    pub(crate) services: usize,
    /// When the one that is asked about was denied last.
    pub(crate) since_ns: u64,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            callers: Table::new(REFUSED_CALLERS_MAX),
            left_out: 0,
        }
    }
}

impl Refusals {
    /// Notes that a call was denied.
    pub(crate) fn note(&mut self, call: &ApiCall) {
        let now_ns = call.event_time_ns;
        let Refused(apis) = self.callers.write(caller(call), now_ns);
        let api = api(call);
        if apis.len() < REFUSED_APIS_MAX || apis.contains_key(&api) {
            let refusal = Refusal {
                at_ns: now_ns,
                service: hash(call.service()),
                asked: asked(call),
            };
            apis.insert(api, refusal);
        } else {
            self.left_out += 1;
        }
    }

    /// What was denied to the caller of a call within `window_ns` before it, if that very call was among
    /// it. It is asked about once: what is allowed stays so.
    pub(crate) fn allowed_at_last(
        &mut self,
        call: &ApiCall,
        alike: Alike,
        window_ns: u64,
    ) -> Option<Denied> {
        // Nobody is denied much of the time: then this costs nothing.
        if self.callers.is_empty() {
            return None;
        }
        let Refused(apis) = self.callers.get_mut(&caller(call))?;
        let Refusal {
            at_ns: since_ns,
            asked: before,
            ..
        } = *apis.get(&api(call))?;
        if alike == Alike::InWhatIsAsked && before != asked(call) {
            return None;
        }
        let begin_ns = call.event_time_ns.saturating_sub(window_ns);
        apis.retain(|_, refusal| refusal.at_ns >= begin_ns);
        let services: BTreeSet<u64> = apis.values().map(|one| one.service).collect();
        let denied = apis.len();
        apis.remove(&api(call))?;
        Some(Denied {
            apis: denied,
            services: services.len(),
            since_ns,
        })
    }

    pub(crate) fn expire(&mut self, before_ns: u64) {
        self.callers.expire(before_ns);
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 2] {
        [
            ("refused_callers_evicted", self.callers.evicted()),
            ("refused_apis_left_out", self.left_out),
        ]
    }
}

fn caller(call: &ApiCall) -> (u64, u64) {
    let account = call.account().unwrap_or_default();
    let actor = call.identity.bearer().unwrap_or_default();
    (hash(account), hash(actor))
}

fn asked(call: &ApiCall) -> u64 {
    hash(call.request_parameters.raw())
}

fn api(call: &ApiCall) -> u64 {
    hash(&call.event_name) ^ hash(call.service()).rotate_left(1)
}
