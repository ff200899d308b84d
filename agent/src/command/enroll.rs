//! `enroll`: has a collector believe this host's key.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use picket_wire::Digest;
use rustls::pki_types::CertificateDer;

use crate::config::{Config, bad};
use crate::enrol::own::{alone, hostname, make_sure};
use crate::enrol::{self, Desk, Enrolment, Showing, Unenrolled};
use crate::identity::{Identity, Succession};
use crate::imds::Imds;
use crate::log;
use crate::machine::Machine;
use crate::privilege::{Keep, become_owner};
use crate::ship::collector::client;
use crate::tls::{Pins, certificates};

/// What is logged unless `PICKET_LOG` says otherwise.
const LOG: &str = "warn";

/// Where the configuration is unless told otherwise; it need not be there.
const CONFIG: &str = "/etc/picket/agent.toml";

/// Makes this host's key known to a collector
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Address of the collector, `https://host:port`; the configured one unless given
    #[arg(long, value_name = "URL")]
    collector: Option<String>,
    /// Authority (PEM) that the collector's certificate stems from; two during a change
    #[arg(long, value_name = "FILE")]
    ca_file: Vec<PathBuf>,
    /// SHA-256 of an authority's certificate (DER), in place of a file: 64 hex digits
    #[arg(long, value_name = "HEX", conflicts_with = "ca_file")]
    ca_sha256: Vec<Digest>,
    /// File with a join token, for hosts that AWS does not vouch for; `-` for standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// With a token: the account of this host, if the configuration does not say
    #[arg(long, requires = "token_file")]
    account: Option<String>,
    /// With a token: its region
    #[arg(long, requires = "token_file")]
    region: Option<String>,
    /// With a token: what it is called
    #[arg(long, requires = "token_file")]
    instance: Option<String>,
    /// Make a new key and have it follow the one that is believed now
    #[arg(long, conflicts_with = "token_file")]
    rotate: bool,
    /// Make a new key and enroll with it as a new host does: once the one before was revoked and the
    /// host released, or is lost
    #[arg(long, conflicts_with = "rotate")]
    new_key: bool,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the metadata service; the configured one unless given
    #[arg(long, value_name = "URL")]
    imds: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    log::begin(LOG);
    let mut config = configuration(arguments)?;
    fs::create_dir_all(&config.state_dir)
        .with_context(|| format!("make {}", config.state_dir.display()))?;
    let given = Given::read(arguments)?;
    // Root writes nothing that the agent's user could not read.
    become_owner(&config.state_dir, Keep::Nothing)?;
    let _alone = alone(&config.state_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    if let Some(imds) = &arguments.imds {
        config.enrol.imds.clone_from(imds);
    }
    let mut imds = Imds::new(&config.enrol.imds)?;
    runtime.block_on(make_sure(&config, &mut imds, &given.machine))?;
    adopt(&mut config)?;
    if let Some(was) = &config.carried {
        eprintln!(
            "picket-agent: this host carried the identity of {}, which is set aside; it enrolls anew",
            was.receipt.instance
        );
    }
    runtime.block_on(Enrolling::open(arguments, config, given)?.run())?;
    Ok(ExitCode::SUCCESS)
}

fn configuration(arguments: &Arguments) -> anyhow::Result<Config> {
    match &arguments.config {
        Some(file) => Config::load(file),
        None if Path::new(CONFIG).exists() => Config::load(Path::new(CONFIG)),
        None => Ok(Config::default()),
    }
}

/// Takes what was enrolled before; what cannot be read is no reason not to enroll.
fn adopt(config: &mut Config) -> anyhow::Result<()> {
    if let Err(error) = Enrolment::load(&config.state_dir) {
        eprintln!("picket-agent: the enrolment before is passed over: {error:#}");
        return Ok(());
    }
    config.adopt()
}

/// What the caller can read and the agent's user perhaps not.
struct Given {
    /// The authorities of the files that are named; none if none is.
    authorities: Vec<CertificateDer<'static>>,
    /// The token, if a file is named. That it cannot be read matters only where one is needed.
    token: Option<anyhow::Result<String>>,
    machine: Machine,
}

impl Given {
    fn read(arguments: &Arguments) -> anyhow::Result<Self> {
        let token = arguments
            .token_file
            .as_deref()
            .map(|file| match file == Path::new("-") {
                true => enrol::token_of(std::io::stdin()).context("read token"),
                false => enrol::token(file),
            });
        Ok(Self {
            authorities: certificates(&arguments.ca_file)?,
            token,
            machine: Machine::here(),
        })
    }
}

/// An enrolment under way.
struct Enrolling<'a> {
    arguments: &'a Arguments,
    config: Config,
    given: Given,
    collector: String,
    pins: Arc<Pins>,
}

impl<'a> Enrolling<'a> {
    fn open(arguments: &'a Arguments, config: Config, given: Given) -> anyhow::Result<Self> {
        let collector = arguments
            .collector
            .clone()
            .or_else(|| config.collector.clone());
        let collector =
            collector.ok_or_else(|| bad("collector", "missing; or give --collector"))?;
        let pins = if !given.authorities.is_empty() {
            Arc::new(Pins::of_certificates(&given.authorities)?)
        } else if !arguments.ca_sha256.is_empty() {
            Arc::new(Pins::of_digests(&arguments.ca_sha256)?)
        } else if config.ca_files.is_empty()
            && config.enrolment.is_none()
            && config.carried.is_none()
        {
            let problem = "missing; or give --ca-file or --ca-sha256";
            return Err(bad("ca_files", problem).into());
        } else {
            config.pins()?
        };
        Ok(Self {
            arguments,
            config,
            given,
            collector,
            pins,
        })
    }

    async fn run(self) -> anyhow::Result<()> {
        let key_file = self.config.key_file();
        let client = client(&self.pins, self.config.proxy()?.as_ref())?;
        let desk = Desk::new(client, &self.collector)?;
        if self.arguments.rotate {
            return self.rotate(&desk, &key_file).await;
        }
        if self.arguments.new_key {
            return self.anew(&desk, &key_file).await;
        }
        let identity = Identity::load_or_create(&key_file)?;
        let before = self.config.enrolment.as_ref();
        let before = before.filter(|before| {
            before.agent() == identity.agent() && before.collector == self.collector
        });
        let (word, taken) = match before {
            Some(before) => {
                let expected = Some(before.receipt.collector);
                let taken = desk.enrol(&identity, Showing::Itself, expected).await?;
                ("already enrolled", taken)
            }
            None => ("enrolled", self.enrol(&desk, &identity).await?),
        };
        self.keep(word, taken)
    }

    async fn enrol(
        &self,
        desk: &Desk,
        identity: &Identity,
    ) -> anyhow::Result<(picket_wire::enrol::Receipt, Vec<u8>)> {
        let Some(token) = &self.given.token else {
            let mut imds = Imds::new(&self.config.enrol.imds)?;
            return desk.enrol(identity, Showing::Ec2(&mut imds), None).await;
        };
        let token = match token {
            Ok(token) => token,
            Err(error) => bail!("{error:#}"),
        };
        let mut named = self.config.identity.clone();
        // An image's neighbours are its own, its name is not.
        if let Some(was) = &self.config.carried {
            for (own, named) in [
                (&mut named.account, was.receipt.account.clone()),
                (&mut named.region, was.receipt.region.clone()),
                (&mut named.instance, hostname()),
            ] {
                if own.is_empty() {
                    *own = named;
                }
            }
        }
        let of = |key: &str, given: &Option<String>, configured: &str| {
            let name = given.clone().unwrap_or_else(|| configured.to_owned());
            if name.is_empty() {
                let option = key.trim_start_matches("identity.");
                return Err(bad(key, &format!("missing; or give --{option}")));
            }
            Ok(name)
        };
        let account = of("identity.account", &self.arguments.account, &named.account)?;
        let region = of("identity.region", &self.arguments.region, &named.region)?;
        let instance = of(
            "identity.instance",
            &self.arguments.instance,
            &named.instance,
        )?;
        let showing = Showing::Token {
            token,
            account: &account,
            region: &region,
            instance: &instance,
        };
        desk.enrol(identity, showing, None).await
    }

    /// Enrols with a new key, of which the one before knows nothing.
    async fn anew(&self, desk: &Desk, key_file: &Path) -> anyhow::Result<()> {
        let mut succession = Succession::begin(key_file)?;
        let outcome = self.enrol(desk, &succession.next).await;
        let taken = match outcome {
            // It was begun before, and an operator revoked that one as well.
            Err(error) if is_revoked(&error) => {
                succession.discard()?;
                succession = Succession::begin(key_file)?;
                self.enrol(desk, &succession.next).await?
            }
            taken => taken?,
        };
        self.keep("enrolled with a new key", taken)?;
        succession.finish()?;
        println!("restart picket-agent to speak with it; what the old key signed is lost");
        Ok(())
    }

    /// Puts a new key in the place of the one that is believed.
    async fn rotate(&self, desk: &Desk, key_file: &Path) -> anyhow::Result<()> {
        let Some(before) = &self.config.enrolment else {
            bail!("this host is not enrolled; enroll it without --rotate first");
        };
        let old = Identity::load(key_file)?;
        if before.agent() != old.agent() {
            bail!(
                "this host enrolled with another key than {}",
                key_file.display()
            );
        }
        let succession = Succession::begin(key_file)?;
        let expected = Some(before.receipt.collector);
        let taken = desk
            .enrol(&succession.next, Showing::Predecessor(&old), expected)
            .await?;
        // The receipt comes first: a crash before the key follows is made good at the next start.
        self.keep("new key enrolled", taken)?;
        succession.finish()?;
        println!("restart picket-agent to speak with it; what the old key signed is still taken");
        Ok(())
    }

    /// Writes down what the collector said.
    fn keep(
        &self,
        word: &str,
        (receipt, bytes): (picket_wire::enrol::Receipt, Vec<u8>),
    ) -> anyhow::Result<()> {
        let authorities = if receipt.authorities.is_empty() {
            self.authorities()?
        } else {
            receipt.authorities.clone()
        };
        let told = format!(
            "{word}: agent {} is {} in {} of account {}, trusted by {}",
            receipt.agent(),
            receipt.instance,
            receipt.region,
            receipt.account,
            receipt.level
        );
        let enrolment = Enrolment::new(&self.collector, receipt, bytes, authorities);
        enrolment.store(&self.config.state_dir)?;
        self.given
            .machine
            .note(&self.config.state_dir, enrolment.agent())?;
        println!("{told}");
        Ok(())
    }

    /// What to go on pinning where the collector announces nothing: what was pinned for this.
    fn authorities(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        if let Some(shown) = self.pins.shown() {
            return Ok(vec![shown]);
        }
        let all = match self.given.authorities.as_slice() {
            [] => certificates(&self.config.ca_files)?,
            given => given.to_vec(),
        };
        if !all.is_empty() {
            return Ok(all.iter().map(|one| one.to_vec()).collect());
        }
        let before = self.config.enrolment.as_ref();
        Ok(before
            .or(self.config.carried.as_ref())
            .map(|before| before.authorities.clone())
            .unwrap_or_default())
    }
}

fn is_revoked(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Unenrolled>();
    matches!(refused, Some(Unenrolled::Refused { word }) if word == "revoked")
}
