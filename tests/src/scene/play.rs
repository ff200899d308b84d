//! Acts the steps of a scenario with real sockets, from inside the instance's namespace.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use super::dns::{self, Kind};
use super::scenario::{Scenario, Step};
use crate::lab::Namespace;
use crate::lab::topology::RESOLVER;

/// How long a peer of the lab may take to answer. Generous: it is two namespaces away.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Acts every step in order; CloudTrail files are delivered to `cloudtrail`.
///
/// # Errors
/// Names the step that did not go as written.
pub fn play(scenario: &Scenario, instance: &Namespace, cloudtrail: &Path) -> Result<()> {
    let now = Timestamp::now();
    for step in &scenario.steps {
        let acted = match step {
            Step::Deliver { file } => scenario.deliver(file, cloudtrail, now),
            _ => instance.run(|| act(step))?,
        };
        acted.with_context(|| format!("scenario {}, {step:?}", scenario.name))?;
    }
    Ok(())
}

/// Acts one step that makes packets. Must be called on a thread inside the namespace.
///
/// # Errors
/// When the peer does not answer as a host of the lab would.
pub fn act(step: &Step) -> Result<()> {
    match step {
        Step::Lookup { name, kind } => lookup(name, *kind).map(drop),
        Step::Talk { to, say } => talk(*to, say.as_bytes()).map(drop),
        Step::Datagram { to, say } => datagram(*to, say.as_bytes()).map(drop),
        Step::Flood { to, bytes, count } => flood(*to, *bytes, *count),
        Step::Scan { host, first, last } => scan(*host, *first, *last),
        Step::Deliver { .. } => Ok(()),
    }
}

/// Asks the resolver for `name` over UDP and returns its answer.
///
/// # Errors
/// When no answer comes.
pub fn lookup(name: &str, kind: Kind) -> Result<Vec<u8>> {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let answer = datagram(
        SocketAddr::new(RESOLVER.into(), 53),
        &dns::query(id, name, kind),
    )?;
    ensure!(
        answer.get(..2) == Some(&id.to_be_bytes()) && answer.get(2).is_some_and(|b| b & 0x80 != 0),
        "the resolver answered something else"
    );
    Ok(answer)
}

/// Says something over TCP and returns everything that came back.
///
/// # Errors
/// When the connection is refused or breaks.
pub fn talk(to: SocketAddr, say: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&to, ANSWER_LIMIT).context("connect")?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(say).context("say")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("listen")?;
    Ok(answer)
}

/// Sends a datagram and returns the one that comes back.
///
/// # Errors
/// When none comes.
pub fn datagram(to: SocketAddr, say: &[u8]) -> Result<Vec<u8>> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).context("bind")?;
    socket.set_read_timeout(Some(ANSWER_LIMIT))?;
    socket.connect(to).context("connect")?;
    socket.send(say).context("send")?;
    let mut answer = vec![0; 65_536];
    let length = socket.recv(&mut answer).context("receive")?;
    answer.truncate(length);
    Ok(answer)
}

/// Sends datagrams from one socket, which is not connected: that nobody listens is no reason to stop.
fn flood(to: SocketAddr, bytes: usize, count: u32) -> Result<()> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).context("bind")?;
    let say = vec![0; bytes];
    for _ in 0..count {
        socket.send_to(&say, to).context("send")?;
    }
    Ok(())
}

/// Tries ports one after the other; open or closed, all of them must answer.
fn scan(host: IpAddr, first: u16, last: u16) -> Result<()> {
    for port in first..=last {
        match TcpStream::connect_timeout(&SocketAddr::new(host, port), ANSWER_LIMIT) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error).with_context(|| format!("try port {port}")),
        }
    }
    Ok(())
}
