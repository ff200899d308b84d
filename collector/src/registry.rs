//! The registry: every agent whose word is taken, or was.
//!
//! Some stand in the configuration, the others have enrolled and are in the store. A change is on
//! disk before it takes effect, and takes effect at once: who judges envelopes asks before each
//! request whether anything has changed, which costs one atomic read.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use picket_detect::{Admission, KnownAgent};
use picket_wire::AgentId;
use picket_wire::enrol::Level;
use rusqlite::Transaction;
use tokio::sync::Mutex;

use crate::clock;
use crate::config;
use crate::store::enrolled::{self, Enrolled};
use crate::store::{Store, StoreError, join_tokens};

/// An agent, and why it is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its key, whom it speaks for, and whether it is still believed.
    pub(crate) known: KnownAgent,
    /// How it came to be trusted.
    pub(crate) level: Level,
    /// When and by what it enrolled; `None` of one that the configuration names.
    pub(crate) enrolled: Option<(u64, String)>,
    /// Whether it waits for an operator to let it in.
    pub(crate) is_pending: bool,
    /// The change it was last part of.
    change: u64,
}

impl Entry {
    /// How it stands, in a word.
    pub(crate) fn standing(&self) -> &'static str {
        if self.known.revoked {
            "revoked"
        } else if self.known.until_ms.is_some() {
            "succeeded"
        } else if self.is_pending {
            "pending"
        } else {
            "trusted"
        }
    }

    /// Says whether it is expected to speak.
    pub(crate) fn is_expected(&self) -> bool {
        !self.known.revoked && self.known.until_ms.is_none() && !self.is_pending
    }
}

/// Every agent that is known.
pub(crate) struct Registry {
    store: Store,
    agents: RwLock<HashMap<AgentId, Arc<Entry>>>,
    changes: AtomicU64,
    /// Held while something is changed, on disk and here.
    changing: Mutex<()>,
}

impl Registry {
    /// Takes the agents of the configuration and those in the store.
    pub(crate) fn open(configured: &[config::Agent], store: Store) -> Result<Self, StoreError> {
        let (enrolled, revoked) = store
            .read(|connection| Ok((enrolled::list(connection)?, enrolled::revoked(connection)?)))?;
        let revoked: HashSet<AgentId> = revoked.into_iter().collect();
        let mut agents: HashMap<AgentId, Arc<Entry>> = HashMap::new();
        for agent in enrolled {
            let is_revoked = revoked.contains(&agent.agent);
            agents.insert(agent.agent, Arc::new(of_enrolled(agent, is_revoked, 0)));
        }
        // What the configuration says counts before what was once enrolled.
        for agent in configured {
            let mut entry = of_configured(agent, revoked.contains(&agent.id));
            // That another key has taken its place, only the store knows.
            let before = agents.get(&agent.id);
            entry.known.until_ms = before.and_then(|before| before.known.until_ms);
            agents.insert(agent.id, Arc::new(entry));
        }
        Ok(Self {
            store,
            agents: RwLock::new(agents),
            changes: AtomicU64::new(0),
            changing: Mutex::new(()),
        })
    }

    /// One agent.
    pub(crate) fn find(&self, agent: AgentId) -> Option<Arc<Entry>> {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        agents.get(&agent).cloned()
    }

    /// Every agent, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        agents.values().cloned().collect()
    }

    /// An admission that knows the agents, and the change it knows them at.
    pub(crate) fn admission(&self, settings: picket_detect::admit::Settings) -> (Admission, u64) {
        let mut admission = Admission::new([], settings);
        let seen = self.tell(&mut admission, None);
        (admission, seen)
    }

    /// Tells an admission what has changed since `seen`; returns what it has seen then.
    pub(crate) fn catch_up(&self, admission: &mut Admission, seen: u64) -> u64 {
        if self.changes.load(Ordering::Acquire) == seen {
            return seen;
        }
        self.tell(admission, Some(seen))
    }

    fn tell(&self, admission: &mut Admission, seen: Option<u64>) -> u64 {
        // Read before the agents: what is changed meanwhile is told again, which does no harm.
        let now = self.changes.load(Ordering::Acquire);
        for entry in self.all() {
            let is_new = seen.is_none_or(|seen| entry.change > seen);
            if is_new && !entry.is_pending {
                admission.set_agent(entry.known.clone());
            }
        }
        now
    }

    /// Never believes an agent's key again. Its instance stays bound to it, so that no other key can
    /// enrol for it, unless `release` says otherwise. Says whether there is such an agent.
    pub(crate) async fn revoke(&self, agent: AgentId, release: bool) -> Result<bool, StoreError> {
        let _changing = self.changing.lock().await;
        let Some(entry) = self.find(agent) else {
            return Ok(false);
        };
        let now_ms = clock::now_ms();
        self.store
            .write(move |transaction| {
                enrolled::revoke(transaction, agent, now_ms)?;
                if release {
                    enrolled::release(transaction, agent)?;
                }
                Ok(())
            })
            .await?;
        let mut entry = Entry::clone(&entry);
        entry.known.revoked = true;
        self.put(entry);
        tracing::info!(agent_id = %agent, release, "agent revoked");
        Ok(true)
    }

    /// Lets an agent in that waits for it. Says whether there is one whose instance is not bound to
    /// another key meanwhile.
    pub(crate) async fn approve(&self, agent: AgentId) -> Result<bool, StoreError> {
        let _changing = self.changing.lock().await;
        let waits = self.find(agent).is_some_and(|entry| entry.is_pending);
        if !waits {
            return Ok(false);
        }
        let approved = self
            .store
            .write(move |transaction| {
                let Some(mut found) = enrolled::find(transaction, agent)? else {
                    return Ok(None);
                };
                let (account, region) = (&found.account, &found.region);
                if enrolled::bound(transaction, account, region, &found.instance)?.is_some() {
                    return Ok(None);
                }
                found.is_pending = false;
                enrolled::put(transaction, &found)?;
                enrolled::bind(transaction, &found)?;
                let is_revoked = enrolled::is_revoked(transaction, agent)?;
                Ok(Some((found, is_revoked)))
            })
            .await?;
        let Some((found, is_revoked)) = approved else {
            return Ok(false);
        };
        self.put(of_enrolled(found, is_revoked, 0));
        tracing::info!(agent_id = %agent, "agent approved");
        Ok(true)
    }

    /// Takes an agent in whose proof holds, if its instance is not bound to another key. One that is in
    /// already stays as it is, and uses up nothing.
    pub(crate) async fn enrol(
        &self,
        newcomer: Newcomer,
    ) -> Result<Result<Arc<Entry>, Unfit>, StoreError> {
        let _changing = self.changing.lock().await;
        let enrolled = &newcomer.enrolled;
        if let Some(entry) = self.find(enrolled.agent) {
            if !entry.known.is_believed(enrolled.enrolled_ms) {
                return Ok(Err(Unfit::Revoked));
            }
            if !is_same_host(&entry.known, enrolled) {
                return Ok(Err(Unfit::OtherHost));
            }
            let gains = enrolled.level > entry.level || entry.is_pending && !enrolled.is_pending;
            if !gains {
                return Ok(Ok(entry));
            }
        }
        // One that has a successor holds its host no more: the store says who does.
        let configured = self.all().into_iter().find(|entry| {
            let holds = entry.enrolled.is_none() && entry.known.until_ms.is_none();
            holds && is_same_host(&entry.known, enrolled)
        });
        if let Some(entry) = configured
            && newcomer.predecessor != Some(entry.known.id)
        {
            return Ok(Err(Unfit::SecondKey(entry.known.id)));
        }
        let predecessor = match newcomer.predecessor {
            Some(old) => self.find(old),
            None => None,
        };
        let old = predecessor.as_deref().map(|entry| {
            let until_ms = enrolled.enrolled_ms.saturating_add(newcomer.overlap_ms);
            to_enrolled(entry, until_ms)
        });
        let (taken, followed) = (newcomer.enrolled.clone(), old.clone());
        let outcome = self
            .store
            .write(move |transaction| take(transaction, &newcomer, old.as_ref()))
            .await?;
        if let Err(unfit) = outcome {
            return Ok(Err(unfit));
        }
        if let (Some(entry), Some(old)) = (predecessor, followed) {
            let mut entry = Entry::clone(&entry);
            entry.known.until_ms = old.until_ms;
            self.put(entry);
        }
        let agent = taken.agent;
        self.put(of_enrolled(taken, false, 0));
        // What was just put is there: only this function changes it.
        Ok(self.find(agent).ok_or(Unfit::Revoked))
    }

    fn put(&self, mut entry: Entry) {
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        entry.change = self.changes.load(Ordering::Relaxed) + 1;
        agents.insert(entry.known.id, Arc::new(entry));
        self.changes.fetch_add(1, Ordering::Release);
    }
}

/// An agent whose proof holds.
pub(crate) struct Newcomer {
    /// Who, and for which host.
    pub(crate) enrolled: Enrolled,
    /// The join token it uses up.
    pub(crate) token: Option<String>,
    /// The agent in whose place it comes.
    pub(crate) predecessor: Option<AgentId>,
    /// Milliseconds for which that one is still believed.
    pub(crate) overlap_ms: u64,
    /// Agents that may wait for an operator, at most.
    pub(crate) pending_max: u64,
}

/// Why an agent whose proof holds is not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// Its key is revoked.
    Revoked,
    /// Its key is that of another host.
    OtherHost,
    /// Its instance is bound to this agent.
    SecondKey(AgentId),
    /// Its join token is used up.
    Spent,
    /// Too many wait for an operator.
    TooMany,
}

/// Writes a newcomer down, or says why not and writes nothing.
fn take(
    transaction: &Transaction<'_>,
    newcomer: &Newcomer,
    old: Option<&Enrolled>,
) -> rusqlite::Result<Result<(), Unfit>> {
    let enrolled = &newcomer.enrolled;
    if enrolled::is_revoked(transaction, enrolled.agent)? {
        return Ok(Err(Unfit::Revoked));
    }
    let (account, region, instance) = (&enrolled.account, &enrolled.region, &enrolled.instance);
    let bound = enrolled::bound(transaction, account, region, instance)?;
    if let Some(first) = bound
        && first != enrolled.agent
        && Some(first) != newcomer.predecessor
    {
        return Ok(Err(Unfit::SecondKey(first)));
    }
    if enrolled.is_pending && enrolled::pending(transaction)? >= newcomer.pending_max {
        return Ok(Err(Unfit::TooMany));
    }
    if let Some(token) = &newcomer.token
        && !join_tokens::spend(transaction, token, enrolled.enrolled_ms)?
    {
        return Ok(Err(Unfit::Spent));
    }
    enrolled::put(transaction, enrolled)?;
    if !enrolled.is_pending {
        // One that waits binds nothing: whoever proves more must not find its place taken.
        enrolled::bind(transaction, enrolled)?;
    }
    if let Some(old) = old {
        enrolled::put(transaction, old)?;
    }
    Ok(Ok(()))
}

fn is_same_host(known: &KnownAgent, enrolled: &Enrolled) -> bool {
    known.account == enrolled.account
        && known.region == enrolled.region
        && known.instance == enrolled.instance
}

/// An agent that has a successor, as it is kept.
fn to_enrolled(entry: &Entry, until_ms: u64) -> Enrolled {
    let known = entry.known.clone();
    let (enrolled_ms, by) = entry.enrolled.clone().unwrap_or_default();
    Enrolled {
        agent: known.id,
        key: known.key,
        account: known.account,
        region: known.region,
        instance: known.instance,
        level: entry.level,
        by,
        enrolled_ms,
        is_pending: false,
        until_ms: Some(until_ms),
    }
}

fn of_enrolled(agent: Enrolled, revoked: bool, change: u64) -> Entry {
    Entry {
        known: KnownAgent {
            id: agent.agent,
            key: agent.key,
            account: agent.account,
            region: agent.region,
            instance: agent.instance,
            revoked,
            until_ms: agent.until_ms,
        },
        level: agent.level,
        enrolled: Some((agent.enrolled_ms, agent.by)),
        is_pending: agent.is_pending,
        change,
    }
}

fn of_configured(agent: &config::Agent, revoked: bool) -> Entry {
    Entry {
        known: KnownAgent {
            id: agent.id,
            key: agent.public_key,
            account: agent.account.clone(),
            region: agent.region.clone(),
            instance: agent.instance.clone(),
            revoked,
            until_ms: None,
        },
        level: Level::Configured,
        enrolled: None,
        is_pending: false,
        change: 0,
    }
}

#[cfg(test)]
mod tests {
    use picket_wire::PublicKey;

    use super::*;

    fn configured(seed: u8, instance: &str) -> config::Agent {
        let key = PublicKey([seed; 32]);
        config::Agent {
            id: AgentId::of_key(&key.0),
            public_key: key,
            account: "111122223333".into(),
            region: "eu-west-1".into(),
            instance: instance.into(),
        }
    }

    #[tokio::test]
    async fn a_change_is_told_once_and_survives() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let agents = [configured(1, "i-1"), configured(2, "i-2")];
        let registry = Registry::open(&agents, store.clone()).unwrap();
        let (mut admission, seen) = registry.admission(picket_detect::admit::Settings::default());
        let revoked = |admission: &Admission| {
            let agents = admission.agents();
            agents
                .filter(|agent| agent.revoked)
                .map(|agent| agent.id)
                .collect::<Vec<_>>()
        };
        assert_eq!(admission.agents().count(), 2);
        assert!(registry.revoke(agents[0].id, false).await.unwrap());
        assert!(!registry.revoke(AgentId([9; 16]), false).await.unwrap());
        assert!(!registry.approve(agents[1].id).await.unwrap());
        let later = registry.catch_up(&mut admission, seen);
        assert_eq!(revoked(&admission), [agents[0].id]);
        assert_ne!(seen, later);
        assert_eq!(registry.catch_up(&mut admission, later), later);
        let again = Registry::open(&agents, store).unwrap();
        assert!(again.find(agents[0].id).unwrap().known.revoked);
        assert!(again.find(agents[1].id).unwrap().is_expected());
    }

    fn newcomer(seed: u8, predecessor: Option<AgentId>) -> Newcomer {
        let key = PublicKey([seed; 32]);
        Newcomer {
            enrolled: Enrolled {
                agent: AgentId::of_key(&key.0),
                key,
                account: "111122223333".into(),
                region: "eu-west-1".into(),
                instance: "i-1".into(),
                level: Level::Configured,
                by: "the key before".into(),
                enrolled_ms: 1_000,
                is_pending: false,
                until_ms: None,
            },
            token: None,
            predecessor,
            overlap_ms: 500,
            pending_max: 1,
        }
    }

    /// A key that the configuration names is followed by two others in turn, and each may only be
    /// followed, not pushed aside.
    #[tokio::test]
    async fn keys_follow_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let first = configured(1, "i-1");
        let registry = Registry::open(std::slice::from_ref(&first), store.clone()).unwrap();
        let aside = registry.enrol(newcomer(9, None)).await.unwrap();
        assert_eq!(aside.err(), Some(Unfit::SecondKey(first.id)));
        let second = newcomer(2, Some(first.id));
        let second_id = second.enrolled.agent;
        assert!(registry.enrol(second).await.unwrap().is_ok());
        let third = newcomer(3, Some(second_id));
        let third_id = third.enrolled.agent;
        assert!(registry.enrol(third).await.unwrap().is_ok());
        for registry in [
            registry,
            Registry::open(std::slice::from_ref(&first), store).unwrap(),
        ] {
            for (id, until_ms) in [
                (first.id, Some(1_500)),
                (second_id, Some(1_500)),
                (third_id, None),
            ] {
                assert_eq!(registry.find(id).unwrap().known.until_ms, until_ms);
            }
            let aside = registry.enrol(newcomer(9, None)).await.unwrap();
            assert_eq!(aside.err(), Some(Unfit::SecondKey(third_id)));
        }
    }
}
