//! Control groups of a test's own, in the version 2 hierarchy.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A control group below a folder of our own, removed with this value; so are those above it that
/// nobody else is in.
pub(crate) struct Group {
    folder: PathBuf,
    group: PathBuf,
}

impl Group {
    /// Makes the group at `path` below a folder named after this process.
    pub(crate) fn make(root: &Path, path: &str) -> Self {
        let folder = root.join(format!("pk-owner-{}", std::process::id()));
        let group = folder.join(path.trim_start_matches('/'));
        fs::create_dir_all(&group).expect("make a control group");
        Self { folder, group }
    }

    /// Moves a process into it.
    pub(crate) fn take(&self, pid: u32) {
        fs::write(self.group.join("cgroup.procs"), pid.to_string()).expect("move a process");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let until = Instant::now() + Duration::from_secs(5);
        // Busy until the kernel has cleaned up behind the last process.
        while fs::remove_dir(&self.group).is_err() && Instant::now() < until {
            std::thread::yield_now();
        }
        let above = self.group.ancestors().skip(1);
        for folder in above.take_while(|folder| folder.starts_with(&self.folder)) {
            drop(fs::remove_dir(folder));
        }
    }
}
