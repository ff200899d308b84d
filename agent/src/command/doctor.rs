//! `doctor`: what this host can do and why not.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use super::{Format, exit_code};
use crate::config::Config;
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

/// Exits with 1 if nothing can be captured or something that is configured cannot work, and like
/// every command if the configuration is bad.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let file = arguments.config.as_deref();
    let mut config = file.map_or_else(|| Ok(Config::default()), Config::load);
    if let Ok(config) = &mut config
        && let Err(error) = config.adopt()
    {
        eprintln!("picket-agent: enrolment not looked at: {error:#}");
    }
    let answers = examine(file, &config);
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
    if let Err(error) = &config {
        return Ok(exit_code(error));
    }
    let fails = answers.iter().any(|answer| answer.verdict == Verdict::No);
    Ok(if fails {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
