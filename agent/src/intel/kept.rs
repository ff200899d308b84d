//! Bundles on disk: the last whole one and the changes after it, so that a start needs no collector,
//! and the highest version ever put in force, below which nothing is taken.
//!
//! ```text
//! <state_dir>/indicators/<version>.bundle   what was put in force, oldest first a whole one
//! <state_dir>/indicators/version            the highest version put in force
//! <state_dir>/indicators/incoming           what is being received
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use picket_intel::IndicatorSet;
use picket_wire::bundle::Manifest;
use picket_wire::{BundleError, PublicKey};

use super::build;
use super::reader::Bundle;
use crate::state;

/// Changes after a whole bundle, after which a whole one is asked for: each is a file that is held open,
/// of which a process has 1,024 unless told otherwise, and is read at every change.
const CHAIN_MAX: usize = 128;

/// Why a bundle is not taken: the reason as it is counted, and in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason, of a small set.
    pub word: &'static str,
    /// What was wrong.
    pub why: String,
}

/// What is kept on disk.
#[derive(Debug, Clone)]
pub struct Kept {
    folder: PathBuf,
    keys: Vec<PublicKey>,
    /// The highest version ever put in force.
    highest: u64,
    /// What leads to the set in use, a whole bundle first; empty if there is none.
    chain: Vec<Bundle>,
}

/// A bundle that was received and is good, and the set it leads to.
#[derive(Debug)]
pub struct Good {
    /// The set, with the host's own lists.
    pub set: Arc<IndicatorSet>,
    chain: Vec<Bundle>,
    /// Whether it begins with a whole bundle.
    begins_anew: bool,
}

impl Good {
    /// What is signed of the last of it.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.chain.last().map(|bundle| &bundle.manifest)
    }
}

impl Kept {
    /// Opens the folder. What is damaged there is left out, which is told.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(state_dir: &Path, keys: Vec<PublicKey>) -> anyhow::Result<Self> {
        let folder = state_dir.join("indicators");
        let name = || format!("open {}", folder.display());
        fs::create_dir_all(&folder).with_context(name)?;
        let highest = read_version(&folder.join("version"))?;
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder).with_context(name)? {
            let path = entry.with_context(name)?.path();
            let version = path
                .file_name()
                .and_then(|name| name.to_str()?.strip_suffix(".bundle")?.parse::<u64>().ok());
            files.extend(version.map(|version| (version, path)));
        }
        files.sort();
        let mut chain: Vec<Bundle> = Vec::new();
        for (_, path) in files {
            match Bundle::read_all(&path, &keys) {
                Ok(bundles) => chain = follow(chain, bundles),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, "kept indicators not used");
                    chain.clear();
                }
            }
        }
        Ok(Self {
            folder,
            keys,
            highest,
            chain,
        })
    }

    /// The set that what is kept leads to, with the host's own lists; if it cannot be had, the own
    /// ones alone, and why.
    pub fn set(&mut self, own: &IndicatorSet) -> Option<Result<IndicatorSet, Refusal>> {
        if self.chain.is_empty() {
            return None;
        }
        let built = build::set(&self.chain, own).map_err(|error| refusal(&error));
        if built.is_err() {
            self.chain.clear();
        }
        Some(built)
    }

    /// What is signed of the bundle in use.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.chain.last().map(|bundle| &bundle.manifest)
    }

    /// The version to ask changes of; 0 to ask for everything.
    pub fn have(&self) -> u64 {
        let is_long = self.chain.len() > CHAIN_MAX;
        let last = self.manifest().filter(|_| !is_long);
        last.map_or(0, |manifest| manifest.version)
    }

    /// The same, to be read on another thread.
    pub(super) fn reader(&self) -> Self {
        self.clone()
    }

    /// Where to put what is being received.
    pub fn incoming(&self) -> PathBuf {
        self.folder.join("incoming")
    }

    /// Judges what was received at `now_ms`. Nothing changes yet.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn judge(&self, own: &IndicatorSet, now_ms: u64) -> Result<Good, Refusal> {
        let bundles = Bundle::read_all(&self.incoming(), &self.keys);
        let bundles = bundles.map_err(|error| refusal(&error))?;
        if bundles.is_empty() {
            return Err(empty());
        }
        let mut chain = self.chain.clone();
        let mut begins_anew = false;
        for bundle in bundles {
            let manifest = &bundle.manifest;
            let before = chain.last().map_or(0, |last| last.manifest.version);
            let version = manifest.version;
            if version <= before || version < self.highest {
                let highest = before.max(self.highest);
                return Err(Refusal {
                    word: "rollback",
                    why: format!("version {version} is not newer than {highest}"),
                });
            }
            match manifest.base {
                None => {
                    chain.clear();
                    begins_anew = true;
                }
                Some(base) if base == before => {}
                Some(base) => {
                    return Err(Refusal {
                        word: "base",
                        why: format!("it changes version {base}, and {before} is in use"),
                    });
                }
            }
            chain.push(bundle);
        }
        let Some(last) = chain.last() else {
            return Err(empty());
        };
        if last.manifest.expires_ms <= now_ms {
            let over_s = (now_ms - last.manifest.expires_ms) / 1_000;
            return Err(Refusal {
                word: "expired",
                why: format!("it was over {over_s} s ago"),
            });
        }
        let set = build::set(&chain, own).map_err(|error| refusal(&error))?;
        Ok(Good {
            set: Arc::new(set),
            chain,
            begins_anew,
        })
    }

    /// Keeps what has been put in force.
    ///
    /// # Errors
    /// It cannot be written; then the next start begins with what was kept before.
    pub fn keep(&mut self, good: Good) -> anyhow::Result<()> {
        let Some(version) = good.manifest().map(|manifest| manifest.version) else {
            bail!("nothing to keep");
        };
        let named = self.folder.join(format!("{version}.bundle"));
        let is_whole = good.begins_anew;
        File::open(self.incoming())
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(self.incoming(), &named))
            .and_then(|()| File::open(&self.folder)?.sync_all())
            .with_context(|| format!("keep {}", named.display()))?;
        self.highest = self.highest.max(version);
        let text = self.highest.to_string();
        let path = self.folder.join("version");
        state::replace(&path, text.as_bytes())
            .with_context(|| format!("write {}", path.display()))?;
        self.chain = good.chain;
        if is_whole {
            self.forget_before(&named);
        }
        Ok(())
    }

    /// Removes what a whole bundle has taken the place of. What stays by mistake is passed over at the
    /// next start.
    fn forget_before(&self, kept: &Path) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let is_bundle = path.extension().is_some_and(|ending| ending == "bundle");
            if is_bundle && path != kept {
                drop(fs::remove_file(path));
            }
        }
    }
}

fn empty() -> Refusal {
    Refusal {
        word: "empty",
        why: "no bundle was sent".to_owned(),
    }
}

/// A chain, and what comes after it.
fn follow(mut chain: Vec<Bundle>, bundles: Vec<Bundle>) -> Vec<Bundle> {
    for bundle in bundles {
        let before = chain.last().map(|last| last.manifest.version);
        match bundle.manifest.base {
            None => chain = vec![bundle],
            base if base == before => chain.push(bundle),
            _ => {}
        }
    }
    chain
}

/// The reason for an error, as it is counted.
fn refusal(error: &anyhow::Error) -> Refusal {
    let word = match error.downcast_ref::<BundleError>() {
        Some(BundleError::Signature) => "signature",
        Some(BundleError::Truncated { .. }) => "truncated",
        Some(BundleError::TooLarge { .. } | BundleError::TooMuch { .. }) => "too_large",
        Some(BundleError::NotAManifest) => "no_bundle",
        Some(BundleError::ForeignChunk(_)) => "tampered",
        Some(BundleError::Inflate(_)) => "inflate",
        Some(_) => "malformed",
        None if error.downcast_ref::<io::Error>().is_some() => "disk",
        None => "content",
    };
    Refusal {
        word,
        why: format!("{error:#}"),
    }
}

fn read_version(path: &Path) -> anyhow::Result<u64> {
    match fs::read_to_string(path) {
        Ok(text) => text
            .trim()
            .parse()
            .with_context(|| format!("{} holds no version", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}
