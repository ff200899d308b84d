//! A file that gets one line of JSON per alert, flushed to disk before the alert counts as
//! delivered. Rotate it by renaming: it is opened anew for each line.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Delivery, Message, Messenger, Undelivered};
use crate::config::BadValue;

/// One `[[alert.jsonl]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Name of the channel.
    #[serde(default = "default_name")]
    pub name: String,
    /// The file. Its folder must exist.
    pub path: PathBuf,
    /// Findings less severe than this are left out.
    #[serde(default)]
    pub severity_min: f64,
}

fn default_name() -> String {
    "jsonl".to_owned()
}

impl Settings {
    pub(super) fn check(&self, table: &str) -> Result<(), BadValue> {
        if self.path.as_os_str().is_empty() {
            return Err(BadValue::new(
                format!("{table}.path"),
                "must not be empty",
            ));
        }
        Ok(())
    }
}

/// Writes lines.
pub(super) struct Jsonl {
    path: PathBuf,
}

/// Makes sure that the file can be written.
pub(super) fn open(settings: &Settings, table: &str) -> Result<Jsonl, BadValue> {
    append(&settings.path, b"")
        .map_err(|error| BadValue::file(format!("{table}.path"), &settings.path, &error))?;
    Ok(Jsonl {
        path: settings.path.clone(),
    })
}

fn append(path: &Path, line: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)?;
    if !line.is_empty() {
        file.write_all(line)?;
        file.sync_data()?;
    }
    Ok(())
}

impl Messenger for Jsonl {
    fn deliver<'a>(&'a self, message: &'a Message) -> Delivery<'a> {
        Box::pin(async move {
            let path = self.path.clone();
            let line = format!("{}\n", message.body);
            let written = tokio::task::spawn_blocking(move || append(&path, line.as_bytes())).await;
            match written {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(Undelivered(format!(
                    "append to {}: {error}",
                    self.path.display()
                ))),
                Err(_) => Err(Undelivered("the runtime is shutting down".to_owned())),
            }
        })
    }
}
