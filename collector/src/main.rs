//! `picket-collector`: see `picket-collector --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    picket_collector::command::main()
}
