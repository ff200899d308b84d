//! Openings of miners by the kernel's Stratum stage, run in the kernel on frames that we make
//! (`BPF_PROG_TEST_RUN`). Needs root; skips with the reason where it cannot run.

#[path = "../../ebpf/programs/src/golden.rs"]
#[expect(
    dead_code,
    reason = "shared with the host tests of the kernel programs"
)]
mod golden;
mod kernel;
#[path = "kernel/run.rs"]
#[expect(dead_code, reason = "shared with the other kernel tests")]
mod run;

use picket_agent::capture::ebpf::{Options, Stages};
use picket_sense::input::Recognised;

use golden::{ethernet, ipv4, ipv6, tcp, udp};
use kernel::{Totals, in_namespace, open, open_with, small};
use run::run;

const SUBSCRIBE: &str =
    "{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"cpuminer/2.5\"]}\n";

/// A segment of the flow from this port to that one.
fn segment(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    ethernet(0x0800, &ipv4(6, &tcp(ports, 0x18, payload)))
}

/// A login of xmrig with all its algorithms.
fn login() -> String {
    let algorithms = vec!["\"rx/0\""; 70].join(",");
    format!(
        "{{\"id\":1,\"jsonrpc\":\"2.0\",\"method\":\"login\",\"params\":{{\"login\":\"{}\",\"pass\":\"x\",\"agent\":\"XMRig/6.22\",\"algo\":[{algorithms}]}}}}\n",
        "4".repeat(95)
    )
}

#[test]
fn openings_are_told_with_their_line_and_others_are_not() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        let mut totals = Totals::default();
        let ether = r#"{"worker":"rig-1","id":1,"jsonrpc":"2.0","method":"eth_submitLogin","params":["0xW"]}"#;
        let login = login();
        assert!(login.len() > 600 && login.len() < 1024);
        let huge = format!("{{\"method\":\"login\",\"pad\":\"{}\"}}", "x".repeat(1300));
        let rows: [(&str, &[u8], bool); 12] = [
            ("stratum", SUBSCRIBE.as_bytes(), true),
            ("xmrig", login.as_bytes(), true),
            ("ethproxy", ether.as_bytes(), true),
            ("longer than what is told", huge.as_bytes(), true),
            (
                "json of another kind",
                br#"{"method":"getinfo","id":"mining"}"#,
                false,
            ),
            ("a brace alone", b"{", false),
            (
                "text that speaks of it",
                b"GET /?q={\"mining.subscribe\"} HTTP/1.1\r\n",
                false,
            ),
            (
                "too far behind",
                &[b"{", &[b' '; 100][..], b"\"mining.subscribe\""].concat(),
                false,
            ),
            ("cut within the name", br#"{"id":1,"method":"minin"#, false),
            (
                "TLS",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                false,
            ),
            ("zeros", &[0; 200], false),
            ("one byte", b"x", false),
        ];
        for (at, (point, payload, found)) in rows.iter().enumerate() {
            totals.notices.clear();
            totals.copies.clear();
            let port = 40_000 + u16::try_from(at).expect("few rows");
            run(&mut capture, "ether_out", &segment((port, 443), payload));
            totals.gather(&mut capture);
            assert_eq!(totals.notices.len(), usize::from(*found), "{point}");
            assert_eq!(
                totals.copies.len(),
                1,
                "{point}: the copy comes all the same"
            );
            for notice in &totals.notices {
                assert_eq!(notice.recognised, Recognised::Stratum);
                assert_eq!((notice.local.1, notice.remote.1), (port, 443));
                assert_eq!(notice.bytes, payload[..payload.len().min(1024)], "{point}");
            }
        }
        // Over IPv6, to the port of DNS, and from the other side.
        totals.notices.clear();
        let six = ipv6(6, &tcp((41_000, 443), 0x18, SUBSCRIBE.as_bytes()));
        run(&mut capture, "ether_out", &ethernet(0x86dd, &six));
        run(
            &mut capture,
            "ether_out",
            &segment((41_001, 53), SUBSCRIBE.as_bytes()),
        );
        run(
            &mut capture,
            "ether_in",
            &segment((41_002, 443), SUBSCRIBE.as_bytes()),
        );
        // UDP is not asked.
        let datagram = udp((41_003, 3333), SUBSCRIBE.as_bytes());
        run(
            &mut capture,
            "ether_out",
            &ethernet(0x0800, &ipv4(17, &datagram)),
        );
        totals.gather(&mut capture);
        assert_eq!(totals.notices.len(), 3);
        totals.assert_equation();
    });
}

#[test]
fn only_the_first_payloads_of_a_flow_are_looked_at() {
    in_namespace(|| {
        let mut capture = open(&["lo"], small());
        let mut totals = Totals::default();
        let first = |port: u16, before: usize, capture: &mut _| {
            // Packets without payload do not count.
            run(capture, "ether_out", &segment((port, 443), &[]));
            for _ in 0..before {
                run(capture, "ether_out", &segment((port, 443), b"CONNECT"));
            }
            run(
                capture,
                "ether_out",
                &segment((port, 443), SUBSCRIBE.as_bytes()),
            );
        };
        for before in 0..4 {
            first(42_000 + before, usize::from(before), &mut capture);
        }
        totals.gather(&mut capture);
        assert_eq!(totals.notices.len(), 4);
        first(42_100, 4, &mut capture);
        totals.gather(&mut capture);
        assert_eq!(totals.notices.len(), 4, "the fifth payload of a direction");
    });
}

#[test]
fn a_refused_stage_leaves_the_copies_to_the_sensor() {
    in_namespace(|| {
        let refused = Options {
            spoiled: Stages::ALL,
            ..Options::default()
        };
        let off = Options {
            stages: Stages::NONE,
            ..Options::default()
        };
        for options in [refused, off] {
            let mut capture = open_with(&["lo"], small(), &options);
            let stages = capture.stages();
            assert_eq!(stages[1].name, "stratum");
            assert!(!stages[1].in_kernel, "{stages:?}");
            let mut totals = Totals::default();
            run(
                &mut capture,
                "ether_out",
                &segment((40_000, 443), SUBSCRIBE.as_bytes()),
            );
            totals.gather(&mut capture);
            assert_eq!((totals.notices.len(), totals.copies.len()), (0, 1));
            assert_eq!(totals.count("match", "stratum_in_user_space").0, 1);
        }
    });
}
