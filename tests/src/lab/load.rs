//! Traffic that can be counted: datagrams, each a flow of its own, sent until told to stop.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::Namespace;
use super::wait_until;

/// Ports that datagrams come from, one after the other: each but once in a run. Above every port
/// that is sent to, so that nobody takes the sender for the server.
const SOURCES: std::ops::Range<u16> = 32_768..65_000;

/// How long the load may take to send what is waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// What a load sends, round after round.
#[derive(Debug, Clone)]
pub struct Round {
    /// Where the one datagram of each round goes that comes from a port never used before.
    pub fresh: SocketAddrV4,
    /// Where others go, all from one port: each destination port is a conversation of its own.
    pub spray: SocketAddrV4,
    /// How many others, at ports that count up from that of `spray`.
    pub spray_ports: u16,
    /// Pause between two rounds.
    pub pause: Duration,
}

/// How much was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Rounds, each with a datagram from a fresh port.
    pub rounds: u64,
    /// Other datagrams.
    pub sprayed: u64,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    rounds: AtomicU64,
    sprayed: AtomicU64,
}

/// A thread that sends.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Load {
    /// Starts sending from inside a namespace.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(from: &Namespace, round: Round) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        let thread = from.spawn("load", move || send(&round, &own))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// What was sent so far.
    pub fn sent(&self) -> Sent {
        Sent {
            rounds: self.shared.rounds.load(Ordering::Acquire),
            sprayed: self.shared.sprayed.load(Ordering::Acquire),
        }
    }

    /// Waits until so many more rounds were sent.
    ///
    /// # Errors
    /// When sending has failed or takes too long.
    pub fn until_more(&self, rounds: u64) -> Result<()> {
        let target = self.sent().rounds + rounds;
        wait_until("the load", LIMIT, || {
            let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
            anyhow::ensure!(!ended, "the load has ended");
            Ok((self.sent().rounds >= target).then_some(()))
        })
    }

    /// Stops and says what was sent.
    ///
    /// # Errors
    /// What sending failed with.
    pub fn end(mut self) -> Result<Sent> {
        self.shared.stop.store(true, Ordering::Release);
        let thread = self.thread.take().context("the load has ended")?;
        let ended = thread.join();
        ended.map_err(|_| anyhow!("the load broke off"))??;
        Ok(self.sent())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

fn send(round: &Round, shared: &Shared) -> Result<()> {
    let any = Ipv4Addr::UNSPECIFIED;
    let sprayer = UdpSocket::bind((any, SOURCES.end)).context("bind")?;
    for port in SOURCES {
        if shared.stop.load(Ordering::Acquire) {
            return Ok(());
        }
        // A port that somebody else holds is left out.
        if let Ok(socket) = UdpSocket::bind((any, port)) {
            put(&socket, round.fresh.into())?;
            shared.rounds.fetch_add(1, Ordering::Release);
        }
        for more in 0..round.spray_ports {
            let to = SocketAddrV4::new(*round.spray.ip(), round.spray.port() + more);
            put(&sprayer, to.into())?;
            shared.sprayed.fetch_add(1, Ordering::Release);
        }
        // The rate of the load; nothing waits for anything by it.
        std::thread::sleep(round.pause);
    }
    Ok(())
}

/// Sends one datagram. That nobody listens where an earlier one went is no reason not to send this.
fn put(socket: &UdpSocket, to: SocketAddr) -> Result<()> {
    loop {
        match socket.send_to(b"load", to) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error).with_context(|| format!("send to {to}")),
        }
    }
}
