//! Which state the kernel programs' sources are in, as one number.
//!
//! Shared by `cargo xtask kernel`, which builds the object, and the agent's build script, which
//! embeds it only if it was made of the sources that are there. It finds out that something
//! changed; it does not defend against someone who wants two states to look alike.

use std::io;
use std::path::{Path, PathBuf};

/// What the object is made of, relative to the repository's root: folders and files.
pub(crate) const SOURCES: [&str; 5] = [
    "ebpf/abi/Cargo.toml",
    "ebpf/abi/src",
    "ebpf/programs/Cargo.lock",
    "ebpf/programs/Cargo.toml",
    "ebpf/programs/src",
];

/// A hash over the names and contents of all sources under `root`, in hexadecimal.
pub(crate) fn source_hash(root: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(&root.join(source), &mut files)?;
    }
    files.sort();
    let mut hash = Fnv::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(&file);
        hash.add(name.to_string_lossy().as_bytes());
        hash.add(&std::fs::read(&file)?);
    }
    Ok(hash.hex())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else {
        files.push(path.to_path_buf());
    }
    Ok(())
}

/// FNV-1a with 128 bits, each piece preceded by its length.
pub(crate) struct Fnv(u128);

impl Fnv {
    pub(crate) const fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    pub(crate) fn add(&mut self, piece: &[u8]) {
        let length = (piece.len() as u64).to_le_bytes();
        for byte in length.iter().chain(piece) {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
        }
    }

    pub(crate) fn hex(&self) -> String {
        format!("{:032x}", self.0)
    }
}
