//! A follower with a store and an analysis of its own, and no service around it.

use std::thread::JoinHandle;
use std::time::SystemTime;

use picket_intel::IndicatorSet;

use super::*;
use crate::analysis::{self, Analysis};
use crate::source::hosts;

struct Rig {
    folder: tempfile::TempDir,
    follower: Follower,
    running: JoinHandle<()>,
}

impl Rig {
    fn new(log: Option<Log>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (inbox, outlet) = analysis::inbox();
        let analysis = Analysis {
            store: store.clone(),
            settings: picket_detect::Settings::default(),
            gap_grace_ms: 0,
            intel: IndicatorSet::default(),
            agents: Arc::new(crate::registry::Registry::open(&[], store.clone()).unwrap()),
            book: Arc::new(
                crate::rules::Book::open(
                    &crate::rules::Settings::default(),
                    &picket_detect::Settings::default(),
                    store.clone(),
                )
                .unwrap(),
            ),
            rules: Arc::new([]),
            habits_every_ms: 300_000,
            repeat_ms: 0,
            bell: Arc::default(),
            backlog: Arc::default(),
            metrics: Arc::default(),
            is_stopping: Arc::default(),
        };
        let running = std::thread::spawn(move || analysis.run(outlet).unwrap());
        let logs = folder.path().join("logs");
        std::fs::create_dir(&logs).unwrap();
        let follower = Follower {
            settings: Settings {
                path: logs,
                poll_s: 1,
            },
            log,
            keys: None,
            store,
            analysis: inbox,
            copies: folder.path().to_owned(),
            metrics: Arc::default(),
            is_stopping: Arc::default(),
        };
        Self {
            folder,
            follower,
            running,
        }
    }

    /// Where the file of that name stands.
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("logs").join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// Makes a file look as if it had been written so long ago.
    fn age(&self, name: &str, seconds: u64) {
        let written = SystemTime::now() - Duration::from_secs(seconds);
        let file = File::options().write(true).open(self.path(name)).unwrap();
        file.set_modified(written).unwrap();
    }

    /// What is stored of a file.
    fn known(&self, name: &str) -> Option<FileState> {
        let name = self.path(name).to_string_lossy().into_owned();
        let known = |connection: &rusqlite::Connection| sources::file(connection, &name);
        self.follower.store.read(known).unwrap()
    }

    fn look(&self) {
        self.follower.look(&mut Quiet::default());
    }

    /// Ends the analysis and hands out what a question to the store gives.
    fn ended(self, question: &str) -> i64 {
        let store = self.follower.store.clone();
        drop(self.follower);
        self.running.join().unwrap();
        store
            .read(|connection| connection.query_row(question, [], |row| row.get(0)))
            .unwrap()
    }
}

/// A process that is told to end in the middle of a file, while the analysis still takes what it
/// is given.
#[test]
fn a_file_that_was_not_read_to_its_end_is_read_again() {
    let rig = Rig::new(None);
    let event = |at: usize| {
        format!(
            r#"{{"eventID":"e{at}","eventName":"E","eventTime":"2023-07-10T11:42:01Z","eventSource":"ec2.amazonaws.com"}}"#
        )
    };
    let events: Vec<String> = (0..2_500).map(event).collect();
    rig.write(
        "a.json",
        format!(r#"{{"Records":[{}]}}"#, events.join(",")).as_bytes(),
    );
    let log = rig.path("a.json");
    let bytes = std::fs::metadata(&log).unwrap().len();
    for is_stopping in [true, false] {
        let flag = &rig.follower.is_stopping;
        flag.store(is_stopping, Ordering::Relaxed);
        rig.follower.file(&log, bytes, 1).unwrap();
        assert_eq!(rig.known("a.json").is_some(), !is_stopping);
    }
    assert_eq!(rig.ended("SELECT count(*) FROM api_call"), 2_500);
}

/// No room for the copy of a table: that is told, and nothing is taken for read.
#[test]
fn a_table_that_cannot_be_copied_is_read_later() {
    let mut rig = Rig::new(Some(Log::Hosts(hosts::Log::VpcFlow)));
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet/plain.parquet");
    let bytes = std::fs::read(made).unwrap();
    rig.write("a.parquet", &bytes);
    let room = std::mem::replace(&mut rig.follower.copies, "/nowhere/at/all".into());
    let log = rig.path("a.parquet");
    let read = |rig: &Rig| rig.follower.file(&log, bytes.len() as u64, 1);
    let error = read(&rig).unwrap_err();
    assert!(
        format!("{error:#}").starts_with("read the log: "),
        "{error:#}"
    );
    assert_eq!(rig.known("a.parquet"), None);
    rig.age("a.parquet", 120);
    rig.look();
    assert_eq!(rig.follower.metrics.log_files_damaged.value(), 1);
    // Told to end in the middle of it: that is no damage, and nothing is taken for read either.
    rig.follower.copies = room;
    rig.follower.is_stopping.store(true, Ordering::Relaxed);
    read(&rig).unwrap();
    assert_eq!(rig.known("a.parquet"), None);
    rig.follower.is_stopping.store(false, Ordering::Relaxed);
    read(&rig).unwrap();
    assert!(rig.known("a.parquet").is_some());
    assert_eq!(rig.follower.metrics.log_files_read.value(), 1);
    let records = "SELECT sum(events) FROM usage WHERE source = 'vpc_flow'";
    assert_eq!(rig.ended(records), 490);
}

/// Refusals, one in each of these seconds.
fn refusals(seconds: std::ops::Range<u32>) -> String {
    let one = |n: u32| {
        format!(
            "2026-01-01 00:{:02}:{:02} UTC:192.0.2.7(40000):eve@shop:[{n}]:FATAL:  password \
             authentication failed for user \"eve\"\n",
            n / 60,
            n % 60
        )
    };
    seconds.map(one).collect()
}

/// A log that is written all the time, and renamed when the next begins: each line once.
#[test]
fn a_log_of_a_database_is_read_while_it_is_written_and_after_it_was_renamed() {
    let rig = Rig::new(Some(Log::Rds(crate::source::rds::Whence {
        instance: Some("shop".into()),
        ..crate::source::rds::Whence::default()
    })));
    let whole = refusals(0..20);
    let read_to = |name: &str| rig.known(name).map(|known| known.bytes as usize);
    // The last line is not whole yet.
    rig.write("x.log", &whole.as_bytes()[..whole.len() - 5]);
    rig.look();
    assert_eq!(read_to("x.log"), Some(refusals(0..19).len()));
    rig.write("x.log", whole.as_bytes());
    rig.age("x.log", 120);
    rig.look();
    assert_eq!(read_to("x.log"), Some(whole.len()));
    // Renamed twice, with a line added before, and another begun in its place.
    for (last, to, from) in [(21, "x.log.1", "x.log"), (22, "x.log.2", "x.log.1")] {
        rig.write(from, refusals(0..last).as_bytes());
        std::fs::rename(rig.path(from), rig.path(to)).unwrap();
        rig.age(to, 100);
        rig.write("x.log", refusals(100..100 + last).as_bytes());
        rig.age("x.log", 90);
        rig.look();
        assert_eq!(read_to(to), Some(refusals(0..last).len()));
    }
    let records = "SELECT sum(events) FROM usage WHERE source = 'rds'";
    assert_eq!(rig.ended(records), 22 + 22);
}
