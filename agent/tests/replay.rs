//! `picket-agent replay` as a user runs it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use picket_wire::{AgentId, Digest, Header, Sealed, Signer, Summary, item_bytes};

const T0: u32 = 1_700_000_000;

/// A capture of raw IP packets (link type 101), each a second after the one before.
fn capture(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 101] {
        out.extend(word.to_le_bytes());
    }
    for (n, packet) in packets.iter().enumerate() {
        let length = u32::try_from(packet.len()).unwrap();
        for word in [T0 + u32::try_from(n).unwrap(), 0, length, length] {
            out.extend(word.to_le_bytes());
        }
        out.extend(packet);
    }
    out
}

fn udp(src: [u8; 4], dst: [u8; 4], ports: [u16; 2], data: &[u8]) -> Vec<u8> {
    let total = u16::try_from(28 + data.len()).unwrap();
    let mut out = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    out[2..4].copy_from_slice(&total.to_be_bytes());
    out.extend(src);
    out.extend(dst);
    ports.iter().for_each(|port| out.extend(port.to_be_bytes()));
    out.extend((total - 20).to_be_bytes());
    out.extend([0, 0]);
    out.extend(data);
    out
}

fn question(name: &str) -> Vec<u8> {
    let mut out = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend(label.bytes());
    }
    out.extend([0, 0, 1, 0, 1]);
    udp([10, 0, 0, 5], [10, 0, 0, 2], [4000, 53], &out)
}

fn traffic() -> Vec<Vec<u8>> {
    let mut packets: Vec<_> = (0..25)
        .map(|n| udp([10, 0, 0, 5], [192, 0, 2, n], [5000, 123], b"time"))
        .collect();
    packets.push(question("www.evil.example"));
    packets.push(question("www.good.example"));
    packets
}

fn replay(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_picket-agent"));
    command.arg("replay").args(arguments).output().unwrap()
}

/// Opens a sequence of envelopes, checking signatures and that each chain is whole.
fn open(mut bytes: &[u8]) -> Vec<(Header, Summary)> {
    let key = Signer::development().public_key();
    let mut out: Vec<(Header, Summary)> = Vec::new();
    let mut last = Digest::default();
    while let Some(length) = item_bytes(bytes).unwrap() {
        let (item, rest) = bytes.split_at(length);
        let verified = Sealed::parse(item).unwrap().verify(&key).unwrap();
        let header = *verified.header();
        match out.last() {
            Some((before, _)) if before.agent == header.agent => {
                assert_eq!(
                    (header.sequence, header.previous),
                    (before.sequence + 1, last)
                );
            }
            _ => assert_eq!((header.sequence, header.previous), (0, Digest::default())),
        }
        out.push((header, verified.open().unwrap()));
        last = Digest::of(item);
        bytes = rest;
    }
    assert!(bytes.is_empty(), "an envelope is cut");
    out
}

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    }
}

#[test]
fn the_same_capture_gives_the_same_bytes() {
    let files = Files::new();
    let file = files.put("web-1.pcap", &capture(&traffic()));
    let first = replay(&[&file]);
    assert!(
        first.status.success() && first.stderr.is_empty(),
        "{first:?}"
    );
    assert_eq!(first.stdout, replay(&[&file]).stdout);
    let (header, summary) = open(&first.stdout).swap_remove(0);
    assert_eq!(
        header.agent,
        AgentId::of_replay("000000000000", "local", "web-1")
    );
    assert_eq!(header.boot.0, Digest::of(&capture(&traffic())).0[..16]);
    assert_eq!(header.signed_at_ms, summary.window.end_ns / 1_000_000);
    let host = &summary.host;
    let named = [&host.instance, &host.account, &host.region, &host.capture].map(String::as_str);
    assert_eq!(named, ["web-1", "000000000000", "local", "replay"]);
    assert!(host.local.is_empty(), "a mirror");
}

#[test]
fn options_name_the_host_and_hits_are_told_apart() {
    let files = Files::new();
    let file = files.put("x.pcap", &capture(&traffic()));
    files.put("intel/c2-domains.txt", b"evil.example\n");
    files.put("intel/tor-ips.txt", b"192.0.2.7\n192.0.2.8:123\n");
    let intel = files.folder.path().join("intel");
    let out = files.folder.path().join("out.cbor");
    let boot = "00112233445566778899aabbccddeeff";
    let run = replay(&[
        &file,
        "--instance",
        "i-1",
        "--account",
        "123456789012",
        "--region",
        "eu-west-1",
        "--boot-id",
        boot,
        "--local",
        "10.0.0.5/32,fd00::/8",
        "--intel",
        intel.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ]);
    assert!(run.status.success() && run.stdout.is_empty(), "{run:?}");
    let all = open(&fs::read(&out).unwrap());
    let mut hits: Vec<_> = all
        .iter()
        .flat_map(|(_, summary)| &summary.hits)
        .map(|hit| (hit.category.as_str(), hit.indicator.as_str()))
        .collect();
    hits.sort_unstable();
    assert_eq!(
        hits,
        [
            ("c2", "evil.example"),
            ("tor", "192.0.2.7"),
            ("tor", "192.0.2.8:123")
        ]
    );
    let (header, summary) = &all[0];
    assert_eq!(header.boot.to_string(), boot);
    assert_eq!(
        header.agent,
        AgentId::of_replay("123456789012", "eu-west-1", "i-1")
    );
    assert_eq!(
        (summary.host.instance.as_str(), summary.host.local.len()),
        ("i-1", 2)
    );
    assert_ne!(summary.host.indicators, 0);
}

#[test]
fn a_damaged_capture_is_told_up_to_its_fault() {
    let files = Files::new();
    let whole = capture(&traffic());
    let cut = files.put("cut.pcap", &whole[..whole.len() - 10]);
    let empty = files.put("empty.pcap", b"");
    let good = files.put("good.pcap", &whole);
    let run = replay(&["/nonexistent/x.pcap", &cut, &empty, &good]);
    assert_eq!(run.status.code(), Some(1));
    let told = String::from_utf8(run.stderr).unwrap();
    for says in ["/nonexistent/x.pcap", "cut.pcap: record 27", "empty.pcap"] {
        assert!(told.contains(says), "{told}");
    }
    let all = open(&run.stdout);
    let seen = |instance: &str| -> u64 {
        let of = all
            .iter()
            .filter(|(_, summary)| summary.host.instance == instance);
        let counters = of.flat_map(|(_, summary)| &summary.counters);
        counters
            .filter(|c| c.stage == "decode" && c.reason == "seen")
            .map(|c| c.count)
            .sum()
    };
    assert_eq!((seen("cut"), seen("good")), (26, 27));
}

#[test]
fn wrong_usage_and_wrong_files_are_named() {
    let files = Files::new();
    let file = files.put("a.pcap", &capture(&traffic()));
    let check = |arguments: &[&str], code: i32, says: &str| {
        let run = replay(arguments);
        let told = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(says), "{arguments:?}: {told}");
    };
    check(&[], 2, "CAPTURE");
    check(&[&file, "--account", "12"], 2, "twelve digits");
    check(&[&file, "--local", "10.0.0.0/99"], 2, "prefix");
    check(
        &[&file, &file, "--boot-id", &"0".repeat(32)],
        2,
        "--boot-id",
    );
    check(&[&file, "--to", "https://127.0.0.1:1"], 2, "--ca-file");
    check(&[&file, "--key", &file], 1, "a.pcap");
    check(
        &[&file, "--intel", "/nonexistent/intel"],
        1,
        "/nonexistent/intel",
    );
    check(&["/nonexistent/x.pcap"], 1, "/nonexistent/x.pcap");
    // Hashing what can be read once only would leave no packets.
    check(&["/dev/stdin"], 1, "--boot-id");
}

/// The captures that every engineer has at hand, where they are.
fn shared_captures() -> Vec<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("PICKET_SHARED").map_or(beside, PathBuf::from);
    let Ok(folder) = fs::read_dir(shared.join("data/pcap")) else {
        eprintln!(
            "skipped: no captures in {}",
            shared.join("data/pcap").display()
        );
        return Vec::new();
    };
    let files = folder.map(|entry| entry.unwrap().path());
    files
        .filter(|path| {
            path.extension()
                .is_some_and(|e| e == "pcap" || e == "pcapng")
        })
        .collect()
}

#[test]
fn replay_and_inspect_count_the_same() {
    for file in shared_captures() {
        let name = file.to_str().unwrap();
        let all = open(&replay(&[name]).stdout);
        let counted = |stage: &str, reason: &str| -> u64 {
            let counters = all.iter().flat_map(|(_, summary)| &summary.counters);
            counters
                .filter(|c| c.stage == stage && c.reason == reason)
                .map(|c| c.count)
                .sum()
        };
        let mut inspect = Command::new(env!("CARGO_BIN_EXE_picket-agent"));
        let run = inspect
            .args(["inspect", name, "--format", "jsonl"])
            .output()
            .unwrap();
        let lines = String::from_utf8(run.stdout).unwrap();
        let totals: serde_json::Value =
            serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        assert_eq!(totals["packets"], counted("decode", "seen"), "{name}");
        let hellos = ["tls_client_hellos"].map(|key| totals[key].as_u64().unwrap());
        assert!(counted("tls", "client_hellos") >= hellos[0], "{name}");
        assert_eq!(totals["dns_queries"], counted("dns", "queries"), "{name}");
        for (_, summary) in all.iter().filter(|(_, summary)| !summary.immediate) {
            let sum = |stage: &str, begins: &[&str]| -> u64 {
                let of = summary.counters.iter().filter(|c| c.stage == stage);
                of.filter(|c| begins.iter().any(|b| c.reason.starts_with(b)))
                    .map(|c| c.count)
                    .sum()
            };
            for stage in ["decode", "inner"] {
                let accounted = sum(stage, &["flow", "not_flow_", "lost_"]);
                assert_eq!(sum(stage, &["seen"]), accounted, "{name} {stage}");
            }
            let told = |inner: bool| -> u64 {
                let all = summary.conversations.iter();
                all.filter(|c| c.tunnel.is_some() == inner)
                    .map(|c| c.packets_out + c.packets_in)
                    .sum()
            };
            let told_outer = told(false) + summary.cut.packets;
            assert_eq!(told_outer, sum("flow", &["flow"]), "{name}");
            let told_inner = told(true) + sum("inner", &["cut"]);
            assert_eq!(told_inner, sum("inner", &["flow"]), "{name}");
        }
    }
}
