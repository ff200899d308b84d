//! How many CloudTrail events `picket-collector analyze` takes in a CPU second with every built-in
//! detection on, and with the public Sigma rules besides, against what it costs to unpack and parse
//! the same file and do nothing with it: by our own typed parse, by serde_json and by the fastest JSON crate
//! into whatever JSON it is; the same in bytes, packed and not; and how much memory ten times the log takes.
//!
//! In the log everybody is a session of a role, as nearly everybody is in a large account. One of the public
//! rules, "AWS STS AssumeRole Misuse", asks for no more than that: it matches every event, of whatever call.
//! So the row with rules pays for a match an event, on top of looking for one.
//!
//! The public rules are not ours to pass on: they are looked for where the tests look for them, and
//! without them their row is not run.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use picket_detect::logs::{ApiCall, Piece, Splitter};
use serde_json::json;

use crate::Setting;
use crate::capture::Random;
use crate::cpu::{peak_mib, used_by};
use crate::report::Report;
use crate::rounds::{Samples, interleaved, thread_ns};

/// Events of the log.
const EVENTS: u32 = 200_000;

/// Events of the logs that memory is compared on: the smaller is larger than what is sorted in memory.
const SMALL: u32 = 80_000;
const LARGE: u32 = 10 * SMALL;

/// Calls of a busy account: source, name, whether it only reads, how often in a hundred.
const CALLS: &[(&str, &str, bool, u32)] = &[
    ("ec2.amazonaws.com", "DescribeInstances", true, 30),
    ("sts.amazonaws.com", "AssumeRole", true, 18),
    ("s3.amazonaws.com", "GetObject", true, 16),
    ("kms.amazonaws.com", "Decrypt", true, 12),
    ("s3.amazonaws.com", "PutObject", false, 8),
    ("logs.amazonaws.com", "CreateLogStream", false, 6),
    ("iam.amazonaws.com", "GetRole", true, 4),
    ("secretsmanager.amazonaws.com", "GetSecretValue", true, 2),
    ("ec2.amazonaws.com", "RunInstances", false, 2),
    ("lambda.amazonaws.com", "Invoke", false, 2),
];

/// Measures.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let log = setting.scratch.join("cloudtrail.json.gz");
    let file = File::create(&log).context("create the log")?;
    let packed = write(GzEncoder::new(file, Compression::new(6)), EVENTS)?;
    packed.finish().context("write the log")?;
    let unpacked = setting.scratch.join("cloudtrail.json");
    write(
        BufWriter::new(File::create(&unpacked).context("create the log")?),
        EVENTS,
    )?
    .flush()
    .context("write the log")?;
    let mb = std::fs::metadata(&unpacked)
        .context("look at the log")?
        .len() as f64
        / 1e6;

    let rules = public_rules();
    let analyze = |log: &Path, rules: Option<&Path>| {
        let mut command = Command::new(&setting.binaries.collector);
        command.args(["analyze", "--cloudtrail"]).arg(log);
        command.args(["--format", "jsonl"]);
        if let Some(rules) = rules {
            command.arg("--rules").arg(rules);
        }
        Ok(f64::from(EVENTS) / used_by(&mut command)?)
    };
    let mb_of = |events_per_s: f64| events_per_s / f64::from(EVENTS) * mb;
    let packed = || anyhow::Ok(MultiGzDecoder::new(BufReader::new(open(&log)?)));
    let columns = interleaved(
        setting.rounds,
        &mut [
            &mut || analyze(&log, None),
            // Without rules a number that no row is made of.
            &mut || {
                rules
                    .as_deref()
                    .map_or(Ok(1.0), |rules| analyze(&log, Some(rules)))
            },
            &mut || parse(packed()?, typed),
            &mut || parse(packed()?, by_serde_json),
            &mut || parse(packed()?, by_sonic),
            &mut || analyze(&unpacked, None).map(mb_of),
            &mut || parse(BufReader::new(open(&unpacked)?), typed).map(mb_of),
            &mut || parse(BufReader::new(open(&unpacked)?), by_sonic).map(mb_of),
        ],
    )?;
    let [
        all,
        with_rules,
        parsed,
        serde,
        sonic,
        plain,
        parsed_plain,
        sonic_plain,
    ]: [Vec<f64>; 8] = columns.try_into().ok().context("eight columns")?;
    let row = |ours, baseline: &[f64]| Samples {
        ours,
        baseline: baseline.to_vec(),
    };
    let mb_packed = all.iter().map(|events| mb_of(*events)).collect();
    let mb_parsed: Vec<f64> = parsed.iter().map(|events| mb_of(*events)).collect();
    report.add(
        "collector/cloudtrail_gz_vs_parse",
        &row(mb_packed, &mb_parsed),
    );
    report.add(
        "collector/cloudtrail_all_vs_sonic",
        &row(all.clone(), &sonic),
    );
    report.add(
        "collector/cloudtrail_all_vs_serde",
        &row(all.clone(), &serde),
    );
    report.add("collector/cloudtrail_all_vs_parse", &row(all, &parsed));
    report.add(
        "collector/cloudtrail_plain_vs_sonic",
        &row(plain.clone(), &sonic_plain),
    );
    report.add(
        "collector/cloudtrail_plain_vs_parse",
        &row(plain, &parsed_plain),
    );
    let sigma = "collector/cloudtrail_sigma_vs_parse";
    match rules {
        Some(_) => report.add(sigma, &row(with_rules, &parsed)),
        None => report.not_run(&[sigma], "the public rules are not at hand"),
    }
    let memory = Samples {
        ours: vec![peak(setting, LARGE)?],
        baseline: vec![peak(setting, SMALL)?],
    };
    report.add("collector/cloudtrail_memory_tenfold", &memory);
    Ok(())
}

/// MiB that the analysis of a log of so many events takes at most.
fn peak(setting: &Setting, events: u32) -> Result<f64> {
    let log = setting.scratch.join("cloudtrail-memory.json.gz");
    let file = File::create(&log).context("create the log")?;
    let packed = write(GzEncoder::new(file, Compression::fast()), events)?;
    packed.finish().context("write the log")?;
    let mut command = Command::new(&setting.binaries.collector);
    command.args(["analyze", "--cloudtrail"]).arg(&log);
    command.args(["--format", "jsonl"]);
    peak_mib(&mut command)
}

/// Where the public rules are, if anywhere.
fn public_rules() -> Option<PathBuf> {
    let shared = std::env::var_os("PICKET_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        Into::into,
    );
    Some(shared.join("data/sigma-aws")).filter(|folder| folder.is_dir())
}

fn open(log: &Path) -> Result<File> {
    File::open(log).context("open the log")
}

/// Parses an event as the collector does; the time it says.
fn typed(json: &[u8], time_ns: u64) -> Result<u64> {
    let call = ApiCall::parse(json, time_ns)?;
    Ok(std::hint::black_box(call).event_time_ns)
}

/// Parses an event by the JSON crate that everybody knows, into what it makes of any JSON.
fn by_serde_json(json: &[u8], time_ns: u64) -> Result<u64> {
    let value: serde_json::Value = serde_json::from_slice(json)?;
    std::hint::black_box(value);
    Ok(time_ns)
}

/// Parses an event by the fastest JSON crate, into what it makes of any JSON.
fn by_sonic(json: &[u8], time_ns: u64) -> Result<u64> {
    let value: sonic_rs::Value = sonic_rs::from_slice(json)?;
    std::hint::black_box(value);
    Ok(time_ns)
}

/// Events per CPU second of reading, cutting and parsing alone.
fn parse(mut plain: impl Read, one: fn(&[u8], u64) -> Result<u64>) -> Result<f64> {
    let before = thread_ns();
    let mut splitter = Splitter::default();
    let mut chunk = vec![0; 256 << 10];
    let (mut events, mut time_ns) = (0, 0);
    loop {
        let count = plain.read(&mut chunk).context("unpack the log")?;
        if count == 0 {
            splitter.end();
        } else {
            splitter.push(&chunk[..count]);
        }
        while let Some(piece) = splitter.next_piece() {
            if let Piece::Event(event) = piece {
                time_ns = one(event.json, time_ns)?;
                events += 1;
            }
        }
        if count == 0 {
            break;
        }
    }
    ensure!(events == EVENTS, "{events} of {EVENTS} events parsed");
    Ok(f64::from(events) / (thread_ns() - before) * 1e9)
}

/// Writes a log of so many events: the same each time.
fn write<W: Write>(mut out: W, events: u32) -> Result<W> {
    let mut random = Random::new(3);
    out.write_all(b"{\"Records\":[").context("write the log")?;
    for number in 0..events {
        if number > 0 {
            out.write_all(b",").context("write the log")?;
        }
        serde_json::to_writer(&mut out, &event(&mut random, number)).context("write the log")?;
    }
    out.write_all(b"]}").context("write the log")?;
    Ok(out)
}

/// An event: forty roles, each with sessions on a few hosts, ten calls a second.
fn event(random: &mut Random, number: u32) -> serde_json::Value {
    let mut left = random.below(100);
    let (source, name, reads, _) = CALLS
        .iter()
        .find(|(.., share)| {
            let is_it = left < *share;
            left = left.saturating_sub(*share);
            is_it
        })
        .unwrap_or(&CALLS[0]);
    let role = random.below(40);
    let session = random.below(5);
    let host = format!("i-0{role:08x}{session:08x}");
    let second = number / 10;
    let time = format!(
        "2026-11-{:02}T{:02}:{:02}:{:02}Z",
        1 + second / 86_400,
        second / 3600 % 24,
        second / 60 % 60,
        second % 60
    );
    let role_id = format!("AROAEXAMPLE{role:010}");
    let arn = format!("arn:aws:sts::111122223333:assumed-role/role-{role}/{host}");
    json!({
        "eventVersion": "1.11",
        "userIdentity": {
            "type": "AssumedRole",
            "principalId": format!("{role_id}:{host}"),
            "arn": arn,
            "accountId": "111122223333",
            "accessKeyId": format!("ASIAEXAMPLE{role:04}{session:05}"),
            "sessionContext": {
                "sessionIssuer": {
                    "type": "Role",
                    "principalId": role_id,
                    "arn": format!("arn:aws:iam::111122223333:role/role-{role}"),
                    "accountId": "111122223333",
                    "userName": format!("role-{role}")
                },
                "attributes": {"creationDate": "2026-11-01T00:00:00Z", "mfaAuthenticated": "false"}
            }
        },
        "eventTime": time,
        "eventSource": source,
        "eventName": name,
        "awsRegion": "eu-central-1",
        "sourceIPAddress": format!("10.1.{role}.{session}"),
        "userAgent": "aws-sdk-go-v2/1.30.3 os/linux lang/go#1.22.5 md/GOOS#linux api/service#1.58.2",
        "requestParameters": {
            "bucketName": format!("data-{role}"),
            "key": format!("year=2026/part-{:06}.parquet", random.below(1_000_000)),
            "maxResults": 1000
        },
        "responseElements": null,
        "requestID": format!("{:016x}", random.next()),
        "eventID": format!("{:08x}-0000-4000-8000-{number:012x}", random.next() as u32),
        "readOnly": reads,
        "eventType": "AwsApiCall",
        "managementEvent": *source != "s3.amazonaws.com",
        "recipientAccountId": "111122223333",
        "eventCategory": if *source == "s3.amazonaws.com" { "Data" } else { "Management" },
        "tlsDetails": {"tlsVersion": "TLSv1.3", "cipherSuite": "TLS_AES_128_GCM_SHA256",
            "clientProvidedHostHeader": source}
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_one_that_parses() {
        assert_eq!(CALLS.iter().map(|(.., share)| share).sum::<u32>(), 100);
        let mut random = Random::new(3);
        for number in 0..100 {
            let text = event(&mut random, number).to_string();
            let call = ApiCall::parse(text.as_bytes(), 0).unwrap();
            assert!(
                CALLS
                    .iter()
                    .any(|(source, ..)| *source == &call.event_source[..])
            );
        }
    }
}
