//! The packet socket rung on real packets, over a pair of interfaces between two namespaces. Needs root;
//! skips with the reason where it cannot run.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test uses its part")]
mod kernel;
#[path = "kernel/link.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod link;

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel::{in_namespace, small};
use link::{OURS, Peer, THEIRS, command, send, send_barely_linear, send_tcp, socket};
use picket_agent::capture::addresses;
use picket_agent::capture::ebpf::{EbpfCapture, Options};
use picket_agent::capture::live::{Event, Live};
use picket_agent::capture::packet::{PacketCapture, RUNG, Sizes};
use picket_agent::feeds::Feeds;
use picket_agent::watch::now_ns;
use picket_intel::IndicatorSet;
use picket_sense::{Clock, Sensor, SensorConfig};
use picket_wire::{Host, Summary};

const LIMIT: Duration = Duration::from_secs(10);

fn options(interface: &str) -> Options {
    Options {
        interfaces: vec![interface.to_owned()],
        default_route: false,
        sizes: small(),
        ..Options::default()
    }
}

fn packets(interface: &str) -> PacketCapture {
    PacketCapture::open(&options(interface), Sizes::default()).unwrap()
}

/// A capture with the sensor behind it.
struct Rig {
    capture: Box<dyn Live>,
    sensor: Sensor,
}

impl Rig {
    fn new(mut capture: Box<dyn Live>, set: &Arc<IndicatorSet>) -> Self {
        let host = Host {
            capture: capture.rung().to_owned(),
            local: addresses::of_host().unwrap(),
            ..Host::default()
        };
        capture.load_set(set).unwrap();
        let config = SensorConfig::new(host, Clock::Caller);
        let mut sensor = Sensor::new(config, Arc::clone(set));
        sensor.on_tick(now_ns());
        Self { capture, sensor }
    }

    fn feed(sensor: &mut Sensor, event: Event<'_>) {
        match event {
            Event::Hit(hit) => sensor.on_kernel_hit(&hit),
            Event::Block(block) => sensor.on_kernel_block(&block),
            Event::Flow(delta) => sensor.on_flow(&delta),
            Event::Notice(notice) => sensor.on_kernel_notice(&notice),
            Event::Copy(copy) => sensor.on_copy(&copy),
            Event::Process(_) => {}
            Event::Frame(live) => sensor.on_live_frame(&live),
        }
    }

    fn poll(&mut self, timeout: Duration) -> usize {
        let sensor = &mut self.sensor;
        let capture = &mut self.capture;
        let handed = capture.poll(timeout, &mut |event| Self::feed(sensor, event));
        handed.unwrap()
    }

    fn gather(&mut self) {
        while self.poll(Duration::ZERO) > 0 {}
        let sensor = &mut self.sensor;
        let swept = self.capture.sweep(&mut |event| Self::feed(sensor, event));
        swept.unwrap();
        for count in self.capture.counters() {
            self.sensor.on_counts(&count);
        }
    }

    /// Gathers until a counter says so.
    fn gather_until(&mut self, what: &str, done: impl Fn(u64) -> bool) {
        let until = Instant::now() + LIMIT;
        loop {
            self.gather();
            let (seen, _) = self.count("kernel", what);
            if done(seen) {
                return;
            }
            assert!(Instant::now() < until, "{what}: {seen}");
            self.poll(Duration::from_millis(10));
        }
    }

    /// A counter's packets and bytes since the start.
    fn count(&mut self, stage: &str, reason: &str) -> (u64, u64) {
        let mut all = self.sensor.counters().totals();
        let found = all.find(|one| (one.stage.as_str(), one.reason.as_str()) == (stage, reason));
        found.map_or((0, 0), |one| (one.count, one.bytes))
    }

    /// Closes the window.
    fn finish(mut self) -> Vec<Summary> {
        self.gather();
        let equation = self.sensor.counters().equation("kernel");
        assert!(equation.holds(), "{equation:?}");
        assert_eq!(equation.unsettled.count, 0, "{equation:?}");
        self.sensor.finish(Some(now_ns()));
        std::iter::from_fn(|| self.sensor.poll_output()).collect()
    }
}

/// Indicators from a folder with these files.
fn indicators(files: &[(&str, &str)]) -> Arc<IndicatorSet> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let feeds = Feeds::load(folder.path()).unwrap();
    assert_eq!(feeds.complaints(), Vec::<String>::new());
    feeds.set
}

/// A question for `name`, or its answer (RFC 1035 4.1).
fn dns(name: &str, answer: bool) -> Vec<u8> {
    let mut message = vec![
        0,
        7,
        if answer { 0x81 } else { 1 },
        0,
        0,
        1,
        0,
        u8::from(answer),
    ];
    message.extend([0; 4]);
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    if answer {
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 9, 0, 2]);
    }
    message
}

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let addresses = [[0xff; 6], [2, 0, 0, 0, 0, 9]].concat();
    [&addresses[..], &kind.to_be_bytes(), payload].concat()
}

fn ipv4(protocol: u8, ends: [&str; 2], payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0];
    for end in ends {
        packet.extend(end.parse::<Ipv4Addr>().unwrap().octets());
    }
    packet.extend(payload);
    let total = packet.len() as u16;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet
}

/// What a real client of TLS says first.
fn client_hello(name: &'static str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = name.try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// Datagrams both ways, a question with its answer, segmented TCP, a ClientHello, echoes.
fn play(peer: &Peer) {
    let theirs = peer.run(|| socket(THEIRS));
    let to = theirs.local_addr().unwrap();
    let sockets: Vec<_> = (1..=20u32)
        .map(|n| {
            let ours = socket(OURS);
            send(&ours, to, 100, n);
            ours
        })
        .collect();
    let back = sockets[0].local_addr().unwrap();
    peer.run(move || send(&theirs, back, 10, 7));
    let resolver = peer.run(|| UdpSocket::bind((THEIRS, 53)).unwrap());
    let asker = socket(OURS);
    asker
        .send_to(&dns("www.example.org", false), (THEIRS, 53))
        .unwrap();
    peer.run(move || {
        let mut buffer = [0; 512];
        let (_, from) = resolver.recv_from(&mut buffer).unwrap();
        resolver
            .send_to(&dns("www.example.org", true), from)
            .unwrap();
    });
    let mut buffer = [0; 512];
    asker.recv_from(&mut buffer).unwrap();
    send_tcp(peer, 4 << 20);
    let server = peer.run(|| TcpListener::bind((THEIRS, 443)).unwrap());
    let mut stream = TcpStream::connect((THEIRS, 443)).unwrap();
    stream
        .write_all(&client_hello("files.example.net"))
        .unwrap();
    drop(stream);
    peer.run(move || {
        let (mut stream, _) = server.accept().unwrap();
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    });
    // An echo request.
    let echo = [8, 0, 0, 0, 0, 77, 0, 1];
    send_barely_linear("pk-a", &ethernet(0x0800, &ipv4(1, [OURS, THEIRS], &echo)));
}

/// What may not differ between rungs, in a fixed order.
fn told(summaries: &[Summary]) -> Vec<String> {
    let mut lines = Vec::new();
    for summary in summaries {
        for one in &summary.conversations {
            let mut one = one.clone();
            (one.first_ns, one.last_ns, one.process) = (0, 0, None);
            one.starts_ms.fill(0);
            if one.flows > 1 {
                // Of folded flows, that of the one told first.
                one.client_port = 0;
            }
            lines.push(format!("{one:?}"));
        }
        for one in &summary.questions {
            let mut one = one.clone();
            (one.first_ns, one.last_ns, one.process) = (0, 0, None);
            if let Some(latency) = &mut one.latency {
                (latency.min_ns, latency.max_ns, latency.sum_ns) = (0, 0, 0);
            }
            lines.push(format!("{one:?}"));
        }
        for one in &summary.hits {
            let mut one = one.clone();
            (one.time_ns, one.process) = (0, None);
            lines.push(format!("{one:?}"));
        }
    }
    lines.sort();
    lines
}

#[test]
fn the_same_packets_tell_the_same_as_by_kernel_programs() {
    in_namespace(|| {
        let peer = Peer::connect("pk-a", "pk-b");
        let lists = [
            ("c2-ips.txt", format!("{THEIRS}:443\n")),
            (
                "phishing-domains.txt",
                "example.org\nfiles.example.net\n".to_owned(),
            ),
        ];
        let lists = lists.each_ref().map(|(name, text)| (*name, text.as_str()));
        let set = indicators(&lists);
        let programs = EbpfCapture::open(options("pk-a")).unwrap();
        let mut programs = Rig::new(Box::new(programs), &set);
        let mut sockets = Rig::new(Box::new(packets("pk-a")), &set);
        assert_eq!(sockets.capture.rung(), RUNG);
        assert_eq!(sockets.capture.interfaces(), ["pk-a"]);
        play(&peer);
        sockets.gather();
        let (flow, bytes) = sockets.count("kernel", "flow");
        assert!(flow > (4 << 20) / 1448, "segments are counted: {flow}");
        assert!(bytes > 4 << 20);
        assert!(sockets.count("socket", "frames_segmented").0 > 0);
        let (out, back) = (
            sockets.count("socket", "frames_out").0,
            sockets.count("socket", "frames_in").0,
        );
        assert!(
            out > 210 && back > 7 && out + back < flow,
            "{out} {back} {flow}"
        );
        programs.gather_until("flow", |packets| packets >= flow);
        assert_eq!(programs.count("kernel", "flow"), (flow, bytes));

        let (programs, sockets) = (programs.finish(), sockets.finish());
        assert!(sockets.iter().all(|one| one.host.capture == "afpacket"));
        let (expected, found) = (told(&programs), told(&sockets));
        let kinds = |begin: &str| found.iter().filter(|line| line.starts_with(begin)).count();
        assert!(kinds("Conversation") >= 5 && kinds("Question") == 1 && kinds("Hit") == 3);
        let alone = |these: &[String], others: &[String]| -> Vec<String> {
            these
                .iter()
                .filter(|one| !others.contains(one))
                .cloned()
                .collect()
        };
        assert_eq!(alone(&expected, &found), alone(&found, &expected));
        assert_eq!(expected.len(), found.len());
    });
}

/// Packets that passed an interface both ways, by its own counters.
fn passed(interface: &str) -> u64 {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = table
        .lines()
        .find_map(|line| line.trim().strip_prefix(interface));
    let fields: Vec<u64> = line
        .unwrap()
        .trim_start_matches(':')
        .split_whitespace()
        .map(|field| field.parse().unwrap())
        .collect();
    fields[1] + fields[9]
}

#[test]
fn what_a_flooded_ring_drops_is_counted() {
    in_namespace(|| {
        const SENT: u32 = 20_000;
        let peer = Peer::connect("pk-a", "pk-b");
        let sizes = Sizes {
            ring_bytes: 256 << 10,
            ..Sizes::default()
        };
        // The interface's own counter is the witness, so nothing may pass while we open.
        let (before, capture) = loop {
            let before = passed("pk-a");
            let capture = PacketCapture::open(&options("pk-a"), sizes).unwrap();
            if passed("pk-a") == before {
                break (before, capture);
            }
        };
        let mut rig = Rig::new(Box::new(capture), &Arc::default());
        let theirs = peer.run(|| socket(THEIRS));
        let to = theirs.local_addr().unwrap();
        // Nobody reads meanwhile.
        send(&socket(OURS), to, 100, SENT);
        rig.gather_until("flow", |packets| packets > 0);
        let lost = rig.count("kernel", "lost_ring_full").0;
        // And when it is read again, nothing is.
        send(&socket(OURS), to, 100, 100);
        rig.gather_until("seen", |seen| seen == passed("pk-a") - before);
        assert_eq!(rig.count("kernel", "lost_ring_full").0, lost);
        let (flow, _) = rig.count("kernel", "flow");
        println!("{SENT} and 100 sent, {flow} told, {lost} lost");
        assert!(flow + lost >= u64::from(SENT) + 100);
        assert!(lost > 1_000 && flow > 200);
        let summaries = rig.finish();
        let counters = || summaries.iter().flat_map(|one| &one.counters);
        let told = counters()
            .find(|one| one.reason == "lost_ring_full")
            .unwrap();
        assert_eq!((told.stage.as_str(), told.count), ("kernel", lost));
    });
}

#[test]
fn a_tag_that_the_kernel_takes_out_changes_no_count() {
    in_namespace(|| {
        let peer = Peer::connect("pk-a", "pk-b");
        let mut rig = Rig::new(Box::new(packets("pk-a")), &Arc::default());
        let udp = [&[0, 7, 0, 9, 0, 108, 0, 0][..], &[0; 100]].concat();
        let ip = ipv4(17, [THEIRS, OURS], &udp);
        let one = ethernet(0x8100, &[&[0, 7, 0x08, 0x00][..], &ip].concat());
        let two = [&[0, 7, 0x81, 0x00, 0, 8, 0x08, 0x00][..], &ip].concat();
        let two = ethernet(0x88a8, &two);
        let arp = ethernet(0x8100, &[0, 7, 0x08, 0x06, 0, 1]);
        peer.run(move || {
            for frame in [one, two, arp] {
                send_barely_linear("pk-b", &frame);
            }
        });
        rig.gather_until("flow", |packets| packets >= 2);
        assert_eq!(rig.count("kernel", "flow"), (2, 2 * 128));
        rig.gather_until("not_flow_arp", |packets| packets == 1);
        let summaries = rig.finish();
        let conversations: Vec<_> = summaries
            .iter()
            .flat_map(|one| &one.conversations)
            .collect();
        assert_eq!(conversations.len(), 1, "tags make no other flow");
        assert_eq!(
            conversations[0].packets_out + conversations[0].packets_in,
            2
        );
    });
}

#[test]
fn an_interface_that_comes_and_goes_is_followed() {
    in_namespace(|| {
        let Err(none) = PacketCapture::open(&options("pk-a"), Sizes::default()) else {
            panic!("there is no interface yet");
        };
        assert!(none.to_string().contains("pk-a"), "{none}");
        let peer = Peer::connect("pk-a", "pk-b");
        command("ip link add pk-c type veth peer name pk-d");
        let both = Options {
            interfaces: vec!["pk-a".to_owned(), "pk-c".to_owned(), "pk-a".to_owned()],
            ..options("pk-a")
        };
        let mut capture = PacketCapture::open(&both, Sizes::default()).unwrap();
        assert_eq!(capture.interfaces(), ["pk-a", "pk-c"]);
        command("ip link del pk-c");
        capture.rescan().unwrap();
        assert_eq!(capture.interfaces(), ["pk-a"]);
        // One of the same name is another one.
        command("ip link add pk-c type veth peer name pk-d");
        command("ip link del pk-a");
        drop(peer);
        let _peer = Peer::connect("pk-a", "pk-b");
        capture.rescan().unwrap();
        assert_eq!(capture.interfaces(), ["pk-a", "pk-c"]);
        let mut rig = Rig::new(Box::new(capture), &Arc::default());
        send(&socket(OURS), format!("{THEIRS}:9").parse().unwrap(), 10, 3);
        rig.gather_until("flow", |packets| packets >= 3);
    });
}

#[test]
fn flows_that_go_on_meet_indicators_that_come_later() {
    in_namespace(|| {
        let peer = Peer::connect("pk-a", "pk-b");
        let mut rig = Rig::new(Box::new(packets("pk-a")), &Arc::default());
        let theirs = peer.run(|| socket(THEIRS));
        let (ours, to) = (socket(OURS), theirs.local_addr().unwrap());
        send(&ours, to, 10, 1);
        rig.gather_until("flow", |packets| packets == 1);
        assert_eq!(rig.sensor.poll_output(), None);
        let set = indicators(&[("mining-ips.txt", THEIRS)]);
        rig.capture.load_set(&set).unwrap();
        rig.sensor.set_indicators(set);
        send(&ours, to, 10, 2);
        rig.gather_until("flow", |packets| packets == 3);
        let told = rig.sensor.poll_output().unwrap();
        assert_eq!((told.immediate, told.hits.len()), (true, 1));
        assert_eq!(rig.sensor.poll_output(), None, "and only once");
    });
}
