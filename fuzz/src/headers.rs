//! Two readings of one frame's headers: that of the kernel programs and that of the decoder.

use std::net::{IpAddr, Ipv6Addr};

use picket_abi::{Plain, Reason};
use picket_programs::parse::{self, Link};
use picket_sense::decode::NotFlow;

#[path = "../../agent/tests/kernel/reading.rs"]
mod reading;

use reading::{Is, decoder, is_closed_in_kernel};

struct Bytes<'a>(&'a [u8]);

impl parse::Frame for Bytes<'_> {
    fn load<T: Plain>(&self, at: u32) -> Option<T> {
        picket_abi::read(self.0.get(at as usize..)?)
    }
    fn bytes(&self) -> u32 {
        self.0.len() as u32
    }
}

/// What the kernel programs take an Ethernet frame for; `None` for what they leave to others.
fn kernel(frame: &[u8]) -> Option<Is> {
    let address = |words: [u64; 2]| {
        let octets: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
        let octets: [u8; 16] = octets.try_into().expect("two words are 16 bytes");
        IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
    };
    Some(match parse::packet(&Bytes(frame), Link::Ethernet) {
        Ok(packet) => Is::Flow {
            ends: [
                (address(packet.source), packet.source_port),
                (address(packet.destination), packet.destination_port),
            ],
            protocol: packet.protocol,
            ip_bytes: packet.ip_bytes,
            tcp_flags: packet.tcp_flags,
            opens: packet.opens,
        },
        Err(other) => match other.reason {
            Reason::NotFlowArp => Is::NotFlow(NotFlow::Arp),
            Reason::NotFlowNonIp if is_closed_in_kernel(frame) => return None,
            Reason::NotFlowNonIp => Is::NotFlow(NotFlow::NonIp),
            Reason::NotFlowLaterFragment => Is::NotFlow(NotFlow::LaterFragment),
            Reason::NotFlowIcmpError => Is::NotFlow(NotFlow::IcmpError),
            Reason::NotFlowIcmpOther => Is::NotFlow(NotFlow::IcmpOther),
            // The decoder follows longer chains.
            Reason::LostHeaderChain => return None,
            _ => Is::Lost,
        },
    })
}

/// Asserts that both say the same.
pub fn agree(frame: &[u8]) {
    if let Some(kernel) = kernel(frame) {
        assert_eq!(kernel, decoder(frame), "{frame:02x?}");
    }
}
