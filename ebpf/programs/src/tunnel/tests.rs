//! Tunnels made by hand, whole, cut and changed.

use super::*;
use crate::golden::{ethernet, ipv4, tcp, udp};
use crate::parse;
use picket_abi::Plain;

struct Bytes<'a>(&'a [u8]);

impl Frame for Bytes<'_> {
    fn load<T: Plain>(&self, at: u32) -> Option<T> {
        picket_abi::read(self.0.get(at as usize..)?)
    }
    fn bytes(&self) -> u32 {
        self.0.len() as u32
    }
}

fn inside(frame: &[u8]) -> Option<Carried> {
    let frame = Bytes(frame);
    let outer = parse::packet(&frame, Link::Ethernet).ok()?;
    carried(&frame, &outer)
}

/// A segment of eleven bytes, as every tunnel here carries it.
fn packet() -> Vec<u8> {
    ipv4(6, &tcp((1, 2), 0x18, &[7; 11]))
}

fn vxlan(port: u16, flags: u8, vni: [u8; 3]) -> Vec<u8> {
    let header = [flags, 0, 0, 0, vni[0], vni[1], vni[2], 0];
    let body = [&header[..], &ethernet(0x0800, &packet())].concat();
    ethernet(0x0800, &ipv4(17, &udp((50_000, port), &body)))
}

fn geneve(header: [u8; 8], options: usize, body: &[u8]) -> Vec<u8> {
    let body = [&header[..], &vec![0; options], body].concat();
    ethernet(0x0800, &ipv4(17, &udp((50_000, 6081), &body)))
}

fn gre(header: &[u8], body: &[u8]) -> Vec<u8> {
    ethernet(0x0800, &ipv4(47, &[header, body].concat()))
}

#[track_caller]
fn check(frame: &[u8], expected: Option<(u32, u32)>) {
    let found = inside(frame);
    assert_eq!(found.map(|found| (found.kind, found.id)), expected);
    let Some(found) = found else { return };
    let inner = parse::packet_at(&Bytes(frame), found.link, found.at).unwrap();
    assert_eq!(
        (inner.protocol, inner.source_port, inner.destination_port),
        (6, 1, 2)
    );
    assert_eq!((inner.ip_bytes, inner.payload_bytes()), (51, 11));
}

#[test]
fn every_tunnel_tells_its_number_and_what_it_carries() {
    let frame = ethernet(0x0800, &packet());
    check(
        &vxlan(4789, 8, [0x54, 0xf9, 0x11]),
        Some((kind::VXLAN, 0x54_f911)),
    );
    check(&vxlan(8472, 8, [0, 0, 1]), Some((kind::VXLAN, 1)));
    check(
        &geneve([2, 0, 0x65, 0x58, 0, 1, 0, 0], 8, &frame),
        Some((kind::GENEVE, 256)),
    );
    check(
        &geneve([0, 0, 0x08, 0, 0, 0, 9, 0], 0, &packet()),
        Some((kind::GENEVE, 9)),
    );
    check(&gre(&[0, 0, 8, 0], &packet()), Some((kind::GRE, 0)));
    let full = [0xb0, 0, 0x65, 0x58, 9, 9, 0, 0, 0, 0, 1, 2, 0, 0, 0, 7];
    check(&gre(&full, &frame), Some((kind::GRE, 258)));
    check(&gre(&[0, 0, 0x88, 0xbe], &frame), Some((kind::ERSPAN, 0)));
    let second = [
        0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 5, 0xf9, 0x23, 0, 0, 0, 0,
    ];
    check(&gre(&second, &frame), Some((kind::ERSPAN, 0x123)));
}

#[test]
fn what_only_looks_like_a_tunnel_is_left_alone() {
    check(&vxlan(4790, 8, [0; 3]), None);
    check(&vxlan(4789, 0, [0; 3]), None);
    check(
        &geneve([0x40, 0, 0x65, 0x58, 0, 0, 1, 0], 0, &[0; 40]),
        None,
    );
    check(&geneve([0, 0, 0x88, 0x47, 0, 0, 1, 0], 0, &[0; 40]), None);
    // PPTP, source routes, a keepalive.
    check(&gre(&[0x20, 1, 0x88, 0x0b, 0, 0, 0, 0], &[0; 40]), None);
    check(&gre(&[0x40, 0, 8, 0, 0, 0, 0, 0], &packet()), None);
    check(&gre(&[0, 0, 0, 0], &[]), None);
    check(&ethernet(0x0800, &packet()), None);
}

#[test]
fn no_cut_and_no_changed_byte_leads_astray() {
    for frame in [
        vxlan(4789, 8, [0, 0, 1]),
        geneve(
            [2, 0, 0x65, 0x58, 0, 0, 1, 0],
            8,
            &ethernet(0x0800, &packet()),
        ),
        gre(
            &[0xb0, 0, 8, 0, 9, 9, 0, 0, 0, 0, 1, 2, 0, 0, 0, 7],
            &packet(),
        ),
    ] {
        for end in 0..frame.len() {
            sane(&frame[..end]);
        }
        for at in 0..frame.len() {
            for value in [0, 1, 0x3f, 0x80, 0xff] {
                let mut changed = frame.clone();
                changed[at] = value;
                sane(&changed);
            }
        }
    }
}

fn sane(frame: &[u8]) {
    let Some(found) = inside(frame) else { return };
    match parse::packet_at(&Bytes(frame), found.link, found.at) {
        Ok(inner) => {
            assert!(inner.ip_at + inner.ip_bytes <= frame.len() as u32);
            assert!(stated_bytes(&Bytes(frame), &inner) >= inner.ip_bytes);
        }
        Err(not_flow) => assert!(not_flow.bytes <= frame.len() as u32),
    }
}

#[test]
fn a_packet_that_the_mirror_cut_keeps_its_length() {
    let whole = vxlan(4789, 8, [0, 0, 1]);
    let cut = &whole[..whole.len() - 6];
    let found = inside(cut).unwrap();
    let inner = parse::packet_at(&Bytes(cut), found.link, found.at).unwrap();
    assert_eq!(
        (inner.ip_bytes, stated_bytes(&Bytes(cut), &inner)),
        (45, 51)
    );
}
