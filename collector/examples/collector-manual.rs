//! Writes the manual pages and the shell completions of `picket-collector` into a folder, for packages.
//!
//! An example, so that what it takes comes into no program.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::Command;
use clap_complete::{Shell, generate_to};
use picket_collector::command::command_line;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).context("name a folder")?;
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let mut commands = without_help(command_line());
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut commands, "picket-collector", &folder)
            .context("write completions")?;
    }
    clap_mangen::generate_to(commands, &folder).context("write manual pages")
}

/// Without the subcommands `help`, each of which would have a page for every other.
fn without_help(command: Command) -> Command {
    let names: Vec<String> = command
        .get_subcommands()
        .map(|one| one.get_name().to_owned())
        .collect();
    let command = command.disable_help_subcommand(true);
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, without_help)
    })
}
