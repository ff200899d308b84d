//! What a running agent tells its operator: metrics, `top`, and which privileges it has left. On real
//! interfaces in a network namespace of its own; needs root, skips with the reason where it cannot run.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test uses its part")]
mod collector;
#[allow(dead_code, reason = "each test uses its part")]
mod kernel;
#[path = "kernel/link.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod link;
#[allow(dead_code, reason = "each test uses its part")]
mod running;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use collector::{Authority, Collector, Reply};
use kernel::in_namespace;
use link::{OURS, Peer, THEIRS, send, send_tcp, socket};
use picket_agent::metrics::METRICS;
use picket_intel::{Category, Direction, Indicator, List, SetBuilder};
use picket_wire::bundle::{Act, ListHead, Manifest, Packer, Value as Listed, Way};
use picket_wire::{Digest, Signer};
use running::{LIMIT, Running, SEED, Service, confined, hits};
use rustix::process::Signal;
use serde_json::Value;

/// Every sample by its name and labels.
type Samples = BTreeMap<String, f64>;

/// Asks for a path, and gives the answer's head and body.
fn get(service: &Service, request: &str) -> (String, String) {
    let status = service.wait_for("a status", |_| true);
    let mut stream = TcpStream::connect(status["metrics"].as_str().unwrap()).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: agent\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn scrape(service: &Service) -> Samples {
    let (head, body) = get(service, "GET /metrics");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// Metrics of which a sample has appeared or changed.
fn moved(before: &Samples, after: &Samples) -> BTreeSet<String> {
    let changed = after
        .iter()
        .filter(|(name, value)| before.get(*name) != Some(*value));
    changed
        .map(|(name, _)| name.split('{').next().unwrap().to_owned())
        .collect()
}

const CANARY_WELL: &str = "picket_agent_canary_well";

/// These move when something is broken that this test cannot break, an equation or the disk; for an
/// instant, while a flow has not been read or a hit waits; and when an interface or a program on it
/// goes or an order to block comes, which other tests have happen.
const UNMOVED: [&str; 9] = [
    "picket_agent_attachments_lost_total",
    "picket_agent_blocks_dry_run",
    "picket_agent_blocks_held",
    "picket_agent_interfaces_skipped",
    "picket_agent_loss_equation_holds",
    "picket_agent_envelopes_dropped_total",
    "picket_agent_frames_unsettled",
    "picket_agent_interfaces_watched",
    "picket_agent_spool_hits",
];

/// The key that the collector signs indicators with.
fn collectors() -> Signer {
    Signer::from_seed(&[9; 32])
}

/// A bundle with one address, which is over in two seconds.
fn bundle() -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now_ms = now.as_millis() as u64;
    let mut packer = Packer::default();
    let mut key = Vec::new();
    let address = "198.51.100.7".parse().unwrap();
    let kind = Listed::Address(address).key(&mut key);
    packer.section(1, kind, Act::Add, std::iter::once(key.as_slice()));
    let chunks = packer.finish();
    let mut builder = SetBuilder::default();
    let list = builder.list(List {
        name: "feed".to_owned(),
        category: Category::C2,
        direction: Direction::Both,
        confidence: 90,
    });
    let value = Indicator::Address(address);
    builder.add(list.unwrap(), value).unwrap();
    let manifest = Manifest {
        version: 7,
        issued_ms: now_ms,
        expires_ms: now_ms + 2_000,
        set: builder.build().version(),
        base: None,
        lists: vec![ListHead {
            id: 1,
            name: "feed".to_owned(),
            category: "c2".to_owned(),
            direction: Way::Both,
            confidence: 90,
            entries: 1,
        }],
        chunks: chunks.iter().map(|chunk| chunk.head).collect(),
    };
    let mut bytes = manifest.seal(&collectors());
    chunks.iter().for_each(|chunk| bytes.extend(&chunk.frame));
    bytes
}

/// Runs an agent that lists an address and a name, and does everything that moves a metric.
fn exercise(rung: &str, moving: &mut BTreeSet<String>) {
    let authority = Authority::new();
    let key = Signer::from_seed(&SEED).public_key();
    let collector = Collector::start(&authority, "127.0.0.1:0", Some(key));
    let (ours, theirs) = ("pk-m0", "pk-m1");
    let peer = Peer::connect(ours, theirs);
    let service = Service::new(ours, &collector, &authority);
    service.add("[capture]", &format!("rung = '{rung}'\ncpu_percent = 1\n"));
    service.add("[filter]", "ranges = ['10.9.0.0/24']\n");
    let signing = Digest(collectors().public_key().0);
    fs::write(service.path("signing.pub"), format!("{signing}\n")).unwrap();
    let signing = service.path("signing.pub").display().to_string();
    service.add("[indicators]", &format!("key_file = '{signing}'\n"));
    let running = service.start();
    let first = scrape(&service);
    moving.extend(moved(&Samples::new(), &first).into_iter().filter(|name| {
        // What is so from the start on, and shows in a label.
        ["build_info", "capture_rung", "stage_in_kernel"]
            .iter()
            .any(|end| name.ends_with(end))
            // Its first packet may be back before the first scrape.
            || name == CANARY_WELL && first[CANARY_WELL] == 1.0
    }));
    let rung_label = match rung {
        "auto" => "tcx",
        other => other,
    };
    let of_rung = first
        .keys()
        .filter(|name| name.starts_with("picket_agent_capture_rung"));
    let of_rung: Vec<_> = of_rung.collect();
    assert!(
        of_rung.len() == 1 && (of_rung[0].contains(rung_label) || of_rung[0].contains("clsact")),
        "{of_rung:?}"
    );

    // A list arrives, is met, and the collector refuses and takes by turns; what it gives is once no
    // bundle, then one, which is over soon.
    service.list("c2-ips.txt", &format!("{THEIRS}:4444\n"));
    running.signal(Signal::HUP);
    service.wait_for("the list", |status| status["indicators"]["count"] == 1);
    collector.give(&[b"no bundle".to_vec(), bundle()]);
    collector.order(&[b"no orders".to_vec()]);
    let mut count = 0;
    collector.answer(move |_| {
        count += 1;
        match count % 3 {
            0 => Reply::Refuse("malformed"),
            1 => Reply::Refuse("unknown_key"),
            _ => Reply::Accept,
        }
    });
    send(
        &socket(OURS),
        format!("{THEIRS}:4444").parse().unwrap(),
        10,
        1,
    );
    send_tcp(&peer, 1 << 20);
    let until = Instant::now() + LIMIT;
    let wanted = METRICS.iter().map(|metric| metric.name);
    let wanted: Vec<&str> = wanted.filter(|name| !UNMOVED.contains(name)).collect();
    let mut last = first.clone();
    let burst = if rung == "auto" { 5_000 } else { 100_000 };
    while Instant::now() < until && wanted.iter().any(|name| !moving.contains(*name)) {
        // A burst, of which a rung that may take a hundredth of a processor loses some.
        send(
            &socket(OURS),
            format!("{THEIRS}:53").parse().unwrap(),
            10,
            burst,
        );
        let now = scrape(&service);
        moving.extend(moved(&last, &now));
        last = now;
        // What the other rung has as well moves there.
        let here = [
            "picket_agent_collector_reachable",
            CANARY_WELL,
            "picket_agent_envelopes_refused_total",
            "picket_agent_indicator_bundle_stale",
        ];
        if rung == "auto" && here.iter().all(|name| moving.contains(*name)) {
            break;
        }
    }
    let told = |name: &str| last.get(name).copied().unwrap_or(0.0);
    assert!(told("picket_agent_hits_told_total") >= 1.0, "{last:?}");
    let stage = "{stage=\"kernel\"}";
    let seen = told(&format!("picket_agent_frames_seen_total{stage}"));
    let placed = told(&format!("picket_agent_frames_placed_total{stage}"));
    let sum = |begin: &str| -> f64 {
        let these = last
            .iter()
            .filter(|(name, _)| name.starts_with(begin) && name.contains("stage=\"kernel\""));
        these.map(|(_, value)| value).sum()
    };
    let others = sum("picket_agent_frames_lost_total") + sum("picket_agent_frames_skipped_total");
    let unsettled = told("picket_agent_frames_unsettled");
    assert_eq!(seen, placed + others + unsettled, "{last:?}");
    collector.answer(|_| Reply::Accept);
    drop(running);
    drop(peer);
}

#[test]
fn every_metric_can_move() {
    in_namespace(|| {
        let mut moving = BTreeSet::new();
        exercise("auto", &mut moving);
        // Losses, which kernel programs do not have at this rate.
        exercise("afpacket", &mut moving);
        let still: Vec<&str> = METRICS
            .iter()
            .map(|metric| metric.name)
            .filter(|name| !moving.contains(*name))
            .filter(|name| !UNMOVED.contains(name))
            .collect();
        assert!(still.is_empty(), "{still:?} of {moving:?}");
    });
}

#[test]
fn metrics_are_at_one_path_and_may_be_off() {
    in_namespace(|| {
        let authority = Authority::new();
        let collector = Collector::start(&authority, "127.0.0.1:0", None);
        let peer = Peer::connect("pk-o0", "pk-o1");
        let service = Service::new("pk-o0", &collector, &authority);
        let running = service.start();
        let check = |request: &str, code: &str| {
            let (head, _) = get(&service, request);
            assert!(head.contains(code), "{request}: {head}");
        };
        check("GET /", " 404 ");
        check("POST /metrics", " 405 ");
        check("GET /metrics?x=1", " 200 ");
        assert_eq!(running.stop(), Some(0));
        service.replace("metrics = '127.0.0.1:0'", "metrics = 'off'");
        let running = service.start();
        let status = service.wait_for("a status", |_| true);
        assert_eq!(status["metrics"], Value::Null);
        assert_eq!(running.stop(), Some(0));
        drop(peer);
    });
}

/// What `top` prints with these arguments.
fn top(service: &Service, arguments: &[&str]) -> String {
    let output = service.command("top").args(arguments).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    String::from_utf8(output.stdout).unwrap()
}

/// On a terminal of 80 columns and 24 rows the page fits, ends with `q` and gives the screen back.
fn on_a_terminal(service: &Service) {
    let top = format!("{:?}", service.command("top")).replace('"', "");
    // `script` of util-linux is a terminal to what it runs.
    let script = std::process::Command::new("script")
        .args(["-qec", &format!("stty cols 80 rows 24; {top}"), "/dev/null"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn();
    let Ok(mut script) = script else {
        println!("skipped, there is no `script` to be a terminal");
        return;
    };
    let mut keys = script.stdin.take().unwrap();
    let (mut shown, mut screen) = (script.stdout.take().unwrap(), Vec::new());
    let mut some = [0; 4096];
    while !String::from_utf8_lossy(&screen).contains("\x1b[J") {
        let read = shown.read(&mut some).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&screen));
        screen.extend(&some[..read]);
    }
    keys.write_all(b"q").unwrap();
    shown.read_to_end(&mut screen).unwrap();
    assert!(script.wait().unwrap().success());
    let screen = String::from_utf8(screen).unwrap();
    let (_, page) = screen.split_once("\x1b[?1049h\x1b[?25l").unwrap();
    let (page, after) = page.split_once("\x1b[?25h\x1b[?1049l").unwrap();
    assert_eq!(after.trim(), "", "nothing is left on the screen");
    let page = page.split("\x1b[H").nth(1).unwrap();
    let lines: Vec<&str> = page.split("\r\n").collect();
    assert!(lines.len() <= 24 && page.contains("talkers"), "{page}");
    let width = |line: &str| {
        line.replace("\x1b[K", "")
            .replace("\x1b[J", "")
            .chars()
            .count()
    };
    assert!(lines.iter().all(|line| width(line) <= 80), "{page}");
}

#[test]
fn top_shows_talkers_names_and_hits() {
    in_namespace(|| {
        let authority = Authority::new();
        let collector = Collector::start(&authority, "127.0.0.1:0", None);
        let peer = Peer::connect("pk-t0", "pk-t1");
        let service = Service::new("pk-t0", &collector, &authority);
        service.list("phishing-domains.txt", "example.org\n");
        let running = service.start();
        // A question: one name of three labels, type A, class IN (RFC 1035 4.1).
        let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        question.extend(b"\x03www\x07example\x03org\0\0\x01\0\x01");
        let asker = socket(OURS);
        for _ in 0..3 {
            asker.send_to(&question, (THEIRS, 53)).unwrap();
        }
        let (_, server) = send_tcp(&peer, 1 << 20);
        let until = Instant::now() + LIMIT;
        let lines = loop {
            let text = top(&service, &["--format", "jsonl"]);
            let lines: Vec<Value> = text
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            let has = |kind: &str| lines.iter().any(|line| line["kind"] == kind);
            if has("talker") && has("name") && has("hit") {
                break lines;
            }
            assert!(Instant::now() < until, "{lines:?}");
        };
        let of = |kind: &str| lines.iter().find(|line| line["kind"] == kind).unwrap();
        let talker = of("talker");
        assert_eq!(talker["server"], THEIRS);
        assert_eq!(
            (&talker["port"], &talker["rank"]),
            (&server.port().into(), &1.into())
        );
        assert!(talker["bytes_out"].as_u64() > Some(1 << 20), "{talker}");
        let name = of("name");
        assert_eq!(
            (&name["name"], &name["asked"]),
            (&"www.example.org".into(), &3.into())
        );
        assert_eq!(of("hit")["indicator"], "example.org");

        let page = top(&service, &[]);
        assert!(
            page.contains("talkers") && page.contains(&format!("{server}/tcp")),
            "{page}"
        );
        assert!(
            page.contains("www.example.org") && page.contains("(phishing)"),
            "{page}"
        );
        assert!(!page.contains('\x1b'), "not a terminal");
        assert!(top(&service, &["--once"]).contains("(phishing)"));
        on_a_terminal(&service);
        assert_eq!(running.stop(), Some(0));
        let gone = service.command("top").output().unwrap();
        assert_eq!(gone.status.code(), Some(1));
        drop(peer);
    });
}

/// Capabilities and `NoNewPrivs` of each thread of a process, by the thread's name.
fn privileges(process: u32) -> BTreeMap<String, (u64, u64, u64, String)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let threads = tasks.filter_map(|task| {
        let status = fs::read_to_string(task.unwrap().path().join("status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().to_owned()
        };
        let set = |name: &str| u64::from_str_radix(&field(name), 16).unwrap();
        let sets = (
            set("CapPrm:"),
            set("CapEff:"),
            set("CapInh:"),
            field("NoNewPrivs:"),
        );
        Some((field("Name:"), sets))
    });
    threads.collect()
}

#[test]
fn what_is_not_needed_is_given_up() {
    // Numbers of include/uapi/linux/capability.h.
    const DAC_READ_SEARCH: u64 = 1 << 2;
    const NET_ADMIN: u64 = 1 << 12;
    const NET_RAW: u64 = 1 << 13;
    const SYS_PTRACE: u64 = 1 << 19;
    const PERFMON: u64 = 1 << 38;
    const BPF: u64 = 1 << 39;
    in_namespace(|| {
        let authority = Authority::new();
        let key = Signer::from_seed(&SEED).public_key();
        let collector = Collector::start(&authority, "127.0.0.1:0", Some(key));
        let peer = Peer::connect("pk-p0", "pk-p1");
        let service = Service::new("pk-p0", &collector, &authority);
        service.list("c2-ips.txt", &format!("{THEIRS}:4444\n"));
        let check = |running: &Running, watch: u64, names: &[&str]| {
            let threads = privileges(running.0.id());
            assert!(threads.contains_key("outbox"), "{threads:?}");
            for (name, (permitted, effective, inheritable, no_new)) in &threads {
                let kept = if name == "watch" { watch } else { 0 };
                assert_eq!(
                    (permitted, effective),
                    (&kept, &kept),
                    "{name}: {permitted:x}"
                );
                assert_eq!((*inheritable, no_new.as_str()), (0, "1"), "{name}");
            }
            let status = service.wait_for("a status", |_| true);
            assert_eq!(status["capabilities"], serde_json::json!(names));
        };
        let running = service.start();
        let kept = DAC_READ_SEARCH | NET_ADMIN | SYS_PTRACE | PERFMON | BPF;
        check(
            &running,
            kept,
            &[
                "CAP_DAC_READ_SEARCH",
                "CAP_NET_ADMIN",
                "CAP_SYS_PTRACE",
                "CAP_PERFMON",
                "CAP_BPF",
            ],
        );
        let doctor = service.command("doctor").output().unwrap();
        let doctor = String::from_utf8(doctor.stdout).unwrap();
        assert!(
            doctor.contains("CAP_BPF in one thread, none in the others"),
            "{doctor}"
        );

        // And with that it does its work: it follows an interface that comes again, takes a list,
        // ships a hit.
        link::command("ip link del pk-p0");
        drop(peer);
        service.wait_for("no interface", |status| {
            status["interfaces"] == serde_json::json!([])
        });
        let told = scrape(&service);
        assert_eq!(told["picket_agent_interfaces_watched"], 0.0);
        assert_eq!(told["picket_agent_interfaces_skipped"], 1.0);
        let peer = Peer::connect("pk-p0", "pk-p1");
        service.wait_for("the interface", |status| {
            status["interfaces"] == serde_json::json!(["pk-p0"])
        });
        service.list("custom-ips.txt", "192.0.2.7\n");
        running.signal(Signal::HUP);
        service.wait_for("the list", |status| {
            status["indicators"]["count"] == 2 && status["indicators"]["kernel"] == "yes"
        });
        send(
            &socket(OURS),
            format!("{THEIRS}:4444").parse().unwrap(),
            10,
            1,
        );
        collector.wait_for("a hit", |all| !hits(all).is_empty());
        assert_eq!(running.stop(), Some(0));

        service.add("[capture]", "rung = 'afpacket'\n");
        let running = service.start();
        check(&running, NET_RAW, &["CAP_NET_RAW"]);
        assert_eq!(running.stop(), Some(0));

        // One that has less to begin with keeps less.
        let child = confined(&service, "-all,+net_raw").spawn().unwrap();
        let running = Running(child);
        service.wait_for("a status", |_| true);
        check(&running, NET_RAW, &["CAP_NET_RAW"]);
        assert_eq!(running.stop(), Some(0));
        drop(peer);
    });
}
