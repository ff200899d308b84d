//! Who logs in to databases from where, and who was refused lately.
//!
//! What is usual is learned from logins that succeeded, one day for each value it was met on last, and
//! forgotten when it was not met for as long as [`KNOWN_NS`].

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};

use super::compared::network;
use super::table::Table;
use crate::limits::{
    ATTEMPTS_MAX, ATTEMPTS_TOGETHER_MAX, DATABASES_MAX, LOGIN_VALUES_MAX, REFUSALS_MAX,
};
use crate::logs::{Login, LoginLog, LoginOutcome};

/// Account, region and instance.
pub(crate) type DatabaseKey = (String, String, String);

/// How long what somebody did stays usual: 90 days, three of the months in which GuardDuty calls "rare" what
/// happens less than once.
const KNOWN_NS: u64 = 90 * 24 * 3_600 * 1_000_000_000;

/// How far the watermark moves between two walks over what is usual: an hour.
const FORGET_EVERY_NS: u64 = 3_600 * 1_000_000_000;

/// How long refusals are remembered: a day, the longest window that a detection asks of them.
pub(crate) const REFUSALS_NS: u64 = 24 * 3_600 * 1_000_000_000;

/// The tables.
#[derive(Debug)]
pub(crate) struct Logins {
    known: Table<DatabaseKey, Known>,
    attempts: Table<(DatabaseKey, IpAddr), Attempts>,
    /// Refusals in all rows.
    refusals: usize,
    forgot_ns: u64,
    left_out: u64,
    /// Logins of which the log tells no address but a name, or nothing.
    without_address: u64,
}

impl Default for Logins {
    fn default() -> Self {
        Self {
            known: Table::new(DATABASES_MAX),
            attempts: Table::new(ATTEMPTS_MAX),
            refusals: 0,
            forgot_ns: 0,
            left_out: 0,
            without_address: 0,
        }
    }
}

/// What is usual at one database.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The first login seen.
    pub(crate) since_ns: u64,
    /// Logins seen.
    pub(crate) logins: u64,
    /// Users that logged in, and when last.
    users: HashMap<String, u64>,
    /// Networks that somebody logged in from.
    networks: HashMap<String, u64>,
    /// Users with the networks they logged in from.
    pairs: HashMap<(String, String), u64>,
    /// Users with the places they logged in from.
    spots: HashMap<(String, IpAddr), u64>,
}

/// What an address is counted as: itself, or the /64 that an IPv6 address is of, in which a host may have as
/// many as it likes (RFC 8981).
pub(crate) fn spot(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

impl Known {
    /// Says whether a user logged in before, or as many did as can be known: then nobody is new.
    pub(crate) fn has_user(&self, user: &str) -> bool {
        has(&self.users, user)
    }

    /// Says the same of a network.
    pub(crate) fn has_network(&self, address: IpAddr) -> bool {
        has(&self.networks, &network(address))
    }

    /// Says the same of a user from a network.
    pub(crate) fn has_pair(&self, user: &str, address: IpAddr) -> bool {
        has(&self.pairs, &(user.to_owned(), network(address)))
    }

    /// Says the same of a user from a host.
    pub(crate) fn has_spot(&self, user: &str, address: IpAddr) -> bool {
        has(&self.spots, &(user.to_owned(), spot(address)))
    }

    /// Users in alphabetical order, the first of them, to stand beside an unusual one.
    pub(crate) fn users(&self, count: usize) -> Vec<&str> {
        let mut users: Vec<&str> = self.users.keys().map(String::as_str).collect();
        users.sort_unstable();
        users.truncate(count);
        users
    }

    /// Networks, alike.
    pub(crate) fn networks(&self, count: usize) -> Vec<&str> {
        let mut networks: Vec<&str> = self.networks.keys().map(String::as_str).collect();
        networks.sort_unstable();
        networks.truncate(count);
        networks
    }

    pub(crate) fn age_days(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.since_ns) / (24 * 3_600 * 1_000_000_000)
    }

    /// Forgets what was not met for long.
    fn expire(&mut self, before_ns: u64) {
        self.users.retain(|_, met_ns| *met_ns >= before_ns);
        self.networks.retain(|_, met_ns| *met_ns >= before_ns);
        self.pairs.retain(|_, met_ns| *met_ns >= before_ns);
        self.spots.retain(|_, met_ns| *met_ns >= before_ns);
    }
}

/// One refusal.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) time_ns: u64,
    pub(crate) user: String,
    pub(crate) program: String,
    log: LoginLog,
    /// Another log of the database told of it before.
    is_repeat: bool,
    /// A finding counts it.
    pub(crate) is_told: bool,
}

/// Refusals of one address at one database.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    refusals: VecDeque<Refusal>,
}

impl Attempts {
    /// Refusals since `begin_ns`, in the order they came.
    pub(crate) fn since(&self, begin_ns: u64) -> impl Iterator<Item = &Refusal> {
        let all = self.refusals.iter();
        all.filter(move |one| one.time_ns >= begin_ns && !one.is_repeat)
    }
}

/// The database of a login.
pub(crate) fn key(login: &Login) -> DatabaseKey {
    let of = &login.database;
    (of.account.clone(), of.region.clone(), of.instance.clone())
}

impl Logins {
    /// What is usual at a database, if anything is known.
    pub(crate) fn known(&self, login: &Login) -> Option<&Known> {
        self.known.get(&key(login))
    }

    /// Refusals of an address at a database.
    pub(crate) fn attempts(&self, login: &Login, address: IpAddr) -> Option<&Attempts> {
        self.attempts.get(&(key(login), spot(address)))
    }

    /// How many refusals there were at a database since `begin_ns`, of addresses that fit.
    pub(crate) fn refusals(
        &self,
        login: &Login,
        begin_ns: u64,
        fits: impl Fn(IpAddr) -> bool,
    ) -> usize {
        let key = key(login);
        let rows = self.attempts.rows();
        rows.filter(|((of, address), _)| *of == key && fits(*address))
            .map(|(_, attempts)| attempts.since(begin_ns).count())
            .sum()
    }

    /// Notes a refusal, before detections look at it. Returns false for one that another log of the same
    /// database told in the same second.
    pub(crate) fn refused(&mut self, login: &Login, address: IpAddr) -> bool {
        const SECOND_NS: u64 = 1_000_000_000;
        if self.refusals >= REFUSALS_MAX {
            self.attempts.evict();
            self.recount();
        }
        let attempts = self
            .attempts
            .write((key(login), spot(address)), login.time_ns);
        let (mut by_this, mut by_others) = (0, 0);
        for one in &attempts.refusals {
            if one.time_ns / SECOND_NS == login.time_ns / SECOND_NS && one.user == login.user {
                *(if one.log == login.log {
                    &mut by_this
                } else {
                    &mut by_others
                }) += 1;
            }
        }
        let is_repeat = by_this < by_others;
        if attempts.refusals.len() >= ATTEMPTS_TOGETHER_MAX {
            attempts.refusals.pop_front();
            self.left_out += 1;
        } else {
            self.refusals += 1;
        }
        attempts.refusals.push_back(Refusal {
            time_ns: login.time_ns,
            user: login.user.clone(),
            program: login.program.clone(),
            log: login.log,
            is_repeat,
            is_told: false,
        });
        !is_repeat
    }

    /// Notes that a finding counts the refusals of an address since `begin_ns`.
    pub(crate) fn told(&mut self, login: &Login, address: IpAddr, begin_ns: u64) {
        let attempts = self
            .attempts
            .write((key(login), spot(address)), login.time_ns);
        let told = attempts.refusals.iter_mut().rev();
        for one in told.take_while(|one| one.time_ns >= begin_ns) {
            one.is_told = true;
        }
    }

    /// Takes in what a login changes, once every detection has compared it with what was before.
    pub(crate) fn learn(&mut self, login: &Login) {
        self.without_address += u64::from(login.address.is_none());
        if login.outcome != LoginOutcome::Succeeded {
            return;
        }
        let known = self.known.write(key(login), login.time_ns);
        if known.logins == 0 {
            known.since_ns = login.time_ns;
        }
        known.logins += 1;
        known.since_ns = known.since_ns.min(login.time_ns);
        let network = login.address.map(network);
        let left_out = &mut self.left_out;
        meet(
            &mut known.users,
            login.user.clone(),
            login.time_ns,
            left_out,
        );
        if let Some(network) = network {
            meet(
                &mut known.networks,
                network.clone(),
                login.time_ns,
                left_out,
            );
            meet(
                &mut known.pairs,
                (login.user.clone(), network),
                login.time_ns,
                left_out,
            );
        }
        if let Some(address) = login.address {
            meet(
                &mut known.spots,
                (login.user.clone(), spot(address)),
                login.time_ns,
                left_out,
            );
        }
    }

    pub(crate) fn expire(&mut self, watermark_ns: u64) {
        self.attempts
            .expire(watermark_ns.saturating_sub(REFUSALS_NS));
        self.recount();
        self.known.expire(watermark_ns.saturating_sub(KNOWN_NS));
        if watermark_ns - self.forgot_ns >= FORGET_EVERY_NS {
            self.forgot_ns = watermark_ns;
            for known in self.known.values_mut() {
                known.expire(watermark_ns.saturating_sub(KNOWN_NS));
            }
        }
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 4] {
        [
            ("databases_evicted", self.known.evicted()),
            ("login_attempts_evicted", self.attempts.evicted()),
            ("login_facts_left_out", self.left_out),
            ("logins_without_address", self.without_address),
        ]
    }

    fn recount(&mut self) {
        let rows = self.attempts.values();
        self.refusals = rows.map(|attempts| attempts.refusals.len()).sum();
    }
}

/// Says whether a value was met, or there is no room to know.
fn has<K: Eq + Hash + Borrow<Q>, Q: Eq + Hash + ?Sized>(
    values: &HashMap<K, u64>,
    value: &Q,
) -> bool {
    values.len() >= LOGIN_VALUES_MAX || values.contains_key(value)
}

/// Notes that a value was met; what was not met before needs room.
fn meet<K: Eq + Hash>(values: &mut HashMap<K, u64>, value: K, now_ns: u64, left_out: &mut u64) {
    if let Some(met_ns) = values.get_mut(&value) {
        *met_ns = now_ns.max(*met_ns);
    } else if values.len() < LOGIN_VALUES_MAX {
        values.insert(value, now_ns);
    } else {
        *left_out += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{START, ip, login};

    fn failed(second: u64, log: LoginLog) -> Login {
        let mut one = login(LoginOutcome::Failed, "eve", "203.0.113.9", second);
        one.log = log;
        one
    }

    #[test]
    fn two_logs_of_one_refusal_count_once() {
        use LoginLog::{MysqlAudit as A, MysqlError as E};
        let check = |steps: &[(u64, LoginLog)], expected: usize| {
            let mut logins = Logins::default();
            let told = steps
                .iter()
                .filter(|(second, log)| logins.refused(&failed(*second, *log), ip("203.0.113.9")));
            assert_eq!(told.count(), expected, "{steps:?}");
            let one = failed(0, A);
            let kept = logins.attempts(&one, ip("203.0.113.9")).unwrap();
            assert_eq!(kept.since(0).count(), expected, "{steps:?}");
        };
        check(&[(0, A), (0, E)], 1);
        check(&[(0, A), (0, A), (0, E), (0, E)], 2);
        check(&[(0, A), (0, E), (0, A), (0, E)], 2);
        check(&[(0, A), (1, E)], 2);
        check(&[(0, A), (0, A)], 2);
    }

    #[test]
    fn what_is_usual_is_forgotten_in_time() {
        let mut logins = Logins::default();
        let one = login(LoginOutcome::Succeeded, "app", "10.0.0.5", 0);
        logins.learn(&one);
        let mut other = one.clone();
        other.user = "etl".into();
        other.time_ns += KNOWN_NS;
        logins.learn(&other);
        logins.expire(START + KNOWN_NS + 1);
        let known = logins.known(&one).unwrap();
        assert!(!known.has_user("app") && known.has_user("etl"));
        assert!(known.has_network(ip("10.0.99.1")) && !known.has_network(ip("10.1.0.5")));
        assert_eq!((known.age_days(other.time_ns), known.logins), (90, 2));
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one() {
        let mut logins = Logins::default();
        let from = |address: &str| login(LoginOutcome::Failed, "eve", address, 0);
        for address in ["2001:db8:1:2::1", "2001:db8:1:2:ffff::1"] {
            logins.refused(&from(address), ip(address));
        }
        let other = ip("2001:db8:1:3::1");
        let one = from("2001:db8:1:2::9");
        let kept = logins.attempts(&one, ip("2001:db8:1:2::9")).unwrap();
        assert_eq!(kept.since(0).count(), 2);
        assert!(logins.attempts(&one, other).is_none());
        assert_eq!(spot(ip("192.0.2.1")), ip("192.0.2.1"));
    }

    #[test]
    fn where_there_is_no_room_nobody_is_new() {
        let mut logins = Logins::default();
        let one = |n: usize| login(LoginOutcome::Succeeded, &n.to_string(), "10.0.0.5", 0);
        for n in 0..LOGIN_VALUES_MAX {
            assert!(n == 0 || !logins.known(&one(0)).unwrap().has_user("eve"));
            logins.learn(&one(n));
        }
        let known = logins.known(&one(0)).unwrap();
        assert!(known.has_user("eve") && known.has_pair("eve", ip("192.0.2.1")));
        assert!(known.has_spot("eve", ip("192.0.2.1")) && !known.has_network(ip("192.0.2.1")));
    }

    #[test]
    fn is_bounded() {
        let mut logins = Logins::default();
        for n in 0..(REFUSALS_MAX as u32 + 4_096) {
            let address = IpAddr::V4((0x0a00_0000 + n / 16).into());
            logins.refused(&failed(u64::from(n / 1_000), LoginLog::MysqlAudit), address);
            assert!(logins.refusals <= REFUSALS_MAX);
        }
        for n in 0..1_000 {
            let one = login(LoginOutcome::Succeeded, &n.to_string(), "10.0.0.5", 0);
            logins.learn(&one);
        }
        assert_eq!(
            logins
                .known(&failed(0, LoginLog::MysqlAudit))
                .unwrap()
                .users
                .len(),
            LOGIN_VALUES_MAX
        );
        let turned_away = logins.turned_away();
        assert!(turned_away[1].1 > 0 && turned_away[2].1 > 0);
    }
}
