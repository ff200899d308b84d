//! How long it takes until a million addresses and a million domains are in force in the kernel, the
//! first time and in place of others, and whether anything goes unmatched meanwhile.

use std::iter;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use picket_agent::capture::ebpf::{EbpfCapture, Options};
use picket_agent::capture::live::Event;
use picket_sense::input::Recognised;
use picket_tests::lab::namespace::LabName;
use picket_tests::lab::tap::Injector;
use picket_tests::lab::topology::SCENE_INTERFACE;
use picket_tests::lab::{Lab, Namespace, Wire};

use crate::Setting;
use crate::capture::{Random, packet};
use crate::kernel::{LISTED, addresses, domains, ipv4, load};
use crate::report::Report;
use crate::rounds::Samples;

/// A domain in every set of [`under_traffic`].
const ALWAYS_LISTED: &str = "always.listed.test";
/// Where the flows of [`packet::Ends::of`] go: a network in every set of [`under_traffic`].
const ALWAYS_LISTED_NET: (IpAddr, u8) = (IpAddr::V4(Ipv4Addr::new(100, 0, 0, 0)), 8);
/// Time between two questions while sets change: nobody empties the rings meanwhile, and they hold
/// four hundred.
const PACE: Duration = Duration::from_millis(2);
/// How long the last of what was sent may be on its way.
const SETTLED: Duration = Duration::from_millis(500);

/// Measures.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "needs root");
    alone(setting, report)?;
    under_traffic(setting, report)
}

/// With nothing else to do.
fn alone(setting: &Setting, report: &mut Report) -> Result<()> {
    let namespace = Namespace::create(&LabName::fresh(), "sets")?;
    let listed = [1, 2].map(|seed| addresses(&mut Random::new(seed), LISTED));
    let domains = domains();
    namespace.run(|| {
        let (mut loads, mut swaps) = (Vec::new(), Vec::new());
        for _ in 0..setting.rounds {
            let mut capture = EbpfCapture::open(Options {
                interfaces: vec!["lo".to_owned()],
                default_route: false,
                ..Options::default()
            })
            .context("load the programs")?;
            for (version, (list, times)) in (1..).zip(listed.iter().zip([&mut loads, &mut swaps])) {
                let began = Instant::now();
                load(&mut capture, list, &domains, version)?;
                times.push(began.elapsed().as_secs_f64() * 1e3);
            }
        }
        report.add("sets/load_1m_and_1m", &Samples::alone(loads));
        report.add("sets/swap_1m_and_1m", &Samples::alone(swaps));
        Ok(())
    })?
}

/// While the host asks for listed names, each time of another listed address: every question must
/// give a notice and every flow a hit, whichever set was in force.
fn under_traffic(setting: &Setting, report: &mut Report) -> Result<()> {
    let lab = Lab::build(Wire::Silent)?;
    let listed = [1, 2].map(|seed| addresses(&mut Random::new(seed), LISTED));
    let domains = domains();
    let over = Arc::new(AtomicBool::new(false));
    let (swaps, told, sent) = lab.instance.run(|| -> Result<_> {
        let mut capture = EbpfCapture::open(Options {
            interfaces: vec![SCENE_INTERFACE.to_owned()],
            default_route: false,
            ..Options::default()
        })
        .context("load the programs")?;
        swap(&mut capture, &listed[0], &domains, 1)?;
        let asking = lab.instance.spawn("asker", {
            let (mut wire, over) = (
                Injector::open(&lab.instance, SCENE_INTERFACE)?,
                Arc::clone(&over),
            );
            move || ask(&mut wire, &over)
        })?;
        let (mut swaps, mut told) = (Vec::new(), Told::default());
        for (version, list) in (2..)
            .zip(listed.iter().cycle().skip(1))
            .take(setting.rounds)
        {
            let began = Instant::now();
            swap(&mut capture, list, &domains, version)?;
            swaps.push(began.elapsed().as_secs_f64() * 1e3);
            told.gather(&mut capture, Duration::from_millis(200))?;
        }
        over.store(true, Ordering::Relaxed);
        let sent = match asking.join() {
            Ok(sent) => sent?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        told.gather(&mut capture, SETTLED)?;
        Ok((swaps, told, sent))
    })??;
    ensure!(sent > 0, "nothing was asked");
    let missed = |told: u64| (f64::from(sent) - told as f64).abs();
    report.add("sets/swap_under_traffic", &Samples::alone(swaps));
    report.add(
        "sets/swap_unmatched",
        &Samples::alone(vec![missed(told.addresses) + missed(told.names)]),
    );
    Ok(())
}

/// Puts as many others in force as there is room for, and with them what is always listed.
fn swap(capture: &mut EbpfCapture, listed: &[u32], domains: &[String], version: u64) -> Result<()> {
    let networks = listed.iter().map(|address| (ipv4(*address), 32));
    let names = domains.iter().skip(1).map(String::as_str);
    let size = capture
        .load_sets(
            networks.chain(iter::once(ALWAYS_LISTED_NET)),
            names.chain(iter::once(ALWAYS_LISTED)),
            version,
        )
        .context("change sets")?;
    size.names.context("change names")?;
    Ok(())
}

/// Asks until it is `over`: how often.
fn ask(wire: &mut Injector, over: &AtomicBool) -> Result<u32> {
    let mut sent = 0;
    while !over.load(Ordering::Relaxed) {
        let name = format!("q{sent}.{ALWAYS_LISTED}");
        let question = packet::dns_question(packet::Ends::of(sent), sent as u16, &name);
        wire.send(&question)?;
        sent += 1;
        thread::sleep(PACE);
    }
    Ok(sent)
}

/// What the kernel told.
#[derive(Debug, Default)]
struct Told {
    addresses: u64,
    names: u64,
}

impl Told {
    /// Takes what comes for so long.
    fn gather(&mut self, capture: &mut EbpfCapture, length: Duration) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < length {
            capture.poll(Duration::from_millis(20), &mut |event| match event {
                Event::Hit(_) => self.addresses += 1,
                Event::Notice(notice) if notice.recognised == Recognised::Name => self.names += 1,
                _ => {}
            })?;
        }
        Ok(())
    }
}
