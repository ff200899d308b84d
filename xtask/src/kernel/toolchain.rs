//! The toolchain for the kernel programs: a compiler that has or can make `core` for them, and
//! bpf-linker.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// The kernel's own machine, little-endian.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// How `core` is had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Core {
    /// It is installed, built for the target.
    Installed,
    /// cargo builds it of the sources that rustup installed.
    FromSource,
}

/// A toolchain that can build the kernel programs.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// What it is, in words that change when it does.
    pub(crate) identity: String,
    /// Before `cargo` or `rustc`: `rustup run debian`, or nothing.
    before: Vec<&'static str>,
    core: Core,
    linker_folder: PathBuf,
}

/// Where to look, best first: what comes with core built, then what must build it.
const CANDIDATES: [(&[&str], Core); 3] = [
    (&["rustup", "run", "debian"], Core::Installed),
    (&[], Core::Installed),
    (&["rustup", "run", "nightly"], Core::FromSource),
];

impl Toolchain {
    /// The first candidate that can build.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let (linker_folder, linker) = linker()?;
        for (before, core) in CANDIDATES {
            let before = before.to_vec();
            if !has_core(&before, core) {
                continue;
            }
            let version = answer(&before, &["--version"]).unwrap_or_default();
            let how = match core {
                Core::Installed => "core installed",
                Core::FromSource => "core from source",
            };
            return Ok(Self {
                identity: format!("{version}, {how}, {linker}"),
                before,
                core,
                linker_folder,
            });
        }
        bail!(
            "no compiler here can build for {TARGET}: neither rustup's toolchain \"debian\", nor \
             rustc itself, has core for it, and rustup's \"nightly\" has no rust-src; \
             remedy: make setup"
        )
    }

    /// A cargo that builds with this toolchain, with none of the settings of the build we are in.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = command(&self.before, "cargo");
        let mut path = OsString::from(&self.linker_folder);
        if let Some(inherited) = std::env::var_os("PATH") {
            path.push(":");
            path.push(inherited);
        }
        cargo.env("PATH", path);
        match self.core {
            // A stable compiler, asked to allow the few unstable names that bpf code needs.
            Core::Installed => cargo.env("RUSTC_BOOTSTRAP", "1"),
            Core::FromSource => cargo.args(["-Z", "build-std=core"]),
        };
        cargo
    }
}

/// `cargo` or `rustc` of a toolchain, free of what the outer build set for itself.
fn command(before: &[&str], program: &str) -> Command {
    let mut words = before.iter().copied().chain([program]);
    let mut command = Command::new(words.next().unwrap_or(program));
    command.args(words);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let ours = name == "CARGO_HOME" || name.starts_with("CARGO_NET_");
        let settings = ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN"];
        if !ours && settings.iter().any(|setting| name.starts_with(setting)) {
            command.env_remove(name.as_ref());
        }
    }
    command
}

/// What a toolchain's rustc answers, in one line.
fn answer(before: &[&str], arguments: &[&str]) -> Option<String> {
    let output = command(before, "rustc").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn has_core(before: &[&str], core: Core) -> bool {
    match core {
        Core::Installed => answer(before, &["--print", "target-libdir", "--target", TARGET])
            .and_then(|folder| std::fs::read_dir(folder).ok())
            .is_some_and(|mut entries| {
                entries.any(|entry| {
                    entry.is_ok_and(|entry| {
                        entry.file_name().to_string_lossy().starts_with("libcore-")
                    })
                })
            }),
        Core::FromSource => answer(before, &["--print", "sysroot"]).is_some_and(|sysroot| {
            Path::new(&sysroot)
                .join("lib/rustlib/src/rust/library/core/Cargo.toml")
                .is_file()
        }),
    }
}

/// The folder of bpf-linker, and which one it is.
fn linker() -> anyhow::Result<(PathBuf, String)> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| home.map(|home| home.join(".cargo")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folder = std::env::split_paths(&path)
        .chain(cargo_home.map(|home| home.join("bin")))
        .find(|folder| folder.join("bpf-linker").is_file())
        .context("bpf-linker is not on the path; remedy: make setup")?;
    let output = Command::new(folder.join("bpf-linker"))
        .arg("--version")
        .output()
        .context("ask bpf-linker for its version")?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || version.is_empty() {
        bail!(
            "{} does not start: {}; remedy: make setup",
            folder.join("bpf-linker").display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok((folder, version))
}
