//! Rules read again while the collector runs.

use std::sync::Arc;

use tokio::signal::unix::Signal;

use super::Book;
use crate::analysis::Inbox;

/// Reads the rules again whenever the process is told to (SIGHUP). Never ends.
pub(crate) async fn reload(mut hangup: Signal, book: Arc<Book>, analysis: Inbox) {
    while hangup.recv().await.is_some() {
        let reading = book.clone();
        let read = tokio::task::spawn_blocking(move || reading.reload()).await;
        match read.map_err(anyhow::Error::from).flatten() {
            Ok(set) => analysis.rules(set).await,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "rules not read again; those before stay in force");
            }
        }
    }
    std::future::pending::<()>().await;
}
