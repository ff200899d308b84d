//! What the parts of the service hold together.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use anyhow::Context as _;
use tokio::sync::Notify;

use crate::ingest::gate::Refusals;
use crate::metrics::Metrics;
use crate::stop::Stopper;
use crate::store::{Store, journal};

/// What several parts hold.
pub(super) struct Shared {
    pub(super) metrics: Arc<Metrics>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) bell: Arc<Notify>,
    pub(super) backlog: Arc<AtomicU64>,
    pub(super) is_stopping: Arc<AtomicBool>,
    pub(super) stop_in: Stopper,
    pub(super) stop_out: Stopper,
}

impl Shared {
    pub(super) fn new(store: &Store) -> anyhow::Result<Self> {
        let (waiting, _) = store
            .read(journal::depth)
            .context("ask the store what waits")?;
        Ok(Self {
            metrics: Arc::default(),
            refusals: Arc::default(),
            bell: Arc::default(),
            backlog: Arc::new(AtomicU64::new(waiting)),
            is_stopping: Arc::default(),
            stop_in: Stopper::new(),
            stop_out: Stopper::new(),
        })
    }

    /// Resolves when the way in is to close.
    pub(super) fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stop = self.stop_in.ear();
        async move { stop.told().await }
    }
}
