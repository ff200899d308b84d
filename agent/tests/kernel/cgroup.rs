//! A program of somebody else's at the root of the control groups: it refuses connections to one port.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::PathBuf;

/// `BPF_CGROUP_INET4_CONNECT` of `enum bpf_attach_type`.
const CONNECT4: u32 = 10;

/// Attached beside others, as systemd and container runtimes do; it leaves with this value.
pub(crate) struct Foreign {
    group: fs::File,
    program: OwnedFd,
}

/// Where control groups of version 2 are, if they are.
pub(crate) fn root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    line.split(' ').nth(4).map(PathBuf::from)
}

impl Foreign {
    /// Refuses connections over IPv4 to `port` from now on.
    pub(crate) fn refuse(port: u16) -> Self {
        const PROG_ATTACH: libc::c_long = 8;
        const ALLOW_MULTI: u32 = 2;
        let group = fs::File::open(root().expect("control groups")).expect("open their root");
        let program = load(port);
        let attach = [
            group.as_raw_fd() as u32,
            program.as_raw_fd() as u32,
            CONNECT4,
            ALLOW_MULTI,
        ];
        // SAFETY: the call reads the four words it is told of.
        let answer = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, 16) };
        assert_eq!(answer, 0, "attach: {}", io::Error::last_os_error());
        Self { group, program }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        const PROG_DETACH: libc::c_long = 9;
        let detach = [
            self.group.as_raw_fd() as u32,
            self.program.as_raw_fd() as u32,
            CONNECT4,
            0,
        ];
        // SAFETY: the call reads the four words it is told of.
        unsafe { libc::syscall(libc::SYS_bpf, PROG_DETACH, &raw const detach, 16) };
    }
}

/// `r2 = ctx->user_port; r0 = 1; if r2 != port goto exit; r0 = 0; exit`.
fn load(port: u16) -> OwnedFd {
    const PROG_LOAD: libc::c_long = 5;
    const CGROUP_SOCK_ADDR: u32 = 18;
    /// Of `user_port` in `struct bpf_sock_addr`, and of `expected_attach_type` in `union bpf_attr`.
    const USER_PORT: u64 = 24;
    const EXPECTED_ATTACH_TYPE: usize = 68 / 4;
    // In network order, as it stands there.
    let port = u64::from(port.to_be());
    let instructions = [
        0x61 | 0x12 << 8 | USER_PORT << 16,
        0xb7 | 1 << 32,
        0x55 | 0x02 << 8 | 1 << 16 | port << 32,
        0xb7,
        0x95,
    ];
    let halves = |address: u64| [address as u32, (address >> 32) as u32];
    let mut attributes = [0u32; 32];
    attributes[..2].copy_from_slice(&[CGROUP_SOCK_ADDR, instructions.len() as u32]);
    attributes[2..4].copy_from_slice(&halves(instructions.as_ptr() as u64));
    attributes[4..6].copy_from_slice(&halves(c"GPL".as_ptr() as u64));
    attributes[EXPECTED_ATTACH_TYPE] = CONNECT4;
    // SAFETY: the call reads 128 bytes of attributes, and the instructions and the text that they
    // point to; all outlive it. A descriptor it gives is ours alone.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const attributes, 128);
        assert!(fd >= 0, "load: {}", io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd as i32)
    }
}
