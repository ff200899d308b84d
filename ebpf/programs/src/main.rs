//! Entry points of picket's kernel programs. Everything they do is in the library beside.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod entry {
    use aya_ebpf::macros::classifier;
    use aya_ebpf::programs::TcContext;
    use picket_abi::Way;
    use picket_programs::kernel::{look_for_names, look_for_stratum, observe};
    use picket_programs::parse::Link;

    /// What leaves an interface with Ethernet headers. Follows `sch_handle_egress`
    /// (net/core/dev.c); tc since Linux 4.1, tcx since 6.6.
    #[classifier]
    pub fn ether_out(context: TcContext) -> i32 {
        observe(context.skb.skb, Way::Out, Link::Ethernet)
    }

    /// What enters an interface with Ethernet headers. Follows `sch_handle_ingress`.
    #[classifier]
    pub fn ether_in(context: TcContext) -> i32 {
        observe(context.skb.skb, Way::In, Link::Ethernet)
    }

    /// What leaves an interface without link headers (tunnels).
    #[classifier]
    pub fn ip_out(context: TcContext) -> i32 {
        observe(context.skb.skb, Way::Out, Link::Ip)
    }

    /// What enters an interface without link headers.
    #[classifier]
    pub fn ip_in(context: TcContext) -> i32 {
        observe(context.skb.skb, Way::In, Link::Ip)
    }

    /// Stage: questions of DNS against the listed names. Never attached; the programs above jump
    /// to it.
    #[classifier]
    pub fn names(context: TcContext) -> i32 {
        look_for_names(context.skb.skb)
    }

    /// Stage: openings of miners. Never attached.
    #[classifier]
    pub fn stratum(context: TcContext) -> i32 {
        look_for_stratum(context.skb.skb)
    }

    /// The ring buffer and the exact clock are helpers for programs under the GPL.
    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo) -> ! {
        // SAFETY: the programs contain no panicking path; the verifier would refuse this one.
        unsafe { core::hint::unreachable_unchecked() }
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("these programs run in the kernel; build them with `cargo xtask kernel`");
}
