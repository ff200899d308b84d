//! The ladder: which capture a live host gets. The best rung that opens is taken; what a rung
//! above it lacked is said, and never tried again until the next start.
//!
//! ```text
//! tcx ─→ clsact ─→ afpacket ─→ refusal, with what each rung lacks
//! ```

use std::path::PathBuf;

use picket_intel::IndicatorSet;
use serde::Deserialize;

use super::choice::Stacked;
use super::ebpf::{
    self, CaptureError, Check, EbpfCapture, Mirror, Options, Rung, Stage, Stages, VNIS_MAX,
};
use super::live::{Live, Matching};
use super::packet::{self, PacketCapture};
use crate::command::BadConfig;
use crate::config::bad;

/// The rung that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// The best that opens.
    #[default]
    Auto,
    /// Kernel programs on tcx links.
    Tcx,
    /// Kernel programs as filters on clsact.
    Clsact,
    /// Packet sockets.
    Afpacket,
}

/// A VNI has 24 bits (RFC 7348 5).
const VNI_MAX: u32 = 0xff_ffff;

/// How to capture.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaptureConfig {
    /// The rung of the ladder.
    pub rung: Wanted,
    /// Share of one processor that packet sockets may take, percent. Kernel programs do not ask.
    pub cpu_percent: u8,
    /// Whether the host is the target of a mirror: what is inside tunnels is told as well.
    pub mirror: bool,
    /// VNIs of the mirror's sessions; with none, every tunnel is looked into.
    pub mirror_vnis: Vec<u32>,
    /// What to do with interfaces that lie on one another.
    pub stacked: Stacked,
    /// Stages of matching that the kernel may run.
    pub kernel_stages: Vec<Stage>,
    /// Folder on bpffs for what stays in the kernel over a restart; empty for nothing.
    pub pins: PathBuf,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Self {
            rung: Wanted::Auto,
            cpu_percent: packet::Sizes::default().cpu_percent,
            mirror: false,
            mirror_vnis: Vec::new(),
            stacked: Stacked::default(),
            kernel_stages: Stage::ALL.into(),
            pins: PathBuf::from("/sys/fs/bpf/picket"),
        }
    }
}

impl CaptureConfig {
    /// The stages that the kernel may run.
    pub(crate) fn stages(&self) -> Stages {
        self.kernel_stages.iter().copied().collect()
    }

    /// Checks what the parser cannot.
    ///
    /// # Errors
    /// The key that is out of bounds.
    pub(crate) fn check(&self) -> Result<(), BadConfig> {
        if !(1..=100).contains(&self.cpu_percent) {
            return Err(bad("capture.cpu_percent", "a share is 1 to 100 percent"));
        }
        let refuse = |problem| Err(bad("capture.mirror_vnis", problem));
        match self.mirror_vnis.as_slice() {
            [] => Ok(()),
            _ if !self.mirror => refuse("lists sessions, and capture.mirror is off"),
            vnis if vnis.len() > VNIS_MAX => refuse("lists more sessions than there is room for"),
            vnis if vnis.iter().any(|vni| *vni > VNI_MAX) => refuse("a VNI has 24 bits"),
            _ => Ok(()),
        }
    }

    /// What is looked into, if anything.
    pub fn mirror(&self) -> Option<Mirror> {
        self.mirror.then(|| Mirror {
            vnis: self.mirror_vnis.clone(),
        })
    }
}

/// A capture, and what became of the indicators that it began with.
pub struct Opened {
    /// The capture.
    pub capture: Box<dyn Live>,
    /// As [`Live::load_set`] told it.
    pub matching: Result<Matching, CaptureError>,
}

/// Opens a rung.
type Open = fn(&CaptureConfig, &Options, &IndicatorSet) -> Result<Opened, CaptureError>;

/// What the ladder steps on.
struct Step {
    name: &'static str,
    /// Which wishes it answers.
    answers: &'static [Wanted],
    open: Open,
    /// What this process lacks for it, where that can be said.
    lacks: fn() -> Option<String>,
}

/// The rungs, best first. tcx and clsact are one step: the programs are the same, and which of
/// the two the kernel has is asked once they are loaded.
const STEPS: &[Step] = &[
    Step {
        name: "kernel programs",
        answers: &[Wanted::Auto, Wanted::Tcx, Wanted::Clsact],
        open: open_ebpf,
        lacks: || lack(ebpf::capabilities()),
    },
    Step {
        name: "packet sockets",
        answers: &[Wanted::Auto, Wanted::Afpacket],
        open: open_packet,
        lacks: || lack(packet::probe()),
    },
];

/// No rung opened.
#[derive(Debug, thiserror::Error)]
#[error("no rung of the capture ladder opens: {}", .lacks.join("; "))]
pub struct Refusal {
    /// What each one tried lacks.
    pub lacks: Vec<String>,
}

/// Opens the best rung that is wanted and opens, with `set` in force from the first packet.
///
/// # Errors
/// None does; the refusal says for each what it lacks.
pub fn open(
    config: &CaptureConfig,
    options: &Options,
    set: &IndicatorSet,
) -> Result<Opened, Refusal> {
    let mut lacks = Vec::new();
    for step in STEPS
        .iter()
        .filter(|step| step.answers.contains(&config.rung))
    {
        match (step.open)(config, options, set) {
            Ok(opened) => {
                let rung = opened.capture.rung();
                for lack in lacks {
                    tracing::warn!(rung, lack, "capture on a lower rung");
                }
                return Ok(opened);
            }
            Err(error) => {
                let lack = (step.lacks)().map_or_else(String::new, |lack| format!(" ({lack})"));
                let error = anyhow::Error::new(error);
                lacks.push(format!("{}: {error:#}{lack}", step.name));
            }
        }
    }
    Err(Refusal { lacks })
}

/// Asks what each rung takes: the kernel's part first, then packet sockets. Changes nothing.
#[must_use]
pub fn probe() -> Vec<Check> {
    let mut checks = ebpf::probe();
    checks.push(packet::probe());
    checks
}

/// Says from the answers of [`probe`] which rung a start would get.
#[must_use]
pub fn foresee(wanted: Wanted, checks: &[Check]) -> Check {
    let yes = |name: &str| checks.iter().any(|check| check.name == name && check.ok);
    // Why what these ask for cannot be had.
    let first_no = |names: &[&str]| {
        let no = checks
            .iter()
            .find(|check| names.contains(&check.name) && !check.ok);
        no.map_or("not asked", |check| check.why.as_str())
    };
    let for_programs = ["capabilities", "bpf", "memlock"];
    let programs = for_programs.into_iter().all(yes);
    let rungs = [
        ("tcx", Wanted::Tcx, programs && yes("tcx")),
        ("clsact", Wanted::Clsact, programs),
        (packet::RUNG, Wanted::Afpacket, yes(packet::RUNG)),
    ];
    let asked = |rung: Wanted| wanted == Wanted::Auto || wanted == rung;
    let found = rungs.into_iter().find(|(_, rung, ok)| *ok && asked(*rung));
    let why = match (found, wanted) {
        (Some((packet::RUNG, ..)), Wanted::Auto) => format!(
            "{}: kernel programs cannot be loaded ({}); each packet costs more, and none can be blocked",
            packet::RUNG,
            first_no(&for_programs)
        ),
        (Some((name, ..)), _) => format!("{name} would be used"),
        (None, Wanted::Auto) => format!(
            "none opens: no kernel programs ({}) and no packet sockets ({})",
            first_no(&for_programs),
            first_no(&[packet::RUNG])
        ),
        (None, _) => {
            let takes: &[&str] = match wanted {
                Wanted::Afpacket => &[packet::RUNG],
                Wanted::Tcx => &["capabilities", "bpf", "memlock", "tcx"],
                _ => &for_programs,
            };
            let why = first_no(takes);
            format!("the one that capture.rung asks for does not open ({why})")
        }
    };
    Check {
        name: "rung",
        ok: found.is_some(),
        why,
    }
}

fn lack(check: Check) -> Option<String> {
    (!check.ok).then_some(check.why)
}

fn open_packet(
    config: &CaptureConfig,
    options: &Options,
    set: &IndicatorSet,
) -> Result<Opened, CaptureError> {
    let sizes = packet::Sizes {
        cpu_percent: config.cpu_percent,
        ..packet::Sizes::default()
    };
    let mut capture = PacketCapture::open(options, sizes)?;
    // What a run on another rung left for the next would count on for nobody.
    if let Some(handover) = &options.handover
        && let Err(error) = ebpf::detach(&handover.pins)
    {
        tracing::warn!(%error, "programs of an earlier run are left in the kernel");
    }
    let matching = capture.load_set(set);
    Ok(Opened {
        capture: Box::new(capture),
        matching,
    })
}

fn open_ebpf(
    config: &CaptureConfig,
    options: &Options,
    set: &IndicatorSet,
) -> Result<Opened, CaptureError> {
    let rung = match config.rung {
        Wanted::Tcx => Some(Rung::Tcx),
        Wanted::Clsact => Some(Rung::Clsact),
        _ => options.rung,
    };
    let options = Options {
        rung,
        stages: config.stages(),
        ..options.clone()
    };
    let mut capture = EbpfCapture::prepare(options)?;
    let matching = Live::load_set(&mut capture, set);
    capture.begin()?;
    Ok(Opened {
        capture: Box::new(capture),
        matching,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rung_to_come_follows_from_what_is_there() {
        let check = |wanted: Wanted, there: &[&'static str], rung: Option<&str>| {
            let checks: Vec<Check> = ["capabilities", "bpf", "tcx", "memlock", "afpacket"]
                .map(|name| Check {
                    name,
                    ok: there.contains(&name),
                    why: String::new(),
                })
                .into();
            let told = foresee(wanted, &checks);
            assert_eq!(told.ok, rung.is_some(), "{there:?}: {}", told.why);
            assert!(told.why.starts_with(rung.unwrap_or("")), "{}", told.why);
        };
        let all = ["capabilities", "bpf", "tcx", "memlock", "afpacket"];
        check(Wanted::Auto, &all, Some("tcx"));
        check(Wanted::Clsact, &all, Some("clsact"));
        check(Wanted::Afpacket, &all, Some("afpacket"));
        let old = ["capabilities", "bpf", "memlock", "afpacket"];
        check(Wanted::Auto, &old, Some("clsact"));
        check(Wanted::Tcx, &old, None);
        check(Wanted::Auto, &["bpf", "tcx", "afpacket"], Some("afpacket"));
        check(Wanted::Clsact, &["bpf", "tcx", "afpacket"], None);
        check(Wanted::Auto, &["bpf", "tcx"], None);
    }

    #[test]
    fn what_a_rung_lacks_is_said() {
        let check = |wanted: Wanted, lacking: &[&'static str], said: &[&str]| {
            let checks: Vec<Check> = ["capabilities", "bpf", "tcx", "memlock", "afpacket"]
                .map(|name| Check {
                    name,
                    ok: !lacking.contains(&name),
                    why: format!("no {name}"),
                })
                .into();
            let why = foresee(wanted, &checks).why;
            let named = checks.iter().filter(|check| why.contains(&check.why));
            let named: Vec<&str> = named.map(|check| check.name).collect();
            assert_eq!(named, said, "{why}");
        };
        check(Wanted::Auto, &["tcx"], &[]);
        check(Wanted::Tcx, &["tcx"], &["tcx"]);
        check(Wanted::Auto, &["bpf", "tcx"], &["bpf"]);
        check(Wanted::Auto, &["memlock"], &["memlock"]);
        check(Wanted::Auto, &["bpf", "afpacket"], &["bpf", "afpacket"]);
        check(Wanted::Clsact, &["capabilities", "bpf"], &["capabilities"]);
        check(Wanted::Afpacket, &["bpf", "afpacket"], &["afpacket"]);
    }
}
