//! The demo where no namespace may be made: the same scenes, drawn as captures and replayed.

use std::fs;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use jiff::Timestamp;
use picket_tests::product::offline::{self, Logs};
use picket_tests::product::{Alert, Binaries};
use picket_tests::scene::{Scenario, pcap, sketch};

use crate::show;

/// Plays the scenes from captures and says by its exit code whether all findings came.
pub(crate) fn run(intrusion: &Scenario, lacking: &[String]) -> Result<ExitCode> {
    println!(
        "picket demo, from captures: no kernel program and no network take part, because this"
    );
    println!("machine lacks {}", lacking.join(", "));
    let binaries = Binaries::find()?;
    let folder = tempfile::tempdir().context("make a folder")?;
    let intel = folder.path().join("intel");
    let cloudtrail = folder.path().join("cloudtrail");
    fs::create_dir(&cloudtrail)?;
    intrusion.write_indicators(&intel)?;
    let now = Timestamp::now();
    for file in intrusion.cloudtrail.keys() {
        intrusion.deliver(file, &cloudtrail, now)?;
    }
    let start = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let capture = folder.path().join("intrusion.pcap");
    fs::write(&capture, pcap::capture(&sketch::sketch(intrusion, start)))?;
    for (number, scene) in intrusion.parts.iter().enumerate() {
        println!("  scene {}: {}", number + 1, scene.title);
    }
    println!(
        "picket-agent replay {} | picket-collector analyze --summaries - …\n",
        capture.display()
    );

    let envelopes = offline::replay(&binaries, &capture, Some(&intel))?;
    let logs = Logs {
        cloudtrail: Some(cloudtrail),
        intel: Some(intel),
    };
    let analysis = offline::analyze(&binaries, &envelopes, &logs)?;
    println!(
        "    {:<8} {:<50} {:<20} with",
        "severity", "finding", "about"
    );
    for finding in &analysis.findings {
        let alert = Alert {
            at: SystemTime::now(),
            finding: finding.clone(),
        };
        show::line(&alert);
    }
    let expected = &intrusion.expected;
    let mut missing: Vec<String> = expected
        .missing(&analysis.findings)
        .iter()
        .map(|finding| finding.kind.clone())
        .collect();
    if let Some(wanted) = &expected.incident {
        match analysis.incidents.iter().find(|one| wanted.is(one)) {
            Some(found) => show::incident(found, &analysis.findings),
            None => missing.push("the incident".to_owned()),
        }
    }
    if missing.is_empty() {
        println!("\nevery expected finding came, and the incident that joins them");
        Ok(ExitCode::SUCCESS)
    } else {
        println!("\nNOT COMPLETE: missing {}", missing.join(", "));
        Ok(ExitCode::FAILURE)
    }
}
