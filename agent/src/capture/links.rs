//! How the host's interfaces lie on one another, as the kernel tells it: which is a VLAN of which,
//! which are members of a bond or ports of a bridge.
//!
//! Asked for the network namespace of the calling thread; /sys would show that of whoever mounted
//! it.

use std::collections::BTreeMap;
use std::io;

use super::netlink::{HEADER_BYTES, Route, attribute, bytes};

/// Bytes of `struct ifinfomsg`: family, padding, link type, index, flags, mask.
const INFO_BYTES: usize = 16;

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Link {
    /// Its name.
    pub(super) name: String,
    /// The kind of virtual device it is, such as `vlan` or `bridge`; empty for hardware.
    pub(super) kind: String,
    /// The interface it lies on, by index, where that is in the same namespace.
    pub(super) below: Option<u32>,
    /// The bond, bridge or the like that it belongs to, by index.
    pub(super) master: Option<u32>,
}

/// All interfaces, by index.
pub(super) fn all() -> io::Result<BTreeMap<u32, Link>> {
    let mut links = BTreeMap::new();
    Route::open()?.ask_for_all(&request(), |message| {
        if let Some((index, link)) = read(message) {
            links.insert(index, link);
        }
    })?;
    Ok(links)
}

/// Asks for all links: a netlink header and a `struct ifinfomsg` of zeros.
fn request() -> Vec<u8> {
    /// `NLM_F_REQUEST | NLM_F_DUMP` of include/uapi/linux/netlink.h.
    const DUMP: u16 = 0x1 | 0x300;
    let mut message = ((HEADER_BYTES + INFO_BYTES) as u32).to_ne_bytes().to_vec();
    message.extend(libc::RTM_GETLINK.to_ne_bytes());
    message.extend(DUMP.to_ne_bytes());
    message.resize(HEADER_BYTES + INFO_BYTES, 0);
    message
}

/// Reads a `RTM_NEWLINK`; `None` for anything else and for what is damaged.
fn read(message: &[u8]) -> Option<(u32, Link)> {
    // IFLA_IFNAME, _LINK, _MASTER, _LINKINFO, _LINK_NETNSID of include/uapi/linux/if_link.h, and
    // IFLA_INFO_KIND within the fourth.
    const NAME: u16 = 3;
    const BELOW: u16 = 5;
    const MASTER: u16 = 10;
    const INFO: u16 = 18;
    const BELOW_NAMESPACE: u16 = 37;
    const INFO_KIND: u16 = 1;
    if u16::from_ne_bytes(bytes(message, 4)?) != libc::RTM_NEWLINK {
        return None;
    }
    let index = u32::from_ne_bytes(bytes(message, HEADER_BYTES + 4)?);
    let row = message.get(HEADER_BYTES + INFO_BYTES..)?;
    let number = |kind| Some(u32::from_ne_bytes(bytes(attribute(row, kind)?, 0)?));
    let kind = attribute(row, INFO).and_then(|info| attribute(info, INFO_KIND));
    let elsewhere = attribute(row, BELOW_NAMESPACE).is_some();
    Some((
        index,
        Link {
            name: text(attribute(row, NAME)?),
            kind: kind.map(text).unwrap_or_default(),
            below: number(BELOW).filter(|below| !elsewhere && *below != 0 && *below != index),
            master: number(MASTER),
        },
    ))
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    let text = bytes.get(..end.unwrap_or(bytes.len()));
    String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::netlink::tests::{message, one};
    use super::*;

    #[test]
    fn a_link_is_read_and_a_damaged_one_is_not() {
        let mut body = vec![0; INFO_BYTES];
        body[4..8].copy_from_slice(&7u32.to_ne_bytes());
        body.extend(one(3, b"eth0.5\0"));
        body.extend(one(5, &2u32.to_ne_bytes()));
        body.extend(one(10, &9u32.to_ne_bytes()));
        body.extend(one(18, &one(1, b"vlan\0")));
        let told = message(libc::RTM_NEWLINK, &body);
        let link = Link {
            name: "eth0.5".into(),
            kind: "vlan".into(),
            below: Some(2),
            master: Some(9),
        };
        assert_eq!(read(&told), Some((7, link.clone())));
        for cut in 0..told.len() {
            drop(read(&told[..cut]));
        }
        // What it lies on is in another namespace, where the number means another.
        body.extend(one(37, &0u32.to_ne_bytes()));
        let told = message(libc::RTM_NEWLINK, &body);
        let link = Link {
            below: None,
            ..link
        };
        assert_eq!(read(&told), Some((7, link)));
        assert_eq!(read(&message(libc::RTM_DELLINK, &body)), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn loopback_is_told() {
        let links = all().unwrap();
        assert!(links.values().any(|link| link.name == "lo"), "{links:?}");
    }
}
