//! A pair of interfaces between two network namespaces, and traffic over it.

use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use picket_agent::capture::ebpf::EbpfCapture;

use crate::kernel::{Totals, leave_namespace};

/// The other end of the wire: a thread in a namespace of its own, which works on request.
pub(crate) struct Peer {
    jobs: Option<mpsc::Sender<Box<dyn FnOnce() + Send>>>,
    thread: Option<JoinHandle<()>>,
}

/// Runs a command in the calling thread's namespace.
pub(crate) fn command(line: &str) {
    let mut words = line.split_whitespace();
    let status = Command::new(words.next().expect("a command"))
        .args(words)
        .stdout(Stdio::null())
        .status()
        .expect("start the command");
    assert!(status.success(), "{line}: {status}");
}

/// Address of our end.
pub(crate) const OURS: &str = "10.9.0.1";
/// Address of the other end.
pub(crate) const THEIRS: &str = "10.9.0.2";

impl Peer {
    /// Makes the interface `here`, whose other end `there` is in the peer's namespace.
    pub(crate) fn connect(here: &str, there: &str) -> Self {
        let (jobs, work) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            leave_namespace();
            // SAFETY: the call takes and touches nothing.
            let thread = unsafe { libc::gettid() };
            tell.send(thread).expect("tell our number");
            while let Ok(job) = work.recv() {
                job();
            }
        });
        let number = told.recv().expect("the peer's number");
        let namespace = format!("/proc/{}/task/{number}/ns/net", std::process::id());
        command(&format!("ip link add {here} type veth peer name {there}"));
        command(&format!("ip link set {there} netns {namespace}"));
        command("ip link set lo up");
        command(&format!("ip addr add {OURS}/24 dev {here}"));
        command(&format!("ip link set {here} up"));
        let peer = Self {
            jobs: Some(jobs),
            thread: Some(thread),
        };
        let there = there.to_owned();
        peer.run(move || {
            command("ip link set lo up");
            command(&format!("ip addr add {THEIRS}/24 dev {there}"));
            command(&format!("ip link set {there} up"));
        });
        peer
    }

    /// Has the peer do something and waits for it.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let job = Box::new(move || drop(tell.send(job())));
        self.jobs
            .as_ref()
            .expect("running")
            .send(job)
            .expect("ask the peer");
        told.recv().expect("the peer's answer")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A socket on any port of an address.
pub(crate) fn socket(address: &str) -> UdpSocket {
    UdpSocket::bind((address, 0)).expect("bind")
}

/// Sends datagrams of a size from one socket; all of them are on the wire when it returns.
pub(crate) fn send(from: &UdpSocket, to: SocketAddr, bytes: usize, times: u32) {
    let payload = vec![0; bytes];
    for _ in 0..times {
        from.send_to(&payload, to).expect("send");
    }
}

/// Sends bytes over TCP to a server that reads them to their end.
pub(crate) fn send_tcp(peer: &Peer, bytes: usize) -> (SocketAddr, SocketAddr) {
    let (address, served) = peer.run(|| {
        let server = std::net::TcpListener::bind((THEIRS, 0)).expect("listen");
        let address = server.local_addr().expect("its address");
        let served = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().expect("accept");
            std::io::copy(&mut stream, &mut std::io::sink()).expect("read")
        });
        (address, served)
    });
    let mut stream = std::net::TcpStream::connect(address).expect("connect");
    let ours = stream.local_addr().expect("our address");
    stream.write_all(&vec![7; bytes]).expect("write");
    drop(stream);
    assert_eq!(served.join().expect("served"), bytes as u64);
    (ours, address)
}

/// Gathers until `done` or ten seconds are over.
pub(crate) fn gather_until(
    totals: &mut Totals,
    capture: &mut EbpfCapture,
    done: impl Fn(&Totals) -> bool,
) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        totals.gather(capture);
        if done(totals) {
            return;
        }
        assert!(Instant::now() < until, "nothing came: {totals:?}");
        totals.poll(capture, Duration::from_millis(10));
    }
}

/// Sends a frame of which the kernel puts 14 bytes into the linear part of its buffer.
pub(crate) fn send_barely_linear(interface: &str, frame: &[u8]) {
    const SOL_PACKET: i32 = 263;
    /// `PACKET_VNET_HDR` of include/uapi/linux/if_packet.h.
    const VNET_HEADER: i32 = 15;
    let name = std::ffi::CString::new(interface).expect("a name");
    // SAFETY: plain calls on a descriptor that is ours; every pointer goes to a value of the
    // size that is given with it and outlives the call.
    unsafe {
        let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
        assert!(socket >= 0, "{}", std::io::Error::last_os_error());
        let socket = OwnedFd::from_raw_fd(socket);
        let on = 1i32;
        let answer = libc::setsockopt(
            socket.as_raw_fd(),
            SOL_PACKET,
            VNET_HEADER,
            (&raw const on).cast(),
            4,
        );
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
        let mut to: libc::sockaddr_ll = std::mem::zeroed();
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_protocol = 0x0800u16.to_be();
        to.sll_ifindex = libc::if_nametoindex(name.as_ptr()).cast_signed();
        // struct virtio_net_hdr: flags, GSO type, bytes of header, ….
        let header = [0, 0, 14, 0, 0, 0, 0, 0, 0, 0];
        let message = [&header[..], frame].concat();
        let sent = libc::sendto(
            socket.as_raw_fd(),
            message.as_ptr().cast(),
            message.len(),
            0,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        );
        assert_eq!(
            sent,
            message.len() as isize,
            "{}",
            std::io::Error::last_os_error()
        );
    }
}
