//! The host's own lists, read again: when a file changed, when an entry of theirs is over, on SIGHUP.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use tokio::sync::Notify;

use super::load_feeds;
use crate::config::Config;
use crate::feeds;
use crate::watch::Command;

/// Who reads the host's own lists again.
pub(super) enum Reload {
    /// Who asks the collector, since it puts both together.
    Client(Arc<Notify>),
    /// We; with the time at which the first of their entries is over, or they are to be read again.
    Here(Option<u64>),
}

impl Reload {
    pub(super) fn over_ms(&self) -> Option<u64> {
        match self {
            Self::Client(_) => None,
            Self::Here(over_ms) => *over_ms,
        }
    }

    pub(super) fn reload(&mut self, config: &Config, commands: &SyncSender<Command>) {
        match self {
            Self::Client(client) => client.notify_one(),
            Self::Here(over_ms) => *over_ms = read_again(config, commands),
        }
    }
}

/// Reads the host's own lists again; says when to do it next.
fn read_again(config: &Config, commands: &SyncSender<Command>) -> Option<u64> {
    match load_feeds(config) {
        Ok(feeds) => {
            let over_ms = feeds.set.next_expiry_ms();
            // The thread says when they are in force.
            match commands.try_send(Command::Indicators(feeds.set)) {
                Ok(()) => over_ms,
                Err(_) => {
                    tracing::error!("indicators not reloaded: the watching thread is stuck");
                    Some(feeds::later_ms())
                }
            }
        }
        // The old ones stay in force.
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "indicators not reloaded");
            Some(feeds::later_ms())
        }
    }
}
