//! A file of bundles, one after the other: manifests verified at once, chunks read when they are
//! needed, one at a time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use picket_wire::bundle::{Manifest, Section, Sections};
use picket_wire::limits::MANIFEST_BYTES_MAX;
use picket_wire::{BundleError, PublicKey};

/// Bundles of one file at most: as many changes as a collector keeps.
const BUNDLES_MAX: usize = 1_024;

/// A bundle in a file.
#[derive(Debug, Clone)]
pub(super) struct Bundle {
    /// What is signed.
    pub(super) manifest: Manifest,
    file: Arc<File>,
    /// Where its chunks begin.
    chunks_at: u64,
}

impl Bundle {
    /// Every bundle of a file, in order.
    ///
    /// # Errors
    /// One of them is none, is not signed by one of `keys`, or the file ends inside one.
    pub(super) fn read_all(path: &Path, keys: &[PublicKey]) -> anyhow::Result<Vec<Self>> {
        let name = || format!("read {}", path.display());
        let file = Arc::new(File::open(path).with_context(name)?);
        let len = file.metadata().with_context(name)?.len();
        let (mut all, mut at) = (Vec::new(), 0);
        while at < len {
            anyhow::ensure!(
                all.len() < BUNDLES_MAX,
                "more than {BUNDLES_MAX} bundles at once"
            );
            let (manifest, bytes) = manifest(&file, at, len, keys)?;
            let chunks_at = at + bytes;
            let end = chunks_at + manifest.chunk_bytes();
            if end > len {
                return Err(truncated(len, end - len).into());
            }
            all.push(Self {
                manifest,
                file: Arc::clone(&file),
                chunks_at,
            });
            at = end;
        }
        Ok(all)
    }

    /// Gives every section to `take`. One chunk is in memory at a time.
    ///
    /// # Errors
    /// A chunk is not what was signed, or `take`'s own.
    pub(super) fn sections(
        &self,
        mut take: impl FnMut(Section<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (mut frame, mut plain) = (Vec::new(), Vec::new());
        let mut at = self.chunks_at;
        for (number, head) in self.manifest.chunks.iter().enumerate() {
            // The manifest's bounds hold for both.
            frame.resize(head.bytes as usize, 0);
            self.file
                .read_exact_at(&mut frame, at)
                .context("read a chunk")?;
            at += u64::from(head.bytes);
            head.inflate(number, &frame, &mut plain)?;
            let mut sections = Sections::of(&plain);
            while let Some(section) = sections.read()? {
                take(section)?;
            }
        }
        Ok(())
    }
}

/// The manifest at this place of a file, and the bytes it takes.
fn manifest(file: &File, at: u64, len: u64, keys: &[PublicKey]) -> anyhow::Result<(Manifest, u64)> {
    let most = (len - at).min(MANIFEST_BYTES_MAX as u64 + 1);
    // Most are far smaller.
    let mut bytes = vec![0; most.min(64 << 10) as usize];
    read(file, &mut bytes, at)?;
    let mut found = Manifest::bytes(&bytes)?;
    if found.is_none() {
        bytes.resize(most as usize, 0);
        read(file, &mut bytes, at)?;
        found = Manifest::bytes(&bytes)?;
    }
    let found = found.ok_or_else(|| truncated(len, 1))?;
    bytes.truncate(found);
    let mut opened = Err(BundleError::Signature);
    for key in keys {
        opened = Manifest::open(&bytes, key);
        if opened != Err(BundleError::Signature) {
            break;
        }
    }
    Ok((opened?, found as u64))
}

fn read(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    file.read_exact_at(bytes, at)
}

fn truncated(len: u64, needed: u64) -> BundleError {
    BundleError::Truncated {
        len: usize::try_from(len).unwrap_or(usize::MAX),
        needed: usize::try_from(needed).unwrap_or(usize::MAX),
    }
}
