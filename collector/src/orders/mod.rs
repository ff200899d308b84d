//! Orders to block: what operators have agents drop, for how long and why, and how it reaches them.
//!
//! ```text
//! operator → judge (what may be blocked) → book (store, version) → door → agents that wait
//! agents' summaries → gate → store: what each did with each order
//! ```
//!
//! An order is for all hosts, those of an account, or one. Each agent is given those that are for its
//! host, in one bundle that names it and is signed by the collector's key. A change wakes only those it
//! is for. Versions grow with the clock and are on disk before they are given out; a start publishes
//! everything anew, so that agents agree with a store that was set back. Where the clock was set back
//! too, versions are shifted for the agents that are ahead.

pub(crate) mod door;
pub(crate) mod judge;
pub(crate) mod limits;
mod room;
mod shifts;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{PoisonError, RwLock};

use picket_detect::KnownAgent;
use picket_intel::Indicator;
use picket_wire::limits::ORDER_LAST_MS_MAX;
use picket_wire::{Net, Order, Orders, Signer, protected};
use serde::Deserialize;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use crate::clock;
use crate::config::BadValue;
use crate::store::blocks::{self, BlockOrder};
use crate::store::{Store, StoreError};
use judge::Protected;
use limits::{IN_FORCE_MAX, LOOKUP_WAIT, OVER_KEPT_MAX, OVER_KEPT_MS, TRUSTED_MAX, WIDEST_MAX};
use shifts::{Ahead, Shifts};

/// What may be blocked, and by how many it is asked: `[block]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Networks that no order may name, besides loopback, link-local addresses with the metadata
    /// service, the collector itself and its resolvers.
    pub trusted: Vec<String>,
    /// Requests of agents that may wait for orders at once.
    pub polls_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            trusted: Vec::new(),
            // One for each of ten thousand agents, and some to spare.
            polls_max: 16_384,
        }
    }
}

impl Settings {
    /// Refuses what cannot work.
    pub(crate) fn check(&self) -> Result<(), BadValue> {
        if self.trusted.len() > TRUSTED_MAX {
            let why = format!("more than {TRUSTED_MAX} networks");
            return Err(BadValue::new("block.trusted", why));
        }
        for (at, text) in self.trusted.iter().enumerate() {
            net(text).map_err(|why| BadValue::new(format!("block.trusted[{at}]"), why))?;
        }
        if self.polls_max == 0 {
            return Err(BadValue::new("block.polls_max", "must not be 0"));
        }
        Ok(())
    }
}

fn net(text: &str) -> Result<Net, String> {
    match Indicator::address(text) {
        Ok(Indicator::Address(address)) => Ok(protected::lone(address)),
        Ok(Indicator::Net(address, prefix)) => Ok(Net { address, prefix }),
        Ok(_) => Err(format!("{text:?} is no network")),
        Err(error) => Err(error.to_string()),
    }
}

/// Whose hosts an order is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Target {
    /// Those of an account; `None` for all.
    pub(crate) account: Option<String>,
    /// Of that account, the one of this name.
    pub(crate) instance: Option<String>,
}

impl Target {
    /// Whose hosts an order is for.
    pub(crate) fn of(order: &BlockOrder) -> Self {
        Self {
            account: order.account.clone(),
            instance: order.instance.clone(),
        }
    }

    /// Whether a host is among them.
    pub(crate) fn has(&self, host: &KnownAgent) -> bool {
        let is_or_all =
            |wanted: &Option<String>, own: &str| wanted.as_ref().is_none_or(|wanted| wanted == own);
        is_or_all(&self.account, &host.account) && is_or_all(&self.instance, &host.instance)
    }
}

/// Why an order was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BookError {
    /// There are as many as there may be.
    #[error("{IN_FORCE_MAX} orders are in force for {whose}, and more are not taken")]
    Full {
        /// Whose hosts they are for.
        whose: String,
    },
    /// Together they would cover too much.
    #[error(
        "with it, orders for {whose} would cover more of {family} than {WIDEST_MAX} networks of /{prefix}"
    )]
    TooWide {
        /// Whose hosts they are for.
        whose: String,
        /// The widest that one order may name.
        prefix: u8,
        /// Of which addresses.
        family: &'static str,
    },
    /// It could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All orders that are remembered, and the versions of what agents are given.
pub(crate) struct Book {
    store: Store,
    settings: Settings,
    /// Names and addresses that agents know the collector by.
    names: Vec<String>,
    listen: IpAddr,
    /// Held while something is changed, on disk and here.
    changing: Mutex<()>,
    state: RwLock<State>,
    /// The highest version, for those who wait.
    version: watch::Sender<u64>,
    shifts: Shifts,
}

struct State {
    orders: Vec<BlockOrder>,
    /// What everything was published anew with at the start.
    floor: u64,
    /// When what is for these hosts last changed. As many as hosts and accounts that are registered
    /// and were ordered something since the start.
    changed: HashMap<Target, u64>,
}

impl Book {
    /// Takes the orders of the store, under a version that is above all before.
    pub(crate) async fn open(
        store: Store,
        settings: Settings,
        names: Vec<String>,
        listen: SocketAddr,
    ) -> Result<Self, StoreError> {
        let (orders, last) = store
            .read(|connection| Ok((blocks::list(connection)?, blocks::published(connection)?)))?;
        let now_ms = clock::now_ms();
        let floor = now_ms.max(last.saturating_add(1));
        store
            .write(move |transaction| blocks::publish(transaction, floor, now_ms))
            .await?;
        Ok(Self {
            store,
            settings,
            names,
            listen: listen.ip(),
            changing: Mutex::new(()),
            state: RwLock::new(State {
                orders,
                floor,
                changed: HashMap::new(),
            }),
            version: watch::Sender::new(floor),
            shifts: Shifts::default(),
        })
    }

    /// Every order that is remembered, the oldest first.
    pub(crate) fn all(&self) -> Vec<BlockOrder> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.orders.clone()
    }

    /// What no order may block, as far as it is known here.
    pub(crate) async fn protected(&self) -> Vec<Protected> {
        let mut all = protected::always();
        let trusted = self.settings.trusted.iter();
        let trusted = trusted.filter_map(|text| net(text).ok());
        all.extend(trusted.map(|net| (net, "trusted (block.trusted)")));
        let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let resolvers = protected::resolvers(&text).into_iter();
        all.extend(resolvers.map(|one| (protected::lone(one), "the resolver")));
        let mut own = judge::own_addresses();
        own.extend(Some(self.listen).filter(|address| !address.is_unspecified()));
        for name in &self.names {
            // Names that nobody can look up have no address that could be blocked.
            let lookup = tokio::net::lookup_host((name.as_str(), 0));
            if let Ok(Ok(found)) = timeout(LOOKUP_WAIT, lookup).await {
                own.extend(found.map(|at| at.ip().to_canonical()));
            }
        }
        let own = own.into_iter();
        all.extend(own.map(|one| (protected::lone(one), "the collector itself")));
        all
    }

    /// Gives an order; its number and version are set here. The same to the same hosts is replaced.
    pub(crate) async fn add(&self, order: BlockOrder) -> Result<BlockOrder, BookError> {
        let _changing = self.changing.lock().await;
        let now_ms = order.added_ms;
        room::check(&self.all(), &order, now_ms)?;
        let id = self.next(now_ms);
        let order = BlockOrder { id, ..order };
        let added = order.clone();
        let all = self
            .store
            .write(move |transaction| {
                let before_ms = now_ms.saturating_sub(OVER_KEPT_MS);
                blocks::forget(transaction, now_ms, before_ms, OVER_KEPT_MAX)?;
                blocks::add(transaction, &added)?;
                blocks::list(transaction)
            })
            .await?;
        self.put(all, id, [Target::of(&order)]);
        Ok(order)
    }

    /// Takes back orders of these numbers; says from which version on they are not in bundles.
    pub(crate) async fn end(&self, ids: Vec<u64>, who: String) -> Result<u64, BookError> {
        let _changing = self.changing.lock().await;
        let now_ms = clock::now_ms();
        let version = self.next(now_ms);
        let ended = ids.clone();
        let all = self
            .store
            .write(move |transaction| {
                blocks::end(transaction, &ended, &who, now_ms)?;
                blocks::publish(transaction, version, now_ms)?;
                blocks::list(transaction)
            })
            .await?;
        let targets: Vec<Target> = all
            .iter()
            .filter(|order| ids.contains(&order.id))
            .map(Target::of)
            .collect();
        self.put(all, version, targets);
        Ok(version)
    }

    /// The next version: by the clock, so that a store that was set back does not give one out twice.
    fn next(&self, now_ms: u64) -> u64 {
        now_ms.max(self.version.borrow().saturating_add(1))
    }

    fn put(
        &self,
        orders: Vec<BlockOrder>,
        version: u64,
        targets: impl IntoIterator<Item = Target>,
    ) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.orders = orders;
        let changed = targets.into_iter().map(|target| (target, version));
        state.changed.extend(changed);
        drop(state);
        self.version.send_replace(version);
    }

    /// The version of what is for a host, for its agent.
    fn version_of(&self, host: &KnownAgent) -> u64 {
        let base = self.base_of(host);
        base.saturating_add(self.shifts.of(host.id))
    }

    /// Sees to it that an agent that has version `have` can be given what is for its host.
    fn catch_up(&self, host: &KnownAgent, have: u64) -> Ahead {
        self.shifts.note(host.id, self.base_of(host), have)
    }

    /// The version of what is for a host, for agents that are not ahead of it.
    fn base_of(&self, host: &KnownAgent) -> u64 {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let account = Some(host.account.clone());
        let targets = [
            Target::default(),
            Target {
                account: account.clone(),
                instance: None,
            },
            Target {
                account,
                instance: Some(host.instance.clone()),
            },
        ];
        let changed = targets.iter().filter_map(|one| state.changed.get(one));
        changed.copied().fold(state.floor, u64::max)
    }

    /// Waits until what is for a host has another version than `have`.
    async fn other_than(&self, host: &KnownAgent, have: u64) -> u64 {
        let mut ear = self.version.subscribe();
        loop {
            let version = self.version_of(host);
            // The sender is ours, so it is there as long as we are.
            if version != have || ear.changed().await.is_err() {
                return version;
            }
        }
    }

    /// What is for a host, for its agent alone.
    fn bundle(&self, host: &KnownAgent, now_ms: u64) -> Orders {
        let version = self.version_of(host);
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let own = state.orders.iter().filter(|order| order.holds(now_ms));
        let own = own.filter(|order| Target::of(order).has(host));
        let orders = own.filter_map(|order| {
            let thing = judge::thing(&order.value).ok()?;
            Some(Order {
                id: order.id,
                net: thing.net,
                port: thing.port,
                expires_ms: order.expires_ms,
                reason: order.reason.clone(),
            })
        });
        Orders {
            version,
            issued_ms: now_ms,
            // No order lasts longer.
            expires_ms: now_ms.saturating_add(ORDER_LAST_MS_MAX),
            orders: orders.collect(),
            agent: Some(host.id.0),
        }
    }

    /// The same, signed.
    fn sealed(&self, host: &KnownAgent, signer: &Signer, now_ms: u64) -> Vec<u8> {
        self.bundle(host, now_ms).seal(signer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_wire::AgentId;

    fn host(account: &str, instance: &str) -> KnownAgent {
        let signer = Signer::from_seed(&[3; 32]);
        let key = signer.public_key();
        KnownAgent {
            id: AgentId::of_key(&key.0),
            key,
            account: account.into(),
            region: "eu-west-1".into(),
            instance: instance.into(),
            revoked: false,
            until_ms: None,
            replaced_ms: None,
        }
    }

    async fn book(folder: &std::path::Path) -> Book {
        let store = Store::open(folder).unwrap();
        let listen = "10.0.0.5:8443".parse().unwrap();
        Book::open(store, Settings::default(), Vec::new(), listen)
            .await
            .unwrap()
    }

    fn order(
        value: &str,
        account: Option<&str>,
        instance: Option<&str>,
        for_ms: u64,
    ) -> BlockOrder {
        let now_ms = clock::now_ms();
        BlockOrder {
            id: 0,
            value: value.into(),
            account: account.map(Into::into),
            instance: instance.map(Into::into),
            reason: "test".into(),
            who: "uid 0".into(),
            added_ms: now_ms,
            expires_ms: now_ms + for_ms,
            ended: None,
        }
    }

    fn values(book: &Book, host: &KnownAgent) -> Vec<String> {
        let orders = book.bundle(host, clock::now_ms()).orders;
        orders
            .iter()
            .map(|one| one.net.address.to_string())
            .collect()
    }

    #[tokio::test]
    async fn each_host_is_given_its_own_and_only_they_are_woken() {
        let folder = tempfile::tempdir().unwrap();
        let book = book(folder.path()).await;
        let (one, two) = (host("1", "i-1"), host("1", "i-2"));
        let other = host("2", "i-1");
        let floor = book.version_of(&one);
        let for_one = order("203.0.113.1", Some("1"), Some("i-1"), 60_000);
        let for_one = book.add(for_one).await.unwrap();
        assert_eq!(book.version_of(&one), for_one.id);
        assert_eq!(
            (book.version_of(&two), book.version_of(&other)),
            (floor, floor)
        );
        let of_account = book
            .add(order("203.0.113.2", Some("1"), None, 60_000))
            .await
            .unwrap();
        assert_eq!(book.version_of(&two), of_account.id);
        assert_eq!(book.version_of(&other), floor);
        book.add(order("203.0.113.3", None, None, 60_000))
            .await
            .unwrap();
        // One that is over at once is in no bundle.
        book.add(order("203.0.113.4", None, None, 0)).await.unwrap();
        assert_eq!(
            values(&book, &one),
            ["203.0.113.1", "203.0.113.2", "203.0.113.3"]
        );
        assert_eq!(values(&book, &two), ["203.0.113.2", "203.0.113.3"]);
        assert_eq!(values(&book, &other), ["203.0.113.3"]);
        assert!(book.bundle(&one, clock::now_ms()).is_for(one.id));

        // Given again it takes the place of what was there; taken back it is gone.
        book.add(order("203.0.113.3", None, None, 90_000))
            .await
            .unwrap();
        assert_eq!(values(&book, &other), ["203.0.113.3"]);
        let before = book.version_of(&two);
        let ended = book.end(vec![for_one.id], "uid 0".into()).await.unwrap();
        assert_eq!(
            (book.version_of(&one), book.version_of(&two)),
            (ended, before)
        );
        assert_eq!(values(&book, &one), ["203.0.113.2", "203.0.113.3"]);
    }

    #[tokio::test]
    async fn versions_grow_over_a_restart_and_orders_stay() {
        let folder = tempfile::tempdir().unwrap();
        let host = host("1", "i-1");
        let first = {
            let book = book(folder.path()).await;
            // A clock that was ahead: versions go on from there.
            let mut ahead = order("203.0.113.1", None, None, 60_000);
            ahead.added_ms += 3_600_000;
            ahead.expires_ms += 7_200_000;
            book.add(ahead).await.unwrap().id
        };
        let book = book(folder.path()).await;
        assert!(book.version_of(&host) > first);
        assert_eq!(values(&book, &host), ["203.0.113.1"]);
    }

    #[tokio::test]
    async fn orders_in_force_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let book = book(folder.path()).await;
        let value = |at: usize| format!("203.{}.{}.1", at / 256, at % 256);
        for at in 0..IN_FORCE_MAX {
            // Those of an account and those of its hosts are one sum.
            let instance = (at % 2 == 0).then_some("i-1");
            let one = order(&value(at), Some("1"), instance, 60_000);
            book.add(one).await.unwrap();
        }
        let more = || order("198.51.100.1", Some("1"), Some("i-2"), 60_000);
        let refused = book.add(more()).await.unwrap_err().to_string();
        let expected =
            "1000 orders are in force for account 1 and its hosts, and more are not taken";
        assert_eq!(refused, expected);
        // What takes the place of another is no more than was there; elsewhere it is.
        let longer = order(&value(0), Some("1"), Some("i-1"), 90_000);
        book.add(longer).await.unwrap();
        let elsewhere = order(&value(0), Some("1"), Some("i-2"), 90_000);
        assert!(book.add(elsewhere).await.is_err());
        // Others have room of their own.
        for account in [Some("2"), None] {
            let one = order("198.51.100.1", account, None, 60_000);
            book.add(one).await.unwrap();
        }
        let all = book.all();
        let first = all.iter().find(|one| one.value == value(1)).unwrap().id;
        book.end(vec![first], "uid 0".into()).await.unwrap();
        book.add(more()).await.unwrap();
    }

    #[tokio::test]
    async fn what_orders_cover_together_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let book = book(folder.path()).await;
        for at in 0..8 {
            let value = format!("{}.0.0.0/8", 11 + at);
            book.add(order(&value, None, None, 60_000)).await.unwrap();
        }
        let refused = book.add(order("9.9.9.9", None, None, 60_000)).await;
        let refused = refused.unwrap_err().to_string();
        let expected = "orders for all hosts would cover more of IPv4 than 8 networks of /8";
        assert!(refused.contains(expected), "{refused}");
        // What is covered already, is replaced, of the other family, or of others' hosts.
        for value in ["11.2.3.4", "12.0.0.0/8", "2600::/16"] {
            book.add(order(value, None, None, 60_000)).await.unwrap();
        }
        for instance in [None, Some("i-1"), Some("i-2")] {
            let one = order("9.0.0.0/8", Some("1"), instance, 60_000);
            book.add(one).await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_agent_that_is_ahead_is_given_what_is_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let book = book(folder.path()).await;
        let host = host("1", "i-1");
        let other = KnownAgent {
            id: AgentId([9; 16]),
            ..host.clone()
        };
        let floor = book.version_of(&host);
        let have = floor + 3_600_000;
        assert!(matches!(book.catch_up(&host, have), Ahead::CaughtUp(_)));
        assert_eq!(book.other_than(&host, have).await, have + 1);
        assert_eq!(book.bundle(&host, clock::now_ms()).version, have + 1);
        assert_eq!(book.version_of(&other), floor);
        // It waits from there, and each change is above what it has.
        assert_eq!(book.catch_up(&host, have + 1), Ahead::No);
        book.add(order("203.0.113.1", None, None, 60_000))
            .await
            .unwrap();
        assert!(book.bundle(&host, clock::now_ms()).version > have + 1);
        assert_eq!(book.catch_up(&host, u64::MAX), Ahead::TooFar);
    }
}
