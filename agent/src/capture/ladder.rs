//! The ladder: which capture a live host gets. The best rung that opens is taken; what a rung
//! above it lacked is said, and never tried again until the next start.
//!
//! ```text
//! tcx ─→ clsact ─→ (refusal, with what each rung lacks)
//! ```

use serde::Deserialize;

use super::ebpf::{CaptureError, EbpfCapture, Options, Rung};
use super::live::Live;

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
}

/// What the ladder steps on.
struct Step {
    name: &'static str,
    /// Which wishes it answers.
    answers: &'static [Wanted],
    open: fn(Wanted, &Options) -> Result<Box<dyn Live>, CaptureError>,
}

/// The rungs, best first. tcx and clsact are one step: the programs are the same, and which of
/// the two the kernel has is asked once they are loaded.
const STEPS: &[Step] = &[Step {
    name: "kernel programs",
    answers: &[Wanted::Auto, Wanted::Tcx, Wanted::Clsact],
    open: open_ebpf,
}];

/// No rung opened.
#[derive(Debug, thiserror::Error)]
#[error("no rung of the capture ladder opens: {}", .lacks.join("; "))]
pub struct Refusal {
    /// What each one tried lacks.
    pub lacks: Vec<String>,
}

/// Opens the best rung that is wanted and opens.
///
/// # Errors
/// None does; the refusal says for each what it lacks.
pub fn open(wanted: Wanted, options: &Options) -> Result<Box<dyn Live>, Refusal> {
    let mut lacks = Vec::new();
    for step in STEPS.iter().filter(|step| step.answers.contains(&wanted)) {
        match (step.open)(wanted, options) {
            Ok(capture) => {
                for lack in lacks {
                    tracing::warn!(rung = capture.rung(), lack, "capture on a lower rung");
                }
                return Ok(capture);
            }
            Err(error) => lacks.push(format!("{}: {:#}", step.name, anyhow::Error::new(error))),
        }
    }
    Err(Refusal { lacks })
}

fn open_ebpf(wanted: Wanted, options: &Options) -> Result<Box<dyn Live>, CaptureError> {
    let rung = match wanted {
        Wanted::Tcx => Some(Rung::Tcx),
        Wanted::Clsact => Some(Rung::Clsact),
        _ => options.rung,
    };
    let options = Options {
        rung,
        ..options.clone()
    };
    Ok(Box::new(EbpfCapture::open(options)?))
}
