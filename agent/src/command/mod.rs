//! What the binary can be told to do. A command is one file here: its arguments as a struct, and
//! `run`.
//!
//! Exit codes: 0 success, 1 failure, 2 wrong usage (by clap), 78 a bad configuration.

mod detach;
mod doctor;
mod enroll;
mod inspect;
mod replay;
mod run;
mod screen;
mod status;
mod top;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// `EX_CONFIG` of `sysexits.h`.
const EXIT_CONFIG: u8 = 78;

/// picket's sensor: decodes what this host's network carries, matches it against indicators, and
/// tells a collector.
#[derive(Debug, Parser)]
#[command(name = "picket-agent", version, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Takes out of the kernel what an agent that has ended left there for the next.
    Detach(detach::Arguments),
    /// Tells what this host can do and why not.
    Doctor(doctor::Arguments),
    /// Makes this host's key known to a collector.
    Enroll(Box<enroll::Arguments>),
    /// Decodes captures and prints what is in them.
    Inspect(inspect::Arguments),
    /// Replays captures (pcap, pcapng, also gzipped) into signed envelopes.
    Replay(Box<replay::Arguments>),
    /// Watches this host and tells a collector.
    Run(run::Arguments),
    /// Tells how the running agent is.
    Status(status::Arguments),
    /// Shows who talks most, what is asked for and what was hit.
    Top(top::Arguments),
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// It failed for the reason given; [`exit_code`] says how the process ends.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Detach(arguments) => detach::run(&arguments),
            Self::Doctor(arguments) => doctor::run(&arguments),
            Self::Enroll(arguments) => enroll::run(&arguments),
            Self::Inspect(arguments) => inspect::run(&arguments),
            Self::Replay(arguments) => replay::run(&arguments),
            Self::Run(arguments) => run::run(&arguments),
            Self::Status(arguments) => status::run(&arguments),
            Self::Top(arguments) => top::run(&arguments),
        }
    }
}

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Jsonl,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("config key {key}: {problem}")]
pub struct BadConfig {
    /// The key, with the tables it stands in: `spool.bytes_max`.
    pub key: String,
    /// What is wrong with its value.
    pub problem: String,
}

/// The exit code for an error.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.downcast_ref::<BadConfig>().is_some() {
        ExitCode::from(EXIT_CONFIG)
    } else {
        ExitCode::FAILURE
    }
}
