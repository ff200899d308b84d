//! The folder of indicator lists: read at the start, and again when something in it changes.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use picket_intel::IndicatorSet;

use crate::analysis::Inbox;
use crate::source::{Report, intel};
use crate::stop::Stop;

/// Pause between two looks at the folder.
const PAUSE: Duration = Duration::from_secs(2);

/// Reads every list of the folder; what is odd about them goes to the log.
pub(crate) fn read(folder: &Path) -> anyhow::Result<IndicatorSet> {
    let mut told = Vec::new();
    let set = intel::read(folder, &mut Report::new(&mut told))?;
    for line in String::from_utf8_lossy(&told).lines() {
        tracing::warn!(what = line, "indicator list");
    }
    tracing::info!(
        folder = %folder.display(),
        indicators = set.len(),
        lists = set.lists().len(),
        version = set.version(),
        "indicators read"
    );
    Ok(set)
}

/// Hands the analysis a new set each time the folder has changed, until told to stop. A folder that
/// cannot be read leaves the set in use as it is.
pub(crate) async fn follow(folder: PathBuf, inbox: Inbox, mut stop: Stop) {
    let mut known = stamp(&folder);
    loop {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.told() => return,
        }
        let now = stamp(&folder);
        if now == known {
            continue;
        }
        let path = folder.clone();
        match tokio::task::spawn_blocking(move || read(&path)).await {
            Ok(Ok(set)) => {
                inbox.intel(set).await;
                known = now;
            }
            Ok(Err(error)) => {
                let error = format!("{error:#}");
                tracing::error!(error, "indicators not read; those in use stay in use");
                known = now;
            }
            // The runtime ends, or reading broke off and is tried again.
            Err(_) => {}
        }
    }
}

/// Names, times and sizes of the files in a folder; empty if it cannot be listed.
fn stamp(folder: &Path) -> Vec<(PathBuf, Option<SystemTime>, u64)> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some((entry.path(), metadata.modified().ok(), metadata.len()))
        })
        .collect();
    files.sort();
    files
}
