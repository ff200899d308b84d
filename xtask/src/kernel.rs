//! Builds the kernel programs into one object, once per state of their sources.
//!
//! They are for another machine (bpfel-unknown-none) and need a toolchain of their own, whose
//! settings are given to that nested build alone. The object lands in `<target>/kernel/` under
//! the hash of what it was made of and, always, as `picket.o`; `picket.hash` says which state
//! that is. The agent's build script reads it there.

#[path = "../../ebpf/source_hash.rs"]
mod source_hash;
mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use source_hash::{Fnv, source_hash};
use toolchain::Toolchain;

/// What is built besides the entry points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Programs {
    /// Nothing: what the agent embeds.
    Ours,
    /// What the benches measure ours against.
    AndBench,
}

/// Makes sure the object of the present sources is there; does nothing if it is. With `bench`,
/// builds that of the benches as well: `bench.o`.
pub(crate) fn run(root: &Path, bench: bool) -> anyhow::Result<()> {
    let place = target_folder(root)?.join("kernel");
    embedded(root, &place)?;
    if bench {
        let toolchain = Toolchain::find()?;
        // Cargo knows whether there is anything to do.
        let built = build(root, &toolchain, &place.join("bench"), Programs::AndBench)?;
        publish(&built, &place.join("bench.o"))?;
    }
    Ok(())
}

fn embedded(root: &Path, place: &Path) -> anyhow::Result<()> {
    let source = source_hash(root).context("read the kernel programs' sources")?;
    let toolchain = Toolchain::find()?;
    let made_of = format!("source {source}\ntoolchain {}\n", toolchain.identity);
    let mut hash = Fnv::new();
    hash.add(made_of.as_bytes());
    let object = format!("picket-{}.o", hash.hex());
    let state = format!("{made_of}object {object}\n");

    let state_file = place.join("picket.hash");
    if fs::read_to_string(&state_file).is_ok_and(|last| last == state)
        && place.join(&object).is_file()
        && place.join("picket.o").is_file()
    {
        println!(
            "kernel object is up to date: {}",
            place.join(object).display()
        );
        return Ok(());
    }

    fs::create_dir_all(place).with_context(|| format!("create {}", place.display()))?;
    if !place.join(&object).is_file() {
        println!("kernel object: building with {}", toolchain.identity);
        let built = build(root, &toolchain, &place.join("build"), Programs::Ours)?;
        publish(&built, &place.join(&object))?;
    }
    publish(&place.join(&object), &place.join("picket.o"))?;
    // Last, so that it never names what is not there.
    let next = place.join("picket.hash.next");
    fs::write(&next, &state).with_context(|| format!("write {}", next.display()))?;
    fs::rename(&next, &state_file).with_context(|| format!("write {}", state_file.display()))?;
    println!("kernel object: {}", place.join(object).display());
    Ok(())
}

/// Where cargo builds the workspace: as cargo itself answers, whatever set it.
pub(crate) fn target_folder(root: &Path) -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .context("ask cargo metadata for the target folder")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("read what cargo metadata says")?;
    let folder = metadata["target_directory"]
        .as_str()
        .context("cargo metadata names no target folder")?;
    Ok(PathBuf::from(folder))
}

/// Runs the nested build; the object it made.
fn build(
    root: &Path,
    toolchain: &Toolchain,
    target: &Path,
    programs: Programs,
) -> anyhow::Result<PathBuf> {
    let mut cargo = toolchain.cargo();
    cargo
        .current_dir(root.join("ebpf/programs"))
        .args(["rustc", "--release", "--locked", "--bin", "picket"])
        .args(["--target", toolchain::TARGET, "--target-dir"])
        .arg(target);
    if programs == Programs::AndBench {
        cargo.args(["--features", "bench"]);
    }
    // As a link argument of this crate alone: as a flag for all it would rebuild core each time.
    cargo.args(["--", "-C", "link-arg=--btf"]);
    let status = cargo
        .status()
        .with_context(|| format!("start {}", cargo.get_program().display()))?;
    if !status.success() {
        bail!(
            "the kernel programs do not build with {}",
            toolchain.identity
        );
    }
    Ok(target
        .join(toolchain::TARGET)
        .join("release")
        .join("picket"))
}

/// Copies a file so that whoever looks sees the old one or the new one, whole.
fn publish(from: &Path, to: &Path) -> anyhow::Result<()> {
    let next = to.with_extension("next");
    fs::copy(from, &next)
        .and_then(|_| fs::rename(&next, to))
        .with_context(|| format!("copy {} to {}", from.display(), to.display()))
}
