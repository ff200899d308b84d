//! Attaching to interfaces: by tcx link where the kernel has it, else by a filter on clsact.
//!
//! Neither touches what others attached. A tcx link goes to the head, so that we see packets
//! before a program that takes them away. The clsact filter has a priority and handle of its own, by
//! which one that an earlier process left is found; the qdisc is added where it is missing and never
//! deleted.
//!
//! Where there are pins, links and filters stay when the process ends, and the next one puts its
//! program in the place of ours: no packet passes between the two.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact,
};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};

use super::CaptureError;
use super::held;
use super::interfaces::{LinkHeader, index, link_header};
use super::pins::{Pins, pin};
use super::{loopback, mirror};
use crate::capture::links;

/// How the programs hang on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rung {
    /// By tcx link, Linux 6.6 and later.
    Tcx,
    /// By a filter on the clsact qdisc.
    Clsact,
}

impl Rung {
    /// Its name in summaries.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// Our filter's priority on clsact: early, as a sensor wants to see what others drop, with room
/// before it for those who must be first. Chosen by hand.
pub const PRIORITY: u16 = 49;
/// Our filter's handle on clsact; any number that nobody else is likely to choose.
pub const HANDLE: TcHandle = TcHandle::new(0x7069, 0x636b);

/// Where one of our programs hangs on an interface.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// What its link is called among the pins; a tcx link goes to the head.
    pub(super) name: &'static str,
    /// Of its filter on clsact.
    pub(super) priority: u16,
    /// Of its filter on clsact.
    pub(super) handle: TcHandle,
}

/// Where the programs that count hang, by direction.
const COUNTING: [Place; 2] = [counting("in"), counting("out")];

const fn counting(name: &'static str) -> Place {
    Place {
        name,
        priority: PRIORITY,
        handle: HANDLE,
    }
}

/// How programs are hung, and whether they stay when the process ends.
#[derive(Debug)]
pub(super) struct Hanger {
    pub(super) rung: Rung,
    pub(super) pins: Option<Pins>,
}

impl Hanger {
    /// Takes off what earlier processes left by a rung.
    pub(super) fn drop_all(&self, rung: Rung) {
        self.drop_but(rung, &[]);
    }

    /// Takes off what earlier processes left by our rung where none of `held` is.
    pub(super) fn drop_others(&self, held: &[(u32, &'static str)]) {
        self.drop_but(self.rung, held);
    }

    fn drop_but(&self, rung: Rung, held: &[(u32, &'static str)]) {
        // Without pins of our own, what is there may be a running agent's.
        let Some(pins) = &self.pins else { return };
        match rung {
            Rung::Tcx => pins.drop_links_but(held),
            Rung::Clsact => drop_filters_but(held),
        }
    }

    /// Where the link at a place on an interface is pinned, if it is.
    fn pin(&self, interface: u32, place: Place) -> Option<PathBuf> {
        let pins = self.pins.as_ref().filter(|_| self.rung == Rung::Tcx)?;
        Some(pins.link(interface, place.name))
    }
}

/// What holds a program on an interface.
#[derive(Debug)]
pub(super) enum Hanging {
    /// Ends with this value.
    Ours { _link: SchedClassifierLink },
    /// A tcx link that ends when its pin is removed.
    Pinned(PinnedLink),
    /// A filter that ends when it is taken off.
    Staying(ManuallyDrop<SchedClassifierLink>),
}

impl Hanging {
    /// Takes the program off. What cannot be taken off is gone with its interface.
    pub(super) fn let_go(self) {
        match self {
            Self::Ours { .. } => {}
            Self::Pinned(link) => drop(link.unpin()),
            Self::Staying(link) => drop(ManuallyDrop::into_inner(link)),
        }
    }
}

/// An interface with our programs on it.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) name: String,
    pub(super) index: u32,
    /// Programs by direction: in, out.
    pub(super) programs: [&'static str; 2],
    hanging: [Option<Hanging>; 2],
    ids: [u32; 2],
    replaced: [Option<u32>; 2],
}

/// The directions of an interface, as places in [`Attached`], and their names in summaries.
pub(super) const DIRECTIONS: [(&str, TcAttachType); 2] =
    [("in", TcAttachType::Ingress), ("out", TcAttachType::Egress)];

impl Attached {
    /// Whether our program is still on a direction. If the kernel does not say, it is.
    pub(super) fn is_held(&self, rung: Rung, direction: usize) -> bool {
        let kind = DIRECTIONS[direction].1;
        let (place, id) = (COUNTING[direction], self.ids[direction]);
        held::holds(rung, self.index, kind, place, id).unwrap_or_else(|error| {
            tracing::debug!(interface = self.name, %error, "attachment not known");
            true
        })
    }

    /// Attaches a direction anew that was found without our program.
    pub(super) fn attach_again(
        &mut self,
        ebpf: &mut Ebpf,
        hanger: &Hanger,
        direction: usize,
    ) -> Result<(), CaptureError> {
        // The old one first: on clsact it would take the new one's place with it.
        if let Some(hanging) = self.hanging[direction].take() {
            hanging.let_go();
        }
        let program = self.programs[direction];
        let (way, place) = (DIRECTIONS[direction].1, COUNTING[direction]);
        let hung = hook(ebpf, hanger, &self.name, program, way, place)?;
        self.hanging[direction] = Some(hung.hanging);
        self.ids[direction] = hung.id;
        Ok(())
    }

    /// The interface's index with each of our programs on it, by id.
    pub(super) fn programs_on(&self) -> [(u32, u32); 2] {
        self.ids.map(|id| (self.index, id))
    }

    /// The interface's index with each program that ours took the place of, by id.
    pub(super) fn replaced_on(&self) -> impl Iterator<Item = (u32, u32)> {
        let replaced = self.replaced.into_iter().flatten();
        replaced.map(|id| (self.index, id))
    }

    /// Takes our programs off.
    pub(super) fn let_go(self) {
        self.hanging.into_iter().flatten().for_each(Hanging::let_go);
    }

    /// Its hooks, as pins name them.
    pub(super) fn hooks(&self) -> [(u32, &'static str); 2] {
        COUNTING.map(|place| (self.index, place.name))
    }
}

/// Attaches both directions of an interface.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    hanger: &Hanger,
    name: &str,
) -> Result<Attached, CaptureError> {
    let refused = |reason: String| CaptureError::Interface {
        name: name.to_owned(),
        reason,
    };
    let index = index(name);
    if index == 0 {
        return Err(refused("there is none of this name".to_owned()));
    }
    let programs = match link_header(name).map_err(refused)? {
        LinkHeader::Ethernet => ["ether_in", "ether_out"],
        LinkHeader::None => ["ip_in", "ip_out"],
    };
    let [ingress, egress] = [0, 1].map(|direction| {
        let (program, way) = (programs[direction], DIRECTIONS[direction].1);
        hook(ebpf, hanger, name, program, way, COUNTING[direction])
    });
    let (ingress, egress) = (ingress?, egress?);
    Ok(Attached {
        name: name.to_owned(),
        index,
        programs,
        replaced: [ingress.replaced, egress.replaced],
        ids: [ingress.id, egress.id],
        hanging: [Some(ingress.hanging), Some(egress.hanging)],
    })
}

/// A program that was put on an interface.
#[derive(Debug)]
pub(super) struct Hung {
    /// What holds it.
    pub(super) hanging: Hanging,
    /// Its id.
    pub(super) id: u32,
    /// The id of the program it took the place of, with no packet between the two.
    replaced: Option<u32>,
}

/// Puts a program on one direction of an interface.
pub(super) fn hook(
    ebpf: &mut Ebpf,
    hanger: &Hanger,
    name: &str,
    program: &str,
    direction: TcAttachType,
    place: Place,
) -> Result<Hung, CaptureError> {
    let refused = |reason: String| CaptureError::Interface {
        name: name.to_owned(),
        reason,
    };
    let by = hanger.rung.name();
    let not_attached = |error| refused(format!("the kernel refuses to attach by {by}: {error}"));
    let program = loaded(ebpf, program)?;
    let (hanging, replaced) = match hanger.rung {
        Rung::Tcx => {
            let pin = hanger.pin(index(name), place);
            by_link(program, name, direction, pin.as_deref()).map_err(not_attached)?
        }
        Rung::Clsact => {
            if let Err(error) = qdisc_add_clsact(name)
                && !already_there(&error)
            {
                let why = format!("its clsact qdisc cannot be added: {error}");
                return Err(refused(why));
            }
            let (link, replaced) =
                by_filter(program, name, direction, place).map_err(not_attached)?;
            let hanging = match hanger.pins {
                Some(_) => Hanging::Staying(ManuallyDrop::new(link)),
                None => Hanging::Ours { _link: link },
            };
            (hanging, replaced)
        }
    };
    let id = program
        .info()
        .map_err(|error| refused(format!("its program has no id: {error}")))?
        .id();
    Ok(Hung {
        hanging,
        id,
        replaced,
    })
}

/// Hangs a program on a tcx link: one that an earlier process left in `place`, if it is there and on
/// this interface, else a new one.
fn by_link(
    program: &mut SchedClassifier,
    name: &str,
    direction: TcAttachType,
    place: Option<&Path>,
) -> Result<(Hanging, Option<u32>), ProgramError> {
    if let Some(place) = place
        && place.exists()
    {
        match take_over(program, name, direction, place) {
            Ok((link, before)) => return Ok((Hanging::Pinned(link), Some(before))),
            Err(why) => {
                tracing::info!(pin = %place.display(), why, "link not taken over");
                drop(std::fs::remove_file(place));
            }
        }
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    let link = program.attach_with_options(name, direction, options)?;
    let link = program.take_link(link)?;
    let Some(place) = place else {
        return Ok((Hanging::Ours { _link: link }, None));
    };
    let link = FdLink::try_from(link).map_err(|_| ProgramError::NotAttached)?;
    Ok((Hanging::Pinned(pin(link, place)?), None))
}

/// Puts a program in the place of the one that a pinned link holds on this interface; gives the id
/// of that one.
fn take_over(
    program: &mut SchedClassifier,
    name: &str,
    direction: TcAttachType,
    pin: &Path,
) -> Result<(PinnedLink, u32), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let link = FdLink::from(PinnedLink::from_pin(pin).map_err(|error| text(&error))?);
    let before = link.info().map_err(|error| text(&error))?.program_id();
    // A link of another namespace's interface, or of one that is gone, may have this name.
    let there = held::by_link(index(name), direction).map_err(|error| text(&error))?;
    if !there.contains(&before) {
        return Err("it is on another interface".to_owned());
    }
    let link = SchedClassifierLink::try_from(link).map_err(|error| text(&error))?;
    let link = program.attach_to_link(link).map_err(|error| text(&error))?;
    // The pin holds it from here on.
    drop(program.take_link(link));
    let link = PinnedLink::from_pin(pin).map_err(|error| text(&error))?;
    Ok((link, before))
}

/// Hangs a program on a filter, in the place of one that an earlier process left there; gives the id
/// of that one.
fn by_filter(
    program: &mut SchedClassifier,
    name: &str,
    direction: TcAttachType,
    place: Place,
) -> Result<(SchedClassifierLink, Option<u32>), ProgramError> {
    let Place {
        priority, handle, ..
    } = place;
    // What the kernel does not tell is not there.
    let before = held::filter(index(name), direction, place).unwrap_or_default();
    let link = if before.is_some()
        && let Ok(left) = SchedClassifierLink::attached(name, direction, priority, handle, None)
    {
        program.attach_to_link(left)?
    } else {
        let options = NlOptions {
            priority,
            handle,
            classid: None,
        };
        program.attach_with_options(name, direction, TcAttachOptions::Netlink(options))?
    };
    Ok((program.take_link(link)?, before))
}

/// Takes off filters that earlier processes left where none of `held` is, which are named like pins.
pub(super) fn drop_filters_but(held: &[(u32, &'static str)]) {
    let ours = [
        (COUNTING[0], DIRECTIONS[0].1),
        (COUNTING[1], DIRECTIONS[1].1),
        (loopback::PLACE, loopback::WAY),
        (mirror::PLACE, TcAttachType::Ingress),
    ];
    let there = links::all().unwrap_or_default();
    for (index, link) in &there {
        for (place, way) in ours {
            let Place {
                name,
                priority,
                handle,
            } = place;
            if !held.contains(&(*index, name))
                && held::filter(*index, way, place).is_ok_and(|left| left.is_some())
            {
                // Takes it off when it is dropped.
                drop(SchedClassifierLink::attached(
                    &link.name, way, priority, handle, None,
                ));
            }
        }
    }
}

/// A program, loaded into the kernel the first time it is asked for.
pub(super) fn loaded<'a>(
    ebpf: &'a mut Ebpf,
    name: &str,
) -> Result<&'a mut SchedClassifier, CaptureError> {
    let failed = |source: ProgramError| CaptureError::Program {
        name: name.to_owned(),
        source: Box::new(source),
    };
    let program: &mut SchedClassifier = ebpf
        .program_mut(name)
        .ok_or(CaptureError::Object("a program is missing"))?
        .try_into()
        .map_err(failed)?;
    match program.load() {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(program),
        Err(error) => Err(failed(error)),
    }
}

/// The rung this kernel has, found by asking it.
pub(super) fn rung_of_kernel(ebpf: &mut Ebpf) -> Result<Rung, CaptureError> {
    let program = loaded(ebpf, "ether_in")?;
    let fd = program.fd().map_err(|source| CaptureError::Program {
        name: "ether_in".to_owned(),
        source: Box::new(source),
    })?;
    Ok(if has_tcx(fd.as_fd()) {
        Rung::Tcx
    } else {
        Rung::Clsact
    })
}

/// Whether the kernel knows tcx links: asked to make one on interface 0, a kernel that does
/// looks for the interface and finds none, one that does not finds the attach type unknown.
pub(super) fn has_tcx(program: BorrowedFd<'_>) -> bool {
    /// `BPF_LINK_CREATE` of `enum bpf_cmd`, `BPF_TCX_INGRESS` of `enum bpf_attach_type`.
    const LINK_CREATE: libc::c_long = 28;
    const TCX_INGRESS: u32 = 46;
    /// The part of `union bpf_attr` that creating a tcx link reads.
    #[repr(C)]
    struct LinkCreate {
        program: i32,
        interface: u32,
        attach_type: u32,
        flags: u32,
        relative: u32,
        zero: u32,
        expected_revision: u64,
    }
    let attributes = LinkCreate {
        program: program.as_raw_fd(),
        interface: 0,
        attach_type: TCX_INGRESS,
        flags: 0,
        relative: 0,
        zero: 0,
        expected_revision: 0,
    };
    // SAFETY: the call reads as many bytes of `attributes` as it is told, which is all of them.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            LINK_CREATE,
            &raw const attributes,
            size_of::<LinkCreate>(),
        )
    };
    answer == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ENODEV)
}

/// Whether an error says that what we add is there already.
fn already_there(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && error.raw_os_error() == Some(libc::EEXIST)
        {
            return true;
        }
        next = error.source();
    }
    false
}
