//! The files of a spool: one an envelope, `<ordinal>.hit` or `<ordinal>.window`.
//!
//! A file is written under another name, synced, renamed, and its folder synced: after a crash or a
//! power cut it is whole or not there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;

use super::{Kind, Place};

/// What a file takes on disk at least: one block.
pub(super) const BLOCK_BYTES: u64 = 4_096;

/// A folder of envelopes. Whoever opens it owns it.
pub(super) struct Files {
    folder: PathBuf,
}

/// A file that an earlier run left.
pub(super) struct Left {
    pub(super) place: Place,
    /// Bytes it takes on disk.
    pub(super) bytes: u64,
    /// When it was written.
    pub(super) since: SystemTime,
}

/// How many envelopes are in a folder; none if there is no such folder.
pub(super) fn count(folder: &Path) -> io::Result<u64> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut envelopes = 0;
    for file in entries {
        envelopes += u64::from(place_of(&file?.path()).is_some());
    }
    Ok(envelopes)
}

impl Files {
    /// Opens a folder, making it if there is none; says what is in it. What was left half-written is
    /// removed.
    pub(super) fn open(folder: &Path) -> anyhow::Result<(Self, Vec<Left>)> {
        let name = || format!("open spool {}", folder.display());
        fs::create_dir_all(folder).with_context(name)?;
        let mut left = Vec::new();
        for file in fs::read_dir(folder).with_context(name)? {
            let file = file.with_context(name)?;
            let path = file.path();
            let Some(place) = place_of(&path) else {
                if path.extension().is_some_and(|ending| ending == "new") {
                    fs::remove_file(&path).with_context(name)?;
                }
                continue;
            };
            let metadata = file.metadata().with_context(name)?;
            left.push(Left {
                place,
                bytes: on_disk(metadata.len()),
                since: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            });
        }
        let folder = folder.to_owned();
        Ok((Self { folder }, left))
    }

    /// Writes an envelope; it is durable when this returns `Ok`.
    pub(super) fn write(&self, place: Place, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(place);
        let young = path.with_extension("new");
        let mut file = File::create(&young)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(&young, &path)?;
        File::open(&self.folder)?.sync_all()
    }

    /// Reads an envelope.
    pub(super) fn read(&self, place: Place) -> io::Result<Vec<u8>> {
        fs::read(self.path(place))
    }

    /// Removes an envelope. One that cannot be removed is shipped again after a restart, which does
    /// no harm.
    pub(super) fn remove(&self, place: Place) {
        drop(fs::remove_file(self.path(place)));
    }

    /// Says that an envelope was written at `since`. Where that fails, it is dated again later.
    pub(super) fn date(&self, place: Place, since: SystemTime) {
        let file = File::options().write(true).open(self.path(place));
        drop(file.and_then(|file| file.set_modified(since)));
    }

    pub(super) fn path(&self, place: Place) -> PathBuf {
        self.folder
            .join(format!("{:020}.{}", place.ordinal, place.kind.ending()))
    }
}

impl Kind {
    const fn ending(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Window => "window",
        }
    }
}

/// The place that a file's name tells.
fn place_of(path: &Path) -> Option<Place> {
    let ordinal = path.file_stem()?.to_str()?.parse().ok()?;
    let kind = match path.extension()?.to_str()? {
        "hit" => Kind::Hit,
        "window" => Kind::Window,
        _ => return None,
    };
    Some(Place { kind, ordinal })
}

/// Bytes a file of this size takes: whole blocks.
pub(super) fn on_disk(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES).max(1) * BLOCK_BYTES
}
