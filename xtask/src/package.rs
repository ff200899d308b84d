//! Packages: .deb and .rpm of agent and collector from programs that are already built, with manual
//! pages, completions, a bill of materials, notices, checksums and a signature.
//!
//! ```text
//! target/<triple>/release/picket-agent ─ symbols ─→ contents ─→ deb, rpm ─→ sums ─→ signature
//! ```
//!
//! The same programs give the same bytes: every time is `SOURCE_DATE_EPOCH`, or that of the last
//! commit, and `--twice` packs again to show it.

mod bill;
mod contents;
mod deb;
mod notices;
mod rpm;
mod scripts;
mod seal;
mod sums;
mod symbols;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use contents::Contents;
use symbols::GlibcVersion;

/// Names the file with the secret key (OpenPGP, armoured) that signs.
const KEY: &str = "PICKET_SIGNING_KEY";

/// A processor that we pack for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Architecture {
    /// As cargo names it.
    triple: &'static str,
    /// As Debian does.
    deb: &'static str,
    /// As RPM does.
    rpm: &'static str,
}

const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        triple: "x86_64-unknown-linux-gnu",
        deb: "amd64",
        rpm: "x86_64",
    },
    Architecture {
        triple: "aarch64-unknown-linux-gnu",
        deb: "arm64",
        rpm: "aarch64",
    },
];

/// A program, which is a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Program {
    /// Its name, as that of the package.
    name: &'static str,
    /// What it is called within `packaging/`.
    short: &'static str,
    summary: &'static str,
    description: &'static str,
    /// Folders of its own below /etc, kept while something is in them.
    folders: &'static [&'static str],
    /// Parts of its unit for older systems, of `packaging/systemd/`.
    parts: &'static [&'static str],
    carries_kernel_programs: bool,
}

const PROGRAMS: &[Program] = &[
    Program {
        name: "picket-agent",
        short: "agent",
        summary: "network sensor for Linux hosts",
        description: "Counts and matches every packet in the kernel, and tells a collector who talked to whom.",
        folders: &["etc/picket/intel"],
        parts: &["old-kernel.conf", "old-systemd.conf"],
        carries_kernel_programs: true,
    },
    Program {
        name: "picket-collector",
        short: "collector",
        summary: "threat detection from what sensors and CloudTrail tell",
        description: "Takes what agents and logs tell, finds what is wrong in it, and alerts.",
        folders: &["etc/picket/collector-intel"],
        parts: &[],
        carries_kernel_programs: false,
    },
];

/// What to pack.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder with <triple>/release/picket-agent and picket-collector
    #[arg(long, value_name = "DIR")]
    built: PathBuf,
    /// Folder with what `agent-manual` and `collector-manual` wrote
    #[arg(long, value_name = "DIR")]
    manual: PathBuf,
    /// Where the packages go; emptied before
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Number of the package, for a second one of the same version
    #[arg(long, value_name = "N", default_value_t = 1)]
    release: u32,
    /// Only this architecture, by its triple; may be repeated
    #[arg(long, value_name = "TRIPLE")]
    only: Vec<String>,
    /// Only .deb, for a machine without rpmbuild
    #[arg(long)]
    deb_only: bool,
    /// Newest version of the C library that the programs may need
    #[arg(long, value_name = "VERSION", default_value = "2.26")]
    glibc_max: GlibcVersion,
    /// Have Debian's linter look at each .deb, and fail on what it finds
    #[arg(long)]
    lint: bool,
    /// Pack again, and fail unless every byte is the same
    #[arg(long)]
    twice: bool,
}

/// What holds for every package of a run.
pub(super) struct Run<'a> {
    root: &'a Path,
    manual: &'a Path,
    /// The product's version.
    version: &'static str,
    release: u32,
    /// Seconds since the epoch of everything inside.
    epoch: u64,
}

/// Packs everything that is asked for, and prints what it weighs.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let run = Run {
        root,
        manual: &arguments.manual,
        version: env!("CARGO_PKG_VERSION"),
        release: arguments.release,
        epoch: epoch(root)?,
    };
    let mut tools = vec!["dpkg-deb", "readelf", "gzip"];
    if !arguments.deb_only {
        tools.push("rpmbuild");
    }
    if arguments.lint {
        tools.push("lintian");
    }
    for tool in tools {
        ensure!(
            crate::kernels::find(tool).is_some(),
            "no {tool} here; remedy: scripts/setup.sh package"
        );
    }
    pack(&run, arguments, &arguments.out)?;
    if arguments.twice {
        let again = arguments.out.with_extension("again");
        pack(&run, arguments, &again)?;
        same(&arguments.out, &again)?;
        fs::remove_dir_all(&again).with_context(|| format!("remove {}", again.display()))?;
        println!("packed twice: every byte is the same");
    }
    let key = std::env::var_os(KEY).filter(|key| !key.is_empty());
    if arguments.lint {
        deb::lint(&arguments.out)?;
    }
    if let Some(key) = &key {
        ensure!(
            arguments.deb_only || crate::kernels::find("rpmsign").is_some(),
            "no rpmsign here; remedy: scripts/setup.sh package"
        );
        let signed = seal::rpms(&arguments.out, Path::new(key));
        signed.with_context(|| format!("sign packages with {}", Path::new(key).display()))?;
    }
    sums::write(&arguments.out, key.as_deref().map(Path::new))?;
    match &key {
        None => println!("not signed: {KEY} names no key"),
        Some(_) => println!("signed: every .rpm, and {}.asc", sums::NAME),
    }
    Ok(())
}

fn pack(run: &Run<'_>, arguments: &Arguments, out: &Path) -> anyhow::Result<()> {
    empty(out)?;
    let known = |only: &&String| !ARCHITECTURES.iter().any(|one| one.triple == **only);
    if let Some(unknown) = arguments.only.iter().find(known) {
        bail!("nothing is packed for {unknown}");
    }
    for architecture in ARCHITECTURES {
        if !arguments.only.is_empty()
            && !arguments.only.iter().any(|one| one == architecture.triple)
        {
            continue;
        }
        for program in PROGRAMS {
            let built = arguments.built.join(architecture.triple).join("release");
            let built = built.join(program.name);
            let needs = symbols::of(&built)?;
            needs
                .check(arguments.glibc_max)
                .with_context(|| format!("{} for {}", program.name, architecture.triple))?;
            let contents = Contents::gather(run, *program, *architecture, &built)?;
            let made = deb::pack(run, *program, *architecture, &contents, needs.glibc, out)?;
            told(&made, &needs)?;
            if !arguments.deb_only {
                let made = rpm::pack(run, *program, *architecture, &contents, out)?;
                told(&made, &needs)?;
            }
        }
    }
    Ok(())
}

fn told(made: &Path, needs: &symbols::Needs) -> anyhow::Result<()> {
    let bytes = fs::metadata(made)
        .with_context(|| format!("look at {}", made.display()))?
        .len();
    let name = made.file_name().unwrap_or_default().to_string_lossy();
    println!(
        "{name:<48} {:>6.1} MB  glibc {}",
        bytes as f64 / 1e6,
        needs.glibc
    );
    Ok(())
}

/// Fails unless both folders hold the same files.
fn same(one: &Path, other: &Path) -> anyhow::Result<()> {
    let names = sums::files(one)?;
    ensure!(
        names == sums::files(other)?,
        "packing again made other files"
    );
    for name in names {
        let read = |folder: &Path| {
            let path = folder.join(&name);
            fs::read(&path).with_context(|| format!("read {}", path.display()))
        };
        ensure!(
            read(one)? == read(other)?,
            "{name} differs when packed again"
        );
    }
    Ok(())
}

/// A folder with nothing in it.
pub(super) fn empty(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))
}

/// `SOURCE_DATE_EPOCH`, or the time of the last commit.
fn epoch(root: &Path) -> anyhow::Result<u64> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return given
            .parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH is {given:?}, not a number of seconds"));
    }
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(root);
    output(&mut git)?
        .trim()
        .parse()
        .context("git named no time; remedy: set SOURCE_DATE_EPOCH")
}

/// What a command writes, if it succeeds.
pub(super) fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let ran = command.output().with_context(|| format!("start {name}"))?;
    ensure!(
        ran.status.success(),
        "{name}: {}: {}",
        ran.status,
        String::from_utf8_lossy(&ran.stderr).trim()
    );
    String::from_utf8(ran.stdout).with_context(|| format!("what {name} wrote"))
}
