//! Whose socket: hooks of the control groups write it into the socket, programs at tc read it.
//!
//! A hook runs in the process that makes a system call, so it knows who that is; at tc a packet
//! may be sent by whoever was interrupted. What a hook learns lies in the socket's own storage,
//! where it costs a packet nothing until it is asked for, ends with the socket, and is handed on
//! to the connections that a listener accepts.
//!
//! Interface: [`created`], [`connected`], [`sent`] and [`received`] for the hooks; [`executed`] for
//! the tracepoint; [`of_packet`] and [`behind`] for programs at tc. A process is told to the agent
//! when it runs a program and when it opens a socket for the first time.

use core::ffi::c_void;
use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::Global;
use aya_ebpf::bindings::{
    __sk_buff, BPF_F_CLONE, BPF_F_NO_PREALLOC, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP,
    BPF_SK_STORAGE_GET_F_CREATE, bpf_map_type, bpf_sock,
};
use aya_ebpf::helpers::generated::{
    bpf_get_current_comm, bpf_get_listener_sock, bpf_probe_read_kernel, bpf_probe_read_kernel_str,
    bpf_sk_fullsock, bpf_sk_storage_get,
};
use aya_ebpf::helpers::{
    bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_task,
    bpf_get_current_uid_gid, bpf_get_smp_processor_id, bpf_ktime_get_ns,
};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{LruHashMap, RingBuf};
use picket_abi::{
    COMM_BYTES, FlowSlot, OWNER_TRIES, Owner, PATH_BYTES, ProcessRecord, Reason, Told, Way,
};

use super::counters::Counters;
use super::maps::COUNTERS;
use super::{Passage, loopback};

/// A map of values in sockets, as its type is told in BTF: numbers are lengths of arrays. One of
/// ours, as the library's is not handed on to accepted sockets.
#[repr(C)]
struct SocketStorage {
    r#type: *const [i32; bpf_map_type::BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const Owner,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

// SAFETY: the fields are placeholders that no one reads; the kernel guards what they stand for.
unsafe impl Sync for SocketStorage {}

/// The owner of each socket.
#[btf_map]
static OWNERS: SocketStorage = SocketStorage {
    r#type: core::ptr::null(),
    key: core::ptr::null(),
    value: core::ptr::null(),
    max_entries: core::ptr::null(),
    map_flags: core::ptr::null(),
};

/// Processes that were told for opening a socket: pid to start. One that was forgotten is told
/// again.
#[map]
static TOLD: LruHashMap<u32, u64> = LruHashMap::with_max_entries(1024, 0);

/// Processes that were told for taking questions of DNS, as above. A host has one or two.
#[map]
static RESOLVERS: LruHashMap<u32, u64> = LruHashMap::with_max_entries(64, 0);

/// Processes to be told.
#[map]
static PROCESSES: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Where things are in this kernel's structures, in bytes; told by the loader, which reads them
/// from the kernel's type information. 0 where that says nothing: none of them is first.
#[unsafe(no_mangle)]
static TASK_GROUP_LEADER: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static TASK_REAL_PARENT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static TASK_TGID: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static TASK_START: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static TASK_COMM: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static BINPRM_FILENAME: Global<u32> = Global::new(0);

/// Lets the system call go on.
const GO_ON: i32 = 1;

/// A socket was made. Follows `inet_create` and `inet6_create`.
#[inline(always)]
pub fn created(socket: *mut bpf_sock) -> i32 {
    let (owner, leader) = current();
    if !store(socket.cast(), &owner).is_null() {
        tell_first(&owner, leader);
    }
    GO_ON
}

/// A socket is about to be connected: whoever does that has it, even if another made it.
#[inline(always)]
pub fn connected(socket: *mut bpf_sock) -> i32 {
    let (owner, leader) = current();
    let stored = store(socket.cast(), &owner);
    if stored.is_null() {
        return GO_ON;
    }
    hand_over(stored, &owner);
    tell_first(&owner, leader);
    GO_ON
}

/// A datagram is about to be handed to whoever reads this socket, and its sender with it. One that
/// reads at the port of DNS takes questions, and has the socket, even if a process that has ended
/// made it: resolvers that go into the background do so after they have made theirs. Costs any other
/// receiver some 45 ns for a datagram that it wants to know the sender of (measured by the kernel's
/// statistics of run time, less their own clock), others nothing.
#[inline(always)]
pub fn received(socket: *mut bpf_sock) -> i32 {
    /// Host order, as the kernel shows it.
    const DNS_PORT: u32 = 53;
    // SAFETY: a socket the kernel gave us; the verifier checks the offset.
    if unsafe { (*socket).src_port } != DNS_PORT {
        return GO_ON;
    }
    let (owner, leader) = current();
    // SAFETY: the value is read at once.
    if let Some(start_ns) = unsafe { RESOLVERS.get(owner.pid) }
        && *start_ns == owner.start_ns
    {
        return GO_ON;
    }
    let stored = store(socket.cast(), &owner);
    if !stored.is_null() {
        hand_over(stored, &owner);
    }
    tell_first(&owner, leader);
    if loopback::tell_resolver(&owner) {
        // Where there is no room it is told once more.
        let _ = RESOLVERS.insert(owner.pid, owner.start_ns, 0);
    } else {
        note_apart(Reason::AskedRingFull);
    }
    GO_ON
}

/// Makes a process the owner of a socket with this storage.
#[inline(always)]
fn hand_over(stored: *mut Owner, owner: &Owner) {
    // SAFETY: storage of a live socket, that the caller found not to be null. Two threads that
    // connect one socket at once both may be called its owner.
    unsafe {
        if (*stored).pid != owner.pid || (*stored).start_ns != owner.start_ns {
            (*stored).start_ns = owner.start_ns;
            (*stored).pid = owner.pid;
            (*stored).uid = owner.uid;
        }
    }
}

/// A datagram is about to be sent by a socket that is not connected. One that has an owner keeps
/// it; others are older than the agent.
#[inline(always)]
pub fn sent(socket: *mut bpf_sock) -> i32 {
    // SAFETY: a socket the kernel gave us; a null value asks for what is there.
    let stored = unsafe { bpf_sk_storage_get(owners(), socket.cast(), core::ptr::null_mut(), 0) };
    if stored.is_null() {
        let (owner, leader) = current();
        if !store(socket.cast(), &owner).is_null() {
            tell_first(&owner, leader);
        }
    }
    GO_ON
}

/// The current process has begun to run a program. Follows `exec_binprm` (fs/exec.c); `binprm`
/// is its `struct linux_binprm`.
#[inline(always)]
pub fn executed(binprm: u64) -> i32 {
    let (owner, leader) = current();
    // It has another name now, which its next socket tells. An error means that it was not there.
    let _ = TOLD.remove(owner.pid);
    let filename = match BINPRM_FILENAME.load() {
        0 => 0,
        at => read_kernel::<u64>(binprm + u64::from(at)),
    };
    tell(&owner, leader, Told::Runs, filename);
    0
}

/// Notes in a flow's slot whose socket sends this packet, if that is to be asked: for the first
/// packets of a flow, and where its key may have been used again by another socket.
#[inline(always)]
pub(super) fn note(
    passage: &Passage,
    counters: &mut Counters,
    slot: &mut FlowSlot,
    may_be_another: bool,
) {
    if passage.way != Way::Out || (slot.owner_tries >= OWNER_TRIES && !may_be_another) {
        return;
    }
    let found = of_packet(passage, counters);
    if found.pid != 0 {
        slot.owner_tries = OWNER_TRIES;
    } else if slot.owner_tries < OWNER_TRIES {
        slot.owner_tries += 1;
        if !may_be_another {
            return;
        }
    }
    slot.owner.start_ns = found.start_ns;
    slot.owner.pid = found.pid;
    slot.owner.uid = found.uid;
}

/// Whose socket sends this packet; pid 0 if that is not known. Counts what it finds.
#[inline(always)]
pub(super) fn of_packet(passage: &Passage, counters: &mut Counters) -> Owner {
    let (found, reason) = stored(passage.skb);
    counters.note(reason);
    value(found)
}

/// As [`of_packet`], of a packet that is not counted either.
#[inline(always)]
pub(super) fn behind(skb: *mut __sk_buff) -> Owner {
    value(stored(skb).0)
}

/// What stands in a storage; nobody where there is none.
#[inline(always)]
fn value(found: *const Owner) -> Owner {
    if found.is_null() {
        return Owner::default();
    }
    // SAFETY: storage of the packet's socket, which lives as long as the packet.
    unsafe {
        Owner {
            start_ns: (*found).start_ns,
            pid: (*found).pid,
            uid: (*found).uid,
        }
    }
}

#[inline(always)]
fn stored(skb: *mut __sk_buff) -> (*const Owner, Reason) {
    // SAFETY: the kernel gives programs a valid context; the verifier checks that what comes of
    // it is not null where that matters.
    unsafe {
        let socket = (*skb).__bindgen_anon_2.sk;
        if socket.is_null() {
            return (core::ptr::null(), Reason::OwnerNoSocket);
        }
        let mut full = bpf_sk_fullsock(socket);
        if full.is_null() {
            // A handshake that is answered: the listener stands in for what is not there yet.
            full = bpf_get_listener_sock(socket);
        }
        if full.is_null() {
            return (core::ptr::null(), Reason::OwnerNoSocket);
        }
        let found = bpf_sk_storage_get(owners(), full.cast(), core::ptr::null_mut(), 0);
        let reason = if found.is_null() {
            Reason::OwnerNotStored
        } else {
            Reason::OwnerFound
        };
        (found.cast(), reason)
    }
}

#[inline(always)]
fn owners() -> *mut c_void {
    (&raw const OWNERS).cast_mut().cast()
}

/// What is in a socket's storage, put there if nothing was; null if there is no memory.
#[inline(always)]
fn store(socket: *mut c_void, owner: &Owner) -> *mut Owner {
    // SAFETY: a socket the kernel gave us, and a value of the map's type.
    unsafe {
        bpf_sk_storage_get(
            owners(),
            socket,
            core::ptr::from_ref(owner).cast_mut().cast(),
            u64::from(BPF_SK_STORAGE_GET_F_CREATE),
        )
        .cast()
    }
}

/// The process that makes this call, and the task that leads it (0 if not known).
#[inline(always)]
fn current() -> (Owner, u64) {
    let both = bpf_get_current_pid_tgid();
    let (pid, thread) = ((both >> 32) as u32, both as u32);
    // SAFETY: no precondition.
    let task = unsafe { bpf_get_current_task() };
    let leader = match TASK_GROUP_LEADER.load() {
        0 => 0,
        _ if pid == thread => task,
        at => read_kernel(task + u64::from(at)),
    };
    let owner = Owner {
        start_ns: start_of(leader),
        pid,
        uid: bpf_get_current_uid_gid() as u32,
    };
    (owner, leader)
}

/// When a task started, 0 if not known.
#[inline(always)]
fn start_of(task: u64) -> u64 {
    match TASK_START.load() {
        0 => 0,
        _ if task == 0 => 0,
        at => read_kernel(task + u64::from(at)),
    }
}

/// A value in the kernel's memory, 0 if it cannot be read.
#[inline(always)]
fn read_kernel<T: Default>(from: u64) -> T {
    let mut value = T::default();
    // SAFETY: the helper writes as many bytes as the value has, or zeros if it cannot read.
    unsafe {
        bpf_probe_read_kernel(
            (&raw mut value).cast(),
            size_of::<T>() as u32,
            from as *const c_void,
        );
    }
    value
}

/// Tells a process that opens a socket, unless that has been done.
#[inline(always)]
fn tell_first(owner: &Owner, leader: u64) {
    // SAFETY: the value is read at once.
    if let Some(start_ns) = unsafe { TOLD.get(owner.pid) }
        && *start_ns == owner.start_ns
    {
        return;
    }
    if tell(owner, leader, Told::Opens, 0) {
        // Where there is no room it is told once more.
        let _ = TOLD.insert(owner.pid, owner.start_ns, 0);
    }
}

/// Tells a process; `filename` is where the path of its program is, or 0.
#[inline(always)]
fn tell(owner: &Owner, leader: u64, told: Told, filename: u64) -> bool {
    let Some(mut entry) = PROCESSES.reserve::<ProcessRecord>(0) else {
        note_apart(Reason::ProcessRingFull);
        return false;
    };
    let record = entry.as_mut_ptr();
    // The parent of a process is the thread that made it; we tell that thread's process.
    let parent = match TASK_REAL_PARENT.load() {
        0 => 0,
        _ if leader == 0 => 0,
        at => read_kernel::<u64>(leader + u64::from(at)),
    };
    let parent = match TASK_GROUP_LEADER.load() {
        _ if parent == 0 => 0,
        at => read_kernel::<u64>(parent + u64::from(at)),
    };
    let parent_pid = match TASK_TGID.load() {
        0 => 0,
        _ if parent == 0 => 0,
        at => read_kernel::<u32>(parent + u64::from(at)),
    };
    // SAFETY: `record` is the reserved room for one ProcessRecord, and each helper writes no more
    // than the field it is given.
    unsafe {
        (&raw mut (*record).ktime_ns).write(bpf_ktime_get_ns());
        (&raw mut (*record).owner.start_ns).write(owner.start_ns);
        (&raw mut (*record).owner.pid).write(owner.pid);
        (&raw mut (*record).owner.uid).write(owner.uid);
        (&raw mut (*record).cgroup).write(bpf_get_current_cgroup_id());
        (&raw mut (*record).parent_start_ns).write(start_of(parent));
        (&raw mut (*record).parent_pid).write(parent_pid);
        (&raw mut (*record).told).write(told as u32);
        bpf_get_current_comm((&raw mut (*record).comm).cast(), COMM_BYTES as u32);
        (&raw mut (*record).parent_comm).cast::<u64>().write(0);
        if parent != 0 && TASK_COMM.load() != 0 {
            bpf_probe_read_kernel_str(
                (&raw mut (*record).parent_comm).cast(),
                COMM_BYTES as u32,
                (parent + u64::from(TASK_COMM.load())) as *const c_void,
            );
        }
        (&raw mut (*record).path).cast::<u64>().write(0);
        if filename != 0 {
            bpf_probe_read_kernel_str(
                (&raw mut (*record).path).cast(),
                PATH_BYTES as u32,
                filename as *const c_void,
            );
        }
    }
    // One that opens a socket may be gone soon, and what only the system tells of it with it.
    entry.submit(u64::from(match told {
        Told::Opens => BPF_RB_FORCE_WAKEUP,
        Told::Runs => BPF_RB_NO_WAKEUP,
    }));
    true
}

/// Counts an event outside of tc, where another of us may interrupt.
#[inline(always)]
fn note_apart(reason: Reason) {
    // SAFETY: no precondition.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if let Some(counters) = COUNTERS.get_ptr_mut(cpu) {
        // SAFETY: a live, aligned word of the array, which only hooks write, and they like this.
        unsafe {
            atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(
                &raw mut (*counters).counts[reason as usize].packets,
                1,
            );
        }
    }
}
