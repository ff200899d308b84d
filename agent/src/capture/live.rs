//! What a capture of a live host does, whatever its rung: hands over what it saw, says what it
//! counted, follows interfaces as they come and go.

use std::time::Duration;

use picket_intel::IndicatorSet;
use picket_sense::input::{
    FlowDelta, KernelBlock, KernelHit, KernelNotice, LiveFrame, Owner, PacketCopy, ProcessId,
    StageCount,
};
use picket_wire::Health;
use serde::{Deserialize, Serialize};

use super::choice::Choice;
use super::ebpf::{self, BlockRule, CaptureError, Network};

/// Something that a capture saw.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// An address is listed.
    Hit(KernelHit),
    /// A message looks listed, or like a miner's.
    Notice(KernelNotice<'a>),
    /// A flow is refused by order, told with its first packet.
    Block(KernelBlock),
    /// What is new of a flow that the kernel counts.
    Flow(FlowDelta),
    /// A packet that the kernel counted and that is worth decoding.
    Copy(PacketCopy<'a>),
    /// A frame that nobody has counted.
    Frame(LiveFrame<'a>),
    /// A process, told before what it sends.
    Process(&'a ProcessSeen),
}

/// Why a process is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It began to run a program.
    Runs,
    /// It opened a socket.
    Opens,
}

/// A process as the kernel knows it, at the moment it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessSeen {
    /// Which, and the user it ran as.
    pub owner: Owner,
    /// When it started, nanoseconds since boot in whole ticks of a hundredth of a second, as
    /// /proc tells it; 0 where not known.
    pub since_boot_ns: u64,
    /// Why it is told.
    pub told: Told,
    /// Its command name, at most 15 bytes.
    pub name: String,
    /// The path it was asked to run, possibly relative, at most 255 bytes.
    pub path: Option<String>,
    /// Its parent, where known.
    pub parent: Option<ProcessId>,
    /// When its parent started, like `since_boot_ns`.
    pub parent_since_boot_ns: u64,
    /// Its parent's command name, empty where not known.
    pub parent_name: String,
    /// Its control group in the version 2 hierarchy, by the inode of the group's folder; 0 where
    /// not known.
    pub cgroup: u64,
}

/// How well it is known which process has which socket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerState {
    /// What works, in words.
    pub works: Vec<String>,
    /// What does not, and why.
    pub lacks: Vec<String>,
}

impl OwnerState {
    /// Notes how many sockets were there before us, and how many of them stay unknown.
    pub(super) fn note_seed(&mut self, sockets: u64, refused: u64) {
        self.works.push(format!("{sockets} older sockets"));
        if refused > 0 {
            self.lacks.push(format!(
                "{refused} older sockets: their processes may not be looked into (CAP_SYS_PTRACE)"
            ));
        }
    }
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

    /// Interfaces that are wanted and not watched, and why.
    fn skipped(&self) -> Vec<Choice>;

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

    /// How well it is known which process has which socket.
    fn owners(&self) -> OwnerState {
        OwnerState {
            works: Vec::new(),
            lacks: vec!["this rung sees packets without their sockets".to_owned()],
        }
    }

    /// What was counted before the sensor since the last call; nothing for what did not move.
    fn counters(&mut self) -> Vec<StageCount>;

    /// Whether every packet that passed since the last window of the process before is told by this
    /// one.
    fn resumes(&self) -> bool {
        false
    }

    /// Whether and where things are pinned that outlive the process, in words; `None` where nothing
    /// does.
    fn pinned(&self) -> Option<&str> {
        None
    }

    /// Notes for the next process that everything handed over up to now, counters included, is in
    /// windows that end by `end_ns`, and that the one that ended at `kept_ns` is on disk.
    fn checkpoint(&mut self, end_ns: u64, kept_ns: u64) {
        let _ = (end_ns, kept_ns);
    }

    /// Puts packets of its own through the kernel programs, where there are some, before the
    /// window's last sweep. They are in no count.
    fn run_canary(&mut self) {}

    /// Whether all that was run is back, before [`Live::health`] judges it; true where nothing was.
    fn is_canary_back(&self) -> bool {
        true
    }

    /// How the capture is, asked once at the end of each window, after the last sweep; what was
    /// taken off an interface is put on again.
    fn health(&mut self) -> Health {
        let names = self.interfaces();
        let found = names
            .iter()
            .map(|name| (name.as_str(), ebpf::interfaces::index(name)));
        Health {
            interfaces: ebpf::watched(found, self.rung()),
            ..Health::default()
        }
    }

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

    /// Blocks these rules from now on and no others, but never what is protected, for as long as
    /// [`Live::beat`] is called at least every thirty seconds.
    ///
    /// # Errors
    /// The rung cannot, or the kernel did not take them. Then nothing is blocked.
    fn set_blocks(
        &mut self,
        rules: &[BlockRule],
        protected: &[Network],
    ) -> Result<(), CaptureError> {
        let _ = (rules, protected);
        Err(CaptureError::CannotBlock)
    }

    /// Says that the agent lives.
    fn beat(&mut self) {}
}
