//! What sends datagrams inside a machine: this program, started there, as a unit of its own.

use std::fs;
use std::net::{SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use picket_tests::lab::wait_until;

use crate::machine::Machine;

/// How long datagrams may take to be sent.
const LIMIT: Duration = Duration::from_secs(120);

/// The unit that sends.
const UNIT: &str = "pk-sender";
/// Where it tells how many it has sent.
const SENT: &str = "/run/pk-sent";

/// Sends datagrams of a few bytes, for ever or so many.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Flow {
    /// To whom
    #[arg(long)]
    to: SocketAddrV4,
    /// How many of the following ports take turns: each is a flow
    #[arg(long, default_value_t = 1)]
    ports: u16,
    /// Pause between two, microseconds
    #[arg(long, default_value_t = 0)]
    pace_us: u64,
    /// How many; for ever where none is given
    #[arg(long)]
    count: Option<u64>,
    /// File that tells every now and then how many were sent
    #[arg(long)]
    tell: Option<PathBuf>,
}

/// How many are sent between two times of telling.
const TOLD_EVERY: u64 = 50;

/// Sends, inside the machine.
pub(crate) fn send(flow: &Flow) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("bind")?;
    let mut sent = 0;
    for turn in 0..flow.count.unwrap_or(u64::MAX) {
        let port = turn % u64::from(flow.ports.max(1));
        let mut to = flow.to;
        to.set_port(to.port().wrapping_add(u16::try_from(port)?));
        // Refused now and then, as nobody listens: the kernel tells of the one before.
        sent += u64::from(socket.send_to(b"counted", to).is_ok());
        if let Some(tell) = &flow.tell
            && turn % TOLD_EVERY == 0
        {
            write_whole(tell, &sent.to_string())?;
        }
        if flow.pace_us > 0 {
            thread::sleep(Duration::from_micros(flow.pace_us));
        }
    }
    Ok(())
}

/// Writes a file that nobody reads half written.
fn write_whole(file: &Path, text: &str) -> Result<()> {
    let part = file.with_extension("part");
    fs::write(&part, text).with_context(|| format!("write {}", part.display()))?;
    fs::rename(&part, file).with_context(|| format!("name {}", file.display()))
}

/// Sends one datagram from a machine.
pub(crate) fn one(machine: &Machine, to: SocketAddrV4) -> Result<()> {
    let program = program()?;
    machine
        .run(&format!("{program} send --to {to} --count 1"))
        .map(drop)
}

/// Datagrams that leave a machine until this is stopped.
pub(crate) struct Traffic<'a>(&'a Machine);

impl<'a> Traffic<'a> {
    /// Starts it.
    pub(crate) fn start(
        machine: &'a Machine,
        to: SocketAddrV4,
        ports: u16,
        pace: Duration,
    ) -> Result<Self> {
        let program = program()?;
        let pace_us = pace.as_micros();
        machine.run(&format!(
            "systemctl stop {UNIT} 2>/dev/null; rm -f {SENT}; systemd-run --quiet --collect --unit={UNIT} \
             {program} send --to {to} --ports {ports} --pace-us {pace_us} --tell {SENT}"
        ))?;
        Ok(Self(machine))
    }

    /// How many were sent, at least.
    pub(crate) fn sent(&self) -> Result<u64> {
        let told = self.0.run(&format!("cat {SENT} 2>/dev/null || echo 0"))?;
        told.trim().parse().context("what the sender tells")
    }

    /// Waits until so many were sent.
    pub(crate) fn reach(&self, count: u64) -> Result<()> {
        wait_until("datagrams to pass", LIMIT, || {
            Ok((self.sent()? >= count).then_some(()))
        })
    }

    /// Ends it; how many were sent, at least.
    pub(crate) fn stop(self) -> Result<u64> {
        self.0.run(&format!("systemctl stop {UNIT}"))?;
        self.sent()
    }
}

/// This program, as every machine sees it.
fn program() -> Result<String> {
    let program = std::env::current_exe().context("where this program is")?;
    Ok(program.display().to_string())
}
