//! Deletes what is past its time, a little at a time.

use std::path::Path;
use std::time::Duration;

use super::{
    Settings, Store, StoreError, audit, findings, join_tokens, journal, operators, outbox, sources,
    usage,
};
use crate::clock;
use crate::stop::Stop;

/// Pause between two rounds.
const PAUSE: Duration = Duration::from_secs(60);

/// Milliseconds that a run's links are kept beyond the time in which its envelopes may come.
const LINKS_SPARE_MS: u64 = 86_400_000;

/// What stays for how long.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// As configured.
    pub(crate) settings: Settings,
    /// Envelopes signed longer ago are refused, so their chains need not be known.
    pub(crate) clock_behind_ms: u64,
}

/// Rounds between two looks for log files that are gone: an hour's.
const FILES_ROUNDS: u64 = 60;

/// Cleans up again and again until told to stop.
pub(crate) async fn run(store: Store, limits: Limits, mut stop: Stop) {
    for number in 0u64.. {
        if number % FILES_ROUNDS == 0
            && let Err(error) = forget_files(&store, &limits, clock::now_ms()).await
        {
            tracing::error!(%error, "files that are gone not forgotten");
        }
        if number % FILES_ROUNDS == 0 {
            let kept_ms = limits.settings.findings_keep_s.saturating_mul(1_000);
            let before_ms = clock::now_ms().saturating_sub(kept_ms);
            let forgotten =
                store.write(move |transaction| join_tokens::forget(transaction, before_ms));
            if let Err(error) = forgotten.await {
                tracing::error!(%error, "join tokens that ended not forgotten");
            }
        }
        match round(&store, &limits, clock::now_ms()).await {
            Ok(0) => {}
            Ok(deleted) => tracing::debug!(deleted, "store cleaned up"),
            Err(error) => tracing::error!(%error, "store not cleaned up"),
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.told() => return,
        }
    }
}

/// Deletes everything that is past its time at `now_ms`, in jobs small enough for others to come in
/// between; says how many rows.
async fn round(store: &Store, limits: &Limits, now_ms: u64) -> Result<usize, StoreError> {
    let before = |keep_s: u64| now_ms.saturating_sub(keep_s.saturating_mul(1_000));
    let settings = &limits.settings;
    let journal_ms = before(settings.journal_keep_s);
    let api_calls_ms = before(settings.api_calls_keep_s);
    let findings_ms = before(settings.findings_keep_s);
    let audit_ms = before(settings.audit_keep_s);
    let links_ms = now_ms.saturating_sub(limits.clock_behind_ms.saturating_add(LINKS_SPARE_MS));
    let mut deleted = 0;
    loop {
        let rows = store
            .write(move |transaction| {
                Ok(journal::prune(transaction, journal_ms)?
                    + sources::prune(transaction, api_calls_ms)?
                    + sources::prune_kept(transaction)?
                    + sources::prune_objects(transaction, api_calls_ms)?
                    + findings::prune(transaction, findings_ms)?
                    + outbox::prune(transaction, findings_ms)?
                    + usage::prune(transaction, now_ms)?
                    + audit::prune(transaction, audit_ms)?
                    + operators::prune(transaction, audit_ms)?
                    + journal::prune_links(transaction, links_ms)?)
            })
            .await?;
        if rows == 0 {
            return Ok(deleted);
        }
        deleted += rows;
    }
}

/// Forgets log files that are gone. One that comes back is read again, so it must be long enough gone
/// for its events to be forgotten as well.
async fn forget_files(store: &Store, limits: &Limits, now_ms: u64) -> Result<(), StoreError> {
    let keep_ms = limits.settings.api_calls_keep_s.saturating_mul(1_000);
    let before_ms = now_ms.saturating_sub(keep_ms);
    let gone = store
        .read_async(move |connection| {
            let mut paths = sources::files_read_before(connection, before_ms)?;
            paths.retain(|path| !Path::new(path).exists());
            Ok(paths)
        })
        .await?;
    if gone.is_empty() {
        return Ok(());
    }
    store
        .write(move |transaction| {
            gone.iter()
                .try_for_each(|path| sources::forget_file(transaction, path))
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sources::{is_seen, note_seen};

    #[tokio::test]
    async fn a_round_deletes_all_that_is_past_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let limits = Limits {
            settings: Settings {
                api_calls_keep_s: 10,
                ..Settings::default()
            },
            clock_behind_ms: 0,
        };
        let key = |n: u32| {
            let mut key = [0; 24];
            key[..4].copy_from_slice(&n.to_be_bytes());
            key
        };
        // More than one job deletes.
        store
            .write(move |t| {
                note_seen(t, &key(u32::MAX), 90_000)?;
                (0..12_000).try_for_each(|n| note_seen(t, &key(n), 80_000))
            })
            .await
            .unwrap();
        assert_eq!(round(&store, &limits, 90_000).await.unwrap(), 0);
        assert_eq!(round(&store, &limits, 95_000).await.unwrap(), 12_000);
        assert!(store.read(|c| is_seen(c, &key(u32::MAX))).unwrap());
    }

    #[tokio::test]
    async fn files_that_are_gone_for_long_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let limits = Limits {
            settings: Settings {
                api_calls_keep_s: 10,
                ..Settings::default()
            },
            clock_behind_ms: 0,
        };
        let here = folder.path().join("picket.db").display().to_string();
        let paths = [
            here.clone(),
            "/gone/old.json".into(),
            "/gone/new.json".into(),
        ];
        store
            .write(move |t| {
                for (path, read_at) in paths.iter().zip([1_000, 1_000, 50_000]) {
                    let state = sources::FileState {
                        bytes: 1,
                        modified_ms: 1,
                        read_to: 0,
                        mark: Vec::new(),
                    };
                    sources::put_file(t, path, &state, read_at)?;
                }
                Ok(())
            })
            .await
            .unwrap();
        forget_files(&store, &limits, 55_000).await.unwrap();
        let is_known = |path: &str| store.read(|c| sources::file(c, path)).unwrap().is_some();
        assert!(is_known(&here) && is_known("/gone/new.json"));
        assert!(!is_known("/gone/old.json"));
    }
}
