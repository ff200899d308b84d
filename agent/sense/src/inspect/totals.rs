//! The sums of a capture.

use std::collections::BTreeMap;

use serde::Serialize;

use super::distinct::Names;

/// What is summed up alike outside and inside tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Frames; inside tunnels, packets at every depth.
    pub packets: u64,
    /// Bytes they had on the wire.
    pub bytes: u64,
    /// Distinct unordered five-tuples of TCP, UDP and SCTP.
    pub flows: u64,
    /// DNS messages that ask.
    pub dns_queries: u64,
    /// DNS messages that answer.
    pub dns_responses: u64,
    /// Distinct names asked for, case folded.
    pub unique_qnames: u64,
    /// ClientHellos over TCP.
    pub tls_client_hellos: u64,
    /// Distinct server names in them.
    pub unique_sni: u64,
}

/// The sums of a capture, or of several.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// The capture; `None` for the sum of all.
    pub file: Option<String>,
    /// Of packets as they were on the wire.
    pub counts: Counts,
    /// Of packets inside tunnels.
    pub inner: Counts,
    /// Frames that could not be placed, by reason.
    pub lost: BTreeMap<&'static str, u64>,
    /// Frames that make no flow, by class.
    pub not_flow: BTreeMap<&'static str, u64>,
    /// What was counted but could not be looked into, by reason: messages, streams, datagrams.
    pub undecoded: BTreeMap<&'static str, u64>,
}

impl Counts {
    pub(super) fn add_packet(&mut self, wire_bytes: u32) {
        self.packets += 1;
        self.bytes += u64::from(wire_bytes);
    }

    /// Adds what can be added; distinct values cannot.
    fn absorb(&mut self, other: &Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.dns_queries += other.dns_queries;
        self.dns_responses += other.dns_responses;
        self.tls_client_hellos += other.tls_client_hellos;
    }

    pub(super) fn set_names(&mut self, names: &Names) {
        self.unique_qnames = names.qnames.len();
        self.unique_sni = names.servers.len();
    }
}

impl Totals {
    pub(super) fn add_lost(&mut self, reason: &'static str) {
        *self.lost.entry(reason).or_default() += 1;
    }

    /// Adds to what could not be looked into; nothing appears for 0.
    pub(super) fn add_undecoded(&mut self, reason: &'static str, count: u64) {
        if count > 0 {
            *self.undecoded.entry(reason).or_default() += count;
        }
    }

    /// Adds another capture's sums, but for the distinct values.
    pub(super) fn absorb(&mut self, other: &Self) {
        self.counts.absorb(&other.counts);
        self.inner.absorb(&other.inner);
        for (ours, theirs) in [
            (&mut self.lost, &other.lost),
            (&mut self.not_flow, &other.not_flow),
            (&mut self.undecoded, &other.undecoded),
        ] {
            for (reason, count) in theirs {
                *ours.entry(reason).or_default() += count;
            }
        }
    }
}
