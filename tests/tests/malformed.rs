//! Damaged and hostile input: a clear error that names file and place, the exit code of the contract,
//! and whatever was good before the fault is kept. Needs no root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use jiff::Timestamp;
use picket_tests::product::story::open_all;
use picket_tests::product::{Analysis, Binaries, describe, json_lines, run};
use picket_tests::scene::pcap::{Timed, capture};
use picket_tests::scene::{Scenario, dns, frame, sketch};
use picket_wire::Signer;

/// Exit code for a bad configuration (sysexits.h).
const EX_CONFIG: i32 = 78;

/// Memory that a program may take on hostile input, in bytes of address space. The promise is
/// 200 MB resident; address space holds threads' stacks and the program itself besides.
const ADDRESS_SPACE: u64 = 2 << 30;

fn agent(words: &[&str], file: &Path) -> Output {
    bounded(&Binaries::find().unwrap().agent, words, file)
}

fn collector(words: &[&str], file: &Path) -> Output {
    bounded(&Binaries::find().unwrap().collector, words, file)
}

fn bounded(program: &Path, words: &[&str], file: &Path) -> Output {
    let mut command = Command::new("prlimit");
    command
        .arg(format!("--as={ADDRESS_SPACE}"))
        .arg(program)
        .args(words)
        .arg(file);
    run(command, &[]).unwrap()
}

fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", describe(output));
}

fn assert_error_names(output: &Output, what: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains(what),
        "{what:?} is not named: {}",
        describe(output)
    );
}

/// A file of a scratch folder that goes when it is dropped.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

fn scene() -> Vec<Timed> {
    let scenario = Scenario::load("c2-lookup").unwrap();
    sketch::sketch(&scenario, Duration::from_secs(1_800_000_003))
}

/// Totals over everything that `inspect` read.
fn totals(output: &Output) -> serde_json::Value {
    let lines = json_lines(&output.stdout).unwrap();
    let last = lines.iter().rev().find(|line| line["kind"] == "totals");
    last.unwrap().clone()
}

#[test]
fn a_truncated_capture_keeps_what_came_before() {
    let (scratch, frames) = (Scratch::new(), scene());
    let whole = capture(&frames);
    let file = scratch.file("cut.pcap", &whole[..whole.len() - 10]);

    let inspected = agent(&["inspect", "--format", "jsonl"], &file);
    assert_exit(&inspected, 1);
    assert_error_names(&inspected, "cut.pcap");
    assert_eq!(totals(&inspected)["packets"], frames.len() - 1);

    let replayed = agent(&["replay"], &file);
    assert_exit(&replayed, 1);
    assert_error_names(&replayed, "cut.pcap");
    let key = Signer::development().public_key();
    let told = open_all(&replayed.stdout, &key).unwrap();
    let packets: u64 = told
        .iter()
        .flat_map(|one| &one.summary.conversations)
        .map(|one| one.packets_in + one.packets_out)
        .sum();
    assert_eq!(packets, frames.len() as u64 - 1);
}

#[test]
fn an_empty_file_is_no_capture() {
    let scratch = Scratch::new();
    let file = scratch.file("empty.pcap", b"");
    for words in [&["inspect", "--format", "jsonl"][..], &["replay"]] {
        let output = agent(words, &file);
        assert_exit(&output, 1);
        assert_error_names(&output, "empty.pcap");
    }
}

#[test]
fn a_compression_loop_is_counted() {
    let scratch = Scratch::new();
    let mut frames = scene();
    let good = totals(&agent(
        &["inspect", "--format", "jsonl"],
        &scratch.file("good.pcap", &capture(&frames)),
    ));
    let from = "10.77.0.2:53".parse().unwrap();
    let to = "10.77.0.10:40000".parse().unwrap();
    frames.push(Timed {
        at: frames[frames.len() - 1].at,
        frame: frame::udp(from, to, &dns::pointer_loop(9)),
    });
    let file = scratch.file("loop.pcap", &capture(&frames));
    let output = agent(&["inspect", "--format", "jsonl"], &file);
    assert_exit(&output, 0);
    let looped = totals(&output);
    // The packet is whole and counts as one; the message in it is what could not be decoded.
    let undecoded = |totals: &serde_json::Value| -> u64 {
        let reasons = ["lost", "undecoded"].map(|key| totals[key].as_object().unwrap().values());
        let counts = reasons.into_iter().flatten();
        counts.map(|count| count.as_u64().unwrap()).sum()
    };
    assert_eq!(undecoded(&looped), undecoded(&good) + 1, "{looped}");
    assert_eq!(looped["packets"], frames.len());
    assert_eq!(looped["dns_queries"], good["dns_queries"]);
}

/// The scene's misuse of an account as CloudTrail wrote it; `Policy:IAMUser/RootCredentialUsage`
/// stands in its last event.
fn misuse() -> String {
    let scenario = Scenario::load("stolen-key").unwrap();
    let now: Timestamp = "2026-03-01T10:00:00Z".parse().unwrap();
    picket_tests::scene::template::fill(&scenario.cloudtrail["misuse.json"], now).unwrap()
}

/// Analyses a log file and says which finding types it led to.
fn analyzed(file: &Path) -> (Output, Vec<String>) {
    let output = collector(&["analyze", "--format", "jsonl", "--cloudtrail"], file);
    let analysis = Analysis::read(&output.stdout).unwrap();
    let kinds = analysis.findings.iter().map(|one| one["type"].as_str());
    let kinds = kinds.map(|kind| kind.unwrap().to_owned()).collect();
    (output, kinds)
}

const STEALTH: &str = "Stealth:IAMUser/CloudTrailLoggingDisabled";
const ROOT: &str = "Policy:IAMUser/RootCredentialUsage";

#[test]
fn a_cut_log_keeps_the_events_before() {
    let (scratch, whole) = (Scratch::new(), misuse());
    let (output, kinds) = analyzed(&scratch.file("whole.json", whole.as_bytes()));
    assert_exit(&output, 0);
    assert!(
        [STEALTH, ROOT]
            .iter()
            .all(|kind| kinds.iter().any(|one| one == kind)),
        "{kinds:?}"
    );

    // Inside the last event, behind the one that stops the logging.
    let cut = whole.rfind("GetAccountSummary").unwrap();
    let (output, kinds) = analyzed(&scratch.file("cut.json", &whole.as_bytes()[..cut]));
    assert_exit(&output, 1);
    assert_error_names(&output, "cut.json");
    assert_eq!(kinds, [STEALTH]);
}

#[test]
fn a_gzip_bomb_is_refused_where_it_starts() {
    let (scratch, whole) = (Scratch::new(), misuse());
    let end = whole.rfind(']').unwrap();
    // The fastest way of packing does not shrink it by enough for a bomb.
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(&whole.as_bytes()[..end]).unwrap();
    packer.write_all(br#",{"eventName":""#).unwrap();
    let block = vec![b'A'; 1 << 20];
    // 3 GiB, more than the program may take.
    for _ in 0..3 << 10 {
        packer.write_all(&block).unwrap();
    }
    packer.write_all(br#""}]}"#).unwrap();
    let packed = packer.finish().unwrap();
    assert!(packed.len() < 64 << 20, "no bomb");
    let (output, kinds) = analyzed(&scratch.file("bomb.json.gz", &packed));
    assert_exit(&output, 1);
    assert_error_names(&output, "bomb.json.gz");
    assert!(
        [STEALTH, ROOT]
            .iter()
            .all(|kind| kinds.iter().any(|one| one == kind)),
        "{kinds:?}"
    );
}

#[test]
fn a_cut_gzip_stream_keeps_the_events_before() {
    let (scratch, whole) = (Scratch::new(), misuse());
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    packer.write_all(whole.as_bytes()).unwrap();
    let packed = packer.finish().unwrap();
    // Stored without compression, so the last event's middle is near the end.
    let (output, kinds) = analyzed(&scratch.file("cut.json.gz", &packed[..packed.len() - 200]));
    assert_exit(&output, 1);
    assert_error_names(&output, "cut.json.gz");
    assert_eq!(kinds, [STEALTH]);
}

#[test]
fn cut_envelopes_keep_those_before() {
    let scratch = Scratch::new();
    let file = scratch.file("scene.pcap", &capture(&scene()));
    let envelopes = agent(&["replay"], &file).stdout;
    assert!(envelopes.len() > 100);
    let file = scratch.file("cut.cbor", &envelopes[..envelopes.len() - 20]);
    let output = collector(&["analyze", "--format", "jsonl", "--summaries"], &file);
    assert_exit(&output, 1);
    assert_error_names(&output, "cut.cbor");
    assert!(Analysis::read(&output.stdout).unwrap().totals.is_object());
}

#[test]
fn a_bad_config_key_is_named() {
    let scratch = Scratch::new();
    let file = scratch.file("wrong.toml", b"interfacez = [\"eth0\"]\n");
    for output in [
        agent(&["run", "--config"], &file),
        collector(&["serve", "--config"], &file),
    ] {
        assert_exit(&output, EX_CONFIG);
        assert_error_names(&output, "wrong.toml");
        assert_error_names(&output, "interfacez");
    }
}
