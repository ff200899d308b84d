//! Whether envelopes can be taken in. The answer comes from trying: what is received must become
//! durable, so health is a commit of the store and bytes on its disk, or the last batch of envelopes
//! where that says it already.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::store::{Store, StoreError};

/// How long an answer holds, so that whoever asks often costs nothing: half of what load balancers
/// commonly wait between two questions.
const ANSWER_HOLDS: Duration = Duration::from_secs(5);

/// Bytes that must find room on the disk: an envelope of a usual window, with what the store writes
/// about it. After a batch that found none it is that batch.
const ROOM_BYTES_MIN: usize = 256 << 10;

/// Name of the file that is written to see whether one can be, in the state folder.
const PROBE: &str = "probe";

/// Why nothing can be taken in.
#[derive(Debug, thiserror::Error)]
enum Sick {
    #[error("the store takes nothing: {0}")]
    Store(#[from] StoreError),
    #[error("no {bytes} bytes can be written to {}: {source}", path.display())]
    Disk {
        bytes: usize,
        path: PathBuf,
        source: io::Error,
    },
    #[error("asking broke off")]
    Broken,
}

/// What is known, and how to know more.
pub(crate) struct Health {
    store: Store,
    probe: PathBuf,
    known: Mutex<Known>,
    /// Held by the one who asks; the others wait for the same answer.
    asking: tokio::sync::Mutex<()>,
}

struct Known {
    /// The last answer and when it came.
    answer: Option<(Instant, bool)>,
    room_bytes: usize,
}

impl Health {
    /// Knows nothing yet of `store`, whose files are in `folder`.
    pub(crate) fn new(store: Store, folder: &Path) -> Self {
        Self {
            store,
            probe: folder.join(PROBE),
            known: Mutex::new(Known {
                answer: None,
                room_bytes: ROOM_BYTES_MIN,
            }),
            asking: tokio::sync::Mutex::new(()),
        }
    }

    /// Envelopes have become durable.
    pub(crate) fn stored(&self) {
        let mut known = self.known();
        known.answer = Some((Instant::now(), true));
        known.room_bytes = ROOM_BYTES_MIN;
    }

    /// Envelopes of so many bytes could not be stored.
    pub(crate) fn failed(&self, bytes: usize) {
        let mut known = self.known();
        known.answer = Some((Instant::now(), false));
        known.room_bytes = bytes.max(ROOM_BYTES_MIN);
    }

    /// Says whether envelopes can be stored, as of [`ANSWER_HOLDS`] ago at most. May cost a commit
    /// and a file of a batch's size, written and removed.
    pub(crate) async fn is_good(&self) -> bool {
        let _only_me = self.asking.lock().await;
        let (before, room_bytes) = {
            let known = self.known();
            (known.answer, known.room_bytes)
        };
        if let Some((at, is_good)) = before
            && at.elapsed() < ANSWER_HOLDS
        {
            return is_good;
        }
        let asked = Instant::now();
        let outcome = self.ask(room_bytes).await;
        let is_good = outcome.is_ok();
        match outcome {
            Err(error) if before.is_none_or(|(_, was_good)| was_good) => {
                tracing::error!(%error, "envelopes cannot be stored");
            }
            Ok(()) if before.is_some_and(|(_, was_good)| !was_good) => {
                tracing::info!("envelopes can be stored again");
            }
            _ => {}
        }
        let mut known = self.known();
        // A batch that went in or failed meanwhile knows better.
        match known.answer {
            Some((at, is_good)) if at > asked => is_good,
            _ => {
                known.answer = Some((Instant::now(), is_good));
                is_good
            }
        }
    }

    async fn ask(&self, room_bytes: usize) -> Result<(), Sick> {
        self.store
            .write(|t| t.execute("UPDATE cursor SET journal_id = journal_id", []))
            .await?;
        let path = self.probe.clone();
        let tried = tokio::task::spawn_blocking(move || {
            let outcome = write_and_remove(&path, room_bytes);
            outcome.map_err(|source| Sick::Disk {
                bytes: room_bytes,
                path,
                source,
            })
        });
        tried.await.map_err(|_| Sick::Broken)?
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // It is replaced whole, so a panic while it was held left nothing half done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_and_remove(path: &Path, bytes: usize) -> io::Result<()> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(&vec![0; bytes])?;
        file.sync_data()
    });
    let removed = std::fs::remove_file(path);
    written.and(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_became_of_the_last_batch_counts_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let health = Health::new(store, folder.path());
        assert!(health.is_good().await);
        health.failed(1);
        assert!(!health.is_good().await);
        health.stored();
        assert!(health.is_good().await);
        assert!(!folder.path().join(PROBE).exists());
    }

    #[tokio::test]
    async fn a_store_that_takes_nothing_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let health = Health::new(store.clone(), folder.path());
        let alter = |statement: &'static str| store.write(move |t| t.execute_batch(statement));
        alter("ALTER TABLE cursor RENAME TO gone").await.unwrap();
        assert!(!health.is_good().await);
    }

    #[tokio::test]
    async fn a_folder_without_room_is_found_out() {
        let (folder, gone) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = Store::open(folder.path()).unwrap();
        let health = Health::new(store, gone.path());
        drop(gone);
        assert!(!health.is_good().await);
    }
}
