//! `analyze`: the whole analysis offline, in event-time order, without a server or a store.

use std::path::PathBuf;

use crate::command::Outcome;
use crate::config::Config;

/// What `analyze` takes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Summaries as an agent writes them: a file, a folder, or `-` for stdin.
    #[arg(long, value_name = "FILE|-")]
    summaries: Vec<PathBuf>,
    /// CloudTrail logs in any common shape: a file or a folder, .gz or not.
    #[arg(long, value_name = "PATH")]
    cloudtrail: Vec<PathBuf>,
    /// Folder of indicator lists named `<category>-<kind>.txt`.
    #[arg(long, value_name = "DIR")]
    intel: Option<PathBuf>,
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    if let Some(path) = &arguments.config {
        Config::load(path)?;
    }
    anyhow::bail!("analysis is being built")
}
