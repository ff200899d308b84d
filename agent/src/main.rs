//! `picket-agent`: see `picket-agent --help`.

use std::process::ExitCode;

use clap::Parser;
use picket_agent::command::{Command, exit_code};

/// picket's sensor: decodes what this host's network carries, matches it against indicators, and
/// tells a collector.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    match Arguments::parse().command.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("picket-agent: {error:#}");
            exit_code(&error)
        }
    }
}
