//! Which key is believed, and why: each kind of proof in turn.

use std::sync::Arc;

use picket_detect::identity::{self, Certificate, Document};
use picket_detect::{SensorEvent, SensorWord};
use picket_wire::claim::Purpose;
use picket_wire::enrol::{Level, Proof, Request, Sts, server_of, succession};
use picket_wire::{AgentId, PublicKey, SealedClaim};

use super::challenges::{Challenges, Stale};
use super::settings::{DocumentOnly, Settings};
use super::sts::{Asker, Binding};
use super::{Refused, join};
use crate::analysis::Inbox;
use crate::clock;
use crate::config::check_account;
use crate::metrics::Metrics;
use crate::registry::{Entry, Newcomer, Registry, Unfit};
use crate::store::enrolled::Enrolled;
use crate::store::{Store, join_tokens};

/// How far ahead of our clock an instance may have started: its own clock and ours.
const START_AHEAD_MS: u64 = 300_000;

/// Longest name of an instance that is none of EC2's.
const INSTANCE_BYTES_MAX: usize = 128;

/// What is needed to judge.
pub(super) struct Judge {
    pub(super) settings: Settings,
    /// Accounts whose instances may enrol.
    pub(super) accounts: Vec<String>,
    pub(super) certificates: Vec<Certificate>,
    pub(super) asker: Asker,
    pub(super) challenges: Challenges,
    pub(super) registry: Arc<Registry>,
    pub(super) store: Store,
    /// The collector's key.
    pub(super) collector: PublicKey,
    /// Who is told of a second key.
    pub(super) analysis: Inbox,
    pub(super) metrics: Arc<Metrics>,
}

/// The host that a key is to speak for, and why.
struct Host {
    account: String,
    region: String,
    instance: String,
    level: Level,
    by: String,
    is_pending: bool,
}

impl Judge {
    /// Judges a request; its nonce is used up however it ends.
    pub(super) async fn judge(&self, request: &Request) -> Result<Arc<Entry>, Refused> {
        if request.key().is_development() {
            let why = "the key is the public development key";
            return Err(Refused::forbidden("development_key", why));
        }
        if request.server() != server_of(&self.collector) {
            return Err(Refused::forbidden("server", "signed for another collector"));
        }
        self.challenges
            .take(&request.nonce, clock::now_ms())
            .map_err(|stale| match stale {
                Stale::Unknown => Refused::forbidden("nonce_unknown", "the nonce is not ours"),
                Stale::Expired => Refused::forbidden("nonce_expired", "the nonce has ended"),
                Stale::Used => Refused::forbidden("nonce_used", "the nonce was used before"),
            })?;
        match &request.proof {
            Proof::Token {
                token,
                account,
                region,
                instance,
            } => {
                let host = Host {
                    account: account.clone(),
                    region: region.clone(),
                    instance: instance.clone(),
                    level: Level::Token,
                    by: String::new(),
                    is_pending: false,
                };
                self.by_token(request, token, host).await
            }
            Proof::Ec2 { identity, sts } => self.by_ec2(request, identity, sts.as_ref()).await,
            Proof::Successor { claim } => self.by_successor(request, claim).await,
            Proof::Known => self.known(request),
        }
    }

    async fn by_token(
        &self,
        request: &Request,
        text: &str,
        mut host: Host,
    ) -> Result<Arc<Entry>, Refused> {
        let unknown = || Refused::forbidden("token_unknown", "no such join token");
        let (id, hash) = join::take_apart(text).ok_or_else(unknown)?;
        let wanted = id.to_owned();
        let found = self
            .store
            .read_async(move |connection| join_tokens::find(connection, &wanted))
            .await?;
        let token = found
            .filter(|token| join::is_same(&token.hash, &hash))
            .ok_or_else(unknown)?;
        let why = |what: &str| format!("join token {id} {what}");
        if token.is_revoked {
            return Err(Refused::forbidden("token_revoked", why("is revoked")));
        }
        if token.expires_ms <= clock::now_ms() {
            return Err(Refused::forbidden("token_expired", why("has ended")));
        }
        check_named(&host)?;
        if !token
            .scope
            .holds(&host.account, &host.region, &host.instance)
        {
            let what = format!(
                "is not for {} in {} of {}",
                host.instance, host.region, host.account
            );
            return Err(Refused::forbidden("token_scope", why(&what)));
        }
        host.by = format!("join token {id}");
        self.enrol(request, host, Some(id.to_owned()), None).await
    }

    async fn by_ec2(
        &self,
        request: &Request,
        identity: &[u8],
        sts: Option<&Sts>,
    ) -> Result<Arc<Entry>, Refused> {
        let document = identity::verify(identity, &self.certificates)
            .map_err(|error| Refused::forbidden(error.reason(), error.to_string()))?;
        self.check_allowed(&document)?;
        let Document {
            account,
            region,
            instance,
            ..
        } = document;
        let Some(sts) = sts else {
            if self.settings.document_only == DocumentOnly::Refuse {
                let why = format!("{instance} has a document and no signature of its role");
                return Err(Refused::forbidden("sts_missing", why));
            }
            let host = Host {
                account,
                region,
                instance,
                level: Level::Ec2Document,
                by: "instance identity document".to_owned(),
                is_pending: true,
            };
            return self.enrol(request, host, None, None).await;
        };
        let binding = Binding {
            key: request.key(),
            nonce: &request.nonce,
            collector: self.collector,
        };
        let caller = self.asker.caller(&region, sts, &binding).await?;
        if !caller.is_instance(&account, &instance) {
            let why = format!("{} is not the role of {instance} in {account}", caller.arn);
            return Err(Refused::forbidden("sts_caller", why));
        }
        let host = Host {
            account,
            region,
            instance,
            level: Level::Ec2Sts,
            by: caller.arn,
            is_pending: false,
        };
        self.enrol(request, host, None, None).await
    }

    fn check_allowed(&self, document: &Document) -> Result<(), Refused> {
        let Document {
            account,
            region,
            instance,
            pending_ms,
        } = document;
        if !self.accounts.contains(account) {
            let why = format!("{instance} is of account {account}, which may not enrol");
            return Err(Refused::forbidden("account", why));
        }
        let regions = &self.settings.regions;
        if !regions.is_empty() && !regions.contains(region) {
            let why = format!("{instance} is in {region}, whose instances may not enrol");
            return Err(Refused::forbidden("region", why));
        }
        if *pending_ms > clock::now_ms().saturating_add(START_AHEAD_MS) {
            let why = format!("{instance} starts in the future");
            return Err(Refused::forbidden("identity_time", why));
        }
        Ok(())
    }

    async fn by_successor(&self, request: &Request, claim: &[u8]) -> Result<Arc<Entry>, Refused> {
        let bad = |why: String| Refused::forbidden("claim", why);
        let sealed = SealedClaim::parse(claim.to_vec()).map_err(|error| bad(error.to_string()))?;
        let old = sealed.claims().agent;
        let entry = self.believed(old)?;
        let claim = sealed
            .verify(&entry.known.key)
            .map_err(|error| bad(error.to_string()))?;
        let body = succession(&request.nonce, &request.key());
        if claim.purpose != Purpose::Rotation || claim.body != Some(body) {
            return Err(bad("it is not for this key and nonce".to_owned()));
        }
        if entry.known.until_ms.is_some() && self.registry.find(request.agent()).is_none() {
            let why = format!("agent {old} has a successor already");
            return Err(Refused::forbidden("succeeded", why));
        }
        let known = &entry.known;
        let host = Host {
            account: known.account.clone(),
            region: known.region.clone(),
            instance: known.instance.clone(),
            level: entry.level,
            by: format!("agent {old}"),
            is_pending: false,
        };
        self.enrol(request, host, None, Some(old)).await
    }

    fn known(&self, request: &Request) -> Result<Arc<Entry>, Refused> {
        let agent = request.agent();
        match self.registry.find(agent) {
            // It waits, and may ask whether it still does.
            Some(entry) if entry.is_pending && !entry.known.revoked => Ok(entry),
            _ => self.believed(agent),
        }
    }

    fn believed(&self, agent: AgentId) -> Result<Arc<Entry>, Refused> {
        let unknown = || Refused::forbidden("agent_unknown", format!("agent {agent} is not known"));
        let entry = self.registry.find(agent).ok_or_else(unknown)?;
        if !entry.known.is_believed(clock::now_ms()) {
            let why = format!("agent {agent} is revoked");
            return Err(Refused::forbidden("revoked", why));
        }
        if entry.is_pending {
            return Err(unknown());
        }
        Ok(entry)
    }

    async fn enrol(
        &self,
        request: &Request,
        host: Host,
        token: Option<String>,
        predecessor: Option<AgentId>,
    ) -> Result<Arc<Entry>, Refused> {
        let newcomer = Newcomer {
            enrolled: Enrolled {
                agent: request.agent(),
                key: request.key(),
                account: host.account,
                region: host.region,
                instance: host.instance,
                level: host.level,
                by: host.by,
                enrolled_ms: clock::now_ms(),
                is_pending: host.is_pending,
                until_ms: None,
            },
            token,
            predecessor,
            overlap_ms: self.settings.rotation_overlap_s.saturating_mul(1_000),
            pending_max: self.settings.pending_max,
            pending_since_ms: clock::now_ms()
                .saturating_sub(self.settings.pending_s.saturating_mul(1_000)),
        };
        let instance = newcomer.enrolled.instance.clone();
        let agent = request.agent();
        self.registry
            .enrol(newcomer)
            .await?
            .map_err(|unfit| match unfit {
                Unfit::Revoked => {
                    Refused::forbidden("revoked", format!("agent {agent} is revoked"))
                }
                Unfit::OtherHost => {
                    let why = format!("agent {agent} is another host than {instance}");
                    Refused::conflict("other_host", why)
                }
                Unfit::Spent => Refused::forbidden("token_used", "the join token is used up"),
                Unfit::TooMany => Refused::busy("too many wait for an operator"),
                Unfit::SecondKey(first) => {
                    self.tell_second(first, agent);
                    let why =
                        format!("{instance} is bound to agent {first}, and {agent} asks for it");
                    Refused::conflict("second_key", why)
                }
            })
    }

    /// Makes a second key for a host known to whoever looks at findings.
    fn tell_second(&self, first: AgentId, other: AgentId) {
        let Some(entry) = self.registry.find(first) else {
            return;
        };
        let event = SensorEvent {
            agent: first,
            host: entry.known.host(),
            time_ns: clock::now_ms().saturating_mul(1_000_000),
            word: SensorWord::SecondKey { other },
        };
        if !self.analysis.sensor(event) {
            self.metrics.sensor_events_dropped.add(1);
        }
    }
}

/// A host that is named by itself must at least be named in the form hosts are.
fn check_named(host: &Host) -> Result<(), Refused> {
    let is_name = |text: &str| {
        !text.is_empty()
            && text.len() <= INSTANCE_BYTES_MAX
            && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let is_sound = check_account(String::new(), &host.account).is_ok()
        && is_name(&host.region)
        && is_name(&host.instance);
    if is_sound {
        Ok(())
    } else {
        let why = "account, region or instance is not of its form";
        Err(Refused::bad("host", why))
    }
}
