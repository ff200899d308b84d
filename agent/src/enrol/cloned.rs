//! A cloned identity: key and enrolment of another host, found on this one. An image that was made of an
//! enrolled host carries them, and a volume that was moved.
//!
//! They are never spoken with. Who proves to be another host sets them aside, into `cloned/` in the state
//! folder, with the envelopes that wait: those are the other host's to send. The enrolment goes first and
//! the key last, so that whoever is interrupted knows what to go on with.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use picket_wire::enrol::Level;
use serde::Deserialize;

use super::Enrolment;
use crate::config::Config;
use crate::identity::Identity;
use crate::imds::Imds;
use crate::machine::{self, Machine};
use crate::spool;

/// Its name in the state folder. One is kept: the key of a host that is not ours is of no use here.
const FOLDER: &str = "cloned";

/// What the metadata service says of an instance, unsigned: enough to doubt.
const DOCUMENT: &str = "dynamic/instance-identity/document";

/// What a host is called.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Named {
    /// Its account.
    #[serde(rename = "accountId")]
    pub account: String,
    /// Its region.
    pub region: String,
    /// The instance it is.
    #[serde(rename = "instanceId")]
    pub instance: String,
}

impl Named {
    /// What the metadata service calls this host.
    ///
    /// # Errors
    /// It does not answer, or not as one of EC2 does.
    pub async fn by(imds: &mut Imds) -> anyhow::Result<Self> {
        let text = imds.text(DOCUMENT).await?;
        let text = text.context("the metadata service has no document of this instance")?;
        serde_json::from_str(&text).context("read the instance's document")
    }
}

/// Whether this host is the one that enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sameness {
    /// It is, as far as can be known.
    Same,
    /// Who could tell does not answer. Until then it is.
    Unsure(String),
    /// It is another for certain.
    Other(String),
}

/// Asks whether this host is the one of an enrolment: the metadata service where that vouched for it, else
/// the machine itself.
///
/// # Errors
/// What was written down of the machine cannot be read.
pub async fn sameness(
    enrolment: &Enrolment,
    state_dir: &Path,
    imds: &mut Imds,
    here: &Machine,
) -> anyhow::Result<Sameness> {
    let receipt = &enrolment.receipt;
    if is_by_ec2(receipt.level) {
        return Ok(match Named::by(imds).await {
            Ok(now) if now.instance == receipt.instance => Sameness::Same,
            Ok(now) => Sameness::Other(format!(
                "enrolled as {}, and this is {}",
                receipt.instance, now.instance
            )),
            Err(error) => Sameness::Unsure(format!(
                "whether this is still {} is not known: {error:#}",
                receipt.instance
            )),
        });
    }
    let then = Machine::of(state_dir, enrolment.agent())?;
    let other = then.and_then(|then| then.differs_by(here));
    Ok(match other {
        None => Sameness::Same,
        Some(by) => Sameness::Other(format!(
            "enrolled as {}, on a machine of another {by}",
            receipt.instance
        )),
    })
}

/// Whether AWS vouched for it.
pub(super) fn is_by_ec2(level: Level) -> bool {
    matches!(level, Level::Ec2Document | Level::Ec2Sts)
}

/// The enrolment of another host that was set aside here, if there is one.
#[must_use]
pub fn left(state_dir: &Path) -> Option<Enrolment> {
    let found = Enrolment::load(&state_dir.join(FOLDER));
    found
        .inspect_err(|error| tracing::warn!(error = format!("{error:#}"), "cloned identity"))
        .ok()
        .flatten()
}

/// Sets the identity of `was` aside; says how many of its envelopes waited here. Goes on where it was
/// interrupted.
///
/// # Errors
/// Something cannot be moved. Then the key must not be used.
pub fn set_aside(config: &Config, was: &Enrolment) -> anyhow::Result<u64> {
    let (from, to) = (&config.state_dir, config.state_dir.join(FOLDER));
    let named = || format!("set the identity of {} aside", was.receipt.instance);
    if left(from).is_none_or(|before| before.agent() != was.agent()) {
        remove(&to).with_context(named)?;
    }
    state_folder(&to).with_context(named)?;
    let envelopes = spool::count(&config.spool_dir()).with_context(named)?;
    let key = config.key_file();
    let key_name = key.file_name().context("a key needs a name")?;
    let next_to_key = |ending: &str| {
        let mut path = key.clone().into_os_string();
        path.push(ending);
        PathBuf::from(path)
    };
    for (path, name) in [
        (from.join("enrolment.json"), "enrolment.json".into()),
        (config.spool_dir(), "spool".into()),
        (from.join("state.json"), "state.json".into()),
        (from.join(machine::file()), machine::file().into()),
        (next_to_key(".next"), "agent.key.next".into()),
        (next_to_key(".former"), "agent.key.former".into()),
        (key.clone(), PathBuf::from(key_name)),
    ] {
        transfer(&path, &to.join(name))
            .with_context(|| format!("{}: move {}", named(), path.display()))?;
    }
    Ok(envelopes)
}

/// Whether the key in use is the one of an enrolment.
///
/// # Errors
/// There is a key and it cannot be read.
pub(super) fn has_key_of(config: &Config, enrolment: &Enrolment) -> anyhow::Result<bool> {
    let file = config.key_file();
    Ok(file.exists() && Identity::load(&file)?.agent() == enrolment.agent())
}

fn state_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Moves a file or a folder, if it is there, in place of what was.
fn transfer(from: &Path, to: &Path) -> io::Result<()> {
    if !from.exists() {
        return Ok(());
    }
    if to.is_dir() {
        fs::remove_dir_all(to)?;
    }
    match fs::rename(from, to) {
        // A key may lie on another file system.
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            fs::copy(from, to)?;
            fs::remove_file(from)
        }
        moved => moved,
    }
}

#[cfg(test)]
mod tests {
    use picket_wire::Signer;
    use picket_wire::enrol::Receipt;

    use super::*;

    /// A state folder as a host leaves it that enrolled with this key.
    fn enrolled(folder: &Path, level: Level) -> (Config, Enrolment) {
        let config = Config {
            state_dir: folder.to_owned(),
            ..Config::default()
        };
        let key = Identity::load_or_create(&config.key_file()).unwrap();
        let collector = Signer::from_seed(&[8; 32]);
        let receipt = Receipt {
            nonce: [0; 32],
            key: key.public_key(),
            account: "111122223333".into(),
            region: "eu-west-1".into(),
            instance: "i-1".into(),
            level,
            issued_ms: 5,
            collector: collector.public_key(),
            authorities: vec![vec![1]],
        };
        let bytes = receipt.seal(&collector);
        let enrolment = Enrolment::new("https://c.example", receipt, bytes, vec![vec![1]]);
        enrolment.store(folder).unwrap();
        (config, enrolment)
    }

    #[test]
    fn everything_of_the_other_host_is_set_aside_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (config, was) = enrolled(folder.path(), Level::Token);
        fs::create_dir(at("spool")).unwrap();
        for name in [
            "spool/7.window",
            "spool/8.hit",
            "spool/9.new",
            "state.json",
            "machine.json",
        ] {
            fs::write(at(name), b"x").unwrap();
        }
        fs::write(at("agent.key.former"), b"x").unwrap();
        fs::write(at("given-orders"), b"x").unwrap();
        assert_eq!(left(folder.path()), None);
        assert!(has_key_of(&config, &was).unwrap());
        assert_eq!(set_aside(&config, &was).unwrap(), 2);
        let kept: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(
            kept.len(),
            2,
            "the folder and what is not the key's: {kept:?}"
        );
        assert_eq!(left(folder.path()), Some(was.clone()));
        for name in [
            "agent.key",
            "agent.key.former",
            "spool/7.window",
            "state.json",
        ] {
            assert!(at("cloned").join(name).exists(), "{name}");
        }
        assert!(!has_key_of(&config, &was).unwrap());

        // Interrupted before the key went: it is still known whose it is.
        fs::rename(at("cloned/agent.key"), at("agent.key")).unwrap();
        assert!(has_key_of(&config, &left(folder.path()).unwrap()).unwrap());
        assert_eq!(set_aside(&config, &was).unwrap(), 0);
        assert!(!at("agent.key").exists() && at("cloned/spool/7.window").exists());

        // An image of this host, in its turn.
        let (config, own) = enrolled(folder.path(), Level::Token);
        assert_ne!(own.agent(), was.agent());
        assert_eq!(set_aside(&config, &own).unwrap(), 0);
        assert_eq!(left(folder.path()), Some(own));
        assert!(!at("cloned/spool").exists(), "one is kept");
    }

    #[tokio::test]
    async fn who_cannot_be_asked_proves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        // Nobody listens on the port of the discard service.
        let mut imds = Imds::new("http://127.0.0.1:9").unwrap();
        let (_, by_ec2) = enrolled(folder.path(), Level::Ec2Sts);
        let here = Machine::here();
        let found = sameness(&by_ec2, folder.path(), &mut imds, &here)
            .await
            .unwrap();
        assert!(
            matches!(&found, Sameness::Unsure(why) if why.contains("still i-1")),
            "{found:?}"
        );
        // Nothing was written down of the machine.
        fs::remove_file(folder.path().join("agent.key")).unwrap();
        let (_, by_token) = enrolled(folder.path(), Level::Token);
        let found = sameness(&by_token, folder.path(), &mut imds, &here)
            .await
            .unwrap();
        assert_eq!(found, Sameness::Same);
    }
}
