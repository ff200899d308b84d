//! A receiver of webhooks: a real HTTP server, with TLS or without, that fails when told to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::serve::Listener;
use ring::hmac;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::authority::Authority;

/// The secret both sides know.
pub(crate) const SECRET: &str = "a secret of enough length";

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) at: Instant,
    pub(crate) id: String,
    pub(crate) signature: String,
    pub(crate) body: Bytes,
}

impl Delivery {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Checks the signature as a receiver would.
    pub(crate) fn is_signed(&self) -> bool {
        let (time, tag) = self.signature.split_once(",v1=").unwrap();
        let time = time.strip_prefix("t=").unwrap();
        let message = [time.as_bytes(), b".", &self.body].concat();
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        let tag: Vec<u8> = (0..tag.len() / 2)
            .map(|at| u8::from_str_radix(&tag[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        hmac::verify(&key, &message, &tag).is_ok()
    }
}

#[derive(Default)]
struct Inner {
    deliveries: Vec<Delivery>,
    /// Answers to the next requests; then 200.
    answers: VecDeque<StatusCode>,
}

#[derive(Clone, Default)]
pub(crate) struct Receiver {
    inner: Arc<Mutex<Inner>>,
    pub(crate) port: u16,
    is_tls: bool,
}

impl Receiver {
    /// One that does not listen.
    pub(crate) fn absent(port: u16) -> Self {
        Self {
            port,
            ..Self::default()
        }
    }

    /// Starts it on a port of its own; the first answers are these.
    pub(crate) async fn start(answers: &[StatusCode]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            port: listener.local_addr().unwrap().port(),
            ..Self::default()
        };
        receiver.inner.lock().unwrap().answers = answers.iter().copied().collect();
        receiver.serve(listener);
        receiver
    }

    /// Starts one that speaks TLS with a certificate of `authority` for `name`.
    pub(crate) async fn start_tls(authority: &Authority, name: &str) -> Self {
        let listener = authority.listen(name).await;
        let receiver = Self {
            port: listener.local_addr().unwrap().port(),
            is_tls: true,
            ..Self::default()
        };
        receiver.serve(listener);
        receiver
    }

    fn serve<L: Listener<Addr: std::fmt::Debug>>(&self, listener: L) {
        let router = Router::new()
            .route("/hook", post(take))
            .with_state(self.clone());
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    }

    /// Its table in the collector's configuration; the rig's folder gets the secret.
    pub(crate) fn table(&self, rest: &str) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!(
            "[[alert.webhook]]\nname = 'hook'\nurl = '{scheme}://127.0.0.1:{}/hook'\n\
             secret_file = 'FOLDER/secret'\n{rest}\n",
            self.port
        )
    }

    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.inner.lock().unwrap().deliveries.clone()
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    let mut inner = receiver.inner.lock().unwrap();
    inner.deliveries.push(Delivery {
        at: Instant::now(),
        id: text("x-picket-delivery"),
        signature: text("x-picket-signature"),
        body,
    });
    inner.answers.pop_front().unwrap_or(StatusCode::OK)
}
