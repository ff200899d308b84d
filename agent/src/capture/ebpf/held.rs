//! What hangs on an interface now: the kernel's own answer to whether our program is still there.
//!
//! By tcx the query of `BPF_PROG_QUERY` gives the ids of all programs; on clsact `RTM_GETTFILTER`
//! gives the filter at our priority and handle. Neither needs more rights than attaching does. All
//! questions are asked in the network namespace of the calling thread.

use std::io;

use aya::programs::TcAttachType;

use super::attach::{Place, Rung};
use crate::capture::netlink::{ERROR, Route, attribute, bytes};

/// Whether the program of id `program` is where we attached it.
///
/// # Errors
/// The kernel does not answer: the interface may be gone.
pub(super) fn holds(
    rung: Rung,
    interface: u32,
    direction: TcAttachType,
    place: Place,
    program: u32,
) -> io::Result<bool> {
    match rung {
        Rung::Tcx => Ok(by_link(interface, direction)?.contains(&program)),
        Rung::Clsact => Ok(filter(interface, direction, place)? == Some(program)),
    }
}

/// Ids of the programs on one direction of an interface by tcx, in the order they run.
pub(super) fn by_link(interface: u32, direction: TcAttachType) -> io::Result<Vec<u32>> {
    /// `BPF_PROG_QUERY` of `enum bpf_cmd`; `BPF_TCX_INGRESS`, `BPF_TCX_EGRESS` of `enum
    /// bpf_attach_type`; `BPF_MPROG_MAX` of kernel/bpf/mprog.c, the most there can be.
    const PROG_QUERY: libc::c_long = 16;
    const TCX_INGRESS: u32 = 46;
    const TCX_EGRESS: u32 = 47;
    const PROGRAMS_MAX: usize = 64;
    /// The part of `union bpf_attr` that a query reads and writes.
    #[repr(C)]
    struct Query {
        interface: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        zero: u32,
        id_flags: u64,
        links: u64,
        link_flags: u64,
        revision: u64,
    }
    let mut ids = [0u32; PROGRAMS_MAX];
    let mut query = Query {
        interface,
        attach_type: match direction {
            TcAttachType::Egress => TCX_EGRESS,
            _ => TCX_INGRESS,
        },
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: PROGRAMS_MAX as u32,
        zero: 0,
        id_flags: 0,
        links: 0,
        link_flags: 0,
        revision: 0,
    };
    // SAFETY: the call reads and writes `query`, whose size it is told, and writes at most `count`
    // ids to the array that `ids` points to; both outlive it.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_QUERY,
            &raw mut query,
            size_of::<Query>(),
        )
    };
    if answer < 0 {
        let error = io::Error::last_os_error();
        // Nothing was ever attached here by tcx.
        return if error.raw_os_error() == Some(libc::ENOENT) {
            Ok(Vec::new())
        } else {
            Err(error)
        };
    }
    let count = (query.count as usize).min(PROGRAMS_MAX);
    Ok(ids.into_iter().take(count).collect())
}

/// The id of the program in the filter at a place of ours on clsact, if there is one.
///
/// # Errors
/// The kernel does not answer: the interface may be gone.
pub(super) fn filter(
    interface: u32,
    direction: TcAttachType,
    place: Place,
) -> io::Result<Option<u32>> {
    /// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)` and `…EGRESS` of include/uapi/linux/pkt_sched.h.
    const INGRESS: u32 = 0xffff_fff2;
    const EGRESS: u32 = 0xffff_fff3;
    let parent = match direction {
        TcAttachType::Egress => EGRESS,
        _ => INGRESS,
    };
    let socket = Route::open()?;
    let message = request(interface, parent, place);
    let mut answer = [0u8; 8192];
    let bytes = socket.ask(&message, &mut answer)?;
    program_of(answer.get(..bytes).unwrap_or_default())
}

/// Asks for one filter: a netlink header and a `struct tcmsg` (include/uapi/linux/rtnetlink.h).
fn request(interface: u32, parent: u32, place: Place) -> Vec<u8> {
    const BYTES: u32 = 16 + 20;
    const REQUEST: u16 = 1;
    /// `ETH_P_ALL` as it stands in a frame, what our filter was added for.
    const EVERY_PROTOCOL: u16 = 0x0003u16.to_be();
    let mut message = Vec::new();
    message.extend(BYTES.to_ne_bytes());
    message.extend(libc::RTM_GETTFILTER.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    // Sequence number and sender: one question, one answer.
    message.extend([0; 8]);
    // Any family, padding.
    message.extend([0; 4]);
    message.extend(interface.to_ne_bytes());
    message.extend(u32::from(place.handle).to_ne_bytes());
    message.extend(parent.to_ne_bytes());
    let info = u32::from(place.priority) << 16 | u32::from(EVERY_PROTOCOL);
    message.extend(info.to_ne_bytes());
    message
}

/// The program's id in the answer: `TCA_BPF_ID` in `TCA_OPTIONS` of a `RTM_NEWTFILTER`.
fn program_of(answer: &[u8]) -> io::Result<Option<u32>> {
    const OPTIONS: u16 = 2;
    const BPF_ID: u16 = 11;
    let short = || io::Error::other("a netlink answer that is too short");
    let kind = u16::from_ne_bytes(bytes(answer, 4).ok_or_else(short)?);
    if kind == ERROR {
        let code = i32::from_ne_bytes(bytes(answer, 16).ok_or_else(short)?);
        return match -code {
            // There is no such filter, no such chain, or no clsact qdisc at all.
            libc::ENOENT | libc::EINVAL => Ok(None),
            code => Err(io::Error::from_raw_os_error(code)),
        };
    }
    if kind != libc::RTM_NEWTFILTER {
        return Ok(None);
    }
    let options = attribute(answer.get(36..).ok_or_else(short)?, OPTIONS);
    let id = options.and_then(|options| attribute(options, BPF_ID));
    Ok(id.and_then(|id| bytes(id, 0)).map(u32::from_ne_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::netlink::tests::{message as answer, one};

    #[test]
    fn the_program_is_found_in_the_answer() {
        let options = [one(7, b"ether_in\0"), one(11, &77u32.to_ne_bytes())].concat();
        let mut body = vec![0; 20];
        body.extend(one(1, b"bpf\0"));
        body.extend(one(0x8002, &options));
        let told = answer(libc::RTM_NEWTFILTER, &body);
        assert_eq!(program_of(&told).unwrap(), Some(77));
        for cut in 0..told.len() - 1 {
            if let Ok(found) = program_of(&told[..cut]) {
                assert_eq!(found, None, "{cut}");
            }
        }
    }

    #[test]
    fn what_is_not_there_is_no_error() {
        let error = |code: i32| program_of(&answer(2, &(-code).to_ne_bytes()));
        assert_eq!(error(libc::ENOENT).unwrap(), None);
        assert_eq!(error(libc::EINVAL).unwrap(), None);
        assert_eq!(
            error(libc::ENODEV).unwrap_err().raw_os_error(),
            Some(libc::ENODEV)
        );
        assert!(program_of(&[]).is_err());
    }
}
