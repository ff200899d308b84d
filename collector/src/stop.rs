//! The word to stop, heard by many tasks.

use tokio::sync::watch;

/// Says it. When this is dropped, it counts as said.
#[derive(Debug)]
pub(crate) struct Stopper(watch::Sender<bool>);

/// Hears it.
#[derive(Debug, Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stopper {
    /// Begins unsaid.
    pub(crate) fn new() -> Self {
        Self(watch::channel(false).0)
    }

    /// Says it.
    pub(crate) fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Another that hears it.
    pub(crate) fn ear(&self) -> Stop {
        Stop(self.0.subscribe())
    }
}

impl Stop {
    /// Returns once it was said; at once from then on.
    pub(crate) async fn told(&mut self) {
        // An error means that nobody can say it any more.
        let _ = self.0.wait_for(|said| *said).await;
    }
}
