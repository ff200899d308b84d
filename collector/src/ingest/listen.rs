//! The TLS listener: bounds connections, handshakes and their age, and drains when told to stop.

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::Settings;
use crate::enrol::Peer;
use crate::metrics::Metrics;
use crate::stop::Stop;

/// A handshake that takes longer is none (chosen by hand: three round trips round the world and a
/// busy peer take one second).
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Heads of requests must arrive within this time; also the longest pause between requests over
/// HTTP/1. Three windows of an agent.
const HEAD_MAX: Duration = Duration::from_secs(30);

/// A connection is closed in order at this age, so that idle ones do not hold their places for ever.
const AGE_MAX: Duration = Duration::from_secs(600);

/// Requests of one connection under way at once (HTTP/2).
const STREAMS_MAX: u32 = 16;

/// Pause after the system refused a connection, for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until told to stop, then waits for what is under way, at most `drain_s`.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: TlsAcceptor,
    router: Router,
    settings: &Settings,
    metrics: Arc<Metrics>,
    mut stop: Stop,
) {
    let places = Arc::new(Semaphore::new(settings.connections_max));
    let mut connections = JoinSet::new();
    let told = stop.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => match places.clone().try_acquire_owned() {
                    Ok(place) => {
                        let connection = Connection {
                            tls: tls.clone(),
                            router: router.clone().layer(Extension(Peer(peer.ip()))),
                            metrics: metrics.clone(),
                            stop: told.clone(),
                            _place: place,
                        };
                        connections.spawn(connection.serve(stream));
                    }
                    Err(_) => metrics.connections_dropped.add("too_many", 1),
                },
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    metrics.connections_dropped.add("accept", 1);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = stop.told() => break,
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_secs(settings.drain_s), drained)
        .await
        .is_err()
    {
        tracing::warn!(
            connections = connections.len(),
            "connections cut at the drain's deadline"
        );
    }
}

struct Connection {
    tls: TlsAcceptor,
    router: Router,
    metrics: Arc<Metrics>,
    stop: Stop,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve(mut self, stream: TcpStream) {
        // Small answers to small requests: waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let stream = match tokio::time::timeout(HANDSHAKE_MAX, self.tls.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "handshake failed");
                return self.metrics.connections_dropped.add("handshake", 1);
            }
            Err(_) => return self.metrics.connections_dropped.add("slow_handshake", 1),
        };
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .keep_alive_interval(HEAD_MAX)
            .keep_alive_timeout(HEAD_MAX);
        let service = TowerToHyperService::new(self.router);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = ends(&mut self.stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "connection broke");
            self.metrics.connections_dropped.add("broken", 1);
        }
    }
}

/// Returns when a connection should come to its end: told to stop, or old enough.
async fn ends(stop: &mut Stop) {
    // Either way it is over; which one does not matter.
    let _ = tokio::time::timeout(AGE_MAX, stop.told()).await;
}
