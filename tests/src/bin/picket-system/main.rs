//! `picket-system`: what `make system` runs. A real systemd is booted, the packages are installed in it, a
//! host enrols, meets an indicator, alerts, is upgraded, downgraded and cleaned up again. Each step is
//! timed, and what is in the kernel is listed before and after.
//!
//! Everything happens in namespaces of our own and on a file system that is gone with the machine, so it
//! can be run on any host as root.
#![forbid(unsafe_code)]

mod kernel;
mod machine;
mod story;
mod tree;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;

use machine::Machine;

/// Boots a systemd and lives a package's life in it.
#[derive(Debug, Parser)]
#[command(name = "picket-system")]
struct Arguments {
    /// Folder with the packages
    #[arg(long, value_name = "DIR")]
    packages: PathBuf,
    /// Folder with the same programs in packages of a higher number
    #[arg(long, value_name = "DIR")]
    next: PathBuf,
    /// Folder that keeps the system to boot between runs
    #[arg(long, value_name = "DIR")]
    cache: PathBuf,
}

/// What happened, a step a line.
#[derive(Debug, Default)]
struct Table(Vec<(String, f64, String)>);

impl Table {
    /// Takes a step and keeps how long it took and what it said.
    fn step(&mut self, name: &str, work: impl FnOnce() -> Result<String>) -> Result<()> {
        let began = Instant::now();
        let said = work().with_context(|| name.to_owned())?;
        let took = began.elapsed().as_secs_f64();
        println!("{name:<28} {took:>6.1} s  {said}");
        self.0.push((name.to_owned(), took, said));
        Ok(())
    }

    fn total(&self) -> f64 {
        self.0.iter().map(|(_, seconds, _)| seconds).sum()
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(table) => {
            println!("{} steps, {:.1} s", table.0.len(), table.total());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("picket-system: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<Table> {
    let first = Packages::of(&arguments.packages)?;
    let next = Packages::of(&arguments.next)?;
    let mut table = Table::default();
    let mut tree = PathBuf::new();
    table.step("system to boot", || {
        tree = tree::get(&arguments.cache)?;
        Ok("Debian 12, minimal".to_owned())
    })?;
    let mut booted = None;
    table.step("boot", || {
        let machine = Machine::boot(&tree, &[&arguments.packages, &arguments.next])?;
        let version = machine.run("systemctl --version")?;
        booted = Some(machine);
        Ok(version.lines().next().unwrap_or_default().to_owned())
    })?;
    let machine = booted.context("nothing was booted")?;
    let told = story::tell(&mut table, &machine, &first, &next);
    if told.is_err() {
        eprintln!("{}", machine.journal());
    }
    told?;
    Ok(table)
}

/// The two packages of a folder, as files that the machine sees at the same place.
#[derive(Debug)]
struct Packages {
    agent: PathBuf,
    collector: PathBuf,
}

impl Packages {
    fn of(folder: &Path) -> Result<Self> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => bail!("there are no packages for {other}"),
        };
        let folder = folder
            .canonicalize()
            .with_context(|| format!("look at {}", folder.display()))?;
        let find = |name: &str| {
            let entries = folder
                .read_dir()
                .with_context(|| format!("look into {}", folder.display()))?;
            let mut found = entries.flatten().map(|entry| entry.path()).filter(|path| {
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                file.starts_with(&format!("{name}_"))
                    && file.ends_with(&format!("_{architecture}.deb"))
            });
            found.next().with_context(|| {
                format!(
                    "no package {name} for {architecture} in {}",
                    folder.display()
                )
            })
        };
        Ok(Self {
            agent: find("picket-agent")?,
            collector: find("picket-collector")?,
        })
    }
}
