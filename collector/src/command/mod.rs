//! The command line: one file per command, a line in [`Command`] and one in [`run`].
//!
//! Exit codes: 0 ok, 1 failure, 2 usage, 78 bad configuration. Errors go to stderr as one line.

mod agents;
mod analyze;
mod audit;
mod baselines;
mod block;
mod feeds;
mod findings;
mod incidents;
mod intel;
mod join_tokens;
mod listing;
mod names;
mod operators;
mod page;
mod rules;
mod serve;
mod shape;
mod usage;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::{ConfigError, EX_CONFIG};

/// Takes summaries and logs in, gives findings and alerts out.
#[derive(Debug, Parser)]
#[command(name = "picket-collector", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Who speaks to the running collector, and how they do.
    Agents(agents::Arguments),
    /// The whole analysis offline: findings, then incidents, then one line of totals.
    Analyze(analyze::Arguments),
    /// Who changed what, and who was refused.
    Audit(audit::Arguments),
    /// What is usual for whom, as it was learned: look, carry it elsewhere, forget
    Baselines(baselines::Arguments),
    /// What hosts drop in their kernels, for how long and why: order it, take it back, see what each did
    Block(block::Arguments),
    /// What the running collector has found.
    Findings(findings::Arguments),
    /// The stories the running collector has put together.
    Incidents(incidents::Arguments),
    /// What the fleet looks for.
    Intel(intel::Arguments),
    /// Tokens by which hosts join that nobody else can vouch for.
    JoinTokens(join_tokens::Arguments),
    /// Names, and what they look like.
    Names(names::Arguments),
    /// Who may ask the collector over the network, and for what.
    Operators(operators::Arguments),
    /// Rules of your own: what they do, trying them out, letting them page.
    Rules(rules::Arguments),
    /// The service.
    Serve(serve::Arguments),
    /// What was analysed, by account and day, and what GuardDuty would charge for it.
    Usage(usage::Arguments),
}

/// How a command that ran to its end came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All went well.
    Done,
    /// Something failed; it has been reported, and what was good was kept.
    Failed,
}

/// The command line, for manual pages and completions.
#[must_use]
pub fn command_line() -> clap::Command {
    Arguments::command()
}

/// Reads the arguments, runs the command, says what went wrong.
pub fn main() -> ExitCode {
    // Fails only where a provider is installed already, which does as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    crate::log::begin("info");
    match run(Arguments::parse().command) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("picket-collector: {error:#}");
            match error.downcast_ref::<ConfigError>() {
                Some(_) => ExitCode::from(EX_CONFIG),
                None => ExitCode::FAILURE,
            }
        }
    }
}

fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Agents(arguments) => agents::run(arguments),
        Command::Analyze(arguments) => analyze::run(&arguments),
        Command::Audit(arguments) => audit::run(arguments),
        Command::Baselines(arguments) => baselines::run(arguments),
        Command::Block(arguments) => block::run(arguments),
        Command::Findings(arguments) => findings::run(arguments),
        Command::Incidents(arguments) => incidents::run(arguments),
        Command::Intel(arguments) => intel::run(arguments),
        Command::JoinTokens(arguments) => join_tokens::run(arguments),
        Command::Names(arguments) => names::run(&arguments),
        Command::Operators(arguments) => operators::run(arguments),
        Command::Rules(arguments) => rules::run(arguments),
        Command::Serve(arguments) => serve::run(arguments),
        Command::Usage(arguments) => usage::run(&arguments),
    }
}
