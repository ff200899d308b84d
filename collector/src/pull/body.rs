//! The body of an answer as something to read from, a bounded number of parts ahead.

use std::io::{self, Read};

use reqwest::Response;
use tokio::sync::mpsc;

use super::limits::PARTS_WAITING;

/// Reads on a thread what a task takes from the network.
pub(super) struct Body {
    parts: mpsc::Receiver<Result<Vec<u8>, String>>,
    current: io::Cursor<Vec<u8>>,
}

impl Body {
    /// Begins to take the body in. The task ends with the body, or when this is dropped.
    pub(super) fn of(mut response: Response) -> Self {
        let (sender, parts) = mpsc::channel(PARTS_WAITING);
        tokio::spawn(async move {
            loop {
                let part = match response.chunk().await {
                    Ok(Some(part)) => Ok(part.to_vec()),
                    Ok(None) => return,
                    Err(error) => Err(error.without_url().to_string()),
                };
                let is_last = part.is_err();
                if sender.send(part).await.is_err() || is_last {
                    return;
                }
            }
        });
        Self {
            parts,
            current: io::Cursor::new(Vec::new()),
        }
    }
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.current.read(out)?;
            if count > 0 || out.is_empty() {
                return Ok(count);
            }
            match self.parts.blocking_recv() {
                Some(Ok(part)) => self.current = io::Cursor::new(part),
                Some(Err(why)) => return Err(io::Error::other(why)),
                None => return Ok(0),
            }
        }
    }
}
