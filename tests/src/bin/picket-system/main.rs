//! `picket-system`: what `make system` runs. A real systemd is booted, the packages are installed in it, a
//! host enrols, meets an indicator, alerts, is upgraded, downgraded and cleaned up again. Each step is
//! timed, and what is in the kernel is listed before and after.
//!
//! There are two machines for the one story: one shares our kernel and boots in a second, the other is
//! emulated, has a kernel of its own and enforces the limits of its units (`--emulated`). Everything
//! happens in namespaces of our own and on a file system that is gone with the machine, so it can be run
//! on any host as root.
#![forbid(unsafe_code)]

mod disk;
mod emulated;
mod kernel;
mod limits;
mod machine;
mod nspawn;
mod sender;
mod story;
mod tree;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use emulated::Emulated;
use machine::Machine;
use nspawn::Contained;

/// Boots a systemd and lives a package's life in it.
#[derive(Debug, Parser)]
#[command(name = "picket-system", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    inside: Option<Inside>,
    #[command(flatten)]
    life: Option<Life>,
}

/// What this program does inside a machine.
#[derive(Debug, clap::Subcommand)]
enum Inside {
    /// Sends datagrams
    Send(sender::Flow),
}

/// What is lived, on what.
#[derive(Debug, clap::Args)]
struct Life {
    /// Folder with the packages
    #[arg(long, value_name = "DIR")]
    packages: PathBuf,
    /// Folder with the same programs in packages of a higher number
    #[arg(long, value_name = "DIR")]
    next: PathBuf,
    /// Folder that keeps the system to boot between runs
    #[arg(long, value_name = "DIR")]
    cache: PathBuf,
    /// Emulate a machine with a kernel of its own, instead of booting on ours
    #[arg(long)]
    emulated: bool,
}

/// What happened, a step a line.
#[derive(Debug, Default)]
struct Table(Vec<(String, f64, Result<String, String>)>);

impl Table {
    /// Takes a step and keeps how long it took and what it said.
    fn step(&mut self, name: &str, work: impl FnOnce() -> Result<String>) -> Result<()> {
        let began = Instant::now();
        let said = work().with_context(|| name.to_owned())?;
        let took = began.elapsed().as_secs_f64();
        println!("{name:<28} {took:>6.1} s  {said}");
        self.0.push((name.to_owned(), took, Ok(said)));
        Ok(())
    }

    /// As [`Self::step`], and where it fails the life goes on: what follows does not build on it. The
    /// run fails at its end.
    fn step_apart(&mut self, name: &str, work: impl FnOnce() -> Result<String>) {
        let began = Instant::now();
        let outcome = work().map_err(|error| format!("{error:#}"));
        let took = began.elapsed().as_secs_f64();
        match &outcome {
            Ok(said) => println!("{name:<28} {took:>6.1} s  {said}"),
            Err(why) => println!("{name:<28} {took:>6.1} s  FAILED: {why}"),
        }
        self.0.push((name.to_owned(), took, outcome));
    }

    /// Fails if a step did.
    fn judge(&self) -> Result<()> {
        let failed: Vec<&str> = self
            .0
            .iter()
            .filter(|(_, _, outcome)| outcome.is_err())
            .map(|(name, ..)| name.as_str())
            .collect();
        ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
        Ok(())
    }

    fn total(&self) -> f64 {
        self.0.iter().map(|(_, seconds, _)| seconds).sum()
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match (&arguments.inside, &arguments.life) {
        (Some(Inside::Send(flow)), _) => sender::send(flow),
        (None, Some(life)) => live(life),
        (None, None) => Err(anyhow::anyhow!("nothing to do; see --help")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("picket-system: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn live(life: &Life) -> Result<()> {
    let first = Packages::of(&life.packages)?;
    let next = Packages::of(&life.next)?;
    let mut table = Table::default();
    let machine = if life.emulated {
        emulate(&mut table, life)?
    } else {
        contain(&mut table, life)?
    };
    let told = story::tell(&mut table, &machine, &first, &next);
    if told.is_err() {
        eprintln!("{}", machine.journal());
    }
    told?;
    println!("{} steps, {:.1} s", table.0.len(), table.total());
    table.judge()
}

/// Boots a systemd on our kernel.
fn contain(table: &mut Table, life: &Life) -> Result<Machine> {
    let mut tree = PathBuf::new();
    table.step("system to boot", || {
        tree = tree::get(&life.cache)?;
        Ok("Debian 12, minimal".to_owned())
    })?;
    let program = std::env::current_exe().context("where this program is")?;
    boot(table, || {
        let shown = [life.packages.as_path(), &life.next, &program];
        Ok(Machine::of(Contained::boot(&tree, &shown)?))
    })
}

/// Boots a machine of its own.
fn emulate(table: &mut Table, life: &Life) -> Result<Machine> {
    let mut disk = None;
    table.step("disk to boot", || {
        disk = Some(disk::get(&life.cache)?);
        Ok(format!("Debian 12, minimal, Linux {}", disk::KERNEL))
    })?;
    let disk = disk.context("no disk")?;
    let program = std::env::current_exe().context("where this program is")?;
    boot(table, || {
        let shown = [life.packages.as_path(), &life.next, &program];
        Ok(Machine::of(Emulated::boot(&disk, &shown)?))
    })
}

fn boot(table: &mut Table, work: impl FnOnce() -> Result<Machine>) -> Result<Machine> {
    let mut booted = None;
    table.step("boot", || {
        let machine = work()?;
        let version = machine.run("uname -r; systemctl --version | head -n 1")?;
        booted = Some(machine);
        Ok(version.trim().replace('\n', ", "))
    })?;
    booted.context("nothing was booted")
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
