//! Totals, server names and fingerprints against captures that others made and counted, if they
//! are there: in `../shared/data/pcap` beside the repository, or under `PICKET_SHARED`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use picket_agent::capture::pcap::CaptureFile;
use picket_sense::decode::{Decoded, Record, Transport};
use picket_sense::flow::Flow;
use picket_sense::inspect::{Inspector, Line, Totals};

/// Cells in which the table counts something else: a question to port 8053, which is DNS but not
/// on port 53, and as a name the words its reader shows for a label of an unknown type.
const DISAGREED: [(&str, &str); 2] = [
    ("dns-malcolm-mixed.pcap", "dns_queries"),
    ("dns-malcolm-mixed.pcap", "unique_qnames"),
];

/// The folder of captures, or `None` after saying that it is missing.
fn captures() -> Option<PathBuf> {
    let shared = std::env::var_os("PICKET_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let folder = shared.join("data/pcap");
    if !folder.join("truth.tsv").exists() {
        println!("skipped: {} has no truth.tsv", folder.display());
        return None;
    }
    Some(folder)
}

/// What an inspection of one capture told.
#[derive(Default)]
struct Told {
    records: Vec<Record>,
    flows: Vec<Flow>,
    totals: Totals,
}

fn inspect(file: &Path) -> Told {
    let mut told = Told::default();
    let mut out = |line: Line<'_>| match line {
        Line::Message(record) => told.records.push(record.clone()),
        Line::Flow(flow) => told.flows.push(*flow),
        Line::Totals(totals) => told.totals = totals.clone(),
    };
    let mut inspector = Inspector::new();
    if let Ok(mut capture) = CaptureFile::open(file) {
        while let Ok(Some(frame)) = capture.next_frame() {
            inspector.on_frame(&frame, &mut out);
        }
    }
    inspector.end_capture("", &mut out);
    told
}

/// The rows of a table with a head, by the names in it.
fn table(file: &Path) -> Vec<BTreeMap<String, String>> {
    let text = fs::read_to_string(file).unwrap();
    let mut rows = text.lines().map(|line| line.split('\t').map(str::to_owned));
    let head: Vec<String> = rows.next().unwrap().collect();
    rows.map(|row| head.iter().cloned().zip(row).collect())
        .collect()
}

#[test]
fn totals_agree() {
    let Some(folder) = captures() else { return };
    let mut wrong = Vec::new();
    for row in table(&folder.join("truth.tsv")) {
        let file = row["file"].as_str();
        let counts = inspect(&folder.join(file)).totals.counts;
        for (column, count) in [
            ("packets", counts.packets),
            ("bytes", counts.bytes),
            ("bidir_flows", counts.flows),
            ("dns_queries", counts.dns_queries),
            ("unique_qnames", counts.unique_qnames),
            ("tls_client_hellos", counts.tls_client_hellos),
            ("unique_sni", counts.unique_sni),
        ] {
            if row[column] != count.to_string() && !DISAGREED.contains(&(file, column)) {
                wrong.push(format!("{file}: {column} is {count}, not {}", row[column]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn flows_and_fingerprints_agree() {
    let Some(folder) = captures() else { return };
    for row in table(&folder.join("truth.tsv")) {
        let file = row["file"].as_str();
        let told = inspect(&folder.join(file));
        let list = |kind: &str| {
            let bytes = fs::read(folder.join(format!("lists/{file}.{kind}"))).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };

        // Each end's address, port, packets and bytes; the ends in the order of their text.
        let mut ours: Vec<String> = Vec::new();
        for flow in &told.flows {
            if flow.key.tunnel().is_none() && flow.key.protocol().has_ports() {
                let mut ends = [flow.opener, flow.opener.other()].map(|side| {
                    let (end, sent) = (flow.key.end(side), flow.sent(side));
                    format!("{} {} {} {}", end.addr, end.port, sent.packets, sent.bytes)
                });
                ends.sort();
                ours.push(format!("{} {}", flow.key.protocol(), ends.join(" ")));
            }
        }
        let flows = list("flows");
        let mut theirs: Vec<String> = Vec::new();
        for line in flows.lines() {
            let [proto, a, ap, b, bp, packets_a, packets_b, bytes_a, bytes_b] =
                line.split('\t').collect::<Vec<_>>().try_into().unwrap();
            let mut ends = [
                format!("{a} {ap} {packets_a} {bytes_a}"),
                format!("{b} {bp} {packets_b} {bytes_b}"),
            ];
            ends.sort();
            theirs.push(format!("{proto} {}", ends.join(" ")));
        }
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "{file}");

        // The lists lack second hellos, so theirs have to be among ours.
        let mut ours: Vec<String> = Vec::new();
        for record in &told.records {
            if let (Decoded::ClientHello(hello), None, Transport::Tcp) =
                (&record.message, record.tunnel, record.transport)
            {
                let alpn = hello.alpn.join(",");
                let alpn = if alpn.is_empty() { "-" } else { &alpn };
                let sni = hello.sni.as_deref().unwrap_or("-");
                let Record { src, dst, .. } = record;
                let ends = [src, dst].map(|end| format!("{}\t{}", end.addr, end.port));
                let [src, dst] = ends;
                ours.push(format!(
                    "{src}\t{dst}\t{sni}\t{alpn}\t{}\t{}",
                    hello.ja3.as_deref().unwrap_or("-"),
                    hello.ja4.as_deref().unwrap_or("-")
                ));
            }
        }
        for line in list("tls").lines() {
            let known: Vec<&str> = line.split('\t').take(8).collect();
            let known = known.join("\t");
            let at = ours.iter().position(|hello| *hello == known);
            let at = at.unwrap_or_else(|| panic!("{file}: {known} is not among ours"));
            ours.swap_remove(at);
        }
    }
}

#[test]
fn hostile_captures_are_read_as_far_as_others_read_them() {
    let Some(folder) = captures() else { return };
    let list = fs::read_to_string(folder.join("hostile.tsv")).unwrap();
    let mut read = 0;
    for line in list.lines() {
        let mut columns = line.split('\t');
        let (Some(path), Some(packets)) = (columns.next(), columns.nth(1)) else {
            continue;
        };
        let name = Path::new(path).file_name().unwrap();
        let file = folder.join("hostile").join(name);
        if !file.exists() {
            continue;
        }
        let told = inspect(&file);
        if packets.parse::<u64>().is_ok_and(|packets| packets > 0) {
            assert_eq!(told.totals.counts.packets.to_string(), packets, "{path}");
            read += 1;
        }
    }
    println!("{read} captures read");
}
