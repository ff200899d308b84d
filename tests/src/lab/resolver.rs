//! The VPC's DNS server: dnsmasq, knowing the names of the scene and no others.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};

use super::process::Process;
use super::topology::{Lab, RESOLVER, RESOLVER_V6};
use super::wait::wait_until;
use crate::scene::dns;

/// How long dnsmasq may take to answer its first question.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A running DNS server at 10.77.0.2 and fd77::2, port 53.
#[derive(Debug)]
pub struct Resolver(Process);

impl Resolver {
    /// Starts it with `names`; everything else under the top-level domain `example` does not exist,
    /// and what lies elsewhere is refused.
    ///
    /// # Errors
    /// When dnsmasq is missing or does not answer within 10 s.
    pub fn start<'a>(
        lab: &Lab,
        names: impl IntoIterator<Item = (&'a str, IpAddr)>,
    ) -> Result<Self> {
        let mut command = lab.internet.command("dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--pid-file=",
            "--user=root",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--except-interface=lo",
            "--log-facility=-",
            "--local=/example/",
            "--local-ttl=60",
        ]);
        command.arg(format!("--listen-address={RESOLVER}"));
        if lab_has_ipv6(lab) {
            command.arg(format!("--listen-address={RESOLVER_V6}"));
        }
        for (name, address) in names {
            command.arg(format!("--host-record={name},{address}"));
        }
        let mut process = Process::start("dnsmasq", command, lab.folder())?;
        let probe = dns::query(1, "probe.example", dns::Kind::A);
        wait_until("dnsmasq to answer", START_LIMIT, || {
            if let Some(status) = process.ended()? {
                anyhow::bail!("dnsmasq ended ({status}):\n{}", process.tail(5));
            }
            lab.internet.run(|| answers(&probe))?
        })?;
        Ok(Self(process))
    }

    /// The server's process.
    pub fn process(&self) -> &Process {
        &self.0
    }
}

fn lab_has_ipv6(lab: &Lab) -> bool {
    let bound = lab
        .internet
        .run(|| UdpSocket::bind(SocketAddr::new(RESOLVER_V6.into(), 0)).is_ok());
    bound.unwrap_or(false)
}

/// Asks from the resolver's own namespace, so that nothing of it crosses the scene's wire.
fn answers(probe: &[u8]) -> Result<Option<()>> {
    let socket =
        UdpSocket::bind((RESOLVER, 0)).context("bind a probe to the resolver's address")?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    socket.connect((RESOLVER, 53))?;
    let mut answer = [0; 512];
    let answered = socket.send(probe).and_then(|_| socket.recv(&mut answer));
    Ok(answered.is_ok().then_some(()))
}
