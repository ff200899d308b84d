//! The host's own addresses, as its interfaces have them in the calling thread's network namespace.

use std::ffi::c_int;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

use picket_wire::Net;
use picket_wire::limits::LOCAL_NETS_MAX;

/// Addresses of every interface but loopback ones, sorted, each once, at most
/// [`LOCAL_NETS_MAX`].
///
/// # Errors
/// The system does not tell them.
pub fn of_host() -> io::Result<Vec<Net>> {
    let mut first: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: the call writes one pointer, to a list that is freed below.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = Vec::new();
    let mut next = first;
    while !next.is_null() {
        // SAFETY: `next` is not null, so it is an entry of the list, which is freed only below.
        let entry = unsafe { &*next };
        // SAFETY: the address of an entry is null or a sockaddr of the size of its family.
        addresses.extend(unsafe { address_of(entry.ifa_addr) });
        next = entry.ifa_next;
    }
    // SAFETY: `first` came from getifaddrs and is not used after this.
    unsafe { libc::freeifaddrs(first) };
    addresses.retain(|address| !address.is_loopback());
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(LOCAL_NETS_MAX);
    let whole = |address: IpAddr| Net {
        address,
        prefix: if address.is_ipv4() { 32 } else { 128 },
    };
    Ok(addresses.into_iter().map(whole).collect())
}

/// # Safety
/// `address` is null, or points to a sockaddr that is as large as its family says.
unsafe fn address_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: not null, and by contract at least a sockaddr.
    let family = unsafe { (*address).sa_family };
    match c_int::from(family) {
        libc::AF_INET => {
            // SAFETY: the family says that a sockaddr_in stands here; it may stand unaligned.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from_bits(u32::from_be(v4.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that a sockaddr_in6 stands here; it may stand unaligned.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(IpAddr::from(Ipv6Addr::from(v6.sin6_addr.s6_addr)).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_has_addresses_and_none_is_loopback() {
        let all = of_host().unwrap();
        assert!(all.iter().all(|net| !net.address.is_loopback()));
        assert!(all.is_sorted_by_key(|net| net.address));
    }
}
