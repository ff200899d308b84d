//! `intel`: indicators of the running collector.

use clap::Subcommand;

use super::{Outcome, feeds};

/// What `intel` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Feeds that the collector fetches: how each does, and what is held back
    Feeds(feeds::Arguments),
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    match arguments.verb {
        Verb::Feeds(arguments) => feeds::run(arguments),
    }
}
