//! The limit of open files: each connection takes one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files open besides connections: the store, lists, sockets of its own (counted by hand: some 60).
const OTHERS: u64 = 256;

/// Raises the limit as far as the system lets us, and says if it is too low for so many connections.
pub(crate) fn allow(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let wanted = (connections as u64).saturating_add(OTHERS);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // No limit is none that is too low.
    if let Some(current) = current.filter(|current| *current < wanted) {
        tracing::warn!(
            limit = current,
            wanted,
            "fewer files may be open than connections are allowed (LimitNOFILE)"
        );
    }
}
