//! Runs the product on kernels of other versions and machines: boots each in an emulator with the
//! real agent and collector inside, and prints what its verifier made of every program, how each is
//! attached, and how the checks fared.
//!
//! The kernels are Debian's for cloud machines, fetched by apt and kept in the cache. What runs
//! inside is `picket-guest`, of the package `tests`; what it checks is its own list. Here is only
//! what a machine needs round it. Nobody needs to be root for it.

mod archive;
mod debian;
mod guest;
mod image;
mod inside;
mod machine;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

pub(crate) use archive::find;
use image::Image;
use inside::System;
use machine::Machine;

/// A kernel to boot.
#[derive(Debug, Clone, Copy)]
struct Kernel {
    /// Its series, as in `uname -r`; [`NEWEST`] for whatever Debian has that is newest.
    series: &'static str,
    /// What it runs on.
    machine: Machine,
    /// Debian's suite that has it.
    suite: &'static str,
    /// The Debian package that depends on the newest of the series.
    package: &'static str,
    /// The rungs that the agent must find on it, best first.
    rungs: &'static [&'static str],
}

/// The name of no series.
const NEWEST: &str = "newest";

impl Kernel {
    /// How the names of its packages begin.
    fn begin(&self) -> String {
        match self.series {
            NEWEST => "linux-image-".to_owned(),
            series => format!("linux-image-{series}."),
        }
    }
}

/// Every kernel: the oldest that programs are loaded into, without and with tcx (6.6), and the one to
/// come.
const KERNELS: &[Kernel] = &[
    Kernel {
        series: "5.10",
        machine: Machine::X86_64,
        suite: "bullseye",
        package: "linux-image-cloud-amd64",
        rungs: &["clsact"],
    },
    Kernel {
        series: "6.1",
        machine: Machine::X86_64,
        suite: "bookworm",
        package: "linux-image-cloud-amd64",
        rungs: &["clsact"],
    },
    Kernel {
        series: "6.12",
        machine: Machine::X86_64,
        suite: "bookworm",
        package: "linux-image-6.12-cloud-amd64",
        rungs: &["tcx", "clsact"],
    },
    Kernel {
        series: NEWEST,
        machine: Machine::X86_64,
        suite: "sid",
        package: "linux-image-cloud-amd64",
        rungs: &["tcx", "clsact"],
    },
    Kernel {
        series: "6.1",
        machine: Machine::Aarch64,
        suite: "bookworm",
        package: "linux-image-cloud-arm64",
        rungs: &["clsact"],
    },
    Kernel {
        series: "6.12",
        machine: Machine::Aarch64,
        suite: "bookworm",
        package: "linux-image-6.12-cloud-arm64",
        rungs: &["tcx", "clsact"],
    },
];

/// What a machine that is to boot them must have, and the Debian package that brings it.
const TOOLS: &[(&str, &str)] = &[
    ("busybox", "busybox-static"),
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("xz", "xz-utils"),
    ("readelf", "binutils"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("ethtool", "ethtool"),
    ("dnsmasq", "dnsmasq-base"),
];

/// What to run and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder with picket-agent and picket-collector for x86-64
    #[arg(long, value_name = "DIR")]
    bin: PathBuf,
    /// Folder with picket-agent, picket-collector and picket-guest for aarch64; boots its kernels too
    #[arg(long, value_name = "DIR")]
    aarch64: Option<PathBuf>,
    /// Only this series, such as 6.1; may be given again
    #[arg(long, value_name = "SERIES")]
    only: Vec<String>,
    /// Say what is missing and go on, instead of failing
    #[arg(long)]
    skip_missing: bool,
    /// Show everything the machines write
    #[arg(long)]
    verbose: bool,
}

impl Arguments {
    fn selects(&self, kernel: &Kernel) -> bool {
        let has_programs = kernel.machine == Machine::X86_64 || self.aarch64.is_some();
        let is_asked = self.only.is_empty() || self.only.iter().any(|one| one == kernel.series);
        has_programs && is_asked
    }
}

/// Boots every kernel and prints the table; fails if a check does.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let kernels: Vec<Kernel> = KERNELS
        .iter()
        .filter(|kernel| arguments.selects(kernel))
        .copied()
        .collect();
    if kernels.is_empty() {
        bail!("no kernel is of the series {}", arguments.only.join(", "));
    }
    let emulators = kernels.iter().map(|kernel| kernel.machine.emulator());
    let mut missing: Vec<String> = TOOLS
        .iter()
        .copied()
        .chain(emulators)
        .filter(|(tool, _)| find(tool).is_none())
        .map(|(tool, package)| format!("{tool} (Debian package {package})"))
        .collect();
    missing.dedup();
    if !missing.is_empty() {
        return lacking(
            arguments,
            &format!("this machine lacks {}", missing.join(", ")),
        );
    }
    let cache = cache()?.join("kernels");
    let target = super::kernel::target_folder(root)?;
    let mut rows = Vec::new();
    let mut failures = Vec::new();
    for kernel in kernels {
        let name = kernel.machine.name();
        let got = Image::get(&kernel, &cache).and_then(|image| {
            let system = System::of(kernel.machine, root, &target, arguments, &cache)?;
            Ok((image, system))
        });
        let (image, system) = match got {
            Ok(got) => got,
            Err(error) => {
                let what = format!("Linux {} on {name}: {error:#}", kernel.series);
                // The others are run all the same.
                match lacking(arguments, &what) {
                    Ok(()) => {}
                    Err(error) => failures.push(error.to_string()),
                }
                continue;
            }
        };
        println!("booting {} on {name}", image.name);
        let ran = machine::run(&system, &image, &cache, arguments.verbose)
            .with_context(|| format!("run {}", image.name))?;
        rows.push((kernel, ran));
    }
    print!("{}", report::table(&rows));
    let failed = rows
        .iter()
        .flat_map(|(kernel, ran)| report::failures(kernel, ran));
    failures.extend(failed);
    for failure in &failures {
        eprintln!("failed: {failure}");
    }
    if !failures.is_empty() {
        for (kernel, ran) in &rows {
            if !report::failures(kernel, ran).is_empty() {
                eprint!("{}", ran.tail(40));
            }
        }
        bail!("{} checks failed on other kernels", failures.len());
    }
    Ok(())
}

/// What is missing is an error, or said.
fn lacking(arguments: &Arguments, what: &str) -> anyhow::Result<()> {
    if arguments.skip_missing {
        println!("skipped: {what}");
        return Ok(());
    }
    bail!("{what}")
}

/// Where kernels are kept: with everything else that set-up keeps.
fn cache() -> anyhow::Result<PathBuf> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from);
    folder("PICKET_CACHE")
        .or_else(|| Some(folder("HOME")?.join(".cache/picket")))
        .context("neither PICKET_CACHE nor HOME is set")
}
