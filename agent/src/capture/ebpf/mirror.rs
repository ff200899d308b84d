//! The target of a mirror: what is inside the tunnels that mirrored traffic comes in.
//!
//! AWS VPC traffic mirroring sends a copy of each packet as VXLAN, UDP port 4789, with the session's
//! VNI, to an interface of the sensor's host. There a second program, `mirror_in`, hangs beside the
//! one that counts the wire, and tells of the inner packets, each flow with its tunnel. Whose they
//! are is the inner addresses' affair: none is this host's, so every one may be the resource.
//!
//! Off by default. On a Kubernetes node with an overlay (VXLAN on the node's interface) it is not the
//! way to see pods: their packets would be told with the overlay's tunnel and the node's name. Name
//! the overlay's device or the bridge under `interfaces` instead, where the same packets pass bare
//! and with their processes. What nobody looks into is counted as the outer flow it is.
//!
//! Whoever can send a datagram to port 4789 of a mirror's target can make packets up: VXLAN has no
//! signature. A security group that lets in mirror sources alone, and a list of VNIs, keep that small.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aya::Ebpf;
use aya::maps::MapData;
use aya::programs::TcAttachType;
use aya::programs::tc::TcHandle;
use picket_abi::tunnel::{PROBES, TUNNELS, entry, kind, of_entry, place};
use picket_sense::decode::{Tunnel, TunnelKind};

use super::CaptureError;
use super::attach::{Attached, Hanger, Hanging, PRIORITY, Place, hook};
use super::interfaces::{LinkHeader, link_header};
use super::mapped::{Access, Mapped};

/// Our filter's place on clsact, behind the one that counts the wire.
pub(super) const PLACE: Place = Place {
    name: "mirror",
    priority: PRIORITY + 1,
    handle: TcHandle::new(0x7069, 0x6d69),
};

/// That the host is a mirror's target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mirror {
    /// VNIs of the VXLAN sessions that are looked into; with none, every tunnel is.
    pub vnis: Vec<u32>,
}

/// Most VNIs in a list: a quarter of the table, so that each finds its place. A hosted mirror target
/// takes far fewer.
pub const VNIS_MAX: usize = TUNNELS as usize / 4;

/// Entries of the kernel's table of tunnels.
pub(super) const fn entries(mirror: Option<&Mirror>) -> u32 {
    if mirror.is_some() { TUNNELS } else { 1 }
}

/// Whether the kernel side lets in tunnels that are not in the table.
pub(super) fn is_open(mirror: Option<&Mirror>) -> bool {
    mirror.is_some_and(|mirror| mirror.vnis.is_empty())
}

/// What marks mean: the kernel's table of tunnels, mapped. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Tunnels(Option<Arc<Mapped>>);

impl Tunnels {
    /// Maps the table and writes the listed tunnels into it.
    pub(super) fn new(table: &MapData, mirror: Option<&Mirror>) -> Result<Self, CaptureError> {
        let Some(mirror) = mirror else {
            return Ok(Self(None));
        };
        let bytes = TUNNELS as usize * size_of::<u64>();
        let mapped =
            Mapped::new(table.fd().as_fd(), 0, bytes, Access::Write).map_err(|source| {
                CaptureError::Memory {
                    name: "TUNNELS",
                    source,
                }
            })?;
        for vni in &mirror.vnis {
            let entry = entry(kind::VXLAN, *vni);
            let places = (0..PROBES).map(|probe| (place(entry) + probe) & (TUNNELS - 1));
            let mut words = places.filter_map(|place| mapped.words().get(place as usize));
            let free = words.find(|word| [0, entry].contains(&word.load(Ordering::Relaxed)));
            let Some(free) = free else {
                return Err(CaptureError::Tunnel { vni: *vni });
            };
            free.store(entry, Ordering::Relaxed);
        }
        Ok(Self(Some(Arc::new(mapped))))
    }

    /// The table that a process before left, if it was a mirror's target.
    pub(super) fn left(table: &MapData) -> Result<Self, CaptureError> {
        let name = "TUNNELS";
        let info = table.info().map_err(|source| CaptureError::Map {
            name,
            source: Box::new(source),
        })?;
        if info.max_entries() < TUNNELS {
            return Ok(Self(None));
        }
        let bytes = TUNNELS as usize * size_of::<u64>();
        let mapped = Mapped::new(table.fd().as_fd(), 0, bytes, Access::Read)
            .map_err(|source| CaptureError::Memory { name, source })?;
        Ok(Self(Some(Arc::new(mapped))))
    }

    /// The tunnel that a mark stands for.
    pub(super) fn of(&self, mark: u32) -> Option<Tunnel> {
        let at = mark.checked_sub(1)? as usize;
        let word = self.0.as_ref()?.words().get(at)?.load(Ordering::Relaxed);
        let (number, id) = of_entry(word);
        let kind = match number {
            kind::VXLAN => TunnelKind::Vxlan,
            kind::GENEVE => TunnelKind::Geneve,
            kind::GRE => TunnelKind::Gre,
            kind::ERSPAN => TunnelKind::Erspan,
            _ => return None,
        };
        Some(Tunnel::new(kind, id))
    }
}

/// The second program on one interface.
#[derive(Debug)]
pub(super) struct Looking {
    index: u32,
    hanging: Hanging,
}

impl Looking {
    /// Its hook, as pins name it.
    pub(super) const fn hook(&self) -> (u32, &'static str) {
        (self.index, PLACE.name)
    }
}

/// Hangs the second program on each interface that is watched and has Ethernet headers, and lets go
/// of those that have gone.
pub(super) fn follow(
    ebpf: &mut Ebpf,
    hanger: &Hanger,
    attached: &[Attached],
    looking: &mut Vec<Looking>,
) -> Result<(), CaptureError> {
    let gone = |one: &mut Looking| !attached.iter().any(|other| other.index == one.index);
    for one in looking.extract_if(.., gone) {
        one.hanging.let_go();
    }
    for one in attached {
        let has = looking.iter().any(|other| other.index == one.index);
        if has || link_header(&one.name) != Ok(LinkHeader::Ethernet) {
            continue;
        }
        looking.push(Looking {
            index: one.index,
            hanging: look_into(ebpf, hanger, &one.name)?,
        });
    }
    Ok(())
}

fn look_into(ebpf: &mut Ebpf, hanger: &Hanger, name: &str) -> Result<Hanging, CaptureError> {
    let hung = hook(
        ebpf,
        hanger,
        name,
        "mirror_in",
        TcAttachType::Ingress,
        PLACE,
    )?;
    Ok(hung.hanging)
}
