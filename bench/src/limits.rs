//! What a workload keeps, and what the agent takes, where the agent has the limits of its unit: while a
//! gigabit a second of mixed packets passes, and while a flood of SYNs comes from ever other peers.
//!
//! The workload is a server on the watched host that answers small questions over TCP, one client
//! after the other asking as fast as it is answered. It is measured under the same pressure with
//! nothing attached and with the agent, in turns. The control group that holds the agent has the
//! `CPUQuota=` and `MemoryMax=` of the packaged unit, of version 2 or 1, whichever the machine has.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use picket_tests::lab::tap::Injector;
use picket_tests::lab::topology::{INSTANCE, SCENE_INTERFACE, VPC_INTERFACE};
use picket_tests::lab::webhook::Webhook;
use picket_tests::lab::{Group, Lab, Limits, Wire, wait_until};
use picket_tests::product::collector::KnownAgent;
use picket_tests::product::{Agent, Collector};

use crate::Setting;
use crate::capture::{Mixed, packet};
use crate::cpu::process_s;
use crate::live::{DRAWN, MIXED_BYTES_PER_S, paced};
use crate::report::Report;
use crate::rounds::Samples;

/// Length of a turn: a window of ten seconds and what belongs to its end.
const TURN: Duration = Duration::from_secs(11);
/// Rounds: each has four turns.
const ROUNDS: usize = 3;
/// SYNs a second, 64 bytes on the wire: a tenth of what a gigabit holds, and more than an instance that is
/// not large is allowed (chosen by hand).
const SYNS_PER_S: f64 = 100_000.0;
/// Bytes of a question and of an answer, of the size of small requests in HTTP.
const QUESTION: usize = 200;
const ANSWER: usize = 1_000;
/// Questions on one connection, as many as keep-alive commonly allows.
const QUESTIONS: usize = 100;
/// The peer that is listed, and how long the agent may take to tell of it, or of itself, before the bench gives up.
const LISTED: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 77)), 9);
const TELL_LIMIT: Duration = Duration::from_secs(10);
/// How long a peer may say nothing before its connection is given up for a new one.
const PATIENCE: Duration = Duration::from_secs(1);
/// The instance's address on the wire: the one that the frames of the benches are for.
const HARDWARE: &str = "02:00:00:00:00:01";

/// What passes while the workload is measured.
#[derive(Debug, Clone, Copy)]
enum Pressure {
    Gigabit,
    Flood,
}

/// What a turn with the agent shows of it.
#[derive(Debug, Default)]
struct Taken {
    cpu: Vec<f64>,
    memory_mib: Vec<f64>,
    throttled: Vec<f64>,
    lost: Vec<f64>,
    hit_ms: Vec<f64>,
}

/// Measures.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "needs root");
    let limits = Limits::of_unit(include_str!("../../packaging/systemd/picket-agent.service"))?;
    for (pressure, name) in [(Pressure::Gigabit, "gigabit"), (Pressure::Flood, "flood")] {
        let mut answered = Samples::default();
        let mut taken = Taken::default();
        for _ in 0..ROUNDS {
            let (with, without) = round(setting, limits, pressure, &mut taken)?;
            answered.add(with, without);
        }
        report.add(&format!("limits/{name}_answers"), &answered);
        for (row, numbers) in [
            ("cpu", taken.cpu),
            ("memory", taken.memory_mib),
            ("throttled", taken.throttled),
            ("lost", taken.lost),
            ("hit_told", taken.hit_ms),
        ] {
            report.add(&format!("limits/{name}_{row}"), &Samples::alone(numbers));
        }
    }
    Ok(())
}

/// One turn with nothing attached and one with everything running: answers a second with us, and without.
fn round(
    setting: &Setting,
    limits: Limits,
    pressure: Pressure,
    taken: &mut Taken,
) -> Result<(f64, f64)> {
    let lab = Arc::new(Lab::build(Wire::Ordinary)?);
    lab.instance
        .ip(&format!("link set {SCENE_INTERFACE} address {HARDWARE}"))?;
    let without = turn(&lab, pressure, || Ok(()))?;

    let group = Arc::new(Group::make(limits)?);
    let webhook = Webhook::start(&lab.collector)?;
    let mut agent = Agent::install(&lab, &setting.binaries)?;
    let mut collector = Collector::install(&lab, &setting.binaries)?;
    for intel in [agent.intel(), collector.intel()] {
        let list = format!("{}\n", LISTED.ip());
        fs::write(intel.join("c2-ips.txt"), list).context("write a list")?;
    }
    let known = [KnownAgent::of_scene(agent.public_key())];
    collector.configure(&known, Some(&webhook.url()))?;
    agent.configure(&collector.address(), &collector.ca_file())?;
    agent.hold_in(&group);
    collector.start()?;
    agent.start()?;

    let pid = agent.process()?.id();
    let (before, began) = (process_s(pid)?, Instant::now());
    let with = turn(&lab, pressure, || {
        taken.hit_ms.push(hit_ms(&lab, &webhook)?);
        Ok(())
    })?;
    let used = process_s(pid)? - before;
    taken.cpu.push(used / began.elapsed().as_secs_f64());
    taken.memory_mib.push(group.memory_peak_mib()?);
    taken.throttled.push(group.throttled()?);
    taken.lost.push(lost(&lab)?);
    Ok((with, without))
}

/// Answers a second under a pressure; `midway` is called while it lasts.
fn turn(lab: &Lab, pressure: Pressure, midway: impl FnOnce() -> Result<()>) -> Result<f64> {
    let here = SocketAddr::new(IpAddr::V4(INSTANCE), 0);
    let listener = lab.instance.run(|| TcpListener::bind(here))??;
    let at = listener.local_addr().context("where the server listens")?;
    let mut far = Injector::open(&lab.internet, VPC_INTERFACE)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let server = scope.spawn(|| serve(&listener, &over));
        let clients = scope.spawn(|| lab.internet.run(|| ask(at, &over)));
        let pressing = scope.spawn(|| {
            let pressed = press(pressure, &mut far, at.port());
            over.store(true, Ordering::Relaxed);
            pressed
        });
        let midway = midway();
        joined(pressing.join())?;
        let asked = joined(clients.join())?;
        // The server waits for a connection: one more, and it sees that it is over.
        lab.instance.run(|| TcpStream::connect(at))??;
        joined(server.join())?;
        midway?;
        asked
    })
}

/// What a thread returned; a panic of it goes on here.
fn joined<T>(ended: thread::Result<T>) -> T {
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Sends frames at their pace for a turn.
fn press(pressure: Pressure, far: &mut Injector, port: u16) -> Result<()> {
    match pressure {
        Pressure::Gigabit => {
            // Drawn beforehand: what is on the processor meanwhile should be the traffic alone.
            let mut mixed = Mixed::new();
            let frames: Vec<Vec<u8>> = (0..DRAWN).map(|_| mixed.next_frame()).collect();
            let mut frames = frames.iter().cycle();
            paced(TURN, MIXED_BYTES_PER_S, || {
                let frame = frames.next().context("no frame")?;
                far.send(frame)?;
                Ok(frame.len() as f64)
            })?;
        }
        Pressure::Flood => {
            let mut number = 0;
            paced(TURN, SYNS_PER_S, || {
                number += 1;
                let ends = packet::Ends::of(number).back().to(port);
                let mut frame = packet::tcp(ends, packet::SYN, number, &[]);
                packet::sum_tcp(&mut frame);
                far.send(&frame)?;
                Ok(1.0)
            })?;
        }
    }
    Ok(())
}

/// Answers one client after the other until it is over.
fn serve(listener: &TcpListener, over: &AtomicBool) -> Result<()> {
    let answer = [0x61; ANSWER];
    while !over.load(Ordering::Relaxed) {
        let (mut client, _) = listener.accept().context("accept")?;
        client.set_nodelay(true).context("no delay")?;
        client.set_read_timeout(Some(PATIENCE))?;
        let mut question = [0; QUESTION];
        while client.read_exact(&mut question).is_ok() && client.write_all(&answer).is_ok() {}
    }
    Ok(())
}

/// Asks until it is over; answers a second.
fn ask(at: SocketAddr, over: &AtomicBool) -> Result<f64> {
    let (began, mut answers) = (Instant::now(), 0_u32);
    let mut answer = [0; ANSWER];
    while !over.load(Ordering::Relaxed) {
        // Who is not let in, or is forgotten by a server under pressure, comes again.
        let Ok(mut server) = TcpStream::connect_timeout(&at, PATIENCE) else {
            continue;
        };
        server.set_nodelay(true).context("no delay")?;
        server.set_read_timeout(Some(PATIENCE))?;
        for _ in 0..QUESTIONS {
            let asked = server.write_all(&[0x71; QUESTION]);
            if asked.and_then(|()| server.read_exact(&mut answer)).is_err() {
                break;
            }
            answers += 1;
        }
    }
    Ok(f64::from(answers) / began.elapsed().as_secs_f64())
}

/// Milliseconds from a packet to a listed peer until the alert of it, in the midst of the pressure.
fn hit_ms(lab: &Lab, webhook: &Webhook) -> Result<f64> {
    thread::sleep(TURN / 2);
    lab.instance.run(|| -> Result<()> {
        let socket = UdpSocket::bind(("0.0.0.0", 0)).context("bind")?;
        socket.send_to(b"hello", LISTED).context("send")?;
        Ok(())
    })??;
    let began = Instant::now();
    wait_until("the hit's alert", TELL_LIMIT, || {
        Ok((!webhook.deliveries().is_empty()).then_some(()))
    })?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// Of the frames that the agent has seen, how many in a hundred it counted as lost.
fn lost(lab: &Lab) -> Result<f64> {
    let metrics = lab.instance.run(|| -> Result<String> {
        let mut stream = TcpStream::connect("127.0.0.1:9465").context("ask for metrics")?;
        stream.set_read_timeout(Some(TELL_LIMIT))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: lab\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text).context("read metrics")?;
        Ok(text)
    })??;
    let sum = |name: &str| -> f64 {
        let lines = metrics.lines().filter(|line| line.starts_with(name));
        let numbers = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        // A sum of nothing would be -0.
        numbers.fold(0.0, |sum, number| sum + number)
    };
    let seen = sum("picket_agent_frames_seen_total");
    ensure!(seen > 0.0, "the agent has seen nothing");
    Ok(100.0 * sum("picket_agent_frames_lost_total") / seen)
}
