//! What the host's operator does not want told: left out of a summary, but not uncounted.

use minicbor::{CborLen, Decode, Encode};

use super::Conversation;

/// What a filter left out of one summary. Hits are never left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Filtered {
    /// Conversations left out.
    #[n(0)]
    pub conversations: u64,
    /// Their packets, but for those inside tunnels.
    #[n(1)]
    pub packets: u64,
    /// Bytes of all of them.
    #[n(2)]
    pub bytes: u64,
    /// Grouped questions left out.
    #[n(3)]
    pub questions: u64,
    /// Packets of those that were inside tunnels.
    #[n(4)]
    pub inner_packets: u64,
}

impl Filtered {
    /// Counts a conversation that is left out.
    pub fn note(&mut self, one: &Conversation) {
        let packets = match one.tunnel {
            None => &mut self.packets,
            Some(_) => &mut self.inner_packets,
        };
        *packets = packets
            .saturating_add(one.packets_out)
            .saturating_add(one.packets_in);
        self.bytes = self
            .bytes
            .saturating_add(one.bytes_out)
            .saturating_add(one.bytes_in);
        self.conversations += 1;
    }
}
