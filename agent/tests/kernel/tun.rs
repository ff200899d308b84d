//! A tun device of any link type, and packets that come in by it.

use std::io::Write as _;
use std::os::fd::AsRawFd as _;

/// Makes a tun device whose frames are said to be of this link type (include/uapi/linux/if_arp.h).
pub(crate) fn tun(name: &str, link_type: u16) -> std::fs::File {
    let device = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .expect("open /dev/net/tun");
    // SAFETY: ifreq is integers, byte arrays and pointers, all of which may be zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the first call reads one whole ifreq that outlives it, the second takes a number.
    let answers = unsafe {
        [
            libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw const request),
            libc::ioctl(
                device.as_raw_fd(),
                libc::TUNSETLINK,
                libc::c_ulong::from(link_type),
            ),
        ]
    };
    assert_eq!(answers, [0, 0], "{}", std::io::Error::last_os_error());
    device
}

/// Has a packet come in by a tun device.
pub(crate) fn put(mut device: &std::fs::File, packet: &[u8]) {
    device.write_all(packet).expect("write a packet");
}

/// A UDP packet of ten bytes over IPv4, from and to these.
pub(crate) fn udp_packet(from: &str, from_port: u16, to: &str, to_port: u16) -> Vec<u8> {
    let address = |text: &str| {
        text.parse::<std::net::Ipv4Addr>()
            .expect("an address")
            .octets()
    };
    let mut packet = vec![0x45, 0, 0, 38, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(address(from));
    packet.extend(address(to));
    packet.extend(from_port.to_be_bytes());
    packet.extend(to_port.to_be_bytes());
    packet.extend([0, 18, 0, 0]);
    packet.extend([0; 10]);
    packet
}
