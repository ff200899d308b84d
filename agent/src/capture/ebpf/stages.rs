//! Stages: kernel programs for what only few packets need, each loaded by itself.
//!
//! Where a kernel refuses one, or where it is switched off, what it would have told at once is
//! found by the sensor in the copies of packets, which come all the same: a tenth of a second
//! later. That is told in `status`, by `doctor` and in every summary's counters.

use aya::maps::{MapData, ProgramArray};
use aya::programs::{ProgramError, SchedClassifier};
use aya::{Ebpf, programs};
use picket_sense::input::StageCount;
use serde::Deserialize;

use super::object::{OBJECT, load};
use super::{CaptureError, Check, Sizes};
use crate::capture::live::{OwnerState, StageReport};
use crate::capture::permission::{self, PROGRAMS};

/// A stage. The number is its place in the kernel's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Names of DNS questions.
    Names = 0,
    /// Openings of miners.
    Stratum = 1,
}

impl Stage {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Names, Self::Stratum];

    /// Its name, which is also that of its program.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Names => "names",
            Self::Stratum => "stratum",
        }
    }

    /// The counter that says that it runs in user space.
    const fn moved(self) -> &'static str {
        match self {
            Self::Names => "names_in_user_space",
            Self::Stratum => "stratum_in_user_space",
        }
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// Some of the stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stages(u32);

impl Stages {
    /// All of them.
    pub const ALL: Self = Self(Stage::Names.bit() | Stage::Stratum.bit());
    /// None.
    pub const NONE: Self = Self(0);

    /// These stages but one.
    #[must_use]
    pub const fn without(self, stage: Stage) -> Self {
        Self(self.0 & !stage.bit())
    }

    /// Whether a stage is among them.
    #[must_use]
    pub const fn has(self, stage: Stage) -> bool {
        self.0 & stage.bit() != 0
    }

    /// As the kernel side takes them: a bit for each.
    pub(super) const fn bits(self) -> u32 {
        self.0
    }
}

impl FromIterator<Stage> for Stages {
    fn from_iter<T: IntoIterator<Item = Stage>>(stages: T) -> Self {
        let bits = stages.into_iter().map(Stage::bit);
        Self(bits.fold(0, |all, one| all | one))
    }
}

/// What `doctor` says of each stage: asked by loading it, as nothing else knows the verifier.
#[must_use]
pub fn examine(wanted: Stages) -> Vec<Check> {
    let tried = || -> anyhow::Result<_> {
        if let Some(lack) = permission::lack(PROGRAMS) {
            anyhow::bail!(lack);
        }
        let sizes = Sizes {
            slots_per_cpu: 2,
            addresses_max: 1,
            names_max: 1,
            ..Sizes::default()
        };
        let owners = &mut OwnerState::default();
        let mut ebpf = load(&sizes.fitted()?, 0, Stages::NONE, None, OBJECT, owners)?;
        Ok(Installed::install(&mut ebpf, wanted)?.reports)
    };
    let reports = tried().unwrap_or_else(|error| {
        let why = format!("not asked: {error:#}");
        let report = |stage: Stage| StageReport {
            name: stage.name().to_owned(),
            in_kernel: false,
            why: why.clone(),
        };
        Stage::ALL.map(|stage| (stage, report(stage))).into()
    });
    let checks = reports.into_iter().map(|(stage, report)| {
        let place = if report.in_kernel {
            "matched in the kernel"
        } else {
            "matched in user space, up to a tenth of a second later"
        };
        Check {
            name: stage.name(),
            ok: report.in_kernel || !wanted.has(stage),
            why: format!("{place}: {}", report.why),
        }
    });
    checks.collect()
}

/// The stages as they are.
pub(super) struct Installed {
    reports: Vec<(Stage, StageReport)>,
    /// While this is open the kernel keeps the programs in it.
    _table: ProgramArray<MapData>,
}

impl std::fmt::Debug for Installed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(&self.reports).finish()
    }
}

impl Installed {
    /// Loads the wanted stages and puts them where the other programs jump to. One that is
    /// refused is left out, with the reason.
    pub(super) fn install(ebpf: &mut Ebpf, wanted: Stages) -> Result<Self, CaptureError> {
        let name = "STAGES";
        let table = ebpf
            .take_map(name)
            .ok_or(CaptureError::Object("the table of stages is missing"))?;
        let refused = |source| CaptureError::Map {
            name,
            source: Box::new(source),
        };
        let mut table = ProgramArray::try_from(table).map_err(refused)?;
        let mut reports = Vec::new();
        for stage in Stage::ALL {
            let outcome = if wanted.has(stage) {
                install_one(ebpf, &mut table, stage)
            } else {
                Err("switched off".to_owned())
            };
            let report = match outcome {
                Ok(instructions) => StageReport {
                    name: stage.name().to_owned(),
                    in_kernel: true,
                    why: instructions.map_or_else(
                        || "accepted by the verifier".to_owned(),
                        |count| format!("{count} instructions verified"),
                    ),
                },
                Err(why) => {
                    if wanted.has(stage) {
                        tracing::warn!(stage = stage.name(), why, "stage runs in user space");
                    }
                    StageReport {
                        name: stage.name().to_owned(),
                        in_kernel: false,
                        why,
                    }
                }
            };
            reports.push((stage, report));
        }
        Ok(Self {
            reports,
            _table: table,
        })
    }

    pub(super) fn reports(&self) -> Vec<StageReport> {
        self.reports.iter().map(|(_, one)| one.clone()).collect()
    }

    /// Whether a stage runs in the kernel.
    pub(super) fn in_kernel(&self, wanted: Stage) -> bool {
        let mut reports = self.reports.iter();
        reports.any(|(stage, one)| *stage == wanted && one.in_kernel)
    }

    /// A count of 1 for each stage that is not in the kernel.
    pub(super) fn counts(&self) -> impl Iterator<Item = StageCount> {
        let moved = self.reports.iter().filter(|(_, one)| !one.in_kernel);
        moved.map(|(stage, _)| StageCount {
            stage: "match",
            reason: stage.moved(),
            packets: 1,
            bytes: 0,
        })
    }
}

/// Loads a stage; says how many instructions the verifier went through, where the kernel tells.
fn install_one(
    ebpf: &mut Ebpf,
    table: &mut ProgramArray<MapData>,
    stage: Stage,
) -> Result<Option<u32>, String> {
    let program = ebpf.program_mut(stage.name());
    let program: &mut SchedClassifier = program
        .ok_or("the kernel object lacks it")?
        .try_into()
        .map_err(|error| in_short(&error))?;
    program.load().map_err(|error| in_short(&error))?;
    let fd = program.fd().map_err(|error| in_short(&error))?;
    table
        .set(stage as u32, fd, 0)
        .map_err(|error| error.to_string())?;
    let info = program.info().map_err(|error| in_short(&error))?;
    Ok(verified(&info))
}

/// Instructions that the verifier went through; `None` before Linux 5.16, which does not tell.
pub(super) fn verified(info: &programs::ProgramInfo) -> Option<u32> {
    info.verified_instruction_count().filter(|count| *count > 0)
}

/// What went wrong, without the verifier's log.
fn in_short(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, .. } => format!("refused by the kernel: {io_error}"),
        other => other.to_string(),
    }
}
