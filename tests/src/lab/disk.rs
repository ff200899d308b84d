//! A small disk of its own that a test may fill: a tmpfs over a folder.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A mounted tmpfs; taken off and forgotten on drop.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Puts a disk of `bytes` over `folder`, which must be there.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn mount(folder: &Path, bytes: u64) -> Result<Self> {
        let options = std::ffi::CString::new(format!("size={bytes},mode=0700"))?;
        mount(
            "tmpfs",
            folder,
            "tmpfs",
            MountFlags::NOSUID | MountFlags::NODEV,
            options.as_c_str(),
        )
        .with_context(|| format!("mount a tmpfs on {}", folder.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// Leaves no byte of it free.
    ///
    /// # Errors
    /// When writing fails for another reason than that.
    pub fn fill(&self) -> Result<()> {
        let mut filler = File::options()
            .create(true)
            .append(true)
            .open(self.filler())
            .context("make a file that fills a disk")?;
        // Whole blocks first, then what is left of the last.
        for size in [1 << 16, 4_096, 1] {
            let piece = vec![0; size];
            loop {
                match filler.write_all(&piece) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("fill a disk"),
                }
            }
        }
        Ok(())
    }

    /// Frees what [`Self::fill`] took.
    ///
    /// # Errors
    /// When the file that fills it cannot be removed.
    pub fn free(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("remove the file that fills a disk")
    }

    fn filler(&self) -> PathBuf {
        self.folder.join(".filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.folder, UnmountFlags::DETACH) {
            eprintln!("{} stays mounted: {error}", self.folder.display());
        }
    }
}

/// Takes off every disk below `folder`, left by a lab that is gone.
pub(super) fn release_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    for place in places
        .map(Path::new)
        .filter(|place| place.starts_with(folder))
    {
        // What stays keeps the folder, which the caller then does not count as swept.
        let _ = unmount(place, UnmountFlags::DETACH);
    }
}
