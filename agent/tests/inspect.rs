//! `picket-agent inspect` as a user runs it: exit codes, and what is kept of damaged captures.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead as _, BufReader, BufWriter, Write};
use std::process::{Command, Output, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;

/// A capture of so many DNS queries, one a second, as raw IP packets.
fn capture(packets: u32) -> Vec<u8> {
    let words =
        |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    let mut bytes = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 101]);
    for second in 0..packets {
        let name = format!("n{second:03}");
        let message = [
            &[0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4][..],
            name.as_bytes(),
            &[7, b'e', b'x', b'a', b'm', b'p', b'l', b'e', 0, 0, 28, 0, 1],
        ];
        let message = message.concat();
        let udp_bytes = 8 + message.len() as u16;
        let mut packet = vec![0x45, 0];
        packet.extend((20 + udp_bytes).to_be_bytes());
        packet.extend([
            0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x9c, 0x40, 0, 53,
        ]);
        packet.extend(udp_bytes.to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(message);
        let length = packet.len() as u32;
        bytes.extend(words(&[second, 250_000, length, length]));
        bytes.extend(packet);
    }
    bytes
}

fn inspect(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_picket-agent"))
        .arg("inspect")
        .args(arguments)
        .output()
        .unwrap()
}

fn lines(output: &Output) -> Vec<serde_json::Value> {
    output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

#[track_caller]
fn check(name: &str, content: &[u8], code: i32, packets: Option<u64>, error: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    fs::write(&file, content).unwrap();
    let output = inspect(&[file.to_str().unwrap(), "--format", "jsonl"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    let lines = lines(&output);
    let of_file = lines.iter().find(|line| line["file"].is_string());
    assert_eq!(
        of_file.and_then(|totals| totals["packets"].as_u64()),
        packets
    );
    assert!(
        lines.last().unwrap()["file"].is_null(),
        "the sum comes last"
    );
    if error.is_empty() {
        assert_eq!(said, "");
    } else {
        assert_eq!(said, format!("picket-agent: {}: {error}\n", file.display()));
    }
}

#[test]
fn whole_and_damaged_captures() {
    let whole = capture(3);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&whole).unwrap();
    check("a.pcap", &whole, 0, Some(3), "");
    check("a.pcap.gz", &encoder.finish().unwrap(), 0, Some(3), "");
    check("none.pcap", &capture(0), 0, Some(0), "");
    let cut = &whole[..whole.len() - 5];
    let error = "record 3 at byte 172: file ends 5 bytes too early";
    check("cut.pcap", cut, 1, Some(2), error);
    check("empty.pcap", b"", 1, None, "empty file");
    let error = "not a pcap or pcapng file: begins with [68, 65, 6c, 6c]";
    check("text.pcap", b"hello, world, hello, world", 1, None, error);
}

#[test]
fn a_missing_file_does_not_hide_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.pcap");
    fs::write(&good, capture(4)).unwrap();
    let missing = folder.path().join("missing.pcap");
    let output = inspect(&[
        missing.to_str().unwrap(),
        good.to_str().unwrap(),
        "--format",
        "jsonl",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("missing.pcap: No such file"));
    let lines = lines(&output);
    let names: Vec<_> = lines
        .iter()
        .filter_map(|line| line["qname"].as_str())
        .collect();
    assert_eq!(
        names,
        [
            "n000.example",
            "n001.example",
            "n002.example",
            "n003.example"
        ]
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains(r#""ts":3.25,"#));
}

#[test]
fn wrong_usage_exits_2() {
    assert_eq!(inspect(&[]).status.code(), Some(2));
    assert_eq!(
        inspect(&["x.pcap", "--format", "xml"]).status.code(),
        Some(2)
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("long.pcap");
    fs::write(&file, capture(20_000)).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_picket-agent"))
        .args(["inspect", file.to_str().unwrap(), "--format", "jsonl"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

#[test]
fn people_get_text() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.pcap");
    fs::write(&file, capture(2)).unwrap();
    let output = inspect(&[file.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("1.000000 dns   10.0.0.1:40000 → 10.0.0.2:53 0x0009 AAAA n001.example"),
        "{text}"
    );
    assert!(
        text.contains("2 packets, 116 bytes, 1 flows; 2 DNS queries for 2 names"),
        "{text}"
    );
}

/// A capture of TCP connections that never come to anything, fed as it is made: each begins, and has
/// said a piece whose beginning is missing.
fn half_open(connections: u32, mut to: impl Write) -> std::io::Result<()> {
    let words =
        |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    to.write_all(&words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 101]))?;
    for nth in 0..connections {
        for (flags, sequence, said) in [(0x02, 1_000u32, 0u16), (0x18, 1_500, 111)] {
            let mut packet = vec![0x45, 0];
            packet.extend((40 + said).to_be_bytes());
            packet.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
            packet.extend((0x0a00_0000 + (nth >> 14)).to_be_bytes());
            packet.extend([192, 0, 2, 1]);
            packet.extend((1_024 + (nth as u16 & 0x3fff)).to_be_bytes());
            packet.extend([0x01, 0xbb]);
            packet.extend(sequence.to_be_bytes());
            packet.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
            packet.resize(packet.len() + usize::from(said), b'x');
            let length = packet.len() as u32;
            to.write_all(&words(&[nth / 250_000, nth % 250_000 * 4, length, length]))?;
            to.write_all(&packet)?;
        }
    }
    to.flush()
}

/// The most memory that was resident, bytes, of a process that runs.
fn most_resident(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

#[test]
fn a_million_half_open_connections_stay_within_their_memory() {
    const CONNECTIONS: u32 = 1_000_000;
    const BYTES_MAX: u64 = 160_000_000;
    let mut inspect = Command::new(env!("CARGO_BIN_EXE_picket-agent"))
        .args(["inspect", "-", "--format", "jsonl"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let to = BufWriter::new(inspect.stdin.take().unwrap());
    let fed = std::thread::spawn(move || half_open(CONNECTIONS, to));
    let mut out = BufReader::new(inspect.stdout.take().unwrap());
    let (mut most, mut flows, mut line) = (0, 0, Vec::new());
    let totals = loop {
        line.clear();
        assert_ne!(out.read_until(b'\n', &mut line).unwrap(), 0, "no totals");
        if !line.starts_with(br#"{"kind":"flow""#) {
            break serde_json::from_slice::<serde_json::Value>(&line).unwrap();
        }
        flows += 1;
        // It ends soon after the last line; until then each is read while it runs.
        if flows % 1_000 == 0 {
            most = most_resident(inspect.id()).unwrap_or(0).max(most);
        }
    };
    fed.join().unwrap().unwrap();
    std::io::copy(&mut out, &mut std::io::sink()).unwrap();
    assert!(inspect.wait().unwrap().success());
    assert_eq!(
        (&totals["packets"], &totals["flows"]),
        (&2_000_000.into(), &1_000_000.into())
    );
    assert_eq!(flows, CONNECTIONS);
    println!("{} MB at most", most / 1_000_000);
    assert!(
        (1..=BYTES_MAX).contains(&most),
        "{most} bytes were resident"
    );
}
