//! From the spool to a collector over real TLS.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod collector;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use collector::{Arrived, Authority, Collector as TestCollector, Reply};
use picket_agent::identity::{Identity, Sealer};
use picket_agent::outbox::{Outbox, Shared};
use picket_agent::ship::{Collector, PostError, Report, Shipper};
use picket_agent::spool::{Depth, Spool, SpoolConfig};
use picket_agent::state::StateFile;
use picket_sense::{Clock, Sensor, SensorConfig};
use picket_wire::{AgentId, BootId, Host, Summary};
use tokio::sync::mpsc;

/// Who signs what is put into the spool.
const AGENT: AgentId = AgentId([1; 16]);

/// A spool, the thread that fills it and a shipper that empties it.
struct Bench {
    shared: Arc<Shared>,
    report: Arc<Mutex<Report>>,
    summaries: Option<mpsc::Sender<Summary>>,
    stop: tokio::sync::watch::Sender<bool>,
    /// Ends the shipper whatever waits.
    quit: tokio::sync::oneshot::Sender<()>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Bench {
    fn new(folder: &Path, url: &str, authority: &Authority, boot: u8) -> Self {
        Self::of(AGENT, folder, url, authority, boot)
    }

    /// With a shipper that has become agent `own`.
    fn of(own: AgentId, folder: &Path, url: &str, authority: &Authority, boot: u8) -> Self {
        let spool = Spool::open(&folder.join("spool"), SpoolConfig::default()).unwrap();
        let shared = Shared::new(spool, 0);
        let report = Arc::new(Mutex::new(Report::default()));
        let boot = BootId([boot; 16]);
        let outbox = Outbox {
            sealer: Sealer::new(AGENT, boot, Identity::development()),
            shared: Arc::clone(&shared),
            state: StateFile::begin(folder, boot, None).0,
        };
        let (summaries, kept) = mpsc::channel(64);
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let collector = Collector::new(url, &[authority.file()]).unwrap();
        let shipper = Shipper::new(collector, own, Arc::clone(&shared), Arc::clone(&report));
        let (quit, quitting) = tokio::sync::oneshot::channel();
        let shipping = move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(async {
                tokio::select! {
                    () = shipper.run(stopped) => {}
                    Ok(()) = quitting => {}
                }
            });
        };
        let threads = vec![
            thread::spawn(move || outbox.run(kept)),
            thread::spawn(shipping),
        ];
        Self {
            shared,
            report,
            summaries: Some(summaries),
            stop,
            quit,
            threads,
        }
    }

    fn put(&self, summary: Summary) {
        self.summaries
            .as_ref()
            .unwrap()
            .blocking_send(summary)
            .unwrap();
    }

    fn depth(&self) -> Depth {
        self.shared.spool().depth()
    }

    /// Waits for the spool to be so deep.
    #[track_caller]
    fn wait_for_depth(&self, envelopes: u64) {
        wait_until("the spool", || self.depth().envelopes == envelopes);
    }

    /// Ends both threads, whatever waits.
    fn abandon(self) {
        drop(self.summaries);
        self.quit.send(()).unwrap();
        self.threads.into_iter().for_each(|one| one.join().unwrap());
    }

    /// Ends the thread that fills the spool, and the shipper once the spool is empty.
    fn finish(mut self) -> Report {
        self.summaries = None;
        self.threads.remove(0).join().unwrap();
        self.stop.send_replace(true);
        self.threads.remove(0).join().unwrap();
        let report = self.report.lock().unwrap();
        report.clone()
    }
}

#[track_caller]
fn wait_until(what: &str, done: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < limit, "{what} did not come");
        thread::yield_now();
    }
}

fn window(n: u64) -> Summary {
    let mut sensor = Sensor::new(
        SensorConfig::new(Host::default(), Clock::Caller),
        Arc::default(),
    );
    sensor.on_tick(n * SensorConfig::WINDOW_NS);
    sensor.finish(None);
    sensor.poll_output().unwrap()
}

fn hit(n: u64) -> Summary {
    Summary {
        immediate: true,
        ..window(n)
    }
}

const ANY_PORT: &str = "127.0.0.1:0";

#[test]
fn a_hit_overtakes_windows_and_goes_at_once() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let server = TestCollector::start(&authority, ANY_PORT, None);
    let bench = Bench::new(folder.path(), &server.url(), &authority, 1);
    // The first connection is made before the clock runs.
    bench.put(hit(0));
    server.wait_for("the first", |all| all.len() == 1);
    let mut took = Vec::new();
    for n in 1..=20 {
        let begin = Instant::now();
        bench.put(hit(n));
        let arrived = server.wait_for("a hit", |all| all.len() as u64 == n + 1);
        took.push(arrived[usize::try_from(n).unwrap()].at - begin);
    }
    took.sort();
    println!(
        "hit to collector: median {:?}, longest {:?}",
        took[10], took[19]
    );
    for n in 0..3 {
        bench.put(window(n));
    }
    bench.put(hit(99));
    let all = server.wait_for("windows", |all| all.len() == 25);
    bench.wait_for_depth(0);
    let report = bench.finish();
    assert_eq!(
        (report.accepted, report.duplicate, report.trouble),
        (25, 0, None)
    );
    assert!(report.last_ack_s.is_some());
    let mut sequences: Vec<u64> = all.iter().map(|one| one.header.sequence).collect();
    sequences.sort_unstable();
    assert_eq!(sequences, (0..25).collect::<Vec<_>>());
}

#[test]
fn nothing_is_lost_while_the_collector_is_away() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let server = TestCollector::start(&authority, ANY_PORT, None);
    let (url, address) = (server.url(), server.address.to_string());
    let bench = Bench::new(folder.path(), &url, &authority, 1);
    bench.put(hit(0));
    server.wait_for("the first", |all| all.len() == 1);
    bench.wait_for_depth(0);
    drop(server);
    for n in 0..100 {
        bench.put(if n % 10 == 0 { hit(n) } else { window(n) });
    }
    bench.wait_for_depth(100);
    wait_until("trouble", || bench.report.lock().unwrap().trouble.is_some());
    let server = TestCollector::start(&authority, &address, None);
    let all = server.wait_for("everything", |all| all.len() == 100);
    // The first post takes 64, all hits among them, and in it nothing comes out of order.
    let (first, rest) = all.split_at(64);
    assert!(
        rest.iter().all(|one| !one.summary.immediate),
        "hits go first"
    );
    let in_order = |posted: &[Arrived]| posted.is_sorted_by_key(|one| one.header.sequence);
    assert!(in_order(first) && in_order(rest));
    let mut sequences: Vec<u64> = all.iter().map(|one| one.header.sequence).collect();
    sequences.sort_unstable();
    assert_eq!(sequences, (1..101).collect::<Vec<_>>());
    bench.wait_for_depth(0);
    assert_eq!(bench.finish().trouble, None);
}

#[test]
fn what_an_earlier_run_left_is_shipped_by_the_next() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    // Nobody listens at port 1.
    let bench = Bench::new(folder.path(), "https://127.0.0.1:1", &authority, 1);
    for n in 0..3 {
        bench.put(window(n));
    }
    bench.wait_for_depth(3);
    // As after a kill: nothing is finished, only the files are there.
    std::mem::forget(bench);
    let server = TestCollector::start(&authority, ANY_PORT, None);
    let bench = Bench::new(folder.path(), &server.url(), &authority, 2);
    bench.put(hit(9));
    let all = server.wait_for("both runs", |all| all.len() == 4);
    let of = |boot: u8| {
        all.iter()
            .filter(|one| one.header.boot == BootId([boot; 16]))
            .count()
    };
    assert_eq!((of(1), of(2)), (3, 1));
    bench.wait_for_depth(0);
    bench.finish();
}

#[test]
fn refusals_for_good_are_dropped_and_others_kept() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let server = TestCollector::start(&authority, ANY_PORT, None);
    let known = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let now_known = Arc::clone(&known);
    server.answer(move |header| match header.sequence {
        0 => Reply::Refuse("malformed"),
        1 if !now_known.load(std::sync::atomic::Ordering::Relaxed) => Reply::Refuse("unknown_key"),
        _ => Reply::Accept,
    });
    let bench = Bench::new(folder.path(), &server.url(), &authority, 1);
    for n in 0..3 {
        bench.put(hit(n));
    }
    server.wait_for("the third", |all| all.len() == 1);
    bench.wait_for_depth(1);
    wait_until("the refusal", || {
        let report = bench.report.lock().unwrap();
        report.refused.get("malformed") == Some(&1)
            && report
                .refused
                .get("unknown_key")
                .is_some_and(|times| *times > 1)
            && report
                .trouble
                .as_ref()
                .is_some_and(|trouble| trouble.contains("unknown_key"))
    });
    let dropped = bench.shared.tallies.read();
    assert!(dropped.contains(&("dropped_refused", 1)), "{dropped:?}");
    known.store(true, std::sync::atomic::Ordering::Relaxed);
    server.wait_for("the second", |all| {
        all.iter().any(|one| one.header.sequence == 1)
    });
    bench.wait_for_depth(0);
    bench.finish();
}

/// What a key signed that is not believed any more does not wait for ever, and is counted by reason.
#[test]
fn what_is_refused_for_its_key_goes_after_a_while() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let server = TestCollector::start(&authority, ANY_PORT, None);
    server.answer(|header| match header.sequence {
        0 => Reply::Refuse("revoked"),
        1 => Reply::Refuse("unknown_key"),
        _ => Reply::Accept,
    });
    let check = |own: AgentId, expected: [u64; 2], left: u64, boot: u8| {
        let bench = Bench::of(own, folder.path(), &server.url(), &authority, boot);
        if boot == 1 {
            (0..3).for_each(|n| bench.put(hit(n)));
        }
        wait_until("the spool", || bench.depth().envelopes == left);
        wait_until("a refusal", || {
            let report = bench.report.lock().unwrap();
            report.refused.contains_key("unknown_key")
        });
        let dropped = bench.shared.tallies.read();
        for (reason, count) in ["dropped_revoked", "dropped_unknown_key"]
            .iter()
            .zip(expected)
        {
            assert!(dropped.contains(&(*reason, count)), "{boot}: {dropped:?}");
        }
        bench.abandon();
    };
    let other = AgentId([2; 16]);
    // Young, and of our own key: both may yet be taken.
    check(AGENT, [0, 0], 2, 1);
    // This host has another key now, so what is revoked stays so.
    check(other, [1, 0], 1, 2);
    // The collector had an hour to learn of the key.
    let long_ago = SystemTime::now() - Duration::from_secs(3_700);
    for file in std::fs::read_dir(folder.path().join("spool")).unwrap() {
        let file = std::fs::File::open(file.unwrap().path()).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    check(AGENT, [0, 0], 1, 3);
    check(other, [0, 1], 0, 4);
}

#[test]
fn an_envelope_nobody_answered_for_is_sent_again() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let server = TestCollector::start(&authority, ANY_PORT, None);
    let mut times = 0;
    server.answer(move |_| {
        times += 1;
        match times {
            1 => Reply::Silence,
            2 => Reply::Status(500),
            _ => Reply::Accept,
        }
    });
    let bench = Bench::new(folder.path(), &server.url(), &authority, 1);
    bench.put(hit(0));
    server.wait_for("the envelope", |all| all.len() == 1);
    bench.wait_for_depth(0);
    assert_eq!(bench.finish().accepted, 1);
}

#[test]
fn a_pause_that_the_collector_asks_for_is_kept() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let server = TestCollector::start(&authority, ANY_PORT, None);
    let mut busy = true;
    server.answer(move |_| match std::mem::take(&mut busy) {
        true => Reply::Busy(1),
        false => Reply::Accept,
    });
    let bench = Bench::new(folder.path(), &server.url(), &authority, 1);
    bench.put(hit(0));
    server.wait_for_requests(1);
    bench.put(hit(1));
    server.wait_for("both", |all| all.len() == 2);
    let requests = server.requests();
    let pause = requests[1] - requests[0];
    assert!(
        pause >= Duration::from_millis(990),
        "came back after {pause:?}"
    );
    bench.wait_for_depth(0);
    bench.finish();
}

#[test]
fn only_the_pinned_authority_and_tls_1_3_will_do() {
    let (authority, other) = (Authority::new(), Authority::named("another"));
    let post = |url: &str, pinned: &[&Authority]| {
        let files: Vec<_> = pinned.iter().map(|authority| authority.file()).collect();
        let collector = Collector::new(url, &files).unwrap();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        let identity = Identity::development();
        let mut sealer = Sealer::new(AgentId([1; 16]), BootId([1; 16]), identity);
        runtime.block_on(collector.post(&[sealer.seal(window(1), 1)]))
    };
    let told = |outcome: Result<Vec<_>, PostError>| match outcome {
        Ok(_) => "taken".to_owned(),
        Err(error) => error.to_string(),
    };
    let server = TestCollector::start(&authority, ANY_PORT, None);
    assert_eq!(told(post(&server.url(), &[&authority])), "taken");
    assert_eq!(
        told(post(&server.url(), &[&other, &authority])),
        "taken",
        "two pins"
    );
    let refused = told(post(&server.url(), &[&other]));
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    let old = TestCollector::start_with(&authority, ANY_PORT, None, &rustls::version::TLS12);
    let refused = told(post(&old.url(), &[&authority]));
    assert!(refused.to_lowercase().contains("protocol"), "{refused}");
    let elsewhere = server.url().replace("127.0.0.1", "127.0.0.2");
    let refused = told(post(&elsewhere, &[&authority]));
    assert!(!refused.contains("taken"), "{refused}");
}

/// Where the collector speaks HTTP/2 the agent begins with its preface (RFC 9113 section 3.4); the
/// servers of the other tests speak HTTP/1.1 alone.
#[test]
fn http_2_is_spoken_where_the_collector_speaks_it() {
    let authority = Authority::new();
    let mut tls = authority.server(&rustls::version::TLS13, "127.0.0.1");
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let preface = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(ANY_PORT).await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let collector = Collector::new(&url, &[authority.file()]).unwrap();
        let heard = async {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut preface = [0; 24];
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut preface)
                .await
                .unwrap();
            preface
        };
        tokio::select! {
            preface = heard => preface,
            _ = collector.knock() => [0; 24],
        }
    });
    assert_eq!(preface, *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
}

#[test]
fn the_collectors_time_is_asked() {
    let authority = Authority::new();
    let server = TestCollector::start(&authority, ANY_PORT, None);
    let collector = Collector::new(&server.url(), &[authority.file()]).unwrap();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let knock = runtime.block_on(collector.knock()).unwrap();
    assert_eq!(
        knock.date,
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
    );
}
