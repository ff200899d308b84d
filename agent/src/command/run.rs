//! `run`: the service.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::Config;
use crate::log;
use crate::run;

/// What is logged unless `PICKET_LOG` says otherwise. The loader of kernel programs warns of type
/// information that old kernels and ours can do without.
const LOG: &str = "info,aya=error,aya_obj=error";

/// Watches this host and tells a collector
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", required_unless_present = "standalone")]
    config: Option<PathBuf>,
    /// Without a collector: print hits as JSON lines
    #[arg(long)]
    standalone: bool,
    /// Folder of indicator lists, in place of the configured one
    #[arg(long, value_name = "DIR")]
    intel: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut config = match &arguments.config {
        Some(file) => Config::load(file)?,
        None => Config::default(),
    };
    if let Some(intel) = &arguments.intel {
        config.intel_dir = Some(intel.clone());
    }
    log::begin(LOG);
    if arguments.standalone {
        run::standalone(&config)?;
    } else {
        run::service(config)?;
    }
    Ok(ExitCode::SUCCESS)
}
