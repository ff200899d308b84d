//! `doctor`: what this host can do and why not.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use super::Format;
use crate::doctor::{Verdict, examine};

/// Tells what this host and a configuration can do, and why not
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Configuration file to look at
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Exits with 1 if nothing can be captured or something that is configured cannot work.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let answers = examine(arguments.config.as_deref());
    let mut out = io::stdout().lock();
    for answer in &answers {
        let line = match arguments.format {
            Format::Jsonl => serde_json::json!({
                "check": answer.name, "ok": answer.verdict == Verdict::Yes,
                "verdict": answer.verdict, "why": answer.why
            })
            .to_string(),
            Format::Text => {
                format!(
                    "{:4} {:14} {}",
                    match answer.verdict {
                        Verdict::Yes => "yes",
                        Verdict::Warn => "warn",
                        Verdict::No => "NO",
                    },
                    answer.name,
                    answer.why
                )
            }
        };
        match writeln!(out, "{line}") {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            outcome => outcome.context("write checks")?,
        }
    }
    Ok(
        match answers.iter().all(|answer| answer.verdict != Verdict::No) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        },
    )
}
