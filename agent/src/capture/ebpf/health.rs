//! How the capture itself is: whether its programs are still attached, and whether they still
//! report, which the canary proves.

use anyhow::Context as _;
use aya::Ebpf;
use aya::programs::{TestRun as _, TestRunOptions};
use picket_sense::input::Way;
use picket_wire::limits::{DETACHED_MAX, HEALTH_TEXT_BYTES_MAX, INTERFACES_MAX};
use picket_wire::{Detached, Health, Watched};

use super::attach::{self, DIRECTIONS};
use super::{EbpfCapture, clock, interfaces};

impl EbpfCapture {
    /// Runs a packet of our own through each program in use. What comes back of it is taken out of
    /// everything handed over by the calls that follow; [`EbpfCapture::health`] tells of it. Without
    /// a set in force there is no hit, and the canary fails.
    pub fn run_canary(&mut self) {
        let mut in_use: Vec<(&'static str, Way)> = Vec::new();
        for one in &self.attached {
            for (program, way) in one.programs.into_iter().zip([Way::In, Way::Out]) {
                if !in_use.contains(&(program, way)) {
                    in_use.push((program, way));
                }
            }
        }
        let mut refused = None;
        for (program, way) in in_use {
            let packet = self.canary.packet(way);
            match run_on(&mut self.ebpf, program, &packet) {
                Ok(()) => self.canary.ran(way, packet),
                Err(error) => refused = Some(short(&error)),
            }
        }
        self.canary.set_refused(refused);
    }

    /// Whether all packets of ours are back, before [`EbpfCapture::health`] judges them.
    pub fn is_canary_back(&self) -> bool {
        self.canary.is_back()
    }

    /// Says how the capture is, at the end of a window. A direction of an interface that was found
    /// without our program is told, and the program put on it again.
    pub fn health(&mut self) -> Health {
        let now_ns = self.clock.epoch_ns(clock::coarse_ns());
        let mut detached = Vec::new();
        for one in &mut self.attached {
            // One that is gone, or another of the same name, is the next scan's.
            if interfaces::index(&one.name) != one.index {
                continue;
            }
            for (at, (direction, _)) in DIRECTIONS.into_iter().enumerate() {
                if one.is_held(self.hanger.rung, at) {
                    continue;
                }
                let again = one.attach_again(&mut self.ebpf, &self.hanger, at);
                if let Err(error) = &again {
                    tracing::error!(
                        interface = one.name, direction, %error, "program not attached again"
                    );
                }
                tracing::warn!(
                    interface = one.name,
                    direction,
                    again = again.is_ok(),
                    "somebody took our program off an interface"
                );
                detached.push(Detached {
                    time_ns: now_ns,
                    interface: one.name.clone(),
                    direction: direction.to_owned(),
                    again: again.is_ok(),
                });
            }
        }
        detached.truncate(DETACHED_MAX);
        Health {
            interfaces: watched(self.interfaces(), self.hanger.rung.name()),
            canary: Some(self.canary.judge(now_ns)),
            detached,
        }
    }
}

/// Interfaces as a summary names them, by index, as many as it may hold.
pub(in crate::capture) fn watched<'a>(
    interfaces: impl Iterator<Item = (&'a str, u32)>,
    attached: &str,
) -> Vec<Watched> {
    let mut watched: Vec<Watched> = interfaces
        .map(|(name, index)| Watched {
            index,
            name: name.to_owned(),
            attached: attached.to_owned(),
        })
        .collect();
    watched.sort();
    watched.truncate(INTERFACES_MAX);
    watched
}

/// Runs a program on a packet that is given from its IP header on.
fn run_on(ebpf: &mut Ebpf, program: &str, packet: &[u8]) -> anyhow::Result<()> {
    /// Sender, receiver, and the type of IPv4.
    const ETHERNET: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    let frame = match program {
        "ip_in" | "ip_out" => packet.to_vec(),
        _ => [&ETHERNET[..], packet].concat(),
    };
    let mut options = TestRunOptions::new();
    options.data_in = Some(&frame);
    attach::loaded(ebpf, program)?
        .test_run(options)
        .with_context(|| format!("run {program} on a packet of ours"))?;
    Ok(())
}

/// An error in as many bytes as a summary has for it.
fn short(error: &anyhow::Error) -> String {
    let mut text = format!("{error:#}");
    text.truncate(text.floor_char_boundary(HEALTH_TEXT_BYTES_MAX));
    text
}
