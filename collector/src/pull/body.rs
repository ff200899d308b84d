//! The body of an answer as something to read from, a bounded number of parts ahead.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Response;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::limits::PARTS_WAITING;

/// How often it is looked whether the process is to end, while a server says nothing (chosen by hand).
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Reads on a thread what a task takes from the network.
pub(super) struct Body {
    parts: mpsc::Receiver<Part>,
    current: io::Cursor<Vec<u8>>,
    is_over: bool,
}

/// What comes of a body.
enum Part {
    Bytes(Vec<u8>),
    Failed(String),
    End,
}

impl Body {
    /// Begins to take the body in. The task ends with the body, when this is dropped, or when the process is to end.
    pub(super) fn of(mut response: Response, is_stopping: Arc<AtomicBool>) -> Self {
        let (sender, parts) = mpsc::channel(PARTS_WAITING);
        tokio::spawn(async move {
            let mut look = tokio::time::interval(LOOK_EVERY);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let part = tokio::select! {
                    part = response.chunk() => match part {
                        Ok(Some(part)) => Part::Bytes(part.to_vec()),
                        Ok(None) => Part::End,
                        Err(error) => Part::Failed(error.without_url().to_string()),
                    },
                    // A body that stalls must not hold the end up.
                    _ = look.tick() => {
                        if is_stopping.load(Ordering::Relaxed) {
                            return;
                        }
                        continue;
                    }
                };
                let is_last = !matches!(part, Part::Bytes(_));
                if sender.send(part).await.is_err() || is_last {
                    return;
                }
            }
        });
        Self {
            parts,
            current: io::Cursor::new(Vec::new()),
            is_over: false,
        }
    }
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.current.read(out)?;
            if count > 0 || out.is_empty() || self.is_over {
                return Ok(count);
            }
            match self.parts.blocking_recv() {
                Some(Part::Bytes(part)) => self.current = io::Cursor::new(part),
                Some(Part::End) => self.is_over = true,
                Some(Part::Failed(why)) => return Err(io::Error::other(why)),
                // What was read so far is not the whole.
                None => return Err(io::Error::other("the process ends")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that says how much will come, and then a part of it.
    #[tokio::test]
    async fn a_body_that_stalls_ends_with_the_process() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", door.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut peer, _) = door.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                peer.read_buf(&mut asked).await.unwrap();
            }
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome";
            peer.write_all(head).await.unwrap();
            // Held open for as long as the test takes.
            std::future::pending::<()>().await;
        });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let response = client.get(url).send().await.unwrap();
        let is_stopping = Arc::new(AtomicBool::new(false));
        let mut body = Body::of(response, is_stopping.clone());
        let begun = Instant::now();
        let read = tokio::task::spawn_blocking(move || {
            let mut out = Vec::new();
            let ended = body.read_to_end(&mut out);
            (out, ended.is_err())
        });
        is_stopping.store(true, Ordering::Relaxed);
        let (out, is_err) = read.await.unwrap();
        assert!(is_err && b"some".starts_with(&out), "{out:?}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
