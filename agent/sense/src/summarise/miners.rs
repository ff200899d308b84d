//! Miners: what they say to a pool is a hit, whether or not a list names the pool. Told once per
//! flow, by the kernel's notice or by the decoded stream, whichever comes first.

use std::sync::Arc;

use super::Summariser;
use super::hits::{Met, Sighting};
use crate::decode::stratum::Call;
use crate::decode::{Protocol, Record};

/// Methods that a pool calls, not a miner.
const OF_POOLS: &[&str] = &[
    "job",
    "mining.notify",
    "mining.set",
    "mining.set_difficulty",
    "mining.set_extranonce",
    "mining.set_target",
];

impl Summariser {
    /// Takes the beginning of a payload that the kernel took for a miner's. A line that goes on in
    /// the next segment is left to the decoded stream.
    pub(super) fn on_noticed_line(&mut self, sighting: &Sighting<'_>, payload: &[u8]) -> Met {
        let line = payload.split(|byte| *byte == b'\n').next();
        match line.and_then(Call::read) {
            Some(call) => self.on_call(sighting, &call),
            None => Met::Nothing,
        }
    }

    /// Takes a call from the decoded stream.
    pub(super) fn on_call_record(&mut self, record: &Record, call: &Call) {
        let process = self.acting.and_then(|owner| self.processes.find(owner));
        let process = process.cloned();
        let sighting = Sighting {
            ts_ns: record.ts_ns,
            src: record.src,
            dst: record.dst,
            protocol: Protocol::TCP,
            tunnel: record.tunnel,
            process: process.as_ref().map(Arc::as_ref),
        };
        self.on_call(&sighting, call);
    }

    fn on_call(&mut self, sighting: &Sighting<'_>, call: &Call) -> Met {
        let mut sighting = *sighting;
        if OF_POOLS.contains(&call.method.as_str()) {
            std::mem::swap(&mut sighting.src, &mut sighting.dst);
        }
        self.hits.on_miner(&sighting, &call.method)
    }
}
