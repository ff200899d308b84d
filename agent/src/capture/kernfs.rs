//! Folders of control groups by the number that the kernel gives them.
//!
//! The file system of control groups gives out handles that hold this number and nothing else
//! (`FILEID_KERNFS` of include/linux/exportfs.h, since Linux 5.5), so one can be made up. Opening by
//! handle takes `CAP_DAC_READ_SEARCH`.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A mounted hierarchy, version 2.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    place: PathBuf,
    folder: File,
}

/// `struct file_handle` of include/linux/fs.h with what kernfs puts into it.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    number: u64,
}

impl Hierarchy {
    /// The one that is mounted at `place`.
    ///
    /// # Errors
    /// The folder cannot be opened, or is another file system's.
    pub(crate) fn open(place: &Path) -> io::Result<Self> {
        /// `CGROUP2_SUPER_MAGIC` of include/uapi/linux/magic.h.
        const MAGIC: u64 = 0x6367_7270;
        let folder = File::open(place)?;
        if u64::try_from(rustix::fs::fstatfs(&folder)?.f_type) != Ok(MAGIC) {
            return Err(io::Error::other("no cgroup2 file system"));
        }
        Ok(Self {
            place: place.to_owned(),
            folder,
        })
    }

    /// The path of a group below the mount point.
    ///
    /// # Errors
    /// `ESTALE` if there is none of this number any more; others where groups cannot be opened so.
    pub(crate) fn path_of(&self, number: u64) -> io::Result<PathBuf> {
        const FILEID_KERNFS: i32 = 0xfe;
        let mut handle = Handle {
            bytes: size_of::<u64>() as u32,
            kind: FILEID_KERNFS,
            number,
        };
        // SAFETY: the kernel reads the two words of the handle and as many bytes behind them as
        // the first one says, which are those of the number.
        let answer = unsafe {
            libc::open_by_handle_at(
                self.folder.as_raw_fd(),
                (&raw mut handle).cast(),
                libc::O_PATH | libc::O_CLOEXEC,
            )
        };
        if answer < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        let group = unsafe { OwnedFd::from_raw_fd(answer) };
        let path = fs::read_link(format!("/proc/self/fd/{}", group.as_raw_fd()))?;
        let below = path.strip_prefix(&self.place).map(Path::to_owned);
        Ok(below.unwrap_or(path))
    }
}
