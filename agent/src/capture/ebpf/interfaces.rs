//! Which interfaces are watched, and what their frames begin with.
//!
//! By default those with a default route, since that is where an instance meets the network.
//! `lo` and veth ends only when named: on a host with containers they show the same packets
//! again. All questions are asked in the network namespace of the calling thread.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// What the frames of an interface begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::capture) enum LinkHeader {
    /// An Ethernet header.
    Ethernet,
    /// The IP header.
    None,
}

/// An interface's index, 0 when there is none of this name.
pub(in crate::capture) fn index(name: &str) -> u32 {
    let Ok(name) = std::ffi::CString::new(name) else {
        return 0;
    };
    // SAFETY: `name` is a string that ends with a zero and lives through the call.
    unsafe { libc::if_nametoindex(name.as_ptr()) }
}

/// Interfaces that have a default route of either family, without `lo` and veth ends.
pub(in crate::capture) fn with_default_route() -> io::Result<BTreeSet<String>> {
    // Not /proc/net: that is the namespace of the process's first thread.
    let ipv4 = fs::read_to_string("/proc/thread-self/net/route")?;
    // Not there when IPv6 is switched off.
    let ipv6 = fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap_or_default();
    let mut names = BTreeSet::new();
    for name in default_routes_v4(&ipv4).chain(default_routes_v6(&ipv6)) {
        if name != "lo" && driver(name).as_deref() != Some("veth") {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

/// Lines of `/proc/net/route`: interface, destination, gateway, flags, …, mask (8th), ….
fn default_routes_v4(table: &str) -> impl Iterator<Item = &str> {
    table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_default = fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000");
        is_default.then(|| fields[0])
    })
}

/// Lines of `/proc/net/ipv6_route`: destination, its prefix, source, its prefix, next hop,
/// metric, references, uses, flags, interface. Flag 0x200 is a route that rejects.
fn default_routes_v6(table: &str) -> impl Iterator<Item = &str> {
    table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (prefix, flags, name) = (fields.get(1)?, fields.get(8)?, fields.get(9)?);
        let rejects = u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & 0x200 != 0);
        let is_default = *prefix == "00" && fields[0].bytes().all(|digit| digit == b'0');
        (is_default && !rejects).then_some(*name)
    })
}

/// Raw IP, as modems have it, and GRE over IPv6; libc does not name them.
const ARPHRD_RAWIP: u16 = 519;
const ARPHRD_IP6GRE: u16 = 823;

/// What an interface's frames begin with, or in words why it cannot be watched.
pub(in crate::capture) fn link_header(name: &str) -> Result<LinkHeader, String> {
    header_of(hardware(name).map_err(|error| error.to_string())?)
}

/// What frames of a link type begin with, by its number in include/uapi/linux/if_arp.h.
///
/// Devices without a header of their own show the IP header first, both ways, since Linux 5.14;
/// before, what came in by SIT or GRE began with what had carried it ("net: reset MAC header
/// consistently across L3 virtual devices").
pub(in crate::capture) fn header_of(link_type: u16) -> Result<LinkHeader, String> {
    match link_type {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Ok(LinkHeader::Ethernet),
        libc::ARPHRD_NONE
        | ARPHRD_RAWIP
        | libc::ARPHRD_PPP
        | libc::ARPHRD_TUNNEL
        | libc::ARPHRD_TUNNEL6
        | libc::ARPHRD_SIT
        | libc::ARPHRD_IPGRE
        | ARPHRD_IP6GRE => Ok(LinkHeader::None),
        other => Err(format!("its link type {other} is not one we read")),
    }
}

fn hardware(name: &str) -> io::Result<u16> {
    let mut request = request(name)?;
    let socket = socket()?;
    // SAFETY: the request is a whole ifreq with a name that ends with a zero; the call fills in
    // `ifr_hwaddr`, the member that is read then.
    unsafe {
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR, &raw mut request) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(request.ifr_ifru.ifru_hwaddr.sa_family)
    }
}

/// The name of the driver behind an interface; `None` where it has none to tell.
fn driver(name: &str) -> Option<String> {
    /// `ETHTOOL_GDRVINFO` of include/uapi/linux/ethtool.h.
    const DRIVER_INFO: u32 = 3;
    /// `struct ethtool_drvinfo`: command, driver, and texts we do not read; 196 bytes in all.
    #[repr(C)]
    struct DriverInfo {
        command: u32,
        driver: [u8; 32],
        rest: [u8; 160],
    }
    let mut info = DriverInfo {
        command: DRIVER_INFO,
        driver: [0; 32],
        rest: [0; 160],
    };
    let mut request = request(name).ok()?;
    let socket = socket().ok()?;
    request.ifr_ifru.ifru_data = (&raw mut info).cast();
    // SAFETY: the request points to a whole ethtool_drvinfo that outlives the call, which writes
    // no more than that.
    let error = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    let name = info.driver.split(|byte| *byte == 0).next()?;
    (error == 0).then(|| String::from_utf8_lossy(name).into_owned())
}

fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: ifreq is integers, byte arrays and pointers, all of which may be zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::other("its name is too long"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    Ok(request)
}

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers only; the descriptor it gives is ours alone.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(socket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_route_is_told_from_others() {
        let table = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
ens5\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0
ens6\t0000000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0
";
        assert_eq!(default_routes_v4(table).collect::<Vec<_>>(), ["ens5"]);
        let zero = "0".repeat(32);
        let table = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 ens7\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\n\
             fe800000000000000000000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001 ens8\n"
        );
        assert_eq!(default_routes_v6(&table).collect::<Vec<_>>(), ["ens7"]);
        assert_eq!(default_routes_v6("nonsense\n\n").count(), 0);
    }

    #[test]
    fn link_types_with_a_header_without_and_others() {
        for link_type in [1, 772] {
            assert_eq!(
                header_of(link_type),
                Ok(LinkHeader::Ethernet),
                "{link_type}"
            );
        }
        // rawip, ppp, ipip, ip6tnl, sit, gre, ip6gre, tun.
        for link_type in [519, 512, 768, 769, 776, 778, 823, 65534] {
            assert_eq!(header_of(link_type), Ok(LinkHeader::None), "{link_type}");
        }
        // ieee1394, infiniband, wireless with a radio header, a netlink monitor.
        for link_type in [24, 32, 803, 824] {
            let refused = header_of(link_type).unwrap_err();
            assert!(refused.contains(&link_type.to_string()), "{refused}");
        }
    }

    #[test]
    fn loopback_has_an_ethernet_header_and_no_driver_of_ours() {
        assert_ne!(index("lo"), 0);
        assert_eq!(link_header("lo"), Ok(LinkHeader::Ethernet));
        assert_ne!(driver("lo").as_deref(), Some("veth"));
        assert_eq!(index("no such interface"), 0);
        assert!(link_header("pk-none").is_err());
        assert!(link_header("a name far longer than one may be").is_err());
    }
}
