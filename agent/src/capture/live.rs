//! What a capture of a live host does, whatever its rung: hands over what it saw, says what it
//! counted, follows interfaces as they come and go.

use std::time::Duration;

use picket_intel::IndicatorSet;
use picket_sense::input::{FlowDelta, KernelHit, KernelNotice, LiveFrame, PacketCopy, StageCount};
use serde::{Deserialize, Serialize};

use super::ebpf::CaptureError;

/// Something that a capture saw.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// An address is listed.
    Hit(KernelHit),
    /// A message looks listed, or like a miner's.
    Notice(KernelNotice<'a>),
    /// What is new of a flow that the kernel counts.
    Flow(FlowDelta),
    /// A packet that the kernel counted and that is worth decoding.
    Copy(PacketCopy<'a>),
    /// A frame that nobody has counted.
    Frame(LiveFrame<'a>),
}

/// Where what is listed is matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matching {
    /// By the kernel programs, which tell of a hit at once.
    Kernel,
    /// Addresses as above, names by the sensor, for this reason.
    KernelButNames(String),
    /// By the sensor, which is shown every packet.
    UserSpace,
}

/// Where a stage of matching runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageReport {
    /// `names` or `stratum`.
    pub name: String,
    /// In the kernel, which tells at once; else in the sensor, a tenth of a second later.
    pub in_kernel: bool,
    /// Why.
    pub why: String,
}

/// A capture of a live host, in the network namespace of the thread that opened it.
pub trait Live {
    /// Its rung of the ladder, as every summary names it.
    fn rung(&self) -> &'static str;

    /// Names of the interfaces watched.
    fn interfaces(&self) -> Vec<String>;

    /// Waits up to `timeout` for something to come up and hands it over. Returns how many events
    /// were handed over; 0 means that the time is up.
    ///
    /// # Errors
    /// Waiting fails.
    fn poll(
        &mut self,
        timeout: Duration,
        each: &mut dyn FnMut(Event<'_>),
    ) -> Result<usize, CaptureError>;

    /// Hands over everything seen up to now that was not yet, without waiting.
    ///
    /// # Errors
    /// Reading fails.
    fn sweep(&mut self, each: &mut dyn FnMut(Event<'_>)) -> Result<(), CaptureError>;

    /// What was counted before the sensor since the last call; nothing for what did not move.
    fn counters(&mut self) -> Vec<StageCount>;

    /// Watches wanted interfaces that have appeared and lets go of those that have gone.
    ///
    /// # Errors
    /// The system does not tell which there are.
    fn rescan(&mut self) -> Result<(), CaptureError>;

    /// Takes a new set of indicators, and says who will match its addresses.
    ///
    /// # Errors
    /// It cannot be loaded; the old one stays in force.
    fn load_set(&mut self, set: &IndicatorSet) -> Result<Matching, CaptureError>;

    /// Where each stage of matching runs; none where there is no kernel to choose.
    fn stages(&self) -> Vec<StageReport> {
        Vec::new()
    }
}
