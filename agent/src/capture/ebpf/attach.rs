//! Attaching to interfaces: by tcx link where the kernel has it, else by a filter on clsact.
//!
//! Neither touches what others attached. A tcx link goes to the head, so that we see packets
//! before a program that takes them away; it ends with the process that holds it. The clsact
//! filter has a priority and handle of its own, by which one that an earlier process left is
//! replaced; the qdisc is added where it is missing and never deleted.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use aya::Ebpf;
use aya::programs::links::LinkOrder;
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact,
};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};

use super::CaptureError;
use super::held;
use super::interfaces::{LinkHeader, index, link_header};

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

/// Where one of our filters hangs on clsact; a tcx link goes to the head.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) priority: u16,
    pub(super) handle: TcHandle,
}

/// Where the programs that count hang.
const COUNTING: Place = Place {
    priority: PRIORITY,
    handle: HANDLE,
};

/// An interface with our programs on it; they leave with this value.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) name: String,
    pub(super) index: u32,
    /// Programs by direction: in, out.
    pub(super) programs: [&'static str; 2],
    links: [Option<SchedClassifierLink>; 2],
    ids: [u32; 2],
}

/// The directions of an interface, as places in [`Attached`], and their names in summaries.
pub(super) const DIRECTIONS: [(&str, TcAttachType); 2] =
    [("in", TcAttachType::Ingress), ("out", TcAttachType::Egress)];

impl Attached {
    /// Whether our program is still on a direction. If the kernel does not say, it is.
    pub(super) fn is_held(&self, rung: Rung, direction: usize) -> bool {
        let kind = DIRECTIONS[direction].1;
        held::holds(rung, self.index, kind, self.ids[direction]).unwrap_or_else(|error| {
            tracing::debug!(interface = self.name, %error, "attachment not known");
            true
        })
    }

    /// Attaches a direction anew that was found without our program.
    pub(super) fn attach_again(
        &mut self,
        ebpf: &mut Ebpf,
        rung: Rung,
        direction: usize,
    ) -> Result<(), CaptureError> {
        // The old one first: on clsact it would take the new one's place with it.
        self.links[direction] = None;
        let program = self.programs[direction];
        let (link, id) = hook(
            ebpf,
            rung,
            &self.name,
            program,
            DIRECTIONS[direction].1,
            COUNTING,
        )?;
        self.links[direction] = Some(link);
        self.ids[direction] = id;
        Ok(())
    }
}

/// Attaches both directions of an interface.
pub(super) fn attach(ebpf: &mut Ebpf, rung: Rung, name: &str) -> Result<Attached, CaptureError> {
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
        let (program, kind) = (programs[direction], DIRECTIONS[direction].1);
        hook(ebpf, rung, name, program, kind, COUNTING)
    });
    let (ingress, egress) = (ingress?, egress?);
    Ok(Attached {
        name: name.to_owned(),
        index,
        programs,
        links: [Some(ingress.0), Some(egress.0)],
        ids: [ingress.1, egress.1],
    })
}

/// Puts a program on one direction of an interface; gives its link and its id.
pub(super) fn hook(
    ebpf: &mut Ebpf,
    rung: Rung,
    name: &str,
    program: &str,
    direction: TcAttachType,
    place: Place,
) -> Result<(SchedClassifierLink, u32), CaptureError> {
    let refused = |reason: String| CaptureError::Interface {
        name: name.to_owned(),
        reason,
    };
    if rung == Rung::Clsact
        && let Err(error) = qdisc_add_clsact(name)
        && !already_there(&error)
    {
        return Err(refused(format!(
            "its clsact qdisc cannot be added: {error}"
        )));
    }
    let program = loaded(ebpf, program)?;
    let link = attach_to(program, rung, name, direction, place).map_err(|error| {
        refused(format!(
            "the kernel refuses to attach by {}: {error}",
            rung.name()
        ))
    })?;
    let id = program
        .info()
        .map_err(|error| refused(format!("its program has no id: {error}")))?
        .id();
    Ok((link, id))
}

fn attach_to(
    program: &mut SchedClassifier,
    rung: Rung,
    name: &str,
    direction: TcAttachType,
    place: Place,
) -> Result<SchedClassifierLink, ProgramError> {
    let Place { priority, handle } = place;
    let options = match rung {
        Rung::Tcx => TcAttachOptions::TcxOrder(LinkOrder::first()),
        Rung::Clsact => {
            // What an earlier process of ours left; when there is nothing, detaching fails.
            if let Ok(left) = SchedClassifierLink::attached(name, direction, priority, handle, None)
            {
                use aya::programs::links::Link as _;
                drop(left.detach());
            }
            TcAttachOptions::Netlink(NlOptions {
                priority,
                handle,
                classid: None,
            })
        }
    };
    let link = program.attach_with_options(name, direction, options)?;
    program.take_link(link)
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
