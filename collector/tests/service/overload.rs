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
