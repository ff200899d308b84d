//! Too much at once is turned away and comes again; nothing that was acknowledged is lost.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::rig::{Agent, INSTANCE, PATIENCE, Rig, until};

/// A TLS connection of its own, to send half a request over.
async fn connect(rig: &Rig) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(rig.path("state/ca.pem")).unwrap();
    roots.add(authority).unwrap();
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let address = rig.url("").replace("https://", "");
    let stream = TcpStream::connect(&address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap()
}

/// Waits until the collector has closed a connection.
async fn closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    let reading = stream.read_to_end(&mut rest);
    // It may be cut in the middle of TLS, which is an error of its own.
    let _ = tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("the connection stays open");
}

#[tokio::test]
async fn a_connection_over_which_no_request_comes_is_closed() {
    let mut rig = Rig::new("[ingest]\nhead_timeout_s = 1\n");
    rig.start().await;
    // Nothing at all, not enough to tell the version, HTTP/2 that has only begun, half a head.
    for beginning in [
        "",
        "PRI * HT",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /v1/",
    ] {
        let mut stream = connect(&rig).await;
        stream.write_all(beginning.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        closed(&mut stream).await;
    }
    let silent = "picket_collector_connections_dropped_total{reason=\"silent\"}";
    assert!(rig.metric(silent).await >= 3.0);
}

/// An address that takes all it can get leaves places for others.
#[tokio::test]
async fn one_address_cannot_take_every_connection() {
    let mut rig = Rig::new("[ingest]\nconnections_max = 8\nconnections_per_address_max = 1\n");
    rig.start().await;
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(connect(&rig).await);
    }
    let address = rig.url("").replace("https://", "");
    let mut seventh = TcpStream::connect(&address).await.unwrap();
    closed(&mut seventh).await;
    let refused = "picket_collector_connections_dropped_total{reason=\"too_many_of_one\"}";
    assert!(rig.metric(refused).await >= 1.0);

    let elsewhere = "127.0.0.2".parse().unwrap();
    let pem = std::fs::read(rig.path("state/ca.pem")).unwrap();
    let other = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&pem).unwrap()])
        .local_address(Some(elsewhere))
        .no_proxy()
        .build()
        .unwrap();
    let response = other.get(rig.url("/v1/health")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    // As soon as there is room again, there is for everybody.
    held.clear();
    let client = rig.client();
    until("to be let in", || async {
        let response = client.get(rig.url("/v1/health")).send().await.ok()?;
        (response.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_an_operator_sends_must_arrive_in_time() {
    let mut rig = Rig::new("[ingest]\nbody_timeout_s = 1\n");
    rig.start().await;
    let words = ["operators", "add", "ann", "--role", "admin"];
    let token = rig.print(&words).trim().to_owned();
    let mut slow = connect(&rig).await;
    let head = format!(
        "POST /v1/join-tokens HTTP/1.1\r\nhost: c\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\n\r\n{{\"la"
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1_024];
    let count = slow.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(rig.lines(&["join-tokens", "list"]).is_empty());
}

/// A connection over which a body was announced that takes all the room there is.
async fn announce(rig: &Rig) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut stream = connect(rig).await;
    let head = "POST /v1/envelopes HTTP/1.1\r\nhost: c\r\ncontent-type: application/cbor-seq\r\n\
                content-length: 65536\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn what_does_not_fit_is_told_to_come_again() {
    let mut agent = Agent::new(1);
    let limits = "[ingest]\nbody_bytes_max = 65536\nin_flight_bytes_max = 65536\n";
    let mut rig = Rig::new(&format!("{limits}{}", agent.table(INSTANCE)));
    rig.start().await;
    let body = agent.envelope(1);
    let client = rig.client();
    // A slow peer announces as much as there is room for, which keeps nobody out yet.
    let mut slow = announce(&rig).await;
    slow.write_all(&body[..20]).await.unwrap();
    slow.flush().await.unwrap();
    let first = agent.envelope(1);
    let response = rig.post(&client, first).await.unwrap();
    assert_eq!(response.status(), 200);
    drop(slow);
    // Another sends all but a little of it. Should one of ours be in the room just then, it is the
    // slow one that is turned away, and another takes its place.
    let other = Agent::new(1).envelope(1);
    let deadline = Instant::now() + PATIENCE;
    let slow = 'full: loop {
        assert!(Instant::now() < deadline, "nobody was turned away");
        let mut slow = announce(&rig).await;
        slow.write_all(&[0; 65_000]).await.unwrap();
        slow.flush().await.unwrap();
        for _ in 0..20 {
            let response = rig.post(&client, other.clone()).await.unwrap();
            if response.status() == 429 {
                assert_eq!(response.headers()["retry-after"], "2");
                break 'full slow;
            }
        }
    };
    let refused = "picket_collector_requests_refused_total{reason=\"overloaded\"}";
    assert!(rig.metric(refused).await >= 1.0);
    // The slow peer gives up: its room is free again.
    drop(slow);
    until("to be let in", || async {
        let response = rig.post(&client, body.clone()).await.unwrap();
        (response.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_no_request_of_ours_is_turned_away_by_its_kind() {
    let mut agent = Agent::new(1);
    let limits = "[ingest]\nbody_bytes_max = 4096\nbody_timeout_s = 1\n";
    let mut rig = Rig::new(&format!("{limits}{}", agent.table(INSTANCE)));
    rig.start().await;
    let client = rig.client();
    let response = client.get(rig.url("/v1/health")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let response = client
        .post(rig.url("/v1/envelopes"))
        .body(agent.envelope(1))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 415);
    let response = rig.post(&client, vec![0; 5_000]).await.unwrap();
    assert_eq!(response.status(), 413);
    // A body that never ends arrives too late.
    let mut slow = connect(&rig).await;
    let head = "POST /v1/envelopes HTTP/1.1\r\nhost: c\r\ncontent-type: application/cbor-seq\r\n\
                content-length: 100\r\n\r\nabc";
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1_024];
    let count = slow.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    for reason in ["content_type", "too_large", "slow"] {
        let name = format!("picket_collector_requests_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(rig.metric(&name).await, 1.0, "{reason}");
    }
    assert_eq!(rig.rows("journal"), 0);
}
