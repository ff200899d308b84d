//! What an enrolment leaves on the host: the collector's receipt and what it is known by.
//!
//! `enrolment.json` in the state folder, readable by its owner alone, replaced whole. The receipt in it
//! is verified again each time it is read, under the collector's key and for our own.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use picket_wire::enrol::Receipt;
use picket_wire::{AgentId, Digest, PublicKey};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::identity::young;

/// Its name in the state folder.
const FILE: &str = "enrolment.json";

/// Bytes of the file that are read.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// An enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// Address of the collector.
    pub collector: String,
    /// What the collector signed.
    pub receipt: Receipt,
    /// Its bytes.
    bytes: Vec<u8>,
    /// Certificates (DER) that the collector's own stems from.
    pub authorities: Vec<Vec<u8>>,
}

/// As it stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    collector: String,
    /// The collector's key, hex.
    collector_key: String,
    agent: String,
    account: String,
    region: String,
    instance: String,
    level: String,
    /// Base64.
    receipt: String,
    /// Base64 each.
    authorities: Vec<String>,
}

impl Enrolment {
    /// Takes a receipt (bytes that verified) with the authorities to go on with.
    pub fn new(
        collector: &str,
        receipt: Receipt,
        bytes: Vec<u8>,
        authorities: Vec<Vec<u8>>,
    ) -> Self {
        Self {
            collector: collector.to_owned(),
            receipt,
            bytes,
            authorities,
        }
    }

    /// The enrolment with a later receipt. One that names no authorities changes none.
    pub fn followed_by(&self, receipt: Receipt, bytes: Vec<u8>) -> Self {
        let authorities = if receipt.authorities.is_empty() {
            self.authorities.clone()
        } else {
            receipt.authorities.clone()
        };
        Self::new(&self.collector, receipt, bytes, authorities)
    }

    /// The agent that is enrolled.
    pub fn agent(&self) -> AgentId {
        self.receipt.agent()
    }

    /// The certificates that the collector's own must stem from one of.
    pub fn pins(&self) -> Vec<CertificateDer<'static>> {
        let authorities = self.authorities.iter().cloned();
        authorities.map(CertificateDer::from).collect()
    }

    /// Reads the enrolment of a state folder, if there is one.
    ///
    /// # Errors
    /// It cannot be read, or its receipt does not verify.
    pub fn load(state_dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = file(state_dir);
        let named = || format!("read {}", path.display());
        match fs::metadata(&path) {
            Ok(found) if found.len() > FILE_BYTES_MAX => {
                bail!("{} is larger than an enrolment", path.display())
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(named),
        }
        let text = fs::read_to_string(&path).with_context(named)?;
        let again = || format!("{}; enroll this host again", named());
        Self::parse(&text).with_context(again).map(Some)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let kept: Kept = serde_json::from_str(text)?;
        let key: Digest = kept.collector_key.parse().context("the collector's key")?;
        let bytes = STANDARD.decode(&kept.receipt).context("the receipt")?;
        let receipt = Receipt::open(&bytes, &PublicKey(key.0)).context("the receipt")?;
        let authorities = kept.authorities.iter().map(|text| STANDARD.decode(text));
        Ok(Self {
            collector: kept.collector,
            receipt,
            bytes,
            authorities: authorities
                .collect::<Result<_, _>>()
                .context("an authority")?,
        })
    }

    /// Writes down what is to be pinned. If this host was given another key meanwhile, with which it
    /// speaks from its next start on, that enrolment stays and takes the authorities alone.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn store_authorities(&self, state_dir: &Path) -> anyhow::Result<()> {
        match Self::load(state_dir) {
            Ok(Some(mut other)) if other.agent() != self.agent() => {
                other.authorities.clone_from(&self.authorities);
                other.store(state_dir)
            }
            _ => self.store(state_dir),
        }
    }

    /// Writes it down in place of what was there.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn store(&self, state_dir: &Path) -> anyhow::Result<()> {
        let path = file(state_dir);
        let receipt = &self.receipt;
        let kept = Kept {
            collector: self.collector.clone(),
            collector_key: Digest(receipt.collector.0).to_string(),
            agent: receipt.agent().to_string(),
            account: receipt.account.clone(),
            region: receipt.region.clone(),
            instance: receipt.instance.clone(),
            level: receipt.level.to_string(),
            receipt: STANDARD.encode(&self.bytes),
            authorities: self
                .authorities
                .iter()
                .map(|der| STANDARD.encode(der))
                .collect(),
        };
        let mut text = serde_json::to_string_pretty(&kept)?;
        text.push('\n');
        replace(&path, text.as_bytes()).with_context(|| format!("write {}", path.display()))
    }
}

fn file(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// Replaces a file so that after a crash there is the old or the new one, whole.
fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let young = young(path)?;
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&young)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    fs::rename(&young, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use picket_wire::Signer;
    use picket_wire::enrol::Level;

    use super::*;

    fn enrolment() -> Enrolment {
        of_key(7)
    }

    fn of_key(seed: u8) -> Enrolment {
        let collector = Signer::from_seed(&[8; 32]);
        let receipt = Receipt {
            nonce: [0; 32],
            key: Signer::from_seed(&[seed; 32]).public_key(),
            account: "111122223333".into(),
            region: "eu-west-1".into(),
            instance: "web-1".into(),
            level: Level::Token,
            issued_ms: 5,
            collector: collector.public_key(),
            authorities: vec![vec![1, 2, 3]],
        };
        let bytes = receipt.seal(&collector);
        Enrolment::new(
            "https://c.example:8443",
            receipt,
            bytes,
            vec![vec![1, 2, 3]],
        )
    }

    /// The key was rotated while the agent runs: what it goes on to write must not undo that.
    #[test]
    fn authorities_do_not_bring_an_older_key_back() {
        let folder = tempfile::tempdir().unwrap();
        of_key(9).store(folder.path()).unwrap();
        let mut older = enrolment();
        older.authorities = vec![vec![4, 5]];
        older.store_authorities(folder.path()).unwrap();
        let kept = Enrolment::load(folder.path()).unwrap().unwrap();
        assert_eq!(kept.agent(), of_key(9).agent());
        assert_eq!(kept.authorities, older.authorities);
        of_key(9).store_authorities(folder.path()).unwrap();
        assert_eq!(Enrolment::load(folder.path()).unwrap(), Some(of_key(9)));
    }

    #[test]
    fn what_is_stored_is_read_and_verified() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Enrolment::load(folder.path()).unwrap(), None);
        enrolment().store(folder.path()).unwrap();
        enrolment().store(folder.path()).unwrap();
        assert_eq!(Enrolment::load(folder.path()).unwrap(), Some(enrolment()));
        let path = file(folder.path());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        let text = fs::read_to_string(&path).unwrap();
        let other = Digest(Signer::from_seed(&[9; 32]).public_key().0).to_string();
        let key = Digest(enrolment().receipt.collector.0).to_string();
        for (from, to) in [
            (key.as_str(), other.as_str()),
            ("\"receipt\": \"0", "\"receipt\": \"1"),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text, "{from}");
            fs::write(&path, changed).unwrap();
            let error = Enrolment::load(folder.path()).unwrap_err();
            assert!(format!("{error:#}").contains("receipt"), "{error:#}");
        }
    }
}
