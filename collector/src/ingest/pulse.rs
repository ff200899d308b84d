//! The pulse of a connection: whether requests come over it, so that one over which none come can be
//! told from one that waits for an answer.

use std::time::Duration;

use tokio::sync::watch;

/// What came over a connection so far.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// Whether there was a request at all.
    any: bool,
    /// Requests that are not answered yet.
    under_way: usize,
}

/// What one connection's requests are noted in.
#[derive(Debug, Clone)]
pub(crate) struct Pulse(watch::Sender<Seen>);

/// A connection over which too little comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Still {
    /// No request ever came; perhaps not even a byte.
    Silent,
    /// None came for long.
    Idle,
}

impl Pulse {
    /// Of a connection that has just been made.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::default())
    }

    /// Notes a request, until what is returned is dropped.
    pub(crate) fn beat(&self) -> Beat {
        self.0.send_modify(|seen| {
            seen.any = true;
            seen.under_way += 1;
        });
        Beat(self.clone())
    }

    /// Returns once no request has come within `first` of the start, or none was under way for `idle`.
    pub(crate) async fn still(&self, first: Duration, idle: Duration) -> Still {
        let mut seen = self.0.subscribe();
        loop {
            let Seen { any, under_way } = *seen.borrow_and_update();
            let (limit, still) = match any {
                false => (first, Still::Silent),
                true => (idle, Still::Idle),
            };
            if under_way > 0 {
                // Cannot fail: we hold the other end.
                let _ = seen.changed().await;
            } else if tokio::time::timeout(limit, seen.changed()).await.is_err() {
                return still;
            }
        }
    }
}

/// A request that is not answered yet.
pub(crate) struct Beat(Pulse);

impl Drop for Beat {
    fn drop(&mut self) {
        let under_way = |seen: &mut Seen| seen.under_way = seen.under_way.saturating_sub(1);
        self.0.0.send_modify(under_way);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn a_connection_without_requests_ends_and_one_that_waits_does_not() {
        let pulse = Pulse::new();
        assert_eq!(pulse.still(Duration::ZERO, HOUR).await, Still::Silent);
        let beat = pulse.beat();
        let still = pulse.still(Duration::ZERO, Duration::ZERO);
        let still = tokio::time::timeout(Duration::from_millis(20), still).await;
        assert_eq!(still.ok(), None, "an answer is waited for");
        drop(beat);
        assert_eq!(pulse.still(HOUR, Duration::ZERO).await, Still::Idle);
    }
}
