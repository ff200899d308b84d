//! Runs the product on kernels of other versions: boots each in an emulator with the real agent and
//! collector inside, and prints what its verifier made of every program and how the checks fared.
//!
//! The kernels are Debian's for cloud machines, fetched by apt and kept in the cache. What runs
//! inside is `picket-guest`, of the package `tests`; what it checks is its own list. Here is only
//! what a machine needs round it. Nobody needs to be root for it.

mod archive;
mod image;
mod machine;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

pub(crate) use archive::find;
use image::Image;

/// A kernel to boot.
#[derive(Debug, Clone, Copy)]
struct Kernel {
    /// Its series, as in `uname -r`.
    series: &'static str,
    /// The Debian package that depends on the newest of the series.
    package: &'static str,
    /// The rung that the agent must find on it.
    rung: &'static str,
}

/// Every kernel: without and with tcx (6.6).
const KERNELS: &[Kernel] = &[
    Kernel {
        series: "6.1",
        package: "linux-image-cloud-amd64",
        rung: "clsact",
    },
    Kernel {
        series: "6.12",
        package: "linux-image-6.12-cloud-amd64",
        rung: "tcx",
    },
];

/// What a machine that is to boot them must have, and the Debian package that brings it.
const TOOLS: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("xz", "xz-utils"),
    ("ldd", "libc-bin"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("ethtool", "ethtool"),
    ("dnsmasq", "dnsmasq-base"),
];

/// What to run and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder with picket-agent and picket-collector
    #[arg(long, value_name = "DIR")]
    bin: PathBuf,
    /// Only this series, such as 6.1
    #[arg(long, value_name = "SERIES")]
    only: Option<String>,
    /// Say what is missing and go on, instead of failing
    #[arg(long)]
    skip_missing: bool,
    /// Show everything the machines write
    #[arg(long)]
    verbose: bool,
}

/// Boots every kernel and prints the table; fails if a check does.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let missing: Vec<String> = TOOLS
        .iter()
        .filter(|(tool, _)| find(tool).is_none())
        .map(|(tool, package)| format!("{tool} (Debian package {package})"))
        .collect();
    if !missing.is_empty() {
        return lacking(
            arguments,
            &format!("this machine lacks {}", missing.join(", ")),
        );
    }
    let cache = cache()?.join("kernels");
    let target = super::kernel::target_folder(root)?;
    let system = machine::System {
        root,
        bin: &arguments.bin,
        guest: target.join("debug").join("picket-guest"),
        object: target.join("kernel").join("picket.o"),
    };
    let mut rows = Vec::new();
    for kernel in KERNELS {
        if arguments
            .only
            .as_ref()
            .is_some_and(|only| only != kernel.series)
        {
            continue;
        }
        let image = match Image::get(kernel.package, kernel.series, &cache) {
            Ok(image) => image,
            Err(error) => {
                lacking(arguments, &format!("Linux {}: {error:#}", kernel.series))?;
                continue;
            }
        };
        println!("booting {}", image.name);
        let ran = machine::run(&system, &image, &cache, arguments.verbose)
            .with_context(|| format!("run {}", image.name))?;
        rows.push((*kernel, ran));
    }
    print!("{}", report::table(&rows));
    let failures: Vec<String> = rows
        .iter()
        .flat_map(|(kernel, ran)| report::failures(kernel, ran))
        .collect();
    for failure in &failures {
        eprintln!("failed: {failure}");
    }
    if !failures.is_empty() {
        for (_, ran) in &rows {
            eprint!("{}", ran.tail(40));
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
