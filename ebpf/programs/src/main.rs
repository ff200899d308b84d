//! Entry points of picket's kernel programs. Everything they do is in the library beside.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(all(target_arch = "bpf", feature = "bench"))]
mod bench;

#[cfg(target_arch = "bpf")]
mod entry {
    //! Each is inlined into what the macro makes of it: a kernel takes no jump to a stage from a
    //! function of its own.

    use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr, classifier, raw_tracepoint};
    use aya_ebpf::programs::{RawTracePointContext, SockAddrContext, SockContext, TcContext};
    use picket_abi::Way;
    use picket_programs::kernel::{
        look_for_names, look_for_stratum, look_inside, loopback, observe, owner,
    };
    use picket_programs::parse::Link;

    /// What leaves an interface with Ethernet headers. Follows `sch_handle_egress`
    /// (net/core/dev.c); tc since Linux 4.1, tcx since 6.6.
    #[classifier]
    #[inline(always)]
    pub fn ether_out(context: TcContext) -> i32 {
        observe(context.skb.skb, Way::Out, Link::Ethernet)
    }

    /// What enters an interface with Ethernet headers. Follows `sch_handle_ingress`.
    #[classifier]
    #[inline(always)]
    pub fn ether_in(context: TcContext) -> i32 {
        observe(context.skb.skb, Way::In, Link::Ethernet)
    }

    /// What leaves an interface without link headers (tunnels).
    #[classifier]
    #[inline(always)]
    pub fn ip_out(context: TcContext) -> i32 {
        observe(context.skb.skb, Way::Out, Link::Ip)
    }

    /// What enters an interface without link headers.
    #[classifier]
    #[inline(always)]
    pub fn ip_in(context: TcContext) -> i32 {
        observe(context.skb.skb, Way::In, Link::Ip)
    }

    /// What enters an interface with Ethernet headers, a second time: what is inside the tunnels
    /// of mirrored traffic. Attached beside `ether_in` where the host is the target of a mirror.
    #[classifier]
    #[inline(always)]
    pub fn mirror_in(context: TcContext) -> i32 {
        look_inside(context.skb.skb)
    }

    /// What processes of this host send each other. Attached to `lo`, where it counts nothing.
    #[classifier]
    #[inline(always)]
    pub fn lo_out(context: TcContext) -> i32 {
        loopback::observe(context.skb.skb)
    }

    /// Stage: questions of DNS against the listed names. Never attached; the programs above jump
    /// to it.
    #[classifier]
    #[inline(always)]
    pub fn names(context: TcContext) -> i32 {
        look_for_names(context.skb.skb)
    }

    /// Stage: openings of miners. Never attached.
    #[classifier]
    #[inline(always)]
    pub fn stratum(context: TcContext) -> i32 {
        look_for_stratum(context.skb.skb)
    }

    /// A socket is made; `BPF_CGROUP_INET_SOCK_CREATE`, since Linux 4.10, with socket storage
    /// since 5.10.
    #[cgroup_sock(sock_create)]
    pub fn sock_create(context: SockContext) -> i32 {
        owner::created(context.sock)
    }

    /// A socket is connected; since Linux 4.17.
    #[cgroup_sock_addr(connect4)]
    pub fn connect4(context: SockAddrContext) -> i32 {
        owner::connected(socket_of(&context))
    }

    /// As above, IPv6.
    #[cgroup_sock_addr(connect6)]
    pub fn connect6(context: SockAddrContext) -> i32 {
        owner::connected(socket_of(&context))
    }

    /// A datagram is sent to an address given with it; since Linux 4.18.
    #[cgroup_sock_addr(sendmsg4)]
    pub fn sendmsg4(context: SockAddrContext) -> i32 {
        owner::sent(socket_of(&context))
    }

    /// As above, IPv6.
    #[cgroup_sock_addr(sendmsg6)]
    pub fn sendmsg6(context: SockAddrContext) -> i32 {
        owner::sent(socket_of(&context))
    }

    /// A datagram is received together with who sent it; since Linux 5.2.
    #[cgroup_sock_addr(recvmsg4)]
    pub fn recvmsg4(context: SockAddrContext) -> i32 {
        owner::received(socket_of(&context))
    }

    /// As above, IPv6.
    #[cgroup_sock_addr(recvmsg6)]
    pub fn recvmsg6(context: SockAddrContext) -> i32 {
        owner::received(socket_of(&context))
    }

    /// A process runs a program: `TP_PROTO(struct task_struct *, pid_t, struct linux_binprm *)`
    /// of include/trace/events/sched.h; raw tracepoints since Linux 4.17.
    #[raw_tracepoint(tracepoint = "sched_process_exec")]
    pub fn process_exec(context: RawTracePointContext) -> i32 {
        owner::executed(context.arg(2))
    }

    #[inline(always)]
    fn socket_of(context: &SockAddrContext) -> *mut aya_ebpf::bindings::bpf_sock {
        // SAFETY: the kernel gives the program a valid context, whose socket is there.
        unsafe { (*context.sock_addr).__bindgen_anon_1.sk }
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
