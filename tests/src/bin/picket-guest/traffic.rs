//! The traffic of the check: scenes from the lab, and packets of a known number each way.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::{Context, Result};
use picket_tests::product::Rig;
use picket_tests::scene::Scenario;
use toml::Table;

use picket_tests::lab::Namespace;
use picket_tests::lab::topology::INSTANCE;

/// A host outside that nobody listens on. What is sent to it is counted all the same.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
/// The interface without link headers, which has programs of its own.
const TUNNEL: &str = "tun0";
/// Discard, RFC 863.
const PORT: u16 = 9;
/// Packets that leave the instance.
const OUT: u64 = 2000;
/// Packets that enter it.
const IN: u64 = 1000;

/// What was sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    /// Conversations of ours.
    pub(crate) counted: Vec<Counted>,
}

/// A conversation whose packets we know.
#[derive(Debug, Clone)]
pub(crate) struct Counted {
    /// Who sent.
    pub(crate) from: SocketAddr,
    /// To whom.
    pub(crate) to: SocketAddr,
    /// How many, each as long as the others.
    pub(crate) packets: u64,
    /// IP total length of each.
    pub(crate) packet_bytes: u64,
}

/// Gives the instance an interface without link headers and has the agent watch it, and look into
/// tunnels: each has programs of its own.
pub(crate) fn add_tunnel(rig: &Rig) -> Result<()> {
    rig.lab
        .instance
        .ip(&format!("tuntap add dev {TUNNEL} mode tun"))?;
    rig.lab.instance.ip(&format!("link set {TUNNEL} up"))?;
    let file = rig.agent.config();
    let text = fs::read_to_string(&file).context("read agent.toml")?;
    let mut config: Table = text.parse().context("agent.toml")?;
    config
        .get_mut("interfaces")
        .and_then(toml::Value::as_array_mut)
        .context("agent.toml names no interfaces")?
        .push(TUNNEL.into());
    config
        .entry("capture")
        .or_insert(toml::Value::Table(Table::new()))
        .as_table_mut()
        .context("agent.toml has no table [capture]")?
        .insert("mirror".into(), true.into());
    fs::write(&file, config.to_string()).context("write agent.toml")
}

/// Plays the scenes, then sends what is counted: by then everybody knows everybody's link address.
pub(crate) fn make(rig: &Rig, scenes: &[&str]) -> Result<Sent> {
    for scene in scenes {
        rig.play(&Scenario::load(scene)?)?;
    }
    let outside = SocketAddr::new(OUTSIDE.into(), PORT);
    let inside = SocketAddr::new(INSTANCE.into(), PORT);
    Ok(Sent {
        counted: vec![
            send(&rig.lab.instance, INSTANCE.into(), outside, OUT, 64)?,
            send(&rig.lab.internet, OUTSIDE.into(), inside, IN, 300)?,
        ],
    })
}

/// Sends datagrams from one socket; all of them are on the wire when it returns.
fn send(
    namespace: &Namespace,
    from: IpAddr,
    to: SocketAddr,
    packets: u64,
    payload_bytes: usize,
) -> Result<Counted> {
    /// IPv4 and UDP headers.
    const HEADERS: u64 = 28;
    let from = namespace.run(|| -> Result<SocketAddr> {
        let socket = UdpSocket::bind((from, 0)).context("bind")?;
        let payload = vec![0; payload_bytes];
        for _ in 0..packets {
            socket.send_to(&payload, to).context("send")?;
        }
        Ok(socket.local_addr()?)
    })??;
    Ok(Counted {
        from,
        to,
        packets,
        packet_bytes: HEADERS + payload_bytes as u64,
    })
}
