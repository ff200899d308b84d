//! The traffic of the check: scenes from the lab, and packets of a known number each way.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use picket_tests::lab::topology::INSTANCE;
use picket_tests::lab::{Namespace, wait_until};
use picket_tests::product::Rig;
use picket_tests::scene::Scenario;
use picket_wire::{Net, Order, Orders, Signer};
use toml::Table;

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

/// Discard's neighbour, where an order to block holds.
const BLOCKED_PORT: u16 = 10;
/// Where none does.
const FREE_PORT: u16 = 11;
/// Packets that the order covers.
const BLOCKED: u64 = 50;
/// The number of the order.
pub(crate) const BLOCK_ORDER: u64 = 31;
/// How long an order may take to come into force, and a packet to arrive, on a machine that is
/// emulated.
const LIMIT: Duration = Duration::from_secs(20);

/// Where packets go over a restart.
const RESTART_PORT: u16 = 12;
/// Bytes of IPv4 and UDP headers.
const HEADERS: u64 = 28;

/// What was sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    /// Conversations of ours.
    pub(crate) counted: Vec<Counted>,
    /// What an order covers.
    pub(crate) blocked: Blocked,
}

/// Packets that an order covers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blocked {
    /// How many were sent.
    pub(crate) packets: u64,
    /// How many arrived.
    pub(crate) arrived: u64,
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
    config.insert(
        "block".into(),
        orders(&rig.lab.folder().join("agent"))?.into(),
    );
    let capture = config
        .entry("capture")
        .or_insert(toml::Value::Table(Table::new()))
        .as_table_mut()
        .context("agent.toml has no table [capture]")?;
    capture.insert("mirror".into(), true.into());
    // Listed, as the oldest kernel has no other mirrors.
    capture.insert("mirror_vnis".into(), vec![toml::Value::Integer(7)].into());
    fs::write(&file, config.to_string()).context("write agent.toml")
}

/// Writes an order to block into the agent's folder; gives what its configuration says of it.
fn orders(folder: &Path) -> Result<Table> {
    let signer = Signer::from_seed(&[9; 32]);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let now_ms = u64::try_from(now.as_millis())?;
    let expires_ms = now_ms + 3_600_000;
    let bundle = Orders {
        version: 1,
        issued_ms: now_ms,
        expires_ms,
        orders: vec![Order {
            id: BLOCK_ORDER,
            net: Net {
                address: OUTSIDE.into(),
                prefix: 32,
            },
            port: Some(BLOCKED_PORT),
            expires_ms,
            reason: "to see that it holds".to_owned(),
        }],
        agent: None,
    };
    let key: String = signer
        .public_key()
        .0
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let (orders_file, key_file) = (folder.join("orders"), folder.join("orders.key"));
    fs::write(&orders_file, bundle.seal(&signer)).context("write the orders")?;
    fs::write(&key_file, key).context("write the key of the orders")?;
    let text = |path: PathBuf| toml::Value::from(path.display().to_string());
    Ok(Table::from_iter([
        ("enabled".into(), true.into()),
        ("orders_file".into(), text(orders_file)),
        ("key_file".into(), text(key_file)),
    ]))
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
        blocked: blocked(rig)?,
    })
}

/// Sends what the order covers, then one packet that it does not: when that one has arrived, the
/// others will not.
fn blocked(rig: &Rig) -> Result<Blocked> {
    wait_until("the order to be in force", LIMIT, || {
        let status = rig.agent.status()?;
        Ok(status.iter().any(|one| one["blocks"] == 1).then_some(()))
    })?;
    let bind = |port| -> Result<UdpSocket> {
        let socket = UdpSocket::bind((OUTSIDE, port)).context("bind")?;
        socket.set_read_timeout(Some(LIMIT))?;
        Ok(socket)
    };
    let both = || -> Result<_> { Ok((bind(BLOCKED_PORT)?, bind(FREE_PORT)?)) };
    let (covered, free) = rig.lab.internet.run(both)??;
    rig.lab.instance.run(|| -> Result<()> {
        let socket = UdpSocket::bind((INSTANCE, 0)).context("bind")?;
        for _ in 0..BLOCKED {
            // Whoever sends may be told that it was refused.
            let _ = socket.send_to(b"covered", (OUTSIDE, BLOCKED_PORT));
        }
        socket
            .send_to(b"free", (OUTSIDE, FREE_PORT))
            .context("send what no order covers")?;
        Ok(())
    })??;
    free.recv(&mut [0; 16])
        .context("what no order covers did not arrive")?;
    covered.set_nonblocking(true)?;
    let arrived = std::iter::from_fn(|| covered.recv(&mut [0; 16]).ok()).count();
    Ok(Blocked {
        packets: BLOCKED,
        arrived: arrived as u64,
    })
}

/// Sends before the agent is killed, while nobody is there, and when it runs again.
pub(crate) fn over_restart(rig: &mut Rig) -> Result<Counted> {
    const PACKETS: [u64; 3] = [300, 500, 200];
    const BYTES: usize = 100;
    let to = SocketAddr::new(OUTSIDE.into(), RESTART_PORT);
    let socket = rig
        .lab
        .instance
        .run(|| UdpSocket::bind((INSTANCE, 0)).context("bind"))??;
    let send = |packets: u64| -> Result<()> {
        for _ in 0..packets {
            socket.send_to(&[0; BYTES], to).context("send")?;
        }
        Ok(())
    };
    send(PACKETS[0])?;
    rig.agent.kill()?;
    send(PACKETS[1])?;
    rig.agent.start()?;
    send(PACKETS[2])?;
    Ok(Counted {
        from: socket.local_addr()?,
        to,
        packets: PACKETS.iter().sum(),
        packet_bytes: HEADERS + BYTES as u64,
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
