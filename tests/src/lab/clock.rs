//! A clock that a test may move for one process: what libfaketime makes of the system's.
//!
//! Only the time of day moves; time since boot goes on as it does for everybody. The shim re-reads
//! its file once a second.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Folders in which distributions put the shim.
const FOLDERS: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime",
    "/usr/lib/aarch64-linux-gnu/faketime",
    "/usr/lib64/faketime",
    "/usr/lib/faketime",
];

/// A clock that reads as the system's plus a number of seconds.
#[derive(Debug, Clone)]
pub struct Clock {
    shim: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// A clock that is right, steered by a file `<name>.clock` in `folder`; none where the shim is
    /// not installed (Debian package `libfaketime`).
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn new(folder: &Path, name: &str) -> Result<Option<Self>> {
        let mut shims = FOLDERS
            .iter()
            .map(|at| Path::new(at).join("libfaketimeMT.so.1"));
        let Some(shim) = shims.find(|shim| shim.exists()) else {
            return Ok(None);
        };
        let file = folder.join(format!("{name}.clock"));
        let clock = Self { shim, file };
        clock.set_ahead(0)?;
        Ok(Some(clock))
    }

    /// Sets how many seconds it reads more than the system's.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub fn set_ahead(&self, seconds: i64) -> Result<()> {
        let part = self.file.with_extension("part");
        fs::write(&part, format!("{seconds:+}"))
            .and_then(|()| fs::rename(&part, &self.file))
            .with_context(|| format!("write {}", self.file.display()))
    }

    /// Has `command` live by this clock.
    pub fn rule(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.shim)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_CACHE_DURATION", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1");
    }
}
