//! What the watching thread is given at its start, and what it can be told later.

use std::sync::Arc;
use std::time::Duration;

use picket_intel::IndicatorSet;
use picket_wire::Host;
use tokio::sync::oneshot;

use super::Report;
use crate::block::{Force, Posted};
use crate::capture::ebpf::Options;
use crate::capture::ladder::CaptureConfig;
use crate::filter::Filter;
use crate::intel;
use crate::privacy::Privacy;
use crate::pulse::Pulse;
use crate::top::Top;

/// What to watch, and in whose name.
#[derive(Debug)]
pub struct Plan {
    /// Who speaks. `capture`, `local` and `hostname` are filled in.
    pub host: Host,
    /// How to capture.
    pub capture: CaptureConfig,
    /// What to capture.
    pub options: Options,
    /// Length of a window.
    pub window: Duration,
    /// What the run before left off at and why it ended, if there was one.
    pub before: Option<(u64, String)>,
    /// Indicators to match against.
    pub set: Arc<IndicatorSet>,
    /// What is not told.
    pub filter: Filter,
    /// What is told without its names.
    pub privacy: Privacy,
    /// How it stands with the collector's indicators, if any are asked for.
    pub intel: Option<Arc<intel::Shared>>,
    /// What becomes of packets that an order names.
    pub block: Force,
    /// Where the thread shows that it gets on.
    pub pulse: Arc<Pulse>,
}

/// What the thread can be told.
#[derive(Debug)]
pub enum Command {
    /// Match against these from now on.
    Indicators(Arc<IndicatorSet>),
    /// Match against these from now on, if the kernel takes them; say so, or why it goes on with those
    /// it has.
    Replace(Arc<IndicatorSet>, oneshot::Sender<Result<(), String>>),
    /// Block these from now on and no others.
    Orders(Posted),
    /// Orders came that are not taken; why.
    OrdersRefused(String),
    /// Say how you are.
    Report(oneshot::Sender<Report>),
    /// Say who talks most.
    Top(oneshot::Sender<Top>),
    /// Close the window and end.
    Stop,
}
