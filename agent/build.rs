//! Embeds the kernel object that `make kernel` built. Builds nothing itself: the programs need a
//! toolchain of their own, and one object serves every profile and check of the agent.
//!
//! `PICKET_KERNEL_OBJECT` names an object made elsewhere (by a packager); then nobody checks
//! that it was made of the sources that are here.

#[path = "../ebpf/source_hash.rs"]
mod source_hash;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use source_hash::{SOURCES, source_hash};

const NAMED: &str = "PICKET_KERNEL_OBJECT";

fn main() -> Result<(), Box<dyn Error>> {
    let object = object()?;
    println!("cargo::rerun-if-changed={}", object.display());
    println!(
        "cargo::rustc-env=PICKET_EMBEDDED_OBJECT={}",
        object.display()
    );
    Ok(())
}

/// The object to embed, made of the sources that are here.
fn object() -> Result<PathBuf, Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed={NAMED}");
    if let Some(named) = std::env::var_os(NAMED).filter(|named| !named.is_empty()) {
        let named = fs::canonicalize(&named)
            .map_err(|error| format!("{NAMED} names {}: {error}", named.display()))?;
        return Ok(named);
    }

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let sources = source_hash(&root)?;
    // OUT_DIR lies somewhere below the target folder, however that was chosen.
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo set no OUT_DIR")?);
    let folder = out
        .ancestors()
        .map(|above| above.join("kernel"))
        .find(|folder| folder.join("picket.hash").is_file())
        .ok_or("the kernel object has not been built; remedy: make kernel")?;
    let state_file = folder.join("picket.hash");
    println!("cargo::rerun-if-changed={}", state_file.display());
    let state = fs::read_to_string(&state_file)?;
    let line = |name: &str| {
        state
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .map(str::to_owned)
    };
    if line("source") != Some(sources) {
        return Err(
            "the kernel programs have changed since their object was built; \
                    remedy: make kernel"
                .into(),
        );
    }
    let object = folder.join(line("object").ok_or("picket.hash names no object")?);
    if !object.is_file() {
        return Err(format!("{} is gone; remedy: make kernel", object.display()).into());
    }
    Ok(object)
}
