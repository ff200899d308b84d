//! The kernel programs as a capture of a live host: what every rung of the ladder offers.

use std::time::Duration;

use picket_intel::IndicatorSet;
use picket_sense::input::StageCount;
use picket_wire::Health;

use super::{BlockRule, CaptureError, EbpfCapture, Network};
use crate::capture::choice::Choice;
use crate::capture::live::{Event, Live, Matching, OwnerState, StageReport};

impl Live for EbpfCapture {
    fn rung(&self) -> &'static str {
        self.hanger.rung.name()
    }

    fn set_blocks(
        &mut self,
        rules: &[BlockRule],
        protected: &[Network],
    ) -> Result<(), CaptureError> {
        self.set_blocks(rules, protected)
    }

    fn beat(&mut self) {
        self.blocks.beat();
    }

    fn interfaces(&self) -> Vec<String> {
        let names = self.interfaces().map(|(name, _)| name.to_owned());
        names.collect()
    }

    fn skipped(&self) -> Vec<Choice> {
        self.skipped().to_vec()
    }

    fn poll(
        &mut self,
        timeout: Duration,
        each: &mut dyn FnMut(Event<'_>),
    ) -> Result<usize, CaptureError> {
        self.poll(timeout, each)
    }

    fn sweep(&mut self, each: &mut dyn FnMut(Event<'_>)) -> Result<(), CaptureError> {
        self.scan(&mut |delta| each(Event::Flow(delta)));
        Ok(())
    }

    fn owners(&self) -> OwnerState {
        self.owner_state.clone()
    }

    fn counters(&mut self) -> Vec<StageCount> {
        self.counters()
    }

    fn resumes(&self) -> bool {
        self.resumes()
    }

    fn pinned(&self) -> Option<&str> {
        self.pinned()
    }

    fn checkpoint(&mut self, end_ns: u64, kept_ns: u64) {
        self.checkpoint(end_ns, kept_ns);
    }

    fn run_canary(&mut self) {
        self.run_canary();
    }

    fn is_canary_back(&self) -> bool {
        self.is_canary_back()
    }

    fn health(&mut self) -> Health {
        self.health()
    }

    fn rescan(&mut self) -> Result<(), CaptureError> {
        self.rescan()
    }

    fn load_set(&mut self, set: &IndicatorSet) -> Result<Matching, CaptureError> {
        let loaded = self.load_sets(set.address_nets(), set.domains(), set.version())?;
        Ok(match loaded.names {
            Ok(_) => Matching::Kernel,
            Err(error) => Matching::KernelButNames(error.to_string()),
        })
    }

    fn stages(&self) -> Vec<StageReport> {
        self.stages()
    }
}
