//! Real CloudTrail logs, where they are at hand: every line gives an event and none is refused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use picket_collector::source::cloudtrail::Reader;
use picket_collector::source::inflate::Input;
use picket_collector::source::{Report, Sorter};
use picket_detect::logs::{ApiCall, Seen};

fn folder() -> Option<PathBuf> {
    let shared = std::env::var_os("PICKET_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let folder = shared.join("data/cloudtrail");
    folder.is_dir().then_some(folder)
}

fn text(path: &Path) -> String {
    let (mut input, mut bytes) = (Input::open(path).unwrap(), Vec::new());
    let mut chunk = vec![0; 1 << 16];
    loop {
        match input.read(&mut chunk).unwrap() {
            0 => return String::from_utf8(bytes).unwrap(),
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

#[test]
fn every_event_is_parsed() {
    let Some(folder) = folder() else {
        println!("skipped: no ../shared/data/cloudtrail");
        return;
    };
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".jsonl.gz"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in &files {
        let text = text(file);
        let events: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let (mut sorter, mut names, mut told) = (Sorter::default(), Vec::new(), Vec::new());
        let mut report = Report::new(&mut told);
        let mut reader = Reader::default();
        reader
            .read(file, &mut names, &mut sorter, &mut report)
            .unwrap();
        let faults = report.faults();
        assert_eq!(faults, 0, "{}", String::from_utf8_lossy(&told));
        let totals = reader.totals;
        assert_eq!(totals.events, events.len() as u64, "{}", file.display());
        assert_eq!(totals.foreign, 0, "{}", file.display());

        let mut sorted = sorter.finish().unwrap();
        let (mut seen, mut named, mut assumed) = (Seen::new(1 << 20), 0u64, 0);
        while let Some(record) = sorted.next_record().unwrap() {
            let call = ApiCall::parse(record.bytes, record.time_ns).unwrap();
            assert!(!call.event_name.is_empty(), "{}", file.display());
            assert_eq!(call.event_time_ns, record.time_ns, "{}", file.display());
            seen.insert(call.key);
            named += u64::from(call.event_id.is_some());
            assumed += u64::from(call.time_assumed);
        }
        assert_eq!(assumed, totals.time_assumed, "{}", file.display());
        println!(
            "{}: {} events, {named} with an id, {assumed} without a time",
            file.display(),
            totals.events
        );
    }
}
