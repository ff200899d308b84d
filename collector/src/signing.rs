//! The collector's signing key: what it tells its agents (indicators, orders, receipts) is signed
//! with it.
//!
//! The seed of an Ed25519 key lies in `signing.key` of the state folder (mode 0600), made at the first
//! start; the public half beside it in `signing.pub`, 64 hex digits, as agents take it. Whoever loses
//! the state folder loses the key, and his agents must be told of another.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use picket_wire::{PublicKey, Signer};
use ring::rand::{SecureRandom as _, SystemRandom};

/// Bytes of the key's file: a seed (RFC 8032 section 5.1.5) and nothing else.
const SEED_BYTES: usize = 32;

/// The key, and its public half.
pub(crate) struct SigningKey {
    signer: Signer,
    public: PublicKey,
}

impl SigningKey {
    /// Takes the key of a state folder, making one if there is none.
    ///
    /// # Errors
    /// It cannot be read or made, is no key, or others than its owner may read it.
    pub(crate) fn load_or_create(state_dir: &Path) -> anyhow::Result<Self> {
        let file = state_dir.join("signing.key");
        if !file.exists() {
            create(&file).with_context(|| format!("make the key {}", file.display()))?;
        }
        let key = Self::load(&file)?;
        tell(&state_dir.join("signing.pub"), &key.public)?;
        Ok(key)
    }

    fn load(file: &Path) -> anyhow::Result<Self> {
        let shown = file.display();
        let read = || format!("read the key {shown}");
        let mode = fs::metadata(file).with_context(read)?.mode();
        if mode & 0o077 != 0 {
            bail!(
                "the key {shown} may be read by others (mode {:04o}); chmod 600 it",
                mode & 0o7777
            );
        }
        let bytes = fs::read(file).with_context(read)?;
        let Ok(seed) = <[u8; SEED_BYTES]>::try_from(bytes.as_slice()) else {
            bail!(
                "the key {shown} has {} bytes, {SEED_BYTES} needed",
                bytes.len()
            );
        };
        let signer = Signer::from_seed(&seed);
        let public = signer.public_key();
        if public.is_development() {
            bail!("the key {shown} is the public development key, which proves nothing");
        }
        Ok(Self { signer, public })
    }

    /// What signs.
    pub(crate) fn signer(&self) -> &Signer {
        &self.signer
    }

    /// What agents are told.
    pub(crate) fn public(&self) -> PublicKey {
        self.public
    }
}

/// Writes a new key so that after a crash there is either none or a whole one.
fn create(file: &Path) -> anyhow::Result<()> {
    let mut seed = [0; SEED_BYTES];
    if SystemRandom::new().fill(&mut seed).is_err() {
        bail!("the system gives no random bytes");
    }
    let young = file.with_extension("new");
    // One that a crash left behind was never used.
    let _ = fs::remove_file(&young);
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&young)?;
    out.write_all(&seed)?;
    out.sync_all()?;
    // Unlike rename, a link never replaces a key that is there.
    let linked = fs::hard_link(&young, file);
    fs::remove_file(&young)?;
    linked?;
    File::open(file.parent().context("a key needs a folder")?)?.sync_all()?;
    Ok(())
}

/// Writes the public half where people find it, unless it is there.
fn tell(file: &Path, key: &PublicKey) -> anyhow::Result<()> {
    let text = format!("{key}\n");
    if fs::read_to_string(file).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let part = file.with_extension("part");
    fs::write(&part, text)
        .and_then(|()| fs::rename(&part, file))
        .with_context(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_made_once_and_kept_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let first = SigningKey::load_or_create(folder.path()).unwrap().public();
        let file = folder.path().join("signing.key");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        // What a crash leaves half-written is neither used nor in the way.
        fs::write(folder.path().join("signing.new"), b"half").unwrap();
        let again = SigningKey::load_or_create(folder.path()).unwrap();
        assert_eq!(again.public(), first);
        assert_eq!(again.signer().public_key(), first);
        let told = fs::read_to_string(folder.path().join("signing.pub")).unwrap();
        assert_eq!(told, format!("{first}\n"));
    }

    #[test]
    fn what_is_no_key_is_refused_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("signing.key");
        let check = |expected: &str| {
            let error = SigningKey::load_or_create(folder.path()).err().unwrap();
            let error = format!("{error:#}");
            assert!(error.contains(expected), "{error}");
        };
        SigningKey::load_or_create(folder.path()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        check("chmod 600");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, b"short").unwrap();
        check("5 bytes, 32 needed");
        fs::write(&file, b"picket: the public test key (32)").unwrap();
        check("development key");
    }
}
