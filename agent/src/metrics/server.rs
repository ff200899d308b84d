//! The address where metrics are scraped: HTTP/1, `GET /metrics`, one answer a connection.

use std::convert::Infallible;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::text;
use crate::status::Desk;

/// Scrapers served at once; others wait in the listen queue.
const SCRAPERS_MAX: usize = 4;

/// Time for a scraper to ask and to read: scrapes are timed out after ten seconds by default.
const WAIT: Duration = Duration::from_secs(10);

/// Pause after a connection could not be accepted.
const PAUSE: Duration = Duration::from_secs(1);

/// Port where the agent is scraped unless told otherwise.
const PORT: u16 = 9465;

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Address {
    /// Nowhere.
    Off,
    /// At this address; port 0 is any.
    At(SocketAddr),
}

impl Default for Address {
    fn default() -> Self {
        Self::At((Ipv4Addr::LOCALHOST, PORT).into())
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "off" => Ok(Self::Off),
            other => match other.parse() {
                Ok(address) => Ok(Self::At(address)),
                Err(_) => Err(format!("{other:?} is neither address:port nor \"off\"")),
            },
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

/// A listening socket.
pub struct Server {
    listener: TcpListener,
    at: SocketAddr,
}

impl Server {
    /// Listens, if that is wanted. Must be called in the runtime.
    ///
    /// # Errors
    /// The address cannot be had.
    pub async fn bind(address: Address) -> anyhow::Result<Option<Self>> {
        let Address::At(address) = address else {
            return Ok(None);
        };
        let name = || format!("listen for metrics at {address}");
        let listener = TcpListener::bind(address).await.with_context(name)?;
        let at = listener.local_addr().with_context(name)?;
        Ok(Some(Self { listener, at }))
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.at
    }

    /// Answers whoever connects, for ever.
    pub async fn serve(self, desk: Arc<Desk>) {
        let scrapers = Arc::new(Semaphore::new(SCRAPERS_MAX));
        loop {
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&scrapers).acquire_owned().await else {
                return;
            };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "metrics not scraped");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let desk = Arc::clone(&desk);
            tokio::spawn(async move {
                let mut server = hyper::server::conn::http1::Builder::new();
                server.keep_alive(false);
                let service = service_fn(|request| answer(request, &desk));
                let connection = server.serve_connection(TokioIo::new(stream), service);
                // A scraper that is gone or too slow is no trouble of ours.
                drop(timeout(WAIT, connection).await);
                drop(permit);
            });
        }
    }
}

async fn answer<B>(request: Request<B>, desk: &Desk) -> Result<Response<String>, Infallible> {
    let (code, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => (StatusCode::OK, text(&desk.status().await)),
        (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
        _ => (StatusCode::NOT_FOUND, "see /metrics\n".to_owned()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, format);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_address_or_off() {
        let check = |text: &str, read: Option<&str>| {
            let address = Address::try_from(text.to_owned()).ok();
            assert_eq!(
                address.map(|one| one.to_string()).as_deref(),
                read,
                "{text}"
            );
        };
        check("off", Some("off"));
        check("127.0.0.1:9465", Some("127.0.0.1:9465"));
        check("[::1]:0", Some("[::1]:0"));
        check("9465", None);
        check("localhost:9465", None);
        check("", None);
    }
}
