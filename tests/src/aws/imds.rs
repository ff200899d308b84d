//! The metadata service: version 2 alone, and as strict as it is.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, put};

/// A metadata service on loopback.
pub struct Imds {
    address: SocketAddr,
    state: Arc<Service>,
}

/// What it says, and whom it has given a token.
#[derive(Default)]
struct Service {
    said: Mutex<HashMap<String, String>>,
    tokens: Mutex<HashSet<String>>,
    mood: Mutex<Mood>,
}

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// As it should.
    #[default]
    Well,
    /// The next request is never answered, as where packets may not travel another hop.
    SilentOnce,
    /// No token is answered for, as in a container where the hop limit is one.
    Far,
    /// The next token is forgotten as soon as it is given.
    Forgetful,
    /// The next request is one too many.
    Throttled,
}

impl Imds {
    /// Starts it; it says nothing yet.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> Result<Self> {
        let state = Arc::new(Service::default());
        let router = Router::new()
            .route("/latest/api/token", put(token))
            .route("/latest/{*path}", get(read))
            .with_state(state.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .context("bind the metadata service")?;
        let address = listener.local_addr()?;
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, state })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Has it say something at a path below `/latest/`.
    pub fn say(&self, path: &str, text: impl Into<String>) {
        locked(&self.state.said).insert(path.to_owned(), text.into());
    }

    /// Has it say nothing there any more.
    pub fn hush(&self, path: &str) {
        locked(&self.state.said).remove(path);
    }

    /// Changes how it behaves.
    pub fn set(&self, mood: Mood) {
        *locked(&self.state.mood) = mood;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    /// The mood, which passes if it is one for a moment.
    fn mood(&self, is_token: bool) -> Mood {
        let mut mood = locked(&self.mood);
        let now = *mood;
        let passes = match now {
            Mood::SilentOnce | Mood::Throttled => true,
            Mood::Forgetful => is_token,
            Mood::Well | Mood::Far => false,
        };
        if passes {
            *mood = Mood::Well;
        }
        now
    }
}

async fn token(State(service): State<Arc<Service>>, headers: HeaderMap) -> Response {
    let mood = service.mood(true);
    match mood {
        Mood::SilentOnce | Mood::Far => std::future::pending().await,
        Mood::Throttled => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Mood::Well | Mood::Forgetful => {}
    }
    // A proxy that was fooled adds this header; the service gives no token then.
    if headers.contains_key("x-forwarded-for") {
        return StatusCode::FORBIDDEN.into_response();
    }
    const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
    let ttl = headers
        .get(TTL)
        .and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    let Some(ttl) = ttl.filter(|ttl| (1..=21_600).contains(ttl)) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let mut tokens = locked(&service.tokens);
    let token = format!("AQAE{:08}==", tokens.len());
    if mood != Mood::Forgetful {
        tokens.insert(token.clone());
    } else {
        tokens.insert("forgotten".to_owned());
    }
    ([(TTL, ttl.to_string())], token).into_response()
}

async fn read(
    State(service): State<Arc<Service>>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Response {
    match service.mood(false) {
        Mood::SilentOnce => std::future::pending().await,
        Mood::Throttled => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Mood::Well | Mood::Far | Mood::Forgetful => {}
    }
    let token = headers.get("x-aws-ec2-metadata-token");
    let token = token
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !locked(&service.tokens).contains(token) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match locked(&service.said).get(&path) {
        Some(text) => text.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
