//! A foreign program at the control groups works on beside our hooks, whoever was there first. Needs
//! root; skips with the reason where it cannot run.

#[path = "kernel/cgroup.rs"]
mod cgroup;
#[allow(dead_code, reason = "each test uses its part")]
mod kernel;

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};

use cgroup::Foreign;
use kernel::{Totals, in_namespace, open, small};
use picket_agent::capture::ebpf::EbpfCapture;

/// Ports that the two foreign programs refuse: nobody's (IANA), so that no other process minds.
const FIRST: u16 = 6;
const SECOND: u16 = 8;

/// Says whether a connection is refused by a program: otherwise nobody listens.
fn is_refused(port: u16) -> bool {
    let outcome = TcpStream::connect(("127.0.0.1", port));
    match outcome.expect_err("nobody listens").kind() {
        ErrorKind::PermissionDenied => true,
        ErrorKind::ConnectionRefused => false,
        other => unreachable!("port {port}: {other}"),
    }
}

/// Whether our hooks tell who opened a connection.
fn names_owners(capture: &mut EbpfCapture) -> bool {
    let server = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = server.local_addr().expect("its address");
    let _client = TcpStream::connect(address).expect("connect");
    let mut totals = Totals::default();
    totals.gather(capture);
    let ours = totals
        .flows
        .values()
        .filter(|flow| [flow.local.1, flow.remote.1].contains(&address.port()));
    let owners: Vec<_> = ours.filter_map(|flow| flow.owner).collect();
    !owners.is_empty()
}

#[test]
fn a_foreign_program_at_the_control_groups_works_on() {
    if cgroup::root().is_none() {
        println!("skipped, no control groups of version 2 are mounted");
        return;
    }
    in_namespace(|| {
        let up = std::process::Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(up.expect("start ip").success());
        assert!(!is_refused(FIRST) && !is_refused(SECOND));
        let _before = Foreign::refuse(FIRST);
        assert!(is_refused(FIRST));
        let mut capture = open(&["lo"], small());
        assert!(is_refused(FIRST) && !is_refused(SECOND));
        assert!(names_owners(&mut capture), "{:?}", capture.owner_state());
        let _after = Foreign::refuse(SECOND);
        assert!(is_refused(FIRST) && is_refused(SECOND));
        assert!(names_owners(&mut capture), "{:?}", capture.owner_state());
        drop(capture);
        assert!(
            is_refused(FIRST) && is_refused(SECOND),
            "we took ours alone"
        );
    });
}
