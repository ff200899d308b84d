//! `detach`: takes out of the kernel what an agent that has ended left there for the next.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::capture::ebpf;
use crate::config::Config;

/// Takes out of the kernel what stays there while no agent runs
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Configuration file of the agent, which says where its pins are
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = match &arguments.config {
        Some(file) => Config::load(file)?,
        None => Config::default(),
    };
    ebpf::detach(&config.capture.pins).context("take our programs out of the kernel")?;
    Ok(ExitCode::SUCCESS)
}
