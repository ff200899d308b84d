//! `picket-agent replay … | picket-collector analyze …`: the product without a server or root.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Binaries, describe, json_lines, run};
use crate::lab::topology::{INSTANCE, INSTANCE_V6};
use crate::scene::template::{ACCOUNT, INSTANCE_ID, REGION};

/// What `analyze` printed.
#[derive(Debug, Clone, Default)]
pub struct Analysis {
    /// Findings, each once, in its final state.
    pub findings: Vec<Value>,
    /// Incidents.
    pub incidents: Vec<Value>,
    /// The last line.
    pub totals: Value,
}

impl Analysis {
    /// Sorts the lines of `analyze` into their kinds.
    ///
    /// # Errors
    /// When a line is no JSON or of no known kind.
    pub fn read(output: &[u8]) -> Result<Self> {
        let mut analysis = Self::default();
        for line in json_lines(output)? {
            match line["kind"].as_str() {
                Some("incident") => analysis.incidents.push(line),
                Some("totals") => analysis.totals = line,
                _ if line["type"].is_string() => analysis.findings.push(line),
                _ => anyhow::bail!("neither finding, incident nor totals: {line}"),
            }
        }
        Ok(analysis)
    }
}

/// What `analyze` is given besides summaries.
#[derive(Debug, Clone, Default)]
pub struct Logs {
    /// Folder of CloudTrail files.
    pub cloudtrail: Option<PathBuf>,
    /// Folder of lists.
    pub intel: Option<PathBuf>,
}

/// Replays a capture as the scene's instance and returns the envelopes.
///
/// # Errors
/// When `replay` exits with anything but 0.
pub fn replay(binaries: &Binaries, capture: &Path, intel: Option<&Path>) -> Result<Vec<u8>> {
    let mut command = Command::new(&binaries.agent);
    command
        .arg("replay")
        .arg(capture)
        .args(["--instance", INSTANCE_ID])
        .args(["--account", ACCOUNT])
        .args(["--region", REGION])
        .args(["--local", &format!("{INSTANCE}/32")])
        .args(["--local", &format!("{INSTANCE_V6}/128")])
        .args(["--out", "-"]);
    if let Some(intel) = intel {
        command.arg("--intel").arg(intel);
    }
    let output = run(command, &[]).context("replay")?;
    ensure!(
        output.status.success(),
        "picket-agent replay: {}",
        describe(&output)
    );
    Ok(output.stdout)
}

/// Analyses envelopes and logs.
///
/// # Errors
/// When `analyze` exits with anything but 0 or prints something else than its contract says.
pub fn analyze(binaries: &Binaries, summaries: &[u8], logs: &Logs) -> Result<Analysis> {
    let mut command = Command::new(&binaries.collector);
    command.args(["analyze", "--format", "jsonl"]);
    // A scenario without packets has no summaries, and an empty stream of them is a fault.
    if !summaries.is_empty() {
        command.args(["--summaries", "-"]);
    }
    if let Some(cloudtrail) = &logs.cloudtrail {
        command.arg("--cloudtrail").arg(cloudtrail);
    }
    if let Some(intel) = &logs.intel {
        command.arg("--intel").arg(intel);
    }
    let output = run(command, summaries).context("analyze")?;
    ensure!(
        output.status.success(),
        "picket-collector analyze: {}",
        describe(&output)
    );
    let analysis = Analysis::read(&output.stdout)?;
    ensure!(
        analysis.totals.is_object(),
        "analyze printed no totals: {}",
        describe(&output)
    );
    Ok(analysis)
}
