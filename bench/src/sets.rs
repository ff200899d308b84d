//! How long it takes until a million addresses and a million domains are in force in the kernel, the
//! first time and in place of others.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use picket_agent::capture::ebpf::{EbpfCapture, Options};
use picket_tests::lab::Namespace;
use picket_tests::lab::namespace::LabName;

use crate::Setting;
use crate::capture::Random;
use crate::kernel::{LISTED, addresses, domains, load};
use crate::report::Report;
use crate::rounds::Samples;

/// Measures.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "needs root");
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
