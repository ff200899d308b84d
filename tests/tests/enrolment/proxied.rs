//! Agents behind a proxy that knows CONNECT.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::house::{ACCOUNT, House, REGION};

/// A proxy that connects whoever knows the password, and counts.
struct Proxy {
    address: SocketAddr,
    connected: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
}

impl Proxy {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            connected: Arc::default(),
            refused: Arc::default(),
        };
        let (connected, refused) = (proxy.connected.clone(), proxy.refused.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, connected.clone(), refused.clone()));
            }
        });
        proxy
    }
}

async fn serve(mut stream: TcpStream, connected: Arc<AtomicU64>, refused: Arc<AtomicU64>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) if head.len() < 8_192 => head.push(byte),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let mut words = head.split_whitespace();
    // base64 of "web:pa:ss", the password being "pa:ss".
    let knows = head
        .to_ascii_lowercase()
        .contains("proxy-authorization: basic d2vionbhonnz");
    let target = words.nth(1).unwrap_or_default().to_owned();
    if !head.starts_with("CONNECT ") || !knows {
        refused.fetch_add(1, Ordering::Relaxed);
        let _ = stream
            .write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
            .await;
        return;
    }
    let mut far = TcpStream::connect(target).await.unwrap();
    connected.fetch_add(1, Ordering::Relaxed);
    let _ = stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await;
    let _ = copy_bidirectional(&mut stream, &mut far).await;
}

#[tokio::test]
async fn a_host_enrolls_through_a_proxy() {
    let mut house = House::new().await;
    house.configure("127.0.0.1:0", "", "");
    house.start().await;
    let proxy = Proxy::start().await;
    let host = house.host("web");
    let secret = host.path("proxy");
    std::fs::write(&secret, "web:wrong\n").unwrap();
    host.configure(&format!(
        "proxy = 'http://{}'\nproxy_credentials_file = '{}'",
        proxy.address,
        secret.display()
    ));
    let token = house.token_file("token", &[]).display().to_string();
    let (url, ca) = (house.url(), house.ca_file().display().to_string());
    let words = [
        "--collector",
        &url,
        "--ca-file",
        &ca,
        "--token-file",
        &token,
        "--account",
        ACCOUNT,
        "--region",
        REGION,
        "--instance",
        "web-1",
    ];
    host.unenrolled(&words).await;
    assert_eq!(proxy.connected.load(Ordering::Relaxed), 0);
    assert!(proxy.refused.load(Ordering::Relaxed) > 0);
    std::fs::write(&secret, "web:pa:ss\n").unwrap();
    assert!(host.enrolled(&words).await.starts_with("enrolled"));
    assert!(proxy.connected.load(Ordering::Relaxed) > 0);
}
