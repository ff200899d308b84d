//! Identity: the agent's key, which never leaves the host, and the chain of envelopes signed by it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use picket_sense::summarise::shrink;
use picket_wire::limits::{ENVELOPE_BYTES_MAX, SUMMARY_BYTES_MAX};
use picket_wire::{AgentId, BootId, Chain, Claim, PublicKey, Purpose, Signer, Summary};
use ring::rand::{SecureRandom, SystemRandom};

use crate::state;

/// Bytes of a key file: the seed of an Ed25519 key (RFC 8032 section 5.1.5) and nothing else.
const SEED_BYTES: usize = 32;

/// Agents that a host was before and that are remembered: of each key that came after, as many orders may
/// hold as long as 30 days. Chosen by hand.
const FORMER_MAX: usize = 16;

/// Bytes of the file with them that are read: 16 lines, and some.
const FORMER_BYTES_MAX: u64 = 4 << 10;

/// An agent's key.
pub struct Identity {
    signer: Signer,
    public_key: PublicKey,
}

impl Identity {
    /// Takes the key in `file`.
    ///
    /// # Errors
    /// It cannot be read, is no key, or others than its owner may read it.
    pub fn load(file: &Path) -> anyhow::Result<Self> {
        let shown = file.display();
        let mode = fs::metadata(file)
            .with_context(|| format!("read key {shown}"))?
            .mode();
        if mode & 0o077 != 0 {
            bail!(
                "key {shown} may be read by others (mode {:04o}); chmod 600 it",
                mode & 0o7777
            );
        }
        let bytes = fs::read(file).with_context(|| format!("read key {shown}"))?;
        let Ok(seed) = <[u8; SEED_BYTES]>::try_from(bytes.as_slice()) else {
            bail!("key {shown} has {} bytes, {SEED_BYTES} needed", bytes.len());
        };
        Ok(Self::of(Signer::from_seed(&seed)))
    }

    /// Takes the key in `file`, making one if there is none.
    ///
    /// # Errors
    /// As [`Identity::load`], or the new key cannot be written.
    pub fn load_or_create(file: &Path) -> anyhow::Result<Self> {
        if !file.exists() {
            create(file).with_context(|| format!("create key {}", file.display()))?;
            let made = Self::load(file)?;
            let (agent_id, public_key) = (made.agent(), made.public_key_hex());
            tracing::info!(%agent_id, public_key, "key made; the collector must be told of it");
            return Ok(made);
        }
        Self::load(file)
    }

    /// The public development key, which replay signs with unless told otherwise.
    pub fn development() -> Self {
        Self::of(Signer::development())
    }

    fn of(signer: Signer) -> Self {
        let public_key = signer.public_key();
        Self { signer, public_key }
    }

    /// The agent that this key names.
    pub fn agent(&self) -> AgentId {
        AgentId::of_key(&self.public_key.0)
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// What signs.
    pub(crate) fn signer(&self) -> &Signer {
        &self.signer
    }

    /// The value of a header that says that a request is ours.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn claim(&self, purpose: Purpose, now_ms: u64) -> anyhow::Result<String> {
        let claim = Claim {
            agent: self.agent(),
            purpose,
            issued_ms: now_ms,
            once: random()?,
            body: None,
        };
        Ok(claim.header(&self.signer))
    }

    /// The public half, as hex.
    pub fn public_key_hex(&self) -> String {
        self.public_key
            .0
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// A key that is to follow another. It lies beside it, as `<file>.next`, until the collector believes
/// it; one that was begun before is gone on with.
pub struct Succession {
    /// The key that follows.
    pub next: Identity,
    file: PathBuf,
}

impl Succession {
    /// Takes or makes the key that is to follow the one in `file`.
    ///
    /// # Errors
    /// As [`Identity::load_or_create`].
    pub fn begin(file: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            next: Identity::load_or_create(&next_of(file))?,
            file: file.to_owned(),
        })
    }

    /// Takes the key that is to follow, if there is one.
    ///
    /// # Errors
    /// As [`Identity::load`].
    pub fn begun(file: &Path) -> anyhow::Result<Option<Self>> {
        if !next_of(file).exists() {
            return Ok(None);
        }
        Self::begin(file).map(Some)
    }

    /// Gives the key up.
    ///
    /// # Errors
    /// Its file cannot be removed.
    pub fn discard(self) -> anyhow::Result<()> {
        let file = next_of(&self.file);
        fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))
    }

    /// Puts the key in the place of the other, whose agent is remembered (see [`former`]).
    ///
    /// # Errors
    /// The files cannot be changed.
    pub fn finish(self) -> anyhow::Result<()> {
        if let Ok(old) = Identity::load(&self.file) {
            remember(&self.file, old.agent());
        }
        let shown = self.file.display();
        let moved = || -> std::io::Result<()> {
            fs::rename(next_of(&self.file), &self.file)?;
            match self.file.parent() {
                Some(folder) => File::open(folder)?.sync_all(),
                None => Ok(()),
            }
        };
        moved().with_context(|| format!("put the new key in place of {shown}"))
    }
}

/// The agents that this host was before, oldest first: those of keys that others have followed in
/// `file`. They are in `<file>.former`, one a line; what else is there, or cannot be read, is none.
#[must_use]
pub fn former(file: &Path) -> Vec<AgentId> {
    let mut text = String::new();
    let read = File::open(beside(file, ".former"));
    let read = read.and_then(|file| file.take(FORMER_BYTES_MAX).read_to_string(&mut text));
    if read.is_err() {
        return Vec::new();
    }
    let lines = text.lines();
    lines.filter_map(|line| line.trim().parse().ok()).collect()
}

/// Adds an agent to those that this host was.
fn remember(file: &Path, agent: AgentId) {
    let mut agents = former(file);
    agents.retain(|one| *one != agent);
    agents.push(agent);
    let newest = agents.len().saturating_sub(FORMER_MAX);
    let lines = agents[newest..].iter().map(|agent| format!("{agent}\n"));
    let path = beside(file, ".former");
    if let Err(error) = state::replace(&path, lines.collect::<String>().as_bytes()) {
        // The rotation goes on: orders that were given before it fall away until they are given anew.
        let path = path.display();
        tracing::warn!(%error, %path, "who this host was is not remembered");
    }
}

fn next_of(file: &Path) -> PathBuf {
    beside(file, ".next")
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Writes a new key so that after a crash there is either none or a whole one.
fn create(file: &Path) -> anyhow::Result<()> {
    let folder = file.parent().context("a key needs a folder")?;
    let seed: [u8; SEED_BYTES] = random()?;
    // Of our own, so that two who make one at once write no half of the other's.
    let young = young(file)?;
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&young)?;
    out.write_all(&seed)?;
    out.sync_all()?;
    // Unlike rename, a link never replaces a key that somebody else has just made.
    let linked = fs::hard_link(&young, file);
    fs::remove_file(&young)?;
    match linked {
        // Theirs is as good.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        linked => linked?,
    }
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// The name of a file that is written before it takes the place of `file`; no other process has it.
///
/// # Errors
/// The system gives no random bytes.
pub(crate) fn young(file: &Path) -> anyhow::Result<PathBuf> {
    let once = u64::from_ne_bytes(random()?);
    Ok(file.with_extension(format!("{once:016x}.new")))
}

/// A boot id for this run.
///
/// # Errors
/// The system gives no random bytes.
pub fn random_boot() -> anyhow::Result<BootId> {
    random().map(BootId)
}

/// Random bytes of the system.
///
/// # Errors
/// It gives none.
pub(crate) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => bail!("the system gives no random bytes"),
    }
}

/// Seals summaries into one chain.
pub struct Sealer {
    chain: Chain,
    identity: Identity,
}

/// A summary, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Its number in the chain.
    pub sequence: u64,
    /// The bytes that travel.
    pub bytes: Vec<u8>,
}

impl Sealer {
    /// Starts a chain at sequence 0.
    pub fn new(agent: AgentId, boot: BootId, identity: Identity) -> Self {
        Self {
            chain: Chain::new(agent, boot),
            identity,
        }
    }

    /// Seals a summary as the next envelope. One that would not fit is made smaller first, which
    /// its `cut` says.
    pub fn seal(&mut self, mut summary: Summary, signed_at_ms: u64) -> Envelope {
        loop {
            if summary.to_bytes().len() <= SUMMARY_BYTES_MAX {
                let mut chain = self.chain;
                let bytes = chain.seal(&summary, signed_at_ms, &self.identity.signer);
                if bytes.len() <= ENVELOPE_BYTES_MAX {
                    let sequence = self.chain.sequence;
                    self.chain = chain;
                    return Envelope { sequence, bytes };
                }
            }
            if !shrink(&mut summary) {
                // Counters and host facts alone: a few KiB, as they come from closed sets.
                summary.counters.clear();
                summary.host.local.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_kept_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.key");
        let first = Identity::load_or_create(&file).unwrap();
        let again = Identity::load_or_create(&file).unwrap();
        assert_eq!(first.agent(), again.agent());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing else is left"
        );

        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Identity::load(&file).err().unwrap().to_string();
        assert!(
            error.contains("chmod 600") && error.contains("0640"),
            "{error}"
        );
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, b"short").unwrap();
        let error = Identity::load(&file).err().unwrap().to_string();
        assert!(error.contains("5 bytes, 32 needed"), "{error}");
    }

    #[test]
    fn a_host_remembers_who_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.key");
        let mut agents = vec![Identity::load_or_create(&file).unwrap().agent()];
        assert!(former(&file).is_empty());
        for _ in 0..20 {
            let succession = Succession::begin(&file).unwrap();
            agents.push(succession.next.agent());
            succession.finish().unwrap();
        }
        let now = agents.pop();
        assert_eq!(now, Some(Identity::load(&file).unwrap().agent()));
        assert_eq!(former(&file), agents[4..]);
        fs::write(folder.path().join("agent.key.former"), b"junk\n\xff").unwrap();
        assert!(former(&file).is_empty());
    }
}
