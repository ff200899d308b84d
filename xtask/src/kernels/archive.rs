//! The first file system of a machine: a cpio archive in the form "newc"
//! (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Only what a boot needs: folders and regular files.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// An archive that is being written.
#[derive(Debug)]
pub(super) struct Archive<W> {
    out: W,
    entries: u32,
    /// Paths that are in it.
    known: BTreeSet<PathBuf>,
}

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_000;

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            entries: 0,
            known: BTreeSet::new(),
        }
    }

    /// Adds a file at an absolute path, with the folders above it.
    pub(super) fn file(&mut self, at: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
        if !self.known.insert(at.to_path_buf()) {
            return Ok(());
        }
        self.folders_above(at)?;
        self.entry(at, FILE | mode, bytes)
            .with_context(|| format!("pack {}", at.display()))
    }

    /// Adds a file of this machine, under its permissions.
    pub(super) fn copy(&mut self, from: &Path, at: &Path) -> anyhow::Result<()> {
        let bytes = fs::read(from).with_context(|| format!("read {}", from.display()))?;
        let data = fs::metadata(from).with_context(|| format!("look at {}", from.display()))?;
        self.file(at, &bytes, data.permissions().mode() & 0o777)
    }

    /// Whether something is there.
    pub(super) fn has(&self, at: &Path) -> bool {
        self.known.contains(at)
    }

    /// Adds a folder of this machine, at the same place.
    pub(super) fn tree(&mut self, folder: &Path) -> anyhow::Result<()> {
        let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
        for entry in entries {
            let path = entry
                .with_context(|| format!("read {}", folder.display()))?
                .path();
            if path.is_dir() {
                self.tree(&path)?;
            } else {
                self.copy(&path, &path)?;
            }
        }
        Ok(())
    }

    /// Writes the end.
    pub(super) fn finish(mut self) -> anyhow::Result<W> {
        self.header("TRAILER!!!", 0, 0).context("end the archive")?;
        self.out.flush().context("end the archive")?;
        Ok(self.out)
    }

    fn folders_above(&mut self, at: &Path) -> anyhow::Result<()> {
        let above: Vec<&Path> = at.ancestors().skip(1).collect();
        for folder in above.into_iter().rev() {
            if folder.parent().is_some() && self.known.insert(folder.to_path_buf()) {
                self.entry(folder, FOLDER, &[])
                    .with_context(|| format!("pack {}", folder.display()))?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, at: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let name = at.to_string_lossy();
        let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.header(name.trim_start_matches('/'), mode, size)?;
        self.out.write_all(bytes)?;
        self.pad(bytes.len())
    }

    /// Magic, thirteen fields of eight hexadecimal digits, the name with a final zero.
    fn header(&mut self, name: &str, mode: u32, size: u32) -> io::Result<()> {
        const MAGIC: &str = "070701";
        const HEADER_BYTES: usize = 6 + 13 * 8;
        self.entries += 1;
        let name_bytes = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        // Inode, mode, user, group, links, time, size, four device numbers, name, checksum.
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            0,
            0,
            name_bytes,
            0,
        ];
        write!(self.out, "{MAGIC}")?;
        for field in fields {
            write!(self.out, "{field:08X}")?;
        }
        write!(self.out, "{name}\0")?;
        self.pad(HEADER_BYTES + name.len() + 1)
    }

    /// Names and contents begin at multiples of four.
    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.out
            .write_all(&[0; 3][..written.next_multiple_of(4) - written])
    }
}

/// Where a command of this machine is.
pub(crate) fn find(command: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders
        .map(|folder| folder.join(command))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_come_after_their_folders() {
        let mut archive = Archive::new(Vec::new());
        archive.file(Path::new("/a/bc"), b"hello", 0o755).unwrap();
        archive.file(Path::new("/a/bc"), b"twice", 0o755).unwrap();
        let bytes = archive.finish().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let entries: Vec<&str> = text.split("070701").skip(1).collect();
        assert_eq!(entries.len(), 3);
        assert!(entries[0].ends_with("a\0\0") || entries[0].contains("a\0"));
        assert_eq!(&entries[0][8..16], "000041ED");
        assert!(entries[1].contains("a/bc\0") && entries[1].contains("hello\0\0\0"));
        assert_eq!(&entries[1][8..16], "000081ED");
        assert_eq!(&entries[1][48..56], "00000005");
        assert!(entries[2].contains("TRAILER!!!\0"));
        assert!(entries.iter().all(|entry| (entry.len() + 6) % 4 == 0));
    }
}
