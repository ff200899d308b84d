//! Build steps that cargo has no word for; `cargo xtask help` lists them.

mod house;
mod kernel;
mod kernels;
mod package;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Parser;

/// Build steps that cargo has no word for.
#[derive(Debug, Parser)]
#[command(name = "xtask")]
enum Task {
    /// Checks the rules of ARCHITECTURE.md that the compiler does not.
    House,
    /// Builds the kernel programs into one object, once per state of their sources.
    Kernel {
        /// Also the object of the benches
        #[arg(long)]
        bench: bool,
    },
    /// Boots other kernels with the product inside and prints how it fared.
    Kernels(kernels::Arguments),
    /// Packs programs that are built into .deb and .rpm, with checksums.
    Package(package::Arguments),
}

fn main() -> anyhow::Result<()> {
    let root = root()?;
    match Task::parse() {
        Task::House => house::run(&root),
        Task::Kernel { bench } => kernel::run(&root, bench),
        Task::Kernels(arguments) => kernels::run(&root, &arguments),
        Task::Package(arguments) => package::run(&root, &arguments),
    }
}

/// The repository's root: the folder above this package.
fn root() -> anyhow::Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let above = package.parent().context("xtask has no folder above it")?;
    Ok(above.to_path_buf())
}
