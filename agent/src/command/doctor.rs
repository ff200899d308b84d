//! `doctor`: what this host can do and why not.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use super::Format;
use crate::doctor::examine;

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

/// Exits with 1 if anything is amiss.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let checks = examine(arguments.config.as_deref());
    let mut out = io::stdout().lock();
    for check in &checks {
        let line = match arguments.format {
            Format::Jsonl => serde_json::json!({
                "check": check.name, "ok": check.ok, "why": check.why
            })
            .to_string(),
            Format::Text => {
                format!(
                    "{:3} {:14} {}",
                    if check.ok { "yes" } else { "NO" },
                    check.name,
                    check.why
                )
            }
        };
        match writeln!(out, "{line}") {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            outcome => outcome.context("write checks")?,
        }
    }
    Ok(match checks.iter().all(|check| check.ok) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
