//! A webhook receiver: what a user's alert channel is to the collector.
//!
//! Takes only what is signed with its secret (HMAC-SHA256 over `<time>.<body>`), keeps every delivery
//! with the time it came in, and can be told to refuse for a while.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::SystemTime;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use ring::hmac;
use tokio::sync::oneshot;

use super::namespace::Namespace;
use super::topology::COLLECTOR;

/// The secret shared with the sender.
pub const SECRET: &str = "the lab's webhook secret";

/// Largest alert taken.
const BODY_BYTES_MAX: usize = 4 << 20;

/// One alert as it came in.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// When its last byte was there.
    pub at: SystemTime,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

#[derive(Debug, Default)]
struct Inbox {
    deliveries: Mutex<Vec<Delivery>>,
    refusing: AtomicBool,
    unsigned: AtomicUsize,
}

impl Inbox {
    fn deliveries(&self) -> MutexGuard<'_, Vec<Delivery>> {
        // A list of deliveries is whole after every push, whoever panicked meanwhile.
        self.deliveries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running receiver in the collector's namespace; ended on drop.
#[derive(Debug)]
pub struct Webhook {
    inbox: Arc<Inbox>,
    at: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Webhook {
    /// Starts it on a free port of the collector's host.
    ///
    /// # Errors
    /// When no port can be bound.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        let inbox = Arc::new(Inbox::default());
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let state = Arc::clone(&inbox);
        let thread = namespace.spawn("webhook", move || serve(state, &ready, stopped))?;
        let at = is_ready.recv().context("the webhook did not start")?;
        Ok(Self {
            inbox,
            at,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where alerts are to be sent.
    pub fn url(&self) -> String {
        format!("http://{}/alert", self.at)
    }

    /// Everything accepted so far, in order.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.inbox.deliveries().clone()
    }

    /// What was accepted after the first `known` deliveries.
    pub fn deliveries_after(&self, known: usize) -> Vec<Delivery> {
        let all = self.inbox.deliveries();
        all.get(known..).unwrap_or_default().to_vec()
    }

    /// How many were refused because their signature was missing or wrong.
    pub fn unsigned(&self) -> usize {
        self.inbox.unsigned.load(Ordering::Acquire)
    }

    /// Refuses with 503 from now on, or stops doing so.
    pub fn refuse(&self, refusing: bool) {
        self.inbox.refusing.store(refusing, Ordering::Release);
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    inbox: Arc<Inbox>,
    ready: &mpsc::Sender<SocketAddr>,
    stopped: oneshot::Receiver<()>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((COLLECTOR, 0))
            .await
            .context("listen for alerts")?;
        // The starter waits for this, so it is there.
        let _ = ready.send(listener.local_addr()?);
        let router = Router::new()
            .route("/alert", post(take))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(inbox);
        tokio::select! {
            served = axum::serve(listener, router) => served.context("serve the webhook"),
            _ = stopped => Ok(()),
        }
    })
}

async fn take(State(inbox): State<Arc<Inbox>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let at = SystemTime::now();
    if inbox.refusing.load(Ordering::Acquire) {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    if !is_signed(&headers, &body) {
        inbox.unsigned.fetch_add(1, Ordering::Release);
        return StatusCode::UNAUTHORIZED;
    }
    inbox.deliveries().push(Delivery {
        at,
        headers,
        body: body.to_vec(),
    });
    StatusCode::NO_CONTENT
}

/// Checks `X-Picket-Signature: t=<unix time>,v1=<hex>`.
fn is_signed(headers: &HeaderMap, body: &[u8]) -> bool {
    let stated = headers
        .get("x-picket-signature")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("t=")?.split_once(",v1="));
    let Some((time, tag)) = stated else {
        return false;
    };
    let Some(tag) = unhex(tag) else {
        return false;
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signed = [time.as_bytes(), b".", body].concat();
    hmac::verify(&key, &signed, &tag).is_ok()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let pairs = digits?;
    // Two digits below 16 make a byte.
    Some(
        pairs
            .chunks_exact(2)
            .map(|pair| (pair[0] * 16 + pair[1]) as u8)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_signature_is_taken() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        let tag = hmac::sign(&key, b"17.{}");
        let hex: String = tag
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        for (stated, body, expected) in [
            (format!("t=17,v1={hex}"), "{}", true),
            (format!("t=18,v1={hex}"), "{}", false),
            (format!("t=17,v1={hex}"), "{ }", false),
            (format!("t=17,v1={}", &hex[2..]), "{}", false),
            (format!("v1={hex}"), "{}", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-picket-signature", stated.parse().unwrap());
            assert_eq!(is_signed(&headers, body.as_bytes()), expected, "{stated}");
        }
        assert!(!is_signed(&HeaderMap::new(), b"{}"));
    }
}
