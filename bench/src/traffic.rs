//! What the programs cost while real packets pass and real processes call: by the kernel's own
//! statistics of their run time (`kernel.bpf_stats_enabled`), over the loopback of a namespace.
//!
//! Each row tells what a run takes beyond one of a program that does nothing, which is attached
//! beside them; its baseline is what that one takes, most of it the clock of the statistics. The
//! hooks of control groups see every process of the machine, so others' calls are in their means.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType, loaded_programs};
use aya::sys::{Stats, enable_stats};
use aya::{Ebpf, EbpfLoader};
use picket_agent::capture::ebpf::{EbpfCapture, Options};
use picket_tests::lab::Namespace;
use picket_tests::lab::namespace::LabName;

use crate::Setting;
use crate::capture::packet;
use crate::report::Report;
use crate::rounds::Samples;

/// Datagrams of a known flow in a round.
const DATAGRAMS: u32 = 20_000;
/// Questions of a round, in pieces that fit into the ring of what was asked.
const PIECES: u32 = 10;
const PIECE: u32 = 200;
/// Sockets of a round.
const SOCKETS: u32 = 3_000;

/// A row, the program it is of, and the talk of a round in which it is looked at.
const ROWS: &[(&str, &str, Talk)] = &[
    ("traffic/flow_existing", "ether_out", Talk::Datagrams),
    ("traffic/loopback_other", "lo_out", Talk::Datagrams),
    ("traffic/loopback_question", "lo_out", Talk::Questions),
    ("traffic/recvmsg_other", "recvmsg4", Talk::Datagrams),
    ("traffic/recvmsg_resolver", "recvmsg4", Talk::Questions),
    ("traffic/socket", "sock_create", Talk::Sockets),
    ("traffic/connect", "connect4", Talk::Sockets),
    ("traffic/sendmsg", "sendmsg4", Talk::Sockets),
];

/// What passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Talk {
    /// Datagrams of one flow, whose reader asks for their sender.
    Datagrams,
    /// Questions of DNS to a process of this host.
    Questions,
    /// Sockets, each of which sends a datagram and is then connected.
    Sockets,
}

/// Measures.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "needs root");
    let namespace = Namespace::create(&LabName::fresh(), "traffic")?;
    namespace.run(|| {
        let mut bench = Bench::open(setting)?;
        let mut columns: HashMap<&str, Samples> = HashMap::new();
        for round in 0..=setting.rounds {
            let mut means = HashMap::new();
            for talk in [Talk::Datagrams, Talk::Questions, Talk::Sockets] {
                means.insert(talk, bench.means(talk)?);
            }
            let noop = means[&Talk::Datagrams].get("noop").copied();
            let noop = noop.context("the program that does nothing did not run")?;
            // The first round warms up.
            for (row, program, talk) in ROWS.iter().filter(|_| round > 0) {
                if let Some(mean) = means[talk].get(*program) {
                    columns.entry(row).or_default().add(mean - noop, noop);
                }
            }
        }
        for (row, program, _) in ROWS {
            match columns.get(row) {
                Some(samples) => report.add(row, samples),
                None => report.lacks(row, &format!("{program} did not run")),
            }
        }
        Ok(())
    })?
}

/// What is attached, and the ends of what passes.
struct Bench {
    capture: EbpfCapture,
    /// Names of its programs and of the one that does nothing, by their numbers.
    programs: HashMap<u32, String>,
    sender: UdpSocket,
    receiver: UdpSocket,
    resolver: UdpSocket,
    /// They end with what is returned here.
    _noop: Ebpf,
    _statistics: std::os::fd::OwnedFd,
}

impl Bench {
    fn open(setting: &Setting) -> Result<Self> {
        let before: HashSet<u32> = loaded_programs()
            .filter_map(|program| Some(program.ok()?.id()))
            .collect();
        let capture = EbpfCapture::open(Options {
            interfaces: vec!["lo".to_owned()],
            default_route: false,
            ..Options::default()
        })
        .context("load the programs")?;
        let object = fs::read(&setting.object)
            .with_context(|| format!("read {}", setting.object.display()))?;
        let mut other = EbpfLoader::new()
            .load(&object)
            .context("load the bench's object")?;
        let noop: &mut SchedClassifier = other
            .program_mut("noop")
            .context("no program noop")?
            .try_into()?;
        noop.load().context("load noop")?;
        noop.attach("lo", TcAttachType::Egress)
            .context("attach noop")?;
        let programs = loaded_programs()
            .filter_map(|program| {
                let program = program.ok()?;
                let name = program.name_as_str()?.to_owned();
                (!before.contains(&program.id())).then_some((program.id(), name))
            })
            .collect();
        let bind = |port| {
            UdpSocket::bind((Ipv4Addr::LOCALHOST, port))
                .with_context(|| format!("listen at port {port}"))
        };
        let (sender, receiver) = (bind(0)?, bind(0)?);
        sender.connect(receiver.local_addr()?)?;
        Ok(Self {
            capture,
            programs,
            sender,
            receiver,
            resolver: bind(53)?,
            _noop: other,
            _statistics: enable_stats(Stats::RunTime)
                .context("have the kernel keep statistics of run time")?,
        })
    }

    /// Nanoseconds a run of each program that ran while it was talked.
    fn means(&mut self, talk: Talk) -> Result<HashMap<String, f64>> {
        let before = self.counts();
        match talk {
            Talk::Datagrams => self.datagrams()?,
            Talk::Questions => self.questions()?,
            Talk::Sockets => self.sockets()?,
        }
        let after = self.counts();
        let mut sums: HashMap<String, (f64, f64)> = HashMap::new();
        for (id, name) in &self.programs {
            let (Some(before), Some(after)) = (before.get(id), after.get(id)) else {
                continue;
            };
            let sum = sums.entry(name.clone()).or_default();
            sum.0 += after.0.saturating_sub(before.0).as_secs_f64() * 1e9;
            sum.1 += (after.1 - before.1) as f64;
        }
        let means = sums
            .into_iter()
            .filter(|(_, (_, runs))| *runs > 0.0)
            .map(|(name, (spent, runs))| (name, spent / runs))
            .collect();
        while self.capture.poll(Duration::ZERO, &mut |_| {})? > 0 {}
        Ok(means)
    }

    /// How long each program has run so far, and how often.
    fn counts(&self) -> HashMap<u32, (Duration, u64)> {
        loaded_programs()
            .filter_map(Result::ok)
            .filter(|program| self.programs.contains_key(&program.id()))
            .map(|program| (program.id(), (program.run_time(), program.run_count())))
            .collect()
    }

    fn datagrams(&self) -> Result<()> {
        let mut bytes = [0; 64];
        for _ in 0..DATAGRAMS {
            self.sender.send(&bytes)?;
            self.receiver.recv_from(&mut bytes)?;
        }
        Ok(())
    }

    fn questions(&mut self) -> Result<()> {
        let frame = packet::dns_question(packet::Ends::of(1), 7, "www.nobody.test");
        // What follows the headers of Ethernet, IPv4 and UDP.
        let question = frame.get(14 + 20 + 8..).context("a short question")?;
        let asker = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        asker.connect(self.resolver.local_addr()?)?;
        let mut bytes = [0; 512];
        for _ in 0..PIECES {
            for _ in 0..PIECE {
                asker.send(question)?;
                self.resolver.recv_from(&mut bytes)?;
            }
            while self.capture.poll(Duration::ZERO, &mut |_| {})? > 0 {}
        }
        Ok(())
    }

    fn sockets(&self) -> Result<()> {
        let to = self.receiver.local_addr()?;
        let mut bytes = [0; 64];
        for _ in 0..SOCKETS {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.send_to(&bytes, to)?;
            self.receiver.recv_from(&mut bytes)?;
            socket.connect(to)?;
        }
        Ok(())
    }
}
