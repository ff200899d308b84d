//! A flood of one kind of record holds up no other: programs run in the kernel on frames that we make
//! (`BPF_PROG_TEST_RUN`). Needs root; skips with the reason where it cannot run.

#[path = "kernel/dns.rs"]
#[expect(dead_code, reason = "shared with the other kernel tests")]
mod dns;
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

use std::net::IpAddr;
use std::time::Duration;

use picket_agent::capture::ebpf::Sizes;

use golden::{ethernet, ipv4, tcp, udp};
use kernel::{Totals, in_namespace, open, small};
use run::{frame_to, run};

/// More than one look hands over.
const FLOOD: u32 = 9_000;

#[test]
fn a_flood_of_address_hits_holds_up_no_listed_name_and_no_flow() {
    in_namespace(|| {
        let sizes = Sizes {
            slots_per_cpu: 256,
            hit_ring_bytes: 4 << 20,
            evicted_ring_bytes: 4 << 20,
            ..small()
        };
        let mut capture = open(&["lo"], sizes);
        let net: IpAddr = "198.18.0.0".parse().expect("an address");
        let loaded = capture
            .load_sets([(net, 15)].into_iter(), ["evil.example"].into_iter(), 1)
            .expect("load");
        loaded.names.expect("the name fits");
        for nth in 0..FLOOD {
            let frame = frame_to(0xc612_0000 + nth, 6, &tcp((51_000, 443), 0x02, &[]));
            run(&mut capture, "ether_out", &frame);
        }
        let question = udp((40_000, 53), &dns::query("evil.example"));
        let question = ethernet(0x0800, &ipv4(17, &question));
        run(&mut capture, "ether_out", &question);

        let mut totals = Totals::default();
        totals.poll(&mut capture, Duration::ZERO);
        assert_eq!(totals.notices.len(), 1, "with the first look");
        assert!(totals.flows.len() > 500, "{} flows", totals.flows.len());
        assert!(
            totals.hits.len() < FLOOD as usize,
            "there was more than that"
        );

        totals.gather(&mut capture);
        assert_eq!(totals.hits.len(), FLOOD as usize, "and none is lost");
        assert_eq!(totals.in_flows().0, u64::from(FLOOD) + 1);
        totals.assert_equation();
    });
}
