//! What a conversation tells about its two ends, and whose host an address is.

use std::net::IpAddr;

use picket_wire::{Conversation, Digest, Host as Speaker, Opened};

use crate::finding::Resource;

const TCP: u8 = 6;
const FLAG_SYN: u8 = 0x02;
const FLAG_RST: u8 = 0x04;
const FLAG_PSH: u8 = 0x08;
const FLAG_ACK: u8 = 0x10;

/// Says whether the server took part: it accepted, or it sent data or acknowledgements and not just
/// a refusal.
pub(crate) fn is_answered(conversation: &Conversation) -> bool {
    if conversation.protocol != TCP {
        return conversation.packets_in > 0;
    }
    let flags = conversation.flags_in;
    conversation.accepted > 0
        || flags & FLAG_PSH != 0
        || flags & (FLAG_SYN | FLAG_ACK) != 0 && flags & FLAG_RST == 0
}

/// Says whether the client asked and the server did not take part: it refused or was silent.
///
/// Of TCP the opening packet must have been seen, so that stray answers to somebody else's forged
/// questions are not taken for questions; or a packet with none of SYN, ACK and RST, which no stack
/// sends and scanners do. A client that acknowledges was answered, seen or not.
pub(crate) fn is_unanswered(conversation: &Conversation) -> bool {
    let asked = if conversation.protocol == TCP {
        let flags = conversation.flags_out;
        let opens = conversation.opened == Opened::Seen && conversation.attempts > 0;
        let is_odd = flags & (FLAG_SYN | FLAG_ACK | FLAG_RST) == 0 && conversation.packets_out > 0;
        opens && flags & FLAG_ACK == 0 || is_odd
    } else {
        conversation.opened != Opened::Unknown && conversation.packets_out > 0
    };
    asked && !is_answered(conversation)
}

/// Names the host that speaks in a summary, for tables keyed by host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SpeakerKey([u8; 16]);

impl SpeakerKey {
    pub(crate) fn of(host: &Speaker) -> Self {
        Self::named(&[&*host.account, &*host.region, &*host.instance])
    }

    /// Names the account and region that it is in, for what many hosts tell together.
    pub(crate) fn of_account(host: &Speaker) -> Self {
        Self::named(&[&*host.account, &*host.region])
    }

    fn named(parts: &[&str]) -> Self {
        let mut key = [0; 16];
        key.copy_from_slice(&Digest::of(parts.join("\n").as_bytes()).0[..16]);
        Self(key)
    }
}

/// A host that a finding is about.
#[derive(Debug, Clone)]
pub(crate) struct Whose {
    /// Its part of the finding's id: the instance where the sensor runs on it, else the address.
    pub(crate) subject: String,
    pub(crate) resource: Resource,
}

/// Whose host `address` is, as `speaker` sees it: its own, or one whose traffic passes it.
pub(crate) fn whose(speaker: &Speaker, address: IpAddr) -> Whose {
    let subject = if is_own(speaker, address) {
        speaker.instance.clone()
    } else {
        address.to_canonical().to_string()
    };
    Whose {
        resource: Resource::instance(subject.clone(), Some(address)),
        subject,
    }
}

/// Says whether `address` belongs to networks that the Internet does not reach: private, shared by a carrier,
/// of this link or host.
pub(crate) const fn is_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private()
                || v4.is_link_local()
                || v4.is_loopback()
                || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

/// Says whether `address` is the speaker's own. A mirror has none.
pub(crate) fn is_own(speaker: &Speaker, address: IpAddr) -> bool {
    speaker.local.iter().any(|net| net.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{conversation, mirror, speaker, unanswered};

    #[test]
    fn answers_are_told_from_refusals_and_silence() {
        let check = |accepted, flags_in, packets_in, is_one, is_other| {
            let mut c = unanswered("10.0.0.1", "192.0.2.1", 80);
            (c.accepted, c.flags_in, c.packets_in) = (accepted, flags_in, packets_in);
            let got = (is_answered(&c), is_unanswered(&c));
            assert_eq!(got, (is_one, is_other), "{accepted} {flags_in:#x}");
        };
        check(1, FLAG_SYN | FLAG_ACK, 1, true, false);
        check(1, FLAG_SYN | FLAG_ACK | FLAG_RST, 2, true, false);
        check(0, FLAG_ACK | FLAG_PSH, 3, true, false);
        check(0, FLAG_RST | FLAG_ACK, 1, false, true);
        check(0, FLAG_RST, 1, false, true);
        check(0, 0, 0, false, true);
    }

    #[test]
    fn stray_answers_are_no_questions() {
        let mut c = unanswered("10.0.0.1", "192.0.2.1", 80);
        (c.attempts, c.flags_out, c.flags_in) = (0, FLAG_SYN | FLAG_ACK, FLAG_RST);
        assert!(!is_unanswered(&c));
        c.attempts = 1;
        c.opened = Opened::Guessed;
        assert!(!is_unanswered(&c));
    }

    #[test]
    fn packets_that_no_stack_sends_are_questions() {
        let check = |flags, expected| {
            let mut c = unanswered("10.0.0.1", "192.0.2.1", 80);
            (c.attempts, c.opened, c.flags_out) = (0, Opened::Guessed, flags);
            assert_eq!(is_unanswered(&c), expected, "{flags:#x}");
        };
        check(0, true);
        check(0x01, true);
        check(0x29, true);
        check(FLAG_ACK, false);
        check(FLAG_RST, false);
        check(FLAG_SYN | FLAG_ACK, false);
    }

    #[test]
    fn a_client_that_acknowledges_was_answered_out_of_sight() {
        let mut c = unanswered("10.0.0.1", "192.0.2.1", 80);
        assert!(is_unanswered(&c));
        c.flags_out |= FLAG_ACK;
        assert!(!is_unanswered(&c));
    }

    #[test]
    fn a_datagram_is_answered_by_any() {
        let mut c = conversation("10.0.0.1", "192.0.2.1", 161);
        (c.protocol, c.attempts, c.accepted) = (17, 0, 0);
        (c.packets_out, c.packets_in) = (1, 0);
        assert!(is_unanswered(&c) && !is_answered(&c));
        c.packets_in = 1;
        assert!(!is_unanswered(&c) && is_answered(&c));
    }

    #[test]
    fn the_sensors_own_host_goes_by_its_instance_and_others_by_their_address() {
        let address = "10.0.0.1".parse().unwrap();
        assert_eq!(whose(&speaker(), address).subject, "i-0aaaaaaaaaaaaaaaa");
        assert_eq!(whose(&mirror(), address).subject, "10.0.0.1");
        let other = "10.0.9.9".parse().unwrap();
        assert_eq!(whose(&speaker(), other).subject, "10.0.9.9");
    }
}
