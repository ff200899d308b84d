//! A webhook receiver: what a user's alert channel is to the collector.
//!
//! Keeps every delivery with the time it came in, its headers and its body, and can be told to
//! refuse for a while.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::SystemTime;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use tokio::sync::oneshot;

use super::namespace::Namespace;
use super::topology::COLLECTOR;

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
    inbox.deliveries().push(Delivery {
        at,
        headers,
        body: body.to_vec(),
    });
    StatusCode::NO_CONTENT
}
