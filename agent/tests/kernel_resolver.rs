//! Who asks through a resolver of the host: dnsmasq listens on 127.0.0.53 of a namespace and asks
//! another dnsmasq over a wire that the capture watches. Needs root; skips with the reason where it
//! cannot run.

#[path = "kernel/cast.rs"]
#[expect(dead_code, reason = "other tests have other parts to play")]
mod cast;
#[expect(dead_code, reason = "sums of packets are for other tests")]
mod kernel;
#[path = "kernel/link.rs"]
#[expect(dead_code, reason = "sums of packets are for other tests")]
mod link;
#[path = "kernel/scene.rs"]
#[expect(dead_code, reason = "other tests choose no rung")]
mod scene;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use picket_agent::capture::ebpf::Rung;
use picket_intel::{Category, Indicator, IndicatorSet, List, SetBuilder};
use picket_wire::{HitKind, Process, Question, Summary, Transport};

use cast::{Actor, play};
use kernel::in_namespace;
use link::{OURS, Peer, THEIRS, command};
use scene::{Scene, check_actor, now_ns};

const DNSMASQ: &str = "/usr/sbin/dnsmasq";
const LISTED: &str = "cdn-sync.example";

/// A dnsmasq in the background of the calling thread's namespace, which ends with this value. It
/// has left the process that made its sockets behind, as it does when a system starts it.
struct Resolver {
    pid_file: PathBuf,
}

impl Resolver {
    fn start(name: &str, options: &[&str]) -> Self {
        let file = format!("pk-{name}-{}.pid", std::process::id());
        let pid_file = std::env::temp_dir().join(file);
        let status = Command::new(DNSMASQ)
            .args(["--conf-file=/dev/null", "--no-hosts", "--no-resolv"])
            .args(["--bind-interfaces", "--user=root"])
            .arg(format!("--pid-file={}", pid_file.display()))
            .args(options)
            .status()
            .expect("start dnsmasq");
        assert!(status.success(), "dnsmasq: {status}");
        Self { pid_file }
    }

    fn pid(&self) -> u32 {
        let text = std::fs::read_to_string(&self.pid_file).expect("its pid");
        text.trim().parse().expect("a pid")
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let pid = self.pid().to_string();
        drop(Command::new("kill").arg(pid).status());
        drop(std::fs::remove_file(&self.pid_file));
    }
}

/// A namespace with a resolver of its own, one on the wire behind it, and a capture.
struct Stage {
    scene: Scene,
    stub: Resolver,
    _upstream: Resolver,
    _peer: Peer,
}

impl Stage {
    fn open(name: &str, rung: Option<Rung>, stub_is_older: bool) -> Self {
        command("ip link set lo up");
        let peer = Peer::connect("pk-a", "pk-b");
        let upstream_name = format!("{name}-up");
        let upstream = peer.run(move || {
            let listen = format!("--listen-address={THEIRS}");
            Resolver::start(&upstream_name, &[&listen, "--address=/#/203.0.113.9"])
        });
        let server = format!("--server={THEIRS}");
        let options = [
            "--listen-address=127.0.0.53",
            "--listen-address=::1",
            "--min-cache-ttl=600",
            &server,
        ];
        let (scene, stub) = if stub_is_older {
            let stub = Resolver::start(name, &options);
            (Scene::open_on(rung), stub)
        } else {
            let scene = Scene::open_on(rung);
            (scene, Resolver::start(name, &options))
        };
        Self {
            scene,
            stub,
            _upstream: upstream,
            _peer: peer,
        }
    }

    #[track_caller]
    fn check_asker(&self, process: Option<&Process>, pid: u32) {
        check_actor(process, pid);
        let via = process.and_then(|process| process.via.as_deref());
        let via = via.expect("a resolver it went through");
        assert_eq!(via.name, "dnsmasq");
        assert_eq!(via.exe.as_deref(), Some(DNSMASQ));
    }
}

fn there_is_dnsmasq() -> bool {
    let there = Path::new(DNSMASQ).exists();
    if !there {
        println!("skipped, no {DNSMASQ}");
    }
    there
}

/// A process that asks, waits for the answer, and is gone; gives its pid.
fn ask(test: &str, from: &str, to: &str, name: &str) -> u32 {
    Actor::start(test, &format!("ask-answered {from}:0 {to}:53 {name}")).end()
}

#[track_caller]
fn question<'a>(summary: &'a Summary, name: &str, transport: Transport) -> &'a Question {
    let mut of_it = summary.questions.iter();
    let found = of_it.find(|one| one.name == name && one.transport == transport);
    assert!(found.is_some(), "{name}: {:?}", summary.questions);
    found.expect("asserted above")
}

fn listed() -> IndicatorSet {
    let mut builder = SetBuilder::default();
    let list = builder.list(List::new("c2-domains", Category::C2));
    let indicator = Indicator::domain(LISTED).expect("a name");
    builder.add(list.expect("room"), indicator).expect("room");
    builder.build()
}

fn many_askers(test: &str, name: &'static str, rung: Option<Rung>, stub_is_older: bool) {
    const ASKERS: usize = 24;
    let mut stage = Stage::open(name, rung, stub_is_older);
    let mut askers: Vec<(String, u32)> = Vec::new();
    for nth in 0..ASKERS {
        let name = format!("h{nth}.who.example");
        let pid = ask(test, "127.0.0.1", "127.0.0.53", &name);
        askers.push((name, pid));
    }
    let over_ipv6 = ask(test, "[::1]", "[::1]", "six.who.example");
    askers.push(("six.who.example".to_owned(), over_ipv6));
    let over_tcp = Actor::start(test, "ask-tcp 127.0.0.53:53 stream.who.example").end();
    // These ask the network themselves; one of them what another has just asked the resolver.
    let direct = ask(test, OURS, THEIRS, "direct.example");
    let same = ask(test, OURS, THEIRS, "h3.who.example");
    let summary = stage.scene.summary();
    for (name, pid) in &askers {
        let one = question(&summary, name, Transport::Udp);
        stage.check_asker(one.process.as_deref(), *pid);
        assert_eq!(one.also.len(), usize::from(name == "h3.who.example"));
    }
    let via = question(&summary, "h0.who.example", Transport::Udp);
    let via = via.process.as_ref().and_then(|one| one.via.as_deref());
    assert_eq!(via.map(|via| via.pid), Some(stage.stub.pid()));
    let stream = question(&summary, "stream.who.example", Transport::Tcp);
    stage.check_asker(stream.process.as_deref(), over_tcp);
    let own = question(&summary, "direct.example", Transport::Udp);
    check_actor(own.process.as_deref(), direct);
    assert_eq!(own.process.as_ref().and_then(|one| one.via.as_ref()), None);
    let shared = question(&summary, "h3.who.example", Transport::Udp);
    check_actor(shared.also.first(), same);
    assert_eq!(shared.also[0].via, None);
    // What passes lo is told of, and counted nowhere.
    let ends = summary
        .questions
        .iter()
        .map(|one| (one.client, one.resolver));
    let talks = summary.conversations.iter();
    let ends = ends.chain(talks.map(|one| (one.client, one.server)));
    for (client, server) in ends {
        assert!(!client.is_loopback() && !server.is_loopback());
    }
    let asked: u32 = summary.questions.iter().map(|one| one.asked).sum();
    let counted = summary.counters.iter();
    let counted = counted.filter(|one| one.stage == "dns" && one.reason == "queries");
    let queries: u64 = counted.map(|one| one.count).sum();
    assert_eq!(u64::from(asked), queries);
}

#[test]
fn who_asks_through_a_resolver_is_named() {
    play();
    if !there_is_dnsmasq() {
        return;
    }
    in_namespace(|| {
        let test = "who_asks_through_a_resolver_is_named";
        many_askers(test, "tcx", None, false);
    });
}

#[test]
fn who_asks_through_an_older_resolver_is_named_on_clsact() {
    play();
    if !there_is_dnsmasq() {
        return;
    }
    in_namespace(|| {
        let test = "who_asks_through_an_older_resolver_is_named_on_clsact";
        many_askers(test, "clsact", Some(Rung::Clsact), true);
    });
}

#[test]
fn a_listed_name_is_told_of_who_asked_the_resolver() {
    const TEST: &str = "a_listed_name_is_told_of_who_asked_the_resolver";
    play();
    if !there_is_dnsmasq() {
        return;
    }
    in_namespace(|| {
        let mut stage = Stage::open("hit", None, false);
        let set = listed();
        let names = set.domains();
        let loaded = stage
            .scene
            .capture
            .load_sets(set.address_nets(), names, set.version());
        loaded.expect("load").names.expect("names in the kernel");
        stage.scene.sensor.set_indicators(std::sync::Arc::new(set));
        let first = ask(TEST, "127.0.0.1", "127.0.0.53", LISTED);
        let (_, hits) = stage.scene.told();
        assert_eq!(hits.len(), 1, "{hits:?}");
        assert_eq!(hits[0].kind, HitKind::Question);
        stage.check_asker(hits[0].process.as_ref(), first);
        // From now on the resolver knows the answer.
        let second = ask(TEST, "127.0.0.1", "127.0.0.53", LISTED);
        let until = Instant::now() + Duration::from_secs(10);
        while stage.scene.take(Duration::from_millis(10)) == 0 {
            assert!(Instant::now() < until, "nothing came");
        }
        while stage.scene.take(Duration::ZERO) > 0 {}
        let mut later = Vec::new();
        for windows in 1..=3 {
            let then_ns = now_ns() + windows * 20_000_000_000;
            stage.scene.sensor.on_tick(then_ns);
            while let Some(summary) = stage.scene.sensor.poll_output() {
                assert_eq!(summary.questions, [], "it never left the host");
                later.extend(summary.hits);
            }
        }
        assert_eq!(later.len(), 1, "{later:?}");
        check_actor(later[0].process.as_ref(), second);
        assert_eq!(later[0].dst.to_string(), "127.0.0.53");
    });
}
