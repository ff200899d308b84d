//! `picket-lab`: what `make demo` and `make lab` run.

mod demo;
mod interrupt;
mod offline;
mod show;
mod stand;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A network of namespaces with a real agent and a real collector in it.
#[derive(Debug, Parser)]
#[command(name = "picket-lab")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Plays an intrusion and shows the findings as they arrive. With DEMO_ONCE=1 it ends by itself:
    /// with 0 if every expected finding came, with 1 if not.
    Demo,
    /// Brings network, agent and collector up and leaves them to you.
    Lab,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Demo => demo::run(std::env::var_os("DEMO_ONCE").is_some_and(|set| set == "1")),
        Command::Lab => stand::run(),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("picket-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
