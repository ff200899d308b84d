//! Names that a program made up: how much a name looks generated, and why.
//!
//! A domain generation algorithm (ATT&CK T1568.002) gives malware hundreds of names a day, of which its
//! owner registers one. [`judge`] scores the one label of a name that an owner chooses, by a small model
//! in `weights.bin`: how usual its letters are beside each other, what n-grams it has, its length, its
//! digits and runs. `training/` makes that file; `docs/dga-model.md` says of what, and how good it is on
//! families it was not trained on.
//!
//! A name alone proves little: detections decide on many names of one host, and on what came back.

pub mod features;
mod label;
mod model;
mod reasons;

pub(crate) use label::{Registered, registered};
pub use label::{Unjudged, chosen};
pub use model::{Layout, Model};

/// From here on a score is an alarm: one in a thousand names of openly licensed popularity lists, none of
/// which the model was trained on, reaches it. The trainer stretches scores so that it is this number.
pub const ALARM: f64 = 0.99;

/// What a name looks like.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// 0: as people name things; 1: as programs do. See [`ALARM`].
    pub dga: f64,
    /// Why, in words with numbers; empty where nothing is odd.
    pub reasons: Vec<String>,
}

/// Scores a name in presentation form, with or without a final dot, in any case, escapes as `\DDD`.
/// Takes a microsecond.
#[must_use]
pub fn score(name: &str) -> f64 {
    match chosen(name) {
        Ok(label) => Model::shipped().score(&label),
        Err(_) => 0.0,
    }
}

/// Scores a name and says why.
#[must_use]
pub fn judge(name: &str) -> Judgement {
    match chosen(name) {
        Ok(label) => {
            let dga = Model::shipped().score(&label);
            Judgement {
                reasons: reasons::reasons(&label, dga, Model::shipped()),
                dga,
            }
        }
        Err(unjudged) => Judgement {
            dga: 0.0,
            reasons: vec![unjudged.to_string()],
        },
    }
}

#[cfg(test)]
mod tests;
