//! `picket-agent`: see `picket-agent --help`.

use std::process::ExitCode;

use clap::Parser;
use picket_agent::command::{Arguments, exit_code};

fn main() -> ExitCode {
    match Arguments::parse().command.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("picket-agent: {error:#}");
            exit_code(&error)
        }
    }
}
