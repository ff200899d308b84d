//! What this host can do, one question at a time: the kernel's part of `picket-agent doctor`.

use std::ffi::CStr;
use std::fmt::Display;
use std::fs;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use rustix::process::{Resource, getrlimit};
use rustix::thread::CapabilitySet;

use super::attach::has_tcx;
use super::layout;
use super::owners::cgroup_root;
use crate::capture::permission::{self, PROGRAMS};

/// What loading a program takes that is about the network and reads no memory of the kernel's.
const LOADING: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::NET_ADMIN);

/// The oldest kernel that takes the programs, by `uname`: on x86-64 they are put in older words.
const OLDEST: (u32, u32) = if cfg!(target_arch = "x86_64") {
    (5, 10)
} else {
    (5, 12)
};

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was asked.
    pub name: &'static str,
    /// Yes or no.
    pub ok: bool,
    /// Why, in words.
    pub why: String,
}

impl Check {
    fn yes(name: &'static str, why: impl Display) -> Self {
        Self {
            name,
            ok: true,
            why: why.to_string(),
        }
    }

    fn no(name: &'static str, why: impl Display) -> Self {
        Self {
            name,
            ok: false,
            why: why.to_string(),
        }
    }
}

/// Asks all questions, in the order in which they matter. Changes nothing.
#[must_use]
pub fn probe() -> Vec<Check> {
    let program = load_trivial_program(Kind::Classifier);
    vec![
        kernel_release(),
        type_information(),
        capabilities(),
        bpf_calls(&program),
        tcx(&program),
        memory(),
        owners(),
        processes(),
    ]
}

/// The programs need the ring buffers' 5.8 and what else 5.10 has, see [`older`](super::older).
/// Distributions carry features to older kernels, so a low number is a hint and `bpf` below the judge.
fn kernel_release() -> Check {
    const NAME: &str = "kernel";
    // SAFETY: utsname is byte arrays, which may be zero; uname fills them.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the place given is a whole utsname of ours.
    if unsafe { libc::uname(&raw mut names) } != 0 {
        return Check::no(NAME, io::Error::last_os_error());
    }
    // SAFETY: uname ends each text with a zero inside its array.
    let release = unsafe { CStr::from_ptr(names.release.as_ptr()) }.to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|number| number.parse::<u32>().ok());
    match (next(), next()) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST => Check::yes(NAME, release),
        (Some(_), Some(_)) => Check::no(
            NAME,
            format!(
                "{release}, the programs are made for {}.{} and later",
                OLDEST.0, OLDEST.1
            ),
        ),
        _ => Check::no(NAME, format!("{release} is no version number")),
    }
}

fn type_information() -> Check {
    const NAME: &str = "btf";
    const PLACE: &str = "/sys/kernel/btf/vmlinux";
    match fs::metadata(PLACE) {
        Ok(_) => Check::yes(NAME, format!("{PLACE} is there")),
        Err(error) => Check::no(NAME, format!("{PLACE}: {error}; capture works without it")),
    }
}

/// Whether the capabilities that loading and attaching take are there.
pub(in crate::capture) fn capabilities() -> Check {
    const NAME: &str = "capabilities";
    match permission::lack(PROGRAMS) {
        None => Check::yes(NAME, "what loading and attaching take is there"),
        Some(lack) => Check::no(NAME, lack),
    }
}

fn bpf_calls(program: &io::Result<OwnedFd>) -> Check {
    const NAME: &str = "bpf";
    match program {
        Ok(_) => Check::yes(NAME, "a program that only passes packets on was accepted"),
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            Check::no(NAME, "this kernel was built without it")
        }
        Err(error) => Check::no(NAME, permission::why(error, LOADING)),
    }
}

fn tcx(program: &io::Result<OwnedFd>) -> Check {
    const NAME: &str = "tcx";
    match program {
        Ok(program) if has_tcx(program.as_fd()) => {
            Check::yes(NAME, "links at the head of the chain")
        }
        Ok(_) => Check::no(NAME, "the kernel has none; filters on clsact are used"),
        Err(_) => Check::no(NAME, "not asked: no program could be loaded"),
    }
}

/// Since 5.11 maps are charged to the memory cgroup, which answers with `ENOMEM`; the limit on locked
/// memory, which is not asked any more, did with `EPERM`, as a missing capability does.
fn memory() -> Check {
    const NAME: &str = "memlock";
    const BYTES: u32 = 8 << 20;
    match create_array(BYTES) {
        Ok(_) => Check::yes(NAME, "a map of 8 MiB was accepted"),
        Err(error) => Check::no(
            NAME,
            format!("a map of 8 MiB was refused: {}", short(&error, BYTES)),
        ),
    }
}

/// Why a map of so many bytes was refused.
fn short(error: &io::Error, bytes: u32) -> String {
    let limit = getrlimit(Resource::Memlock).current;
    match (error.raw_os_error(), limit) {
        (Some(libc::ENOMEM), _) => format!("{error}; raise the memory limit"),
        (Some(libc::EPERM), Some(limit))
            if limit < u64::from(bytes) && permission::lack(CapabilitySet::BPF).is_none() =>
        {
            format!("{error}; raise LimitMEMLOCK, which is {limit}")
        }
        _ => permission::why(error, CapabilitySet::BPF),
    }
}

/// Whether the hooks can be had that tell whose a socket is.
fn owners() -> Check {
    const NAME: &str = "cgroup hooks";
    match (cgroup_root(), load_trivial_program(Kind::CgroupSocket)) {
        (Err(error), _) => Check::no(NAME, format!("{error}; sockets stay without a process")),
        (_, Err(error)) => Check::no(
            NAME,
            format!(
                "the kernel takes none: {}; sockets stay without a process",
                permission::why(&error, LOADING)
            ),
        ),
        (Ok(place), Ok(_)) => Check::yes(NAME, format!("at {}", place.display())),
    }
}

/// Whether the kernel tells where it keeps what we want to know of a process, and lets us look at
/// those of others and at their control groups.
fn processes() -> Check {
    const NAME: &str = "process facts";
    const LOOKING: CapabilitySet = CapabilitySet::SYS_PTRACE.union(CapabilitySet::DAC_READ_SEARCH);
    if let Some(lack) = permission::lack(LOOKING) {
        return Check::no(NAME, format!("{lack}; of some processes less is told"));
    }
    match layout::of_kernel() {
        (_, Ok(())) => Check::yes(
            NAME,
            "start, parent and program, also of those that end at once",
        ),
        (_, Err(why)) => Check::no(NAME, format!("{why}; only of those that are still there")),
    }
}

/// A kind of program, as `enum bpf_prog_type` numbers them.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// `BPF_PROG_TYPE_SCHED_CLS`.
    Classifier = 3,
    /// `BPF_PROG_TYPE_CGROUP_SOCK`.
    CgroupSocket = 9,
}

/// `r0 = -1; exit` as a classifier, `r0 = 1; exit` at a control group: all goes on.
fn load_trivial_program(kind: Kind) -> io::Result<OwnedFd> {
    /// `BPF_ALU64 | BPF_MOV | BPF_K` with r0, whose number stands above, then
    /// `BPF_JMP | BPF_EXIT`.
    const SET: u64 = 0xb7;
    const EXIT: u64 = 0x95;
    let answer: u32 = match kind {
        Kind::Classifier => u32::MAX,
        Kind::CgroupSocket => 1,
    };
    load_program(kind, &[SET | u64::from(answer) << 32, EXIT])
}

/// Loads a program of a few instructions, each as the little-endian word that it is in memory.
pub(super) fn load_program(kind: Kind, instructions: &[u64]) -> io::Result<OwnedFd> {
    /// `BPF_PROG_LOAD` of `enum bpf_cmd`.
    const PROG_LOAD: libc::c_long = 5;
    /// The part of `union bpf_attr` that loading reads first; what follows counts as zero.
    #[repr(C)]
    struct ProgLoad {
        kind: u32,
        count: u32,
        instructions: *const u64,
        license: *const libc::c_char,
    }
    let attributes = ProgLoad {
        kind: kind as u32,
        count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr(),
        license: c"GPL".as_ptr(),
    };
    // SAFETY: the call reads `attributes`, the instructions and the text it points to, all
    // of which outlive it.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_LOAD,
            &raw const attributes,
            size_of::<ProgLoad>(),
        )
    };
    descriptor(answer)
}

fn create_array(bytes: u32) -> io::Result<OwnedFd> {
    /// `BPF_MAP_CREATE` of `enum bpf_cmd`, `BPF_MAP_TYPE_ARRAY` of `enum bpf_map_type`.
    const MAP_CREATE: libc::c_long = 0;
    const ARRAY: u32 = 2;
    #[repr(C)]
    struct MapCreate {
        kind: u32,
        key_bytes: u32,
        value_bytes: u32,
        entries: u32,
        flags: u32,
    }
    let attributes = MapCreate {
        kind: ARRAY,
        key_bytes: 4,
        value_bytes: 64,
        entries: bytes / 64,
        flags: 0,
    };
    // SAFETY: the call reads as many bytes of `attributes` as it is told, which is all of them.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            MAP_CREATE,
            &raw const attributes,
            size_of::<MapCreate>(),
        )
    };
    descriptor(answer)
}

fn descriptor(answer: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(answer) {
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_is_answered_with_a_reason() {
        let checks = probe();
        let names: Vec<&str> = checks.iter().map(|check| check.name).collect();
        assert_eq!(
            names,
            [
                "kernel",
                "btf",
                "capabilities",
                "bpf",
                "tcx",
                "memlock",
                "cgroup hooks",
                "process facts"
            ]
        );
        assert!(checks.iter().all(|check| !check.why.is_empty()));
    }

    /// Asks on a thread that has given these up.
    fn probe_without(given_up: CapabilitySet) -> Vec<Check> {
        let ask = move || {
            let mut held = rustix::thread::capabilities(None).unwrap();
            held.effective -= given_up | CapabilitySet::SYS_ADMIN;
            held.permitted = held.effective;
            held.inheritable = CapabilitySet::empty();
            rustix::thread::set_capabilities(None, held).unwrap();
            probe()
        };
        std::thread::spawn(ask).join().unwrap()
    }

    #[test]
    fn what_is_missing_is_blamed_and_nothing_else() {
        if !probe().iter().all(|check| check.ok) {
            println!("skipped, not everything can be had here: {:?}", probe());
            return;
        }
        // Without a capability: what is refused for it, and what goes on without.
        let rows: &[(CapabilitySet, &str, &[&str])] = &[
            (
                CapabilitySet::BPF,
                "missing CAP_BPF",
                &["capabilities", "bpf", "tcx", "memlock", "cgroup hooks"],
            ),
            (
                CapabilitySet::NET_ADMIN,
                "missing CAP_NET_ADMIN",
                &["capabilities", "bpf", "tcx", "cgroup hooks"],
            ),
            (
                CapabilitySet::PERFMON,
                "missing CAP_PERFMON",
                &["capabilities"],
            ),
            (
                CapabilitySet::SYS_PTRACE,
                "missing CAP_SYS_PTRACE",
                &["process facts"],
            ),
            // CAP_SYS_ADMIN alone, for which the others stand.
            (CapabilitySet::empty(), "", &[]),
        ];
        for (given_up, why, refused) in rows {
            let checks = probe_without(*given_up);
            let missed = checks.iter().filter(|check| !check.ok);
            let names: Vec<&str> = missed.clone().map(|check| check.name).collect();
            assert_eq!(names, *refused, "{checks:?}");
            for check in missed.filter(|check| check.name != "tcx") {
                assert!(check.why.contains(why), "{check:?}");
                assert!(!check.why.contains("MEMLOCK"), "{check:?}");
            }
        }
    }

    #[test]
    fn a_map_is_refused_for_its_own_reasons() {
        let full = io::Error::from_raw_os_error(libc::ENOMEM);
        assert!(short(&full, 1).ends_with("raise the memory limit"));
        let large = io::Error::from_raw_os_error(libc::E2BIG);
        assert_eq!(short(&large, 1), large.to_string());
    }
}
