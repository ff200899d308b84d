//! Whose socket: attaches the hooks that note it, and notes it for sockets older than the agent.
//!
//! Each hook is asked of the kernel by attaching it. One that is refused leaves the rest working
//! and says why; packets are counted and matched whatever becomes of it.

use std::collections::HashSet;
use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use aya::Ebpf;
use aya::maps::{MapData, SkStorage};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{
    CgroupAttachMode, CgroupSock, CgroupSockAddr, Program, ProgramError, RawTracePoint,
};
use picket_abi::{Owner as Stored, ProcessRecord, Told as RawTold};
use picket_sense::input::{Owner, ProcessId};

use super::CaptureError;
use super::clock::BootClock;
use super::pins::Pins;
use crate::attribution::proc::{self, Stat, TICK_NS};
use crate::capture::live::{OwnerState, ProcessSeen, Told};

/// Programs on the hooks of control groups.
const HOOKS: [&str; 7] = [
    "sock_create",
    "connect4",
    "connect6",
    "sendmsg4",
    "sendmsg6",
    "recvmsg4",
    "recvmsg6",
];

/// The program that sees processes run programs, and the tracepoint it hangs on.
const EXEC: (&str, &str) = ("process_exec", "sched_process_exec");

/// Sockets noted at the start at most; a few microseconds each.
const SEED_SOCKETS_MAX: usize = 65_536;

/// Processes the kernel side remembers as told, about 100 bytes each; one that it forgot is told
/// again with its next socket.
pub(super) const TOLD_MAX: u32 = 8_192;

/// Attaches the hooks at the root of the control groups, so that they see every process.
///
/// Where there are pins, the hooks stay as long as our maps; they are given back to be held.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    pins: Option<&Pins>,
    state: &mut OwnerState,
) -> Vec<PinnedLink> {
    let mut pinned = Vec::new();
    match cgroup_root().and_then(|place| Ok((File::open(&place)?, place))) {
        Err(error) => state.lacks.push(format!("control group hooks: {error}")),
        Ok((root, place)) => {
            let mut attached = Vec::new();
            for name in HOOKS {
                match attach_hook(ebpf, name, &root, pins, &mut pinned) {
                    Ok(()) => attached.push(name),
                    Err(error) => state.lacks.push(format!("{name}: {}", chain(&error))),
                }
            }
            if !attached.is_empty() {
                let at = place.display();
                state
                    .works
                    .push(format!("hooks {} at {at}", attached.join(", ")));
            }
        }
    }
    match attach_exec(ebpf, pins, &mut pinned) {
        Ok(()) => state.works.push(format!("tracepoint {}", EXEC.1)),
        Err(error) => state.lacks.push(format!("{}: {}", EXEC.1, chain(&error))),
    }
    pinned
}

/// Where the version 2 hierarchy is mounted: `/sys/fs/cgroup`, or below it where version 1 has
/// the rest.
///
/// # Errors
/// It is mounted nowhere.
pub(crate) fn cgroup_root() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    mounts
        .lines()
        .find_map(cgroup2_of)
        .ok_or_else(|| io::Error::other("no cgroup2 file system is mounted"))
}

/// The mount point of a line of mountinfo that mounts the whole of it: fields 4 and 5 are root
/// and mount point, and the type stands first behind ` - ` (man 5 proc).
fn cgroup2_of(line: &str) -> Option<PathBuf> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, place) = (fields.next()?, fields.next()?);
    (kind.starts_with("cgroup2 ") && root == "/")
        .then(|| PathBuf::from(place.replace("\\040", " ")))
}

fn attach_hook(
    ebpf: &mut Ebpf,
    name: &str,
    root: &File,
    pins: Option<&Pins>,
    pinned: &mut Vec<PinnedLink>,
) -> Result<(), ProgramError> {
    // By link, many may be at one group; the kernel refuses to be told so besides.
    const MODE: CgroupAttachMode = CgroupAttachMode::Single;
    match ebpf.program_mut(name) {
        Some(Program::CgroupSock(_)) => {
            let program: &mut CgroupSock = program(ebpf, name)?;
            program.load()?;
            let link = program.attach(root, MODE)?;
            if let Some(pins) = pins {
                pinned.push(pins.keep_hook(name, program.take_link(link)?)?);
            }
        }
        _ => {
            let program: &mut CgroupSockAddr = program(ebpf, name)?;
            program.load()?;
            let link = program.attach(root, MODE)?;
            if let Some(pins) = pins {
                pinned.push(pins.keep_hook(name, program.take_link(link)?)?);
            }
        }
    }
    Ok(())
}

fn attach_exec(
    ebpf: &mut Ebpf,
    pins: Option<&Pins>,
    pinned: &mut Vec<PinnedLink>,
) -> Result<(), ProgramError> {
    let program: &mut RawTracePoint = program(ebpf, EXEC.0)?;
    program.load()?;
    let link = program.attach(EXEC.1)?;
    if let Some(pins) = pins {
        let link = FdLink::from(program.take_link(link)?);
        pinned.push(pins.keep_hook(EXEC.0, link)?);
    }
    Ok(())
}

fn program<'a, T>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut T, ProgramError>
where
    &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?;
    program.try_into()
}

/// An error with what caused it, on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // The verifier's log comes after its first line.
        let first = inner_text.lines().next().unwrap_or_default();
        if !text.contains(first) {
            text = format!("{text}: {first}");
        }
        cause = inner.source();
    }
    text.lines().next().unwrap_or_default().to_owned()
}

/// A socket's owner as the agent names it.
pub(super) fn owner(stored: Stored, clock: BootClock) -> Option<Owner> {
    (stored.pid != 0).then(|| Owner {
        process: ProcessId {
            pid: stored.pid,
            start_ns: clock.epoch_ns(stored.start_ns),
        },
        uid: stored.uid,
    })
}

/// A record of the ring as the agent names it.
pub(super) fn process_seen(record: &ProcessRecord, clock: BootClock) -> Option<ProcessSeen> {
    let parent = Stored {
        start_ns: record.parent_start_ns,
        pid: record.parent_pid,
        uid: 0,
    };
    let path = text(&record.path);
    Some(ProcessSeen {
        owner: owner(record.owner, clock)?,
        since_boot_ns: whole_ticks(record.owner.start_ns),
        told: if record.told == RawTold::Runs as u32 {
            Told::Runs
        } else {
            Told::Opens
        },
        name: text(&record.comm),
        path: (!path.is_empty()).then_some(path),
        parent: owner(parent, clock).map(|parent| parent.process),
        parent_since_boot_ns: whole_ticks(record.parent_start_ns),
        parent_name: text(&record.parent_comm),
        cgroup: record.cgroup,
    })
}

const fn whole_ticks(start_ns: u64) -> u64 {
    start_ns - start_ns % TICK_NS
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    let bytes = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

/// The storage in sockets, and what was put there at the start.
#[derive(Debug)]
pub(super) struct Owners {
    /// Held for programs that are loaded later and need its descriptor.
    storage: SkStorage<MapData, [u64; 2]>,
    /// Sockets noted.
    pub(super) sockets: u64,
    /// Sockets whose process would not let us, or that were too many.
    pub(super) refused: u64,
    /// Processes of the sockets noted, until they are told.
    pub(super) processes: Vec<ProcessSeen>,
}

/// Notes the owners of the sockets that are open now: each gets what the hooks would have
/// written, so that programs at tc need not tell old from new, and what an old listener accepts
/// from now on is known too. A socket that several processes hold is the first one's.
pub(super) fn seed(ebpf: &mut Ebpf, clock: BootClock) -> Result<Owners, CaptureError> {
    let map = ebpf
        .take_map("OWNERS")
        .ok_or(CaptureError::Object("the socket storage is missing"))?;
    let storage = SkStorage::try_from(map).map_err(|source| CaptureError::Map {
        name: "OWNERS",
        source: Box::new(source),
    })?;
    let mut owners = Owners {
        storage,
        sockets: 0,
        refused: 0,
        processes: Vec::new(),
    };
    let mut met = HashSet::new();
    for pid in proc::all() {
        seed_process(pid, clock, &mut met, &mut owners);
    }
    Ok(owners)
}

fn seed_process(pid: u32, clock: BootClock, met: &mut HashSet<u64>, owners: &mut Owners) {
    let Ok(entries) = fs::read_dir(proc::file(pid, "fd")) else {
        return;
    };
    let mut holder: Option<(OwnedFd, Stored)> = None;
    let before = owners.sockets;
    for entry in entries.flatten() {
        let Some(inode) = fs::read_link(entry.path())
            .ok()
            .and_then(|target| socket_inode(target.to_str()?))
        else {
            continue;
        };
        if met.contains(&inode) {
            continue;
        }
        if met.len() >= SEED_SOCKETS_MAX {
            owners.refused += 1;
            continue;
        }
        met.insert(inode);
        let Some(number) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if holder.is_none() {
            holder = hold(pid);
        }
        let Some((process, stored)) = &holder else {
            owners.refused += 1;
            continue;
        };
        match duplicate(process, number) {
            Err(_) => owners.refused += 1,
            Ok(socket) if may_send(&socket) => {
                /// `BPF_NOEXIST`: what a hook wrote meanwhile stays.
                const IF_ABSENT: u64 = 1;
                let value = [
                    stored.start_ns,
                    u64::from(stored.pid) | u64::from(stored.uid) << 32,
                ];
                if owners.storage.insert(&socket, value, IF_ABSENT).is_ok() {
                    owners.sockets += 1;
                }
            }
            Ok(_) => {}
        }
    }
    if let (Some((_, stored)), true) = (holder, owners.sockets > before)
        && let Some(stat) = Stat::of(pid)
        && let Some(owner) = owner(stored, clock)
    {
        let parent = Stat::of(stat.parent);
        owners.processes.push(ProcessSeen {
            owner,
            since_boot_ns: stored.start_ns,
            told: Told::Opens,
            name: stat.comm,
            path: None,
            parent: parent.as_ref().map(|parent| ProcessId {
                pid: stat.parent,
                start_ns: clock.epoch_ns(parent.start_ns),
            }),
            parent_since_boot_ns: parent.as_ref().map_or(0, |parent| parent.start_ns),
            parent_name: parent.map(|parent| parent.comm).unwrap_or_default(),
            cgroup: 0,
        });
    }
}

/// `socket:[<inode>]`, as /proc shows a descriptor of a socket.
fn socket_inode(target: &str) -> Option<u64> {
    let inode = target.strip_prefix("socket:[")?.strip_suffix(']')?;
    inode.parse().ok()
}

/// A process that cannot be taken for another while this is held.
fn hold(pid: u32) -> Option<(OwnedFd, Stored)> {
    // SAFETY: the call takes numbers only.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let process = descriptor(answer).ok()?;
    let stored = Stored {
        start_ns: Stat::of(pid)?.start_ns,
        pid,
        uid: proc::user(pid)?,
    };
    Some((process, stored))
}

/// Our own descriptor of what another process has open; Linux 5.6.
fn duplicate(process: &OwnedFd, number: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers only, of which the first is a descriptor that we hold.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) };
    descriptor(answer)
}

fn descriptor(answer: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(answer) {
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether packets of a socket can pass an interface: the internet families and raw frames.
fn may_send(socket: &OwnedFd) -> bool {
    let mut domain: libc::c_int = 0;
    let mut bytes = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the call writes one number and its size to the two places given, which are ours.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DOMAIN,
            (&raw mut domain).cast(),
            &raw mut bytes,
        )
    };
    answer == 0 && matches!(domain, libc::AF_INET | libc::AF_INET6 | libc::AF_PACKET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_the_version_2_hierarchy_is_found() {
        let check = |line, place: Option<&str>| {
            assert_eq!(cgroup2_of(line), place.map(PathBuf::from), "{line}");
        };
        check(
            "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw",
            Some("/sys/fs/cgroup"),
        );
        check(
            "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
            Some("/sys/fs/cgroup/unified"),
        );
        check(
            "41 31 0:38 /docker/1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
            None,
        );
        check("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw", None);
        check(
            "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu",
            None,
        );
        check("", None);
    }

    #[test]
    fn descriptors_of_sockets_are_told_apart() {
        assert_eq!(socket_inode("socket:[4711]"), Some(4711));
        for other in ["pipe:[4711]", "socket:[]", "/dev/null", "socket:[4711"] {
            assert_eq!(socket_inode(other), None, "{other}");
        }
    }
}
