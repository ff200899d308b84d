//! An identity of one's own: what a start sees to before anything is said in somebody's name. A host that
//! carries the identity of another ([`super::cloned`]) sets it aside and enrolls by itself where it can: by
//! the word of the metadata service, or with the join token that its configuration names. Where it
//! cannot, it watches and spools under its new key, tells nobody, and tries again.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use picket_wire::limits::ENROL_TEXT_BYTES_MAX;
use tokio::time::{sleep, timeout};

use super::cloned::{self, Named, Sameness, sameness};
use super::{Desk, Enrolment, FRESH_AGAIN, Showing, Unenrolled};
use crate::config::{Config, IdentityConfig};
use crate::hostname::HostName;
use crate::identity::Identity;
use crate::imds::Imds;
use crate::machine::Machine;
use crate::ship::{collector::client, jittered};

/// How long a start waits for the metadata service. It answers in a millisecond where it is, and a
/// sensor that waits is blind.
const LOOK_WAIT: Duration = Duration::from_secs(3);

/// How long a start waits for an enrolment.
const ENROL_WAIT: Duration = Duration::from_secs(20);

/// How often is asked again who this host is, where nobody answered.
const LOOK_AGAIN: Duration = Duration::from_secs(20);

/// How often is looked whether somebody enrolled this host by hand.
const GLANCE: Duration = Duration::from_secs(5);

/// How long a refusal stands before it is asked for again: an operator may have said something.
const REFUSED_AGAIN: Duration = Duration::from_secs(3_600);

/// How a start found this host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Envelopes of another host that were set aside.
    pub set_aside: u64,
    /// Why it is not known whether the identity is this host's own.
    pub unsure: Option<String>,
    /// Why this host has no identity that a collector knows, where one of another was found.
    pub nobody: Option<String>,
}

impl Found {
    /// What an operator should know of it.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.nobody.as_deref().or(self.unsure.as_deref())
    }
}

/// Waits until no other enrolls this host: each would make a key or a request of its own.
///
/// # Errors
/// The lock cannot be made.
pub fn alone(state_dir: &Path) -> anyhow::Result<fs::File> {
    locked(state_dir, |file| Ok(file.lock()?))
}

/// The same for who cannot wait.
fn alone_now(state_dir: &Path) -> anyhow::Result<fs::File> {
    locked(state_dir, |file| Ok(file.try_lock()?))
}

fn locked(
    state_dir: &Path,
    lock: impl Fn(&fs::File) -> anyhow::Result<()>,
) -> anyhow::Result<fs::File> {
    let path = state_dir.join("enroll.lock");
    let named = || format!("lock {}", path.display());
    let file = fs::File::create(&path).with_context(named)?;
    lock(&file).with_context(named)?;
    Ok(file)
}

/// Sets an identity aside that is another host's than `here`; the caller is [`alone`]. What cannot be read
/// is passed over.
///
/// # Errors
/// The identity is another's and cannot be moved.
pub async fn make_sure(config: &Config, imds: &mut Imds, here: &Machine) -> anyhow::Result<Found> {
    let mut found = Found::default();
    // Interrupted before.
    if let Some(was) = cloned::left(&config.state_dir)
        && cloned::has_key_of(config, &was)?
    {
        found.set_aside += cloned::set_aside(config, &was)?;
    }
    let Ok(Some(enrolment)) = Enrolment::load(&config.state_dir) else {
        return Ok(found);
    };
    if !cloned::has_key_of(config, &enrolment)? {
        return Ok(found);
    }
    let looking = sameness(&enrolment, &config.state_dir, imds, here);
    let looked = timeout(LOOK_WAIT, looking).await;
    let looked = looked.unwrap_or_else(|_| {
        let instance = &enrolment.receipt.instance;
        let why = format!("whether this is still {instance} is not known: no answer in time");
        Ok(Sameness::Unsure(why))
    })?;
    match looked {
        Sameness::Same => {
            let noted = here.note(&config.state_dir, enrolment.agent());
            // The next start tries again.
            noted.unwrap_or_else(|error| {
                tracing::warn!(error = format!("{error:#}"), "machine not noted");
            });
        }
        Sameness::Unsure(why) => {
            tracing::warn!(why, "identity kept");
            found.unsure = Some(why);
        }
        Sameness::Other(why) => {
            found.set_aside += cloned::set_aside(config, &enrolment)?;
            tracing::error!(
                why, was = %enrolment.agent(), envelopes = found.set_aside,
                "this host carried the identity of another, which was set aside with what waited to be sent"
            );
        }
    }
    Ok(found)
}

/// Sees to it that this host has an identity of its own, and takes what its enrolment says.
///
/// # Errors
/// The enrolment cannot be read, or the identity of another cannot be set aside.
pub async fn settle(config: &mut Config) -> anyhow::Result<Found> {
    let _alone = alone(&config.state_dir)?;
    let mut imds = Imds::new(&config.enrol.imds)?;
    let here = Machine::here();
    let mut found = make_sure(config, &mut imds, &here).await?;
    config.adopt()?;
    let Some(was) = config.carried.clone() else {
        return Ok(found);
    };
    let trying = timeout(ENROL_WAIT, enrol(config, &was, &mut imds)).await;
    let trying = trying.unwrap_or_else(|_| bail_late());
    match trying {
        Ok(enrolment) => {
            tracing::info!(agent_id = %enrolment.agent(), instance = enrolment.receipt.instance, "enrolled");
            config.adopt()?;
        }
        Err(error) => {
            let why = format!(
                "not enrolled: this host carried the identity of {}, an image's or a moved volume's, \
                 which is set aside, and has none of its own yet: {error:#}; see picket-agent enroll",
                was.receipt.instance
            );
            tracing::error!(why, "nothing is sent");
            config.identity = name(config, &was, &mut imds).await;
            found.nobody = Some(why);
        }
    }
    Ok(found)
}

fn bail_late() -> anyhow::Result<Enrolment> {
    bail!("no answer in {} s", ENROL_WAIT.as_secs())
}

/// Enrolls with a key of our own at the collector that the other host was known to.
async fn enrol(config: &Config, was: &Enrolment, imds: &mut Imds) -> anyhow::Result<Enrolment> {
    let collector = config.collector.as_deref().unwrap_or(&was.collector);
    let client = client(&config.pins()?, config.proxy()?.as_ref())?;
    let desk = Desk::new(client, collector)?;
    let identity = Identity::load_or_create(&config.key_file())?;
    let is_its = config.elsewhere.is_none();
    let expected = is_its.then_some(was.receipt.collector);
    let token = match &config.enrol.token_file {
        None => None,
        Some(file) => Some(super::token(file)?),
    };
    let (receipt, bytes) = match &token {
        None if !cloned::is_by_ec2(was.receipt.level) => {
            bail!("it had a join token, and enrol.token_file names none for this host")
        }
        None => desk.enrol(&identity, Showing::Ec2(imds), expected).await?,
        Some(token) => {
            let name = name(config, was, imds).await;
            let showing = Showing::Token {
                token,
                account: &name.account,
                region: &name.region,
                instance: &name.instance,
            };
            desk.enrol(&identity, showing, expected).await?
        }
    };
    let authorities = match receipt.authorities.as_slice() {
        [] => was.authorities.clone(),
        some => some.to_vec(),
    };
    let enrolment = Enrolment::new(collector, receipt, bytes, authorities);
    enrolment.store(&config.state_dir)?;
    Machine::here().note(&config.state_dir, enrolment.agent())?;
    Ok(enrolment)
}

/// What this host is called as long as no collector says it: as the metadata service has it, else by its
/// host name in the other's account and region.
async fn name(config: &Config, was: &Enrolment, imds: &mut Imds) -> IdentityConfig {
    let own = &config.identity;
    let receipt = &was.receipt;
    let named = match cloned::is_by_ec2(receipt.level) {
        true => timeout(LOOK_WAIT, Named::by(imds))
            .await
            .ok()
            .and_then(Result::ok),
        false => None,
    };
    let named = named.unwrap_or_else(|| Named {
        account: receipt.account.clone(),
        region: receipt.region.clone(),
        instance: hostname(),
    });
    let of = |own: &str, named: String| match own.is_empty() {
        true => named,
        false => own.to_owned(),
    };
    IdentityConfig {
        instance: of(&own.instance, named.instance),
        account: of(&own.account, named.account),
        region: of(&own.region, named.region),
    }
}

/// The host's name, as an instance may be called; `unnamed` if it has none.
pub fn hostname() -> String {
    let name = HostName::here();
    let name = name.now().unwrap_or("unnamed");
    name.chars().take(ENROL_TEXT_BYTES_MAX / 4).collect()
}

/// Returns, with the reason, once the service is to begin anew: this host has enrolled, or is known to be
/// another than the one it speaks for. Never where nothing is open.
pub async fn begin_anew(config: Config, found: Found) -> String {
    match (found.nobody, found.unsure) {
        (Some(_), _) => become_somebody(&config).await,
        (None, Some(_)) => until_other(&config).await,
        (None, None) => std::future::pending().await,
    }
}

async fn until_other(config: &Config) -> String {
    loop {
        sleep(jittered(LOOK_AGAIN)).await;
        let Some(enrolment) = &config.enrolment else {
            continue;
        };
        let looked = match Imds::new(&config.enrol.imds) {
            Ok(mut imds) => {
                let here = Machine::here();
                sameness(enrolment, &config.state_dir, &mut imds, &here).await
            }
            Err(error) => Err(error),
        };
        match looked {
            Ok(Sameness::Other(why)) => return why,
            Ok(Sameness::Same) => {
                tracing::info!("this is the host that enrolled");
                std::future::pending::<()>().await;
            }
            Ok(Sameness::Unsure(_)) | Err(_) => {}
        }
    }
}

async fn become_somebody(config: &Config) -> String {
    let Some(was) = &config.carried else {
        return std::future::pending().await;
    };
    let mut pause = FRESH_AGAIN;
    loop {
        let again = tokio::time::Instant::now() + jittered(pause);
        while tokio::time::Instant::now() < again {
            sleep(GLANCE).await;
            if let Ok(Some(own)) = Enrolment::load(&config.state_dir)
                && cloned::has_key_of(config, &own).unwrap_or(false)
            {
                return format!("enrolled as {}", own.receipt.instance);
            }
        }
        let tried = match (alone_now(&config.state_dir), Imds::new(&config.enrol.imds)) {
            (Ok(_alone), Ok(mut imds)) => enrol(config, was, &mut imds).await,
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        match tried {
            Ok(own) => return format!("enrolled as {}", own.receipt.instance),
            Err(error) => {
                let is_final = matches!(error.downcast_ref(), Some(Unenrolled::Refused { .. }));
                pause = if is_final { REFUSED_AGAIN } else { FRESH_AGAIN };
                tracing::warn!(error = format!("{error:#}"), "not enrolled");
            }
        }
    }
}
