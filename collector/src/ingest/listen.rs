//! The TLS listener: bounds connections, handshakes, silence and age, and drains when told to stop.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::Settings;
use super::places::{Place, Places};
use super::pulse::{Pulse, Still};
use crate::enrol::Peer;
use crate::metrics::Metrics;
use crate::stop::Stop;

/// A handshake that takes longer is none (chosen by hand: three round trips round the world and a
/// busy peer take one second).
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// A peer that does not answer over HTTP/2 is gone after twice this time. Three windows of an agent.
const PING_EVERY: Duration = Duration::from_secs(30);

/// A connection is closed in order at this age, so that no peer holds its place for ever.
const AGE_MAX: Duration = Duration::from_secs(600);

/// What is still under way over a connection that is being closed may take so long: the largest
/// bundle over a line of 5 Mbit/s, and a wait for one before.
const LINGER_MAX: Duration = Duration::from_secs(300);

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
    let places = Places::new(
        settings.connections_max,
        settings.connections_per_address_max,
    );
    let mut connections = JoinSet::new();
    let told = stop.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => match places.take(peer.ip()) {
                    Ok(place) => {
                        let connection = Connection {
                            tls: tls.clone(),
                            router: router.clone(),
                            peer: peer.ip(),
                            head_max: Duration::from_secs(settings.head_timeout_s),
                            idle_max: Duration::from_secs(settings.idle_timeout_s),
                            metrics: metrics.clone(),
                            stop: told.clone(),
                            _place: place,
                        };
                        connections.spawn(connection.serve(stream));
                    }
                    Err(none) => metrics.connections_dropped.add(none.word(), 1),
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
    peer: IpAddr,
    /// Until the first request, and for each head of one over HTTP/1.
    head_max: Duration,
    /// Without a request.
    idle_max: Duration,
    metrics: Arc<Metrics>,
    stop: Stop,
    _place: Place,
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
            .header_read_timeout(self.head_max);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_EVERY);
        let pulse = Pulse::new();
        let (beats, router) = (pulse.clone(), TowerToHyperService::new(self.router));
        let peer = Peer(self.peer);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let beat = beats.beat();
            request.extensions_mut().insert(peer);
            let answering = router.call(request);
            async move {
                let answer = answering.await;
                drop(beat);
                answer
            }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let outcome = tokio::select! {
            outcome = connection.as_mut() => Ok(outcome),
            still = pulse.still(self.head_max, self.idle_max) => match still {
                // hyper's own timers begin once it knows the version, which takes bytes: what never
                // asked for anything has nothing to be closed in order.
                Still::Silent => return self.metrics.connections_dropped.add("silent", 1),
                Still::Idle => {
                    connection.as_mut().graceful_shutdown();
                    tokio::time::timeout(LINGER_MAX, connection).await
                }
            },
            () = ends(&mut self.stop) => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(LINGER_MAX, connection).await
            }
        };
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "connection broke");
                self.metrics.connections_dropped.add("broken", 1);
            }
            // A peer that takes nothing of what it asked for.
            Err(_) => self.metrics.connections_dropped.add("lingering", 1),
        }
    }
}

/// Returns when a connection should come to its end: told to stop, or old enough.
async fn ends(stop: &mut Stop) {
    // Either way it is over; which one does not matter.
    let _ = tokio::time::timeout(AGE_MAX, stop.told()).await;
}
