//! What somebody else with root does to our programs.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::{fs, io};

use aya::maps::{Array, Map, MapData, MapInfo};

/// Words of what says which tables are in force.
const CONFIG_WORDS: usize = size_of::<picket_abi::AddressConfig>() / size_of::<u64>();

/// Which way packets go through an interface: `enum bpf_attach_type`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tcx {
    /// `BPF_TCX_INGRESS`.
    In = 46,
    /// `BPF_TCX_EGRESS`.
    Out = 47,
}

/// Detaches every tcx link from one direction of an interface, by id, as `bpftool link detach`
/// does. Returns how many there were.
pub(crate) fn detach_links(interface: &str, direction: Tcx) -> usize {
    /// Numbers of `enum bpf_cmd`.
    const PROG_QUERY: libc::c_long = 16;
    const LINK_GET_FD_BY_ID: libc::c_long = 30;
    const LINK_DETACH: libc::c_long = 34;
    let name = std::ffi::CString::new(interface).expect("a name");
    let (mut programs, mut links) = ([0u32; 64], [0u32; 64]);
    // Interface, type, flags, count and addresses of `union bpf_attr`'s query, as words of 4 bytes.
    let address = |ids: &mut [u32; 64]| {
        let address = ids.as_mut_ptr() as u64;
        [address as u32, (address >> 32) as u32]
    };
    let (at_programs, at_links) = (address(&mut programs), address(&mut links));
    // SAFETY: the name ends with a zero. Each call reads a bpf_attr of as many bytes as it is told,
    // and the query writes at most 64 ids to arrays of as many.
    unsafe {
        let index = libc::if_nametoindex(name.as_ptr());
        let mut query = [0u32; 16];
        query[..8].copy_from_slice(&[
            index,
            direction as u32,
            0,
            0,
            at_programs[0],
            at_programs[1],
            64,
            0,
        ]);
        query[10..12].copy_from_slice(&at_links);
        let answer = libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut query, 64);
        assert_eq!(answer, 0, "query: {}", io::Error::last_os_error());
        let mut count = 0;
        for id in &links[..query[6] as usize] {
            let by_id = [*id, 0, 0];
            let link = libc::syscall(libc::SYS_bpf, LINK_GET_FD_BY_ID, &raw const by_id, 12);
            let error = io::Error::last_os_error();
            // Nobody holds it any more, and the kernel is about to take it off.
            if link < 0 && error.raw_os_error() == Some(libc::ENOENT) {
                continue;
            }
            assert!(link >= 0, "link {id}: {error}");
            count += 1;
            let detach = [link as u32];
            let answer = libc::syscall(libc::SYS_bpf, LINK_DETACH, &raw const detach, 4);
            assert_eq!(answer, 0, "detach: {}", io::Error::last_os_error());
            libc::close(link as i32);
        }
        count
    }
}

/// Takes every place on one direction of an interface with programs that let each packet pass, as
/// long as the descriptors are held: fewer than 64 (`BPF_MPROG_MAX`). None where the kernel has no
/// tcx.
pub(crate) fn occupy(interface: &str, direction: Tcx) -> Vec<OwnedFd> {
    /// Numbers of `enum bpf_cmd`, and `BPF_PROG_TYPE_SCHED_CLS`.
    const PROG_LOAD: libc::c_long = 5;
    const LINK_CREATE: libc::c_long = 28;
    const SCHED_CLS: u64 = 3;
    /// `r0 = TCX_NEXT`, `exit`.
    const PASS: [u64; 2] = [0xffff_ffff_0000_00b7, 0x95];
    let name = std::ffi::CString::new(interface).expect("a name");
    let mut links = Vec::new();
    loop {
        // Type and number of instructions, their address, that of an empty license.
        let load = [
            SCHED_CLS | (PASS.len() as u64) << 32,
            PASS.as_ptr() as u64,
            c"".as_ptr() as u64,
        ];
        // SAFETY: the name and the license end with a zero, and each call reads a bpf_attr of as
        // many bytes as it is told, whose addresses are those of values that live on. A descriptor
        // that is given belongs to nobody else.
        unsafe {
            let program = libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, 24);
            assert!(program >= 0, "load: {}", io::Error::last_os_error());
            let program = OwnedFd::from_raw_fd(program as i32);
            let index = libc::if_nametoindex(name.as_ptr());
            let create = [program.as_raw_fd() as u32, index, direction as u32, 0];
            let link = libc::syscall(libc::SYS_bpf, LINK_CREATE, &raw const create, 16);
            if link < 0 {
                let error = io::Error::last_os_error();
                let expected = match links.len() {
                    0 => libc::EINVAL,
                    _ => libc::ERANGE,
                };
                assert_eq!(error.raw_os_error(), Some(expected), "link: {error}");
                break;
            }
            links.push(OwnedFd::from_raw_fd(link as i32));
        }
    }
    links
}

/// Switches matching off in the kernel maps of a process, as somebody with root may: what says which
/// tables are in force is zeroed.
pub(crate) fn blind(process: u32) {
    let folder = format!("/proc/{process}/fdinfo");
    let mut zeroed = 0;
    for entry in fs::read_dir(folder).expect("its descriptors") {
        let path = entry.expect("a descriptor").path();
        // One that it closed meanwhile is no map of its.
        let text = fs::read_to_string(path).unwrap_or_default();
        let id = text
            .lines()
            .find_map(|line| line.strip_prefix("map_id:")?.trim().parse().ok());
        let Some(id) = id else { continue };
        let info = MapInfo::from_id(id).expect("a map");
        if info.name_as_str() != Some("CONFIG") {
            continue;
        }
        let map = MapData::from_id(id).expect("a map");
        let mut array: Array<MapData, [u64; CONFIG_WORDS]> =
            Map::Array(map).try_into().expect("its words");
        array
            .set(0, [0; CONFIG_WORDS], 0)
            .expect("write to the map");
        zeroed += 1;
    }
    assert!(zeroed > 0, "no map found");
}
