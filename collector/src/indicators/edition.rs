//! One edition of the indicators: a version, signed, and the ways to it from the versions before.

use std::collections::VecDeque;
use std::sync::OnceLock;

use axum::body::Bytes;
use picket_wire::Signer;
use picket_wire::bundle::{BundleError, ListHead, Manifest};

use super::limits::{DELTA_BYTES_MAX, DELTAS_MAX};
use super::source::Packed;

/// What agents can be given.
#[derive(Debug)]
pub(crate) struct Edition {
    /// Number, time and content, as they are signed.
    pub(super) manifest: Manifest,
    /// Where each list comes from, in the order of the manifest's lists.
    pub(super) origins: Vec<Origin>,
    sealed: Vec<u8>,
    chunks: Vec<Packed>,
    /// Put together when the first agent asks, and shared by all.
    whole: OnceLock<Bytes>,
    /// From one version to the next, the last to this one.
    steps: VecDeque<Step>,
}

/// Where a list comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The place, by its name.
    pub(crate) place: &'static str,
    /// When it was read, milliseconds since the epoch.
    pub(crate) read_ms: u64,
}

/// A signed change from one version to the next.
#[derive(Debug, Clone)]
pub(super) struct Step {
    base: u64,
    bytes: Bytes,
}

/// What an agent is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Everything.
    Whole(Bytes),
    /// What has changed, one version after the other.
    Changes(Bytes),
}

impl Edition {
    /// Signs an edition. `steps` lead to the version before; `change` from there to this one.
    pub(super) fn new(
        manifest: Manifest,
        origins: Vec<Origin>,
        chunks: Vec<Packed>,
        signer: &Signer,
        mut steps: VecDeque<Step>,
        change: Option<Step>,
    ) -> Result<Self, BundleError> {
        let sealed = manifest.seal(signer);
        // What agents would refuse is not published.
        Manifest::open(&sealed, &signer.public_key())?;
        match change {
            Some(change) => steps.push_back(change),
            None => steps.clear(),
        }
        let mut bytes: usize = steps.iter().map(|step| step.bytes.len()).sum();
        while steps.len() > DELTAS_MAX || bytes > DELTA_BYTES_MAX {
            let gone = steps.pop_front();
            bytes -= gone.map_or(bytes, |step| step.bytes.len());
        }
        Ok(Self {
            manifest,
            origins,
            sealed,
            chunks,
            whole: OnceLock::new(),
            steps,
        })
    }

    pub(crate) fn version(&self) -> u64 {
        self.manifest.version
    }

    /// Bytes of all of it as it travels.
    pub(crate) fn bytes(&self) -> u64 {
        self.sealed.len() as u64 + self.manifest.chunk_bytes()
    }

    /// The ways to this version, for the next.
    pub(super) fn steps(&self) -> VecDeque<Step> {
        self.steps.clone()
    }

    /// The lists and where they come from.
    pub(crate) fn lists(&self) -> impl Iterator<Item = (&ListHead, &Origin)> {
        self.manifest.lists.iter().zip(&self.origins)
    }

    /// What is signed.
    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What an agent is given that has version `have`, which is not this one.
    pub(super) fn answer(&self, have: u64) -> Answer {
        let Some(from) = self.steps.iter().position(|step| step.base == have) else {
            return Answer::Whole(self.whole());
        };
        let steps = self.steps.range(from..);
        let bytes: usize = steps.clone().map(|step| step.bytes.len()).sum();
        if bytes as u64 * 2 > self.manifest.chunk_bytes() + self.sealed.len() as u64 * 2 + 4_096 {
            return Answer::Whole(self.whole());
        }
        let mut steps = steps.map(|step| &step.bytes);
        Answer::Changes(match (steps.next(), steps.len()) {
            (Some(only), 0) => only.clone(),
            (first, _) => {
                let all = first.into_iter().chain(steps);
                all.fold(Vec::with_capacity(bytes), |mut all, step| {
                    all.extend_from_slice(step);
                    all
                })
                .into()
            }
        })
    }

    fn whole(&self) -> Bytes {
        self.whole
            .get_or_init(|| together(&self.sealed, &self.chunks))
            .clone()
    }
}

impl Step {
    /// Signs a change.
    pub(super) fn new(
        manifest: &Manifest,
        chunks: &[Packed],
        signer: &Signer,
    ) -> Result<Self, BundleError> {
        let sealed = manifest.seal(signer);
        Manifest::open(&sealed, &signer.public_key())?;
        Ok(Self {
            base: manifest.base.unwrap_or_default(),
            bytes: together(&sealed, chunks),
        })
    }
}

fn together(sealed: &[u8], chunks: &[Packed]) -> Bytes {
    let bytes: usize = chunks.iter().map(|(_, frame)| frame.len()).sum();
    let mut all = Vec::with_capacity(sealed.len() + bytes);
    all.extend_from_slice(sealed);
    for (_, frame) in chunks {
        all.extend_from_slice(frame);
    }
    all.into()
}
