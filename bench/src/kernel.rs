//! What a packet costs in the kernel: test runs of the very programs the agent loads, in turns with
//! a program that does nothing, and with a trie where addresses are looked up.
//!
//! Costs are the thread's own CPU time round one call that repeats a packet some hundred thousand
//! times. Where a run fills rings, it is cut into pieces that fit and they are emptied in between,
//! outside the time taken.
//!
//! What the no-op costs is the loop of the test run round it, and that differs a lot between
//! machines: where the kernel guards its calls and returns against speculation (see
//! `/sys/devices/system/cpu/vulnerabilities/`: "Safe RET", "Retpolines") every return into the
//! loop and from a helper costs several nanoseconds more than where it need not.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{ProgramFd, TestRun as _, TestRunOptions};
use picket_agent::capture::ebpf::{EbpfCapture, Options, Stages};
use picket_tests::lab::Namespace;
use picket_tests::lab::namespace::LabName;

use crate::Setting;
use crate::capture::{Random, packet};
use crate::report::Report;
use crate::rounds::{Samples, interleaved, median, thread_ns};

/// Listed addresses.
pub(crate) const LISTED: usize = 1_000_000;
/// Listed domains.
pub(crate) const DOMAINS: u32 = 1_000_000;
/// Addresses that a cold run draws: those of `bench.rs` on the kernel side.
const PROBES: usize = 1 << 20;
/// Repeats of a run that leaves nothing in rings.
const REPEATS: u32 = 500_000;
/// Repeats of a run through tables larger than the caches.
const REPEATS_COLD: u32 = 400_000;
/// Repeats of a piece, so that its records fit into the rings: 14,500 flows and some 10,000 copies.
const PIECE: u32 = 8_192;
/// Pieces of a run.
const PIECES: u32 = 40;

/// Measures.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "needs root");
    let namespace = Namespace::create(&LabName::fresh(), "bench")?;
    namespace.run(|| {
        stay_on_one_cpu()?;
        let object = fs::read(&setting.object)
            .with_context(|| format!("read {}", setting.object.display()))?;
        let mut bench = Bench::open(&object)?;
        bench.flows(setting.rounds, report)?;
        bench.copies(setting.rounds, report)?;
        bench.addresses(setting.rounds, report)
    })?
}

/// Flow slots belong to CPUs, and caches too.
fn stay_on_one_cpu() -> Result<()> {
    let allowed = rustix::thread::sched_getaffinity(None).context("ask for our CPUs")?;
    let last = (0..rustix::thread::CpuSet::MAX_CPU).rfind(|cpu| allowed.is_set(*cpu));
    let mut one = rustix::thread::CpuSet::new();
    one.set(last.context("no CPU is ours")?);
    rustix::thread::sched_setaffinity(None, &one).context("stay on a CPU")
}

/// What the agent loads, and beside it what it is measured against.
struct Bench {
    /// The embedded object.
    shipped: EbpfCapture,
    /// The same with its stages refused: what it costs but for matching names and miners.
    unstaged: EbpfCapture,
    /// The object with programs of the benches.
    other: EbpfCapture,
    target: ProgramArray<MapData>,
    steps: Array<MapData, [u64; 3]>,
    probes: Array<MapData, u32>,
    /// A program that is loaded later still needs its descriptor.
    _trie: LpmTrie<MapData, u32, u8>,
    listed: Vec<u32>,
}

impl Bench {
    fn open(object: &[u8]) -> Result<Self> {
        let options = || Options {
            interfaces: vec!["lo".to_owned()],
            default_route: false,
            ..Options::default()
        };
        let mut shipped = EbpfCapture::open(options()).context("load the programs")?;
        let mut unstaged = EbpfCapture::open(Options {
            spoiled: Stages::ALL,
            ..options()
        })
        .context("load the programs without stages")?;
        let mut other =
            EbpfCapture::open_object(options(), object).context("load the bench's programs")?;
        let listed = addresses(&mut Random::new(1), LISTED);
        let domains = domains();
        for capture in [&mut shipped, &mut unstaged, &mut other] {
            load(capture, &listed, &domains, 1)?;
        }
        let mut map = |name: &str| {
            other
                .take_map(name)
                .with_context(|| format!("no map {name}"))
        };
        let mut trie: LpmTrie<MapData, u32, u8> = map("TRIE")?.try_into()?;
        for address in &listed {
            trie.insert(&Key::new(32, address.to_be()), 1, 0)
                .context("fill the trie")?;
        }
        let (target, steps, probes) = (map("TARGET")?, map("STEPS")?, map("PROBES")?);
        Ok(Self {
            target: target.try_into()?,
            steps: steps.try_into()?,
            probes: probes.try_into()?,
            _trie: trie,
            shipped,
            unstaged,
            other,
            listed,
        })
    }

    /// Packets of known and of new flows.
    fn flows(&mut self, rounds: usize, report: &mut Report) -> Result<()> {
        let frame = packet::tcp(packet::Ends::of(1), packet::ACK, 1, &[]);
        let (shipped, other) = (&mut self.shipped, &mut self.other);
        let columns = interleaved(
            rounds,
            &mut [
                &mut || run(shipped, "ether_out", &frame, REPEATS),
                &mut || run(other, "noop", &frame, REPEATS),
            ],
        )?;
        let [ours, noop] = two(columns)?;
        report.add(
            "kernel/flow_existing",
            &Samples {
                ours,
                baseline: noop,
            },
        );
        // Every packet is another's: what varying it costs is taken off.
        for (name, flows) in [("kernel/flow_active_1000", 1000), ("kernel/flow_new", 0)] {
            self.steps.set(0, [0, 0, flows], 0)?;
            // So that every slot is taken, and each new flow puts another out.
            self.varied(To::Ours, &frame)?;
            let mut samples = Samples::default();
            for _ in 0..rounds {
                let ours = self.varied(To::Ours, &frame)?;
                let varied = self.varied(To::Noop, &frame)?;
                let noop = run(&mut self.other, "noop", &frame, REPEATS)?;
                samples.add(ours - varied + noop, noop);
            }
            report.add(name, &samples);
        }
        Ok(())
    }

    /// Packets of which a copy goes up: what a stage adds, and what all of it costs.
    fn copies(&mut self, rounds: usize, report: &mut Report) -> Result<()> {
        self.steps.set(0, [0, 0, 0], 0)?;
        let question = |name: &str| packet::dns_question(packet::Ends::of(2), 7, name);
        let usual = question("a1.beacons.example.com");
        let crafted: Vec<Vec<u8>> = crafted_names().iter().map(|one| question(one)).collect();
        let varied = question(VARIED_NAME);
        let (mut whole, mut stage) = (Samples::default(), Samples::default());
        let (mut cold, mut worst) = (Samples::default(), Samples::default());
        // The first round is not counted: it brings code and tables into the caches.
        for round in 0..=rounds {
            let one = self.question(&usual)?;
            let new = self.each_other(Vary::Name, &varied)?;
            let mut most = f64::MIN;
            for frame in &crafted {
                most = most.max(self.question(frame)?.added);
            }
            if round > 0 {
                whole.add(one.whole, one.noop);
                stage.add(one.added, one.noop);
                cold.add(new.added, new.noop);
                worst.add(most, one.noop);
            }
        }
        report.add("kernel/dns_four_labels", &stage);
        report.add("kernel/dns_four_labels_cold", &cold);
        report.add("kernel/dns_worst_name", &worst);
        report.add("kernel/dns_question_whole", &whole);

        let first = |payload: &[u8]| packet::tcp(packet::Ends::of(3), packet::ACK, 1, payload);
        let tls = first(&[0x16; 200]);
        let json = first(&[b"{".as_slice(), &[b' '; 199]].concat());
        let datagram = packet::udp(packet::Ends::of(3), &[0xc0; 1_200]);
        let (mut passed, mut searched) = (Samples::default(), Samples::default());
        let (mut tcp, mut udp) = (Samples::default(), Samples::default());
        for round in 0..=rounds {
            let no_json = self.each_other(Vary::Peer, &tls)?;
            let no_miner = self.each_other(Vary::Peer, &json)?;
            let quic = self.each_other(Vary::Peer, &datagram)?;
            if round > 0 {
                tcp.add(no_json.whole, no_json.noop);
                passed.add(no_json.added, no_json.noop);
                searched.add(no_miner.added, no_miner.noop);
                udp.add(quic.whole, quic.noop);
            }
        }
        report.add("kernel/stratum_not_json", &passed);
        report.add("kernel/stratum_worst", &searched);
        report.add("kernel/tcp_first_payload_whole", &tcp);
        report.add("kernel/udp_first_payload_whole", &udp);
        Ok(())
    }

    /// A packet of which a copy goes up, again and again: what it costs in one round.
    fn question(&mut self, frame: &[u8]) -> Result<Cost> {
        let mut pieces = Pieces::default();
        for _ in 0..PIECES {
            pieces
                .ours
                .push(run(&mut self.shipped, "ether_out", frame, PIECE)?);
            drain(&mut self.shipped)?;
            pieces
                .unstaged
                .push(run(&mut self.unstaged, "ether_out", frame, PIECE)?);
            drain(&mut self.unstaged)?;
        }
        let noop = run(&mut self.other, "noop", frame, REPEATS)?;
        pieces.cost(noop)
    }

    /// As [`Bench::question`], of packets of which each is another.
    fn each_other(&mut self, vary: Vary, frame: &[u8]) -> Result<Cost> {
        let [_, _, flows] = self.steps.get(&0, 0)?;
        ensure!(flows == 0, "packets begin again after {flows}");
        let mut pieces = Pieces::default();
        for _ in 0..PIECES {
            pieces.ours.push(self.piece(vary, To::Ours, frame)?);
            pieces.unstaged.push(self.piece(vary, To::Unstaged, frame)?);
            pieces.varied.push(self.piece(vary, To::Noop, frame)?);
        }
        let noop = run(&mut self.other, "noop", frame, REPEATS)?;
        pieces.cost(noop)
    }

    /// Addresses drawn from tables larger than the caches.
    fn addresses(&mut self, rounds: usize, report: &mut Report) -> Result<()> {
        let frame = packet::tcp(packet::Ends::of(4), packet::ACK, 1, &[]);
        let mut random = Random::new(2);
        let sorted = {
            let mut sorted = self.listed.clone();
            sorted.sort_unstable();
            sorted
        };
        let listed = self.listed.clone();
        for (name, hits) in [
            ("kernel/address_miss_cold", false),
            ("kernel/address_hit_cold", true),
        ] {
            for place in 0..PROBES {
                let address = loop {
                    let drawn = if hits {
                        listed[random.below(listed.len() as u32) as usize]
                    } else {
                        random.unicast()
                    };
                    if hits || sorted.binary_search(&drawn).is_err() {
                        break drawn;
                    }
                };
                self.probes.set(place as u32, address, 0)?;
            }
            let mut samples = Samples::default();
            for _ in 0..rounds {
                // What it costs to be called and to draw an address is neither's.
                let drawn = self.probe("probe_nothing", &frame, false)?;
                let ours = self.probe("probe_tables", &frame, hits)?;
                let trie = self.probe("probe_trie", &frame, hits)?;
                samples.add(ours - drawn, trie - drawn);
            }
            report.add(name, &samples);
        }
        Ok(())
    }

    /// Looks addresses up and makes sure that all of them were found, or none.
    fn probe(&mut self, program: &str, frame: &[u8], hits: bool) -> Result<f64> {
        self.steps.set(0, [0, 0, 0], 0)?;
        let cost = run(&mut self.other, program, frame, REPEATS_COLD)?;
        let [steps, found, _] = self.steps.get(&0, 0)?;
        let expected = if hits { steps } else { 0 };
        ensure!(
            steps == u64::from(REPEATS_COLD) && found == expected,
            "{program} found {found} of {steps} addresses, not {expected}"
        );
        Ok(cost)
    }

    /// Runs a program on packets each of which is another flow's, or of as many as was set.
    fn varied(&mut self, to: To, frame: &[u8]) -> Result<f64> {
        let mut spent = 0.0;
        for _ in 0..PIECES {
            spent += self.piece(Vary::Peer, to, frame)?;
        }
        Ok(spent / f64::from(PIECES))
    }

    /// As many packets as fit into the rings, each of them another.
    fn piece(&mut self, vary: Vary, to: To, frame: &[u8]) -> Result<f64> {
        let (capture, program) = match to {
            To::Ours => (&mut self.shipped, "ether_out"),
            To::Unstaged => (&mut self.unstaged, "ether_out"),
            To::Noop => (&mut self.other, "noop"),
        };
        let at: ProgramFd = capture.program(program)?.fd()?.try_clone()?;
        self.target.set(0, &at, 0).context("point at the program")?;
        let spent = run(&mut self.other, vary.program(), frame, PIECE)?;
        drain(&mut self.shipped)?;
        drain(&mut self.unstaged)?;
        Ok(spent)
    }
}

/// What a packet costs in one round, nanoseconds.
struct Cost {
    /// All of it.
    whole: f64,
    /// What its stage adds to a no-op.
    added: f64,
    /// A no-op.
    noop: f64,
}

/// Costs in the pieces of a round, taken in turns. Their medians count: what the machine does
/// between them, and to one of them, is not the packet's.
#[derive(Default)]
struct Pieces {
    ours: Vec<f64>,
    unstaged: Vec<f64>,
    /// What it costs to make each packet another; empty where they are the same.
    varied: Vec<f64>,
}

impl Pieces {
    fn cost(&self, noop: f64) -> Result<Cost> {
        let ours = median(&self.ours).context("no piece")?;
        let differences: Vec<f64> = self
            .ours
            .iter()
            .zip(&self.unstaged)
            .map(|(ours, unstaged)| ours - unstaged)
            .collect();
        let added = median(&differences).context("no piece")?;
        Ok(Cost {
            whole: ours - median(&self.varied).map_or(0.0, |varied| varied - noop),
            added: added + noop,
            noop,
        })
    }
}

/// Where varied packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Ours,
    Unstaged,
    Noop,
}

/// What is another in each packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vary {
    Peer,
    Name,
}

impl Vary {
    const fn program(self) -> &'static str {
        match self {
            Self::Peer => "vary",
            Self::Name => "vary_name",
        }
    }
}

/// A name of which `vary_name` of `bench.rs` on the kernel side makes others.
const VARIED_NAME: &str = "aaaaaaa.bbbbbbb.ccccccc.ddddddd";

/// Names that cost the most to walk: many labels, long ones, eight that are as long as eight can
/// be, and many of one byte before eight of two words.
fn crafted_names() -> [String; 4] {
    let times = |label: &str, count: usize| vec![label; count].join(".");
    let long = "y".repeat(63);
    [
        times("a", 127),
        format!("{}.{}", times(&long, 3), "z".repeat(61)),
        times(&"x".repeat(30), 8),
        format!("{}.{}", times("a", 59), times(&"x".repeat(15), 8)),
    ]
}

/// Puts addresses and domains in force, all of them.
pub(crate) fn load(
    capture: &mut EbpfCapture,
    listed: &[u32],
    domains: &[String],
    version: u64,
) -> Result<()> {
    let networks = listed.iter().map(|address| (ipv4(*address), 32));
    let size = capture
        .load_sets(networks, domains.iter().map(String::as_str), version)
        .context("load a set")?;
    let in_force = (size.addresses.addresses + size.addresses.widened) as usize;
    ensure!(in_force == listed.len(), "{in_force} addresses in force");
    size.names.context("load names")?;
    Ok(())
}

/// Names that nobody asks for here, each of two to four labels.
pub(crate) fn domains() -> Vec<String> {
    (0..DOMAINS)
        .map(|number| match number % 3 {
            0 => format!("listed-{number}.test"),
            1 => format!("cdn{}.listed-{number}.net", number % 7),
            _ => format!("a.b{}.listed-{number}.org", number % 11),
        })
        .collect()
}

/// Takes what is in the rings; nothing may have been lost for want of room.
fn drain(capture: &mut EbpfCapture) -> Result<()> {
    while capture.poll(Duration::ZERO, &mut |_| {})? > 0 {}
    let lost = capture
        .counters()
        .into_iter()
        .find(|count| count.reason.contains("ring_full"));
    match lost {
        Some(lost) => bail!("{} {}: a piece does not fit", lost.packets, lost.reason),
        None => Ok(()),
    }
}

/// Nanoseconds a packet of a program.
fn run(capture: &mut EbpfCapture, program: &str, frame: &[u8], repeats: u32) -> Result<f64> {
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.repeat = repeats;
    let program = capture.program(program)?;
    let before = thread_ns();
    program.test_run(options).context("test run")?;
    Ok((thread_ns() - before) / f64::from(repeats))
}

fn two(columns: Vec<Vec<f64>>) -> Result<[Vec<f64>; 2]> {
    columns.try_into().ok().context("two columns")
}

/// So many addresses, each once.
pub(crate) fn addresses(random: &mut Random, count: usize) -> Vec<u32> {
    let mut drawn = std::collections::HashSet::with_capacity(count);
    let mut list = Vec::with_capacity(count);
    while list.len() < count {
        let address = random.unicast();
        if drawn.insert(address) {
            list.push(address);
        }
    }
    list
}

pub(crate) fn ipv4(address: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(address))
}
