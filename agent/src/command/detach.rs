//! `detach`: takes out of the kernel what an agent that has ended left there for the next. Filters on
//! clsact are those of the network namespace it is called in, whichever agent hung them.

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
    let pins = &config.capture.pins;
    ebpf::detach(pins).context("take our programs out of the kernel")?;
    if pins.as_os_str().is_empty() {
        println!("filters taken off; capture.pins is empty, so no pins were looked for");
    } else {
        println!("filters taken off, pins in {} removed", pins.display());
    }
    Ok(ExitCode::SUCCESS)
}
