//! `picket-collector`: see `picket-collector --help`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    picket_collector::command::main()
}
