//! What watching costs those who talk: TCP in bulk and small datagrams over the lab's wire, with
//! nothing attached, with the agent, with tcpdump that keeps nothing, and with softflowd, in turns.
//!
//! Throughput on a machine with few cores says more about who got the processor than about what is
//! attached, so the CPU time of the sending thread is told too: over a veth pair it includes the
//! hooks on both ends and the delivery to the receiver's socket.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use picket_tests::lab::topology::{ROUTER, SCENE_INTERFACE};
use picket_tests::lab::{Lab, Process, Wire, wait_until};

use crate::Setting;
use crate::live::{self, Agent};
use crate::report::Report;
use crate::rounds::{Samples, thread_ns};

/// Length of one measurement.
const TALK: Duration = Duration::from_millis(1_000);
/// Datagrams of one measurement.
const DATAGRAMS: u32 = 300_000;
/// Bytes of a datagram.
const DATAGRAM_BYTES: usize = 64;
/// Rounds: each has eight measurements.
const ROUNDS: usize = 5;

/// Who watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watcher {
    Nobody,
    Us,
    Tcpdump,
    Softflowd,
}

/// A round's numbers.
#[derive(Debug, Clone, Copy, Default)]
struct Talked {
    gbit_per_s: f64,
    cpu_s_per_gbit: f64,
    datagram_ns: f64,
}

/// What is read off a talk.
type Field = fn(&Talked) -> f64;

/// Measures.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "needs root");
    let has = |tool: &str| Command::new(tool).arg("-h").output().is_ok();
    let mut watchers = vec![Watcher::Nobody, Watcher::Us];
    for (watcher, tool) in [
        (Watcher::Tcpdump, "tcpdump"),
        (Watcher::Softflowd, "softflowd"),
    ] {
        if has(tool) {
            watchers.push(watcher);
        } else {
            for row in ["veth_tcp", "veth_tcp_cpu", "veth_udp"] {
                report.lacks(
                    &format!("agent/{row}_{tool}"),
                    &format!("{tool} is not installed"),
                );
            }
        }
    }
    let lab = Lab::build(Wire::Ordinary)?;
    let mut all: Vec<Vec<Talked>> = vec![Vec::new(); watchers.len()];
    for round in 0..=ROUNDS {
        for (watcher, talks) in watchers.iter().zip(&mut all) {
            let _watching = watch(*watcher, setting, &lab)?;
            let talked = talk(&lab)?;
            // The first round warms up.
            if round > 0 {
                talks.push(talked);
            }
        }
    }
    let column = |talks: &[Talked], field: Field| talks.iter().map(field).collect();
    for (watcher, talks) in watchers.iter().zip(&all).skip(1) {
        let end = match watcher {
            Watcher::Tcpdump => "_tcpdump",
            Watcher::Softflowd => "_softflowd",
            Watcher::Us | Watcher::Nobody => "",
        };
        let fields: [(&str, Field); 3] = [
            ("agent/veth_tcp", |one| one.gbit_per_s),
            ("agent/veth_tcp_cpu", |one| one.cpu_s_per_gbit),
            ("agent/veth_udp", |one| one.datagram_ns),
        ];
        for (name, field) in fields {
            let samples = Samples {
                ours: column(talks, field),
                baseline: column(&all[0], field),
            };
            report.add(&format!("{name}{end}"), &samples);
        }
    }
    Ok(())
}

/// Starts a watcher on the instance's interface; it ends when what is returned is dropped.
fn watch(watcher: Watcher, setting: &Setting, lab: &Lab) -> Result<Option<Process>> {
    Ok(match watcher {
        Watcher::Nobody => None,
        Watcher::Us => Some(Agent::start(setting, lab, None)?.process),
        Watcher::Softflowd => Some(live::softflowd(lab)?),
        Watcher::Tcpdump => {
            let mut command = lab.instance.command("tcpdump");
            command.args([
                "-i",
                SCENE_INTERFACE,
                "-s",
                "128",
                "-w",
                "/dev/null",
                "--immediate-mode",
            ]);
            let folder = tempfile::tempdir_in(&setting.scratch)
                .context("make a folder")?
                .keep();
            let mut process = Process::start("tcpdump", command, &folder)?;
            wait_until("tcpdump to listen", Duration::from_secs(10), || {
                ensure!(process.ended()?.is_none(), "tcpdump ended");
                Ok(process.stderr().contains("listening on").then_some(()))
            })
            .map_err(|error| error.context(process.tail(5)))?;
            Some(process)
        }
    })
}

/// Talks from the instance to the router.
fn talk(lab: &Lab) -> Result<Talked> {
    let any = SocketAddr::new(IpAddr::V4(ROUTER), 0);
    let (at, server) = {
        let listener = lab
            .internet
            .run(|| TcpListener::bind(any))?
            .context("listen")?;
        let at = listener.local_addr().context("where we listen")?;
        let server = lab.internet.spawn("sink", move || {
            let (mut stream, _) = listener.accept().context("accept")?;
            let mut buffer = vec![0; 1 << 18];
            while stream.read(&mut buffer).context("read")? > 0 {}
            Ok(())
        })?;
        (at, server)
    };
    let (bytes, seconds, cpu_s) = lab.instance.run(|| -> Result<_> {
        let mut stream = TcpStream::connect(at).context("connect")?;
        let buffer = vec![0; 1 << 17];
        let (began, before, mut bytes) = (Instant::now(), thread_ns(), 0.0);
        while began.elapsed() < TALK {
            stream.write_all(&buffer).context("write")?;
            bytes += buffer.len() as f64;
        }
        Ok((
            bytes,
            began.elapsed().as_secs_f64(),
            (thread_ns() - before) / 1e9,
        ))
    })??;
    match server.join() {
        Ok(result) => result?,
        Err(panic) => std::panic::resume_unwind(panic),
    }
    // A socket that nobody reads: what does not fit is dropped there, behind the wire.
    let sink = lab.internet.run(|| UdpSocket::bind(any))?.context("bind")?;
    let to = sink.local_addr().context("where it is bound")?;
    let datagram_ns = lab.instance.run(|| -> Result<f64> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("bind")?;
        socket.connect(to).context("connect")?;
        let payload = [0; DATAGRAM_BYTES];
        let before = thread_ns();
        for _ in 0..DATAGRAMS {
            socket.send(&payload).context("send")?;
        }
        Ok((thread_ns() - before) / f64::from(DATAGRAMS))
    })??;
    let gbit = bytes * 8.0 / 1e9;
    Ok(Talked {
        gbit_per_s: gbit / seconds,
        cpu_s_per_gbit: cpu_s / gbit,
        datagram_ns,
    })
}
