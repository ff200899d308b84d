//! The registry: every agent whose word is taken, or was.
//!
//! Some stand in the configuration, the others have enrolled and are in the store. A change is on
//! disk before it takes effect, and takes effect at once: who judges envelopes asks before each
//! request whether anything has changed, which costs one atomic read.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use picket_detect::finding::Host;
use picket_detect::{Admission, KnownAgent};
use picket_wire::AgentId;
use picket_wire::enrol::Level;
use rusqlite::Transaction;
use tokio::sync::Mutex;

use crate::clock;
use crate::config;
use crate::store::enrolled::{self, Enrolled};
use crate::store::{Store, StoreError, join_tokens};

/// Keys that may wait for an operator for one instance (chosen by hand: a host that was set up anew a
/// few times). Whoever can read its document can make as many as they like.
const PENDING_OF_ONE_MAX: u64 = 4;

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

    /// When it enrolled, milliseconds since the epoch; one that the configuration names was first.
    fn enrolled_ms(&self) -> u64 {
        self.enrolled.as_ref().map_or(0, |(at_ms, _)| *at_ms)
    }

    fn is_of_host_of(&self, other: &Self) -> bool {
        self.known.host() == other.known.host()
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
        note_replaced(&mut agents);
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

    /// Never believes an agent's key again, nor those that it followed. Its instance stays bound to it,
    /// so that no other key can enrol for it, unless `release` says otherwise. Says whether there is such
    /// an agent.
    pub(crate) async fn revoke(&self, agent: AgentId, release: bool) -> Result<bool, StoreError> {
        let _changing = self.changing.lock().await;
        let Some(entry) = self.find(agent) else {
            return Ok(false);
        };
        // Whoever has this key may have those before it, which are still believed for a while.
        let before = self.all().into_iter().filter(|other| {
            other.known.until_ms.is_some()
                && other.known.id != agent
                && other.enrolled_ms() <= entry.enrolled_ms()
                && other.is_of_host_of(&entry)
        });
        let entries: Vec<_> = before.chain([entry.clone()]).collect();
        let ids: Vec<AgentId> = entries.iter().map(|entry| entry.known.id).collect();
        let now_ms = clock::now_ms();
        self.store
            .write(move |transaction| {
                for id in &ids {
                    enrolled::revoke(transaction, *id, now_ms)?;
                }
                if release {
                    enrolled::release(transaction, agent)?;
                }
                Ok(())
            })
            .await?;
        let predecessors = entries.len() - 1;
        for entry in entries {
            let mut entry = Entry::clone(&entry);
            entry.known.revoked = true;
            self.put(entry);
        }
        tracing::info!(agent_id = %agent, predecessors, release, "agent revoked");
        Ok(true)
    }

    /// Lets an agent in that waits for it. Says whether there is one that was not revoked and whose
    /// instance is not bound to another key meanwhile.
    pub(crate) async fn approve(&self, agent: AgentId) -> Result<bool, StoreError> {
        let _changing = self.changing.lock().await;
        let waits = |entry: Arc<Entry>| entry.is_pending && !entry.known.revoked;
        let waits = self.find(agent).is_some_and(waits);
        if !waits {
            return Ok(false);
        }
        let approved = self
            .store
            .write(move |transaction| {
                let Some(mut found) = enrolled::find(transaction, agent)? else {
                    return Ok(None);
                };
                if enrolled::is_revoked(transaction, agent)? {
                    return Ok(None);
                }
                let (account, region) = (&found.account, &found.region);
                if enrolled::bound(transaction, account, region, &found.instance)?.is_some() {
                    return Ok(None);
                }
                found.is_pending = false;
                enrolled::put(transaction, &found)?;
                enrolled::bind(transaction, &found)?;
                Ok(Some(found))
            })
            .await?;
        let Some(found) = approved else {
            return Ok(false);
        };
        self.replace_others(&found);
        self.put(of_enrolled(found, false, 0));
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
        // Before anything is said of the host: a token that is used up must tell nothing of it.
        if let Some(token) = newcomer.token.clone() {
            let now_ms = enrolled.enrolled_ms;
            let is_good = move |connection: &_| join_tokens::is_good(connection, &token, now_ms);
            if !self.store.read_async(is_good).await? {
                return Ok(Err(Unfit::Spent));
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
        let (forgotten, outcome) = self
            .store
            .write(move |transaction| {
                let before_ms = newcomer.pending_since_ms;
                let forgotten = enrolled::forget_pending(transaction, before_ms)?;
                Ok((forgotten, take(transaction, &newcomer, old.as_ref())?))
            })
            .await?;
        self.forget(&forgotten);
        if let Err(unfit) = outcome {
            return Ok(Err(unfit));
        }
        if let (Some(entry), Some(old)) = (predecessor, followed) {
            let mut entry = Entry::clone(&entry);
            entry.known.until_ms = old.until_ms;
            self.put(entry);
        }
        let agent = taken.agent;
        if !taken.is_pending {
            self.replace_others(&taken);
        }
        self.put(of_enrolled(taken, false, 0));
        // What was just put is there: only this function changes it.
        Ok(self.find(agent).ok_or(Unfit::Revoked))
    }

    /// Notes that the other keys of a host are replaced by this one.
    fn replace_others(&self, holder: &Enrolled) {
        for entry in self.all() {
            let is_before = entry.known.id != holder.agent && entry.known.replaced_ms.is_none();
            if is_before && !entry.is_pending && is_same_host(&entry.known, holder) {
                let mut entry = Entry::clone(&entry);
                entry.known.replaced_ms = Some(holder.enrolled_ms);
                self.put(entry);
            }
        }
    }

    /// Lets those go that waited in vain; nobody but this table knew them.
    fn forget(&self, ids: &[AgentId]) {
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            agents.remove(id);
        }
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
    /// Those that wait since before this are forgotten, milliseconds since the epoch.
    pub(crate) pending_since_ms: u64,
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
    if enrolled.is_pending
        && (enrolled::pending(transaction)? >= newcomer.pending_max
            || enrolled::pending_beside(transaction, enrolled)? >= PENDING_OF_ONE_MAX)
    {
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

/// Notes of each key when another spoke for its host first.
fn note_replaced(agents: &mut HashMap<AgentId, Arc<Entry>>) {
    let mut by_host: HashMap<Host, Vec<u64>> = HashMap::new();
    for entry in agents.values().filter(|entry| !entry.is_pending) {
        let times = by_host.entry(entry.known.host()).or_default();
        times.push(entry.enrolled_ms());
    }
    for entry in agents.values_mut() {
        let times = by_host.get(&entry.known.host());
        let later = times.into_iter().flatten();
        let later = later.filter(|at_ms| **at_ms > entry.enrolled_ms());
        if let Some(replaced_ms) = later.min().copied() {
            let mut replaced = Entry::clone(entry);
            replaced.known.replaced_ms = Some(replaced_ms);
            *entry = Arc::new(replaced);
        }
    }
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
            replaced_ms: None,
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
            replaced_ms: None,
        },
        level: Level::Configured,
        enrolled: None,
        is_pending: false,
        change: 0,
    }
}
