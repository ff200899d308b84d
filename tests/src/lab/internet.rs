//! The hosts of the lab's internet: listeners that speak just enough of a protocol to be talked to.
//!
//! Every port without a listener refuses, because the kernel answers for each address of the nets.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::oneshot;

use super::namespace::Namespace;

/// Most a listener reads of one connection before it answers or hangs up.
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// What a host says on one of its ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Speaks {
    /// Answers each line with a JSON-RPC result, as mining pools do.
    Stratum,
    /// Answers one request with a small page and closes.
    Http,
    /// Reads until the other side has said its line, answers `ok` and closes.
    Line,
    /// Refuses the password of each line, as Redis does, and closes.
    Redis,
    /// Sends every datagram back (UDP).
    Echo,
}

impl Speaks {
    /// What the host answers to `said`; empty where it only listens.
    pub fn answer(self, said: &[u8]) -> Vec<u8> {
        match self {
            Self::Stratum => b"{\"id\":1,\"result\":[[],\"08000002\",4],\"error\":null}\n".to_vec(),
            Self::Http => {
                b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nhi\n".to_vec()
            }
            Self::Line => b"ok\n".to_vec(),
            Self::Redis => {
                b"-WRONGPASS invalid username-password pair or user is disabled.\r\n".to_vec()
            }
            Self::Echo => said.to_vec(),
        }
    }

    /// Says whether `said` is all the host waits for before it answers.
    fn is_complete(self, said: &[u8]) -> bool {
        match self {
            Self::Http => said.windows(4).any(|four| four == b"\r\n\r\n"),
            Self::Stratum | Self::Line | Self::Redis => said.contains(&b'\n'),
            Self::Echo => true,
        }
    }
}

/// A port of a host and what it says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Where it listens.
    pub at: SocketAddr,
    /// What it says there.
    pub speaks: Speaks,
}

/// The running listeners, on one thread in the internet's namespace; ended on drop.
#[derive(Debug)]
pub struct Internet {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Internet {
    /// Starts every service and returns when all of them listen.
    ///
    /// # Errors
    /// When a port cannot be bound.
    pub fn start(namespace: &Namespace, services: Vec<Service>) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let thread = namespace.spawn("internet", move || serve(services, &ready, stopped))?;
        let started = is_ready.recv();
        let internet = Self {
            stop: Some(stop),
            thread: Some(thread),
        };
        match started {
            Ok(()) => Ok(internet),
            Err(_) => Err(internet.end().err().context("the internet did not start")?),
        }
    }

    /// Ends the listeners and tells how their thread fared.
    fn end(mut self) -> Result<()> {
        drop(self.stop.take());
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    services: Vec<Service>,
    ready: &mpsc::Sender<()>,
    stopped: oneshot::Receiver<()>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        for service in services {
            let at = service.at;
            let bind = || format!("listen on {at}");
            if service.speaks == Speaks::Echo {
                let socket = UdpSocket::bind(at).await.with_context(bind)?;
                tokio::spawn(echo(socket));
            } else {
                let listener = TcpListener::bind(at).await.with_context(bind)?;
                tokio::spawn(accept(listener, service.speaks));
            }
        }
        // Nobody waits any more if the starter is gone.
        let _ = ready.send(());
        let _ = stopped.await;
        Ok(())
    })
}

async fn echo(socket: UdpSocket) {
    let mut datagram = vec![0; REQUEST_BYTES_MAX];
    while let Ok((length, from)) = socket.recv_from(&mut datagram).await {
        // A lost answer is what UDP is like.
        let _ = socket.send_to(&datagram[..length], from).await;
    }
}

async fn accept(listener: TcpListener, speaks: Speaks) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            // Whoever hung up has nothing more to learn.
            let _ = converse(stream, speaks).await;
        });
    }
}

async fn converse(mut stream: TcpStream, speaks: Speaks) -> std::io::Result<()> {
    let mut said = Vec::new();
    while !speaks.is_complete(&said) && said.len() < REQUEST_BYTES_MAX {
        if stream.read_buf(&mut said).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(&speaks.answer(&said)).await?;
    stream.shutdown().await
}
