//! What is usual: for each principal, for its peers and for its account, which calls, services, regions,
//! networks and programs were met on how many days, at which hours, with how many denials.
//!
//! Nothing is inferred and nothing hidden: a baseline is a list of values with their days, which can be
//! written out, read, changed and taken back ([`Learned`]). What was met on one day only is not usual
//! yet, so an intruder's first day does not become normal by going on; what was not met for
//! [`FORGET_DAYS`] is forgotten.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::table::Table;
use crate::limits::{BASELINE_VALUES_MAX, BASELINES_MAX};
use crate::logs::IdentityKind;
use crate::logs::cloudtrail::ApiCall;

const DAY_NS: u64 = 24 * 3_600 * 1_000_000_000;
const HOUR_NS: u64 = 3_600 * 1_000_000_000;

/// Days after which a value that was not met again is forgotten: a quarter, so that what is done once a
/// quarter is still known. GuardDuty calls rare what is met less than once a month.
pub(crate) const FORGET_DAYS: u32 = 100;

/// Days on which a value must have been met to be usual: the second day shows that it was no accident.
const USUAL_DAYS: u16 = 2;

/// What a call is compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Service and call.
    Api,
    /// Service.
    Service,
    /// Region.
    Region,
    /// The sixteen first bits of an IPv4 address, the thirty-two first of an IPv6 address.
    Network,
    /// The program, without its version.
    Agent,
}

/// All dimensions.
pub(crate) const DIMENSIONS: [Dimension; 5] = [
    Dimension::Api,
    Dimension::Service,
    Dimension::Region,
    Dimension::Network,
    Dimension::Agent,
];

/// How often a value is met, in GuardDuty's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Frequency {
    /// Not before, or on one day only.
    Unknown,
    /// Less than once a month.
    Rare,
    /// A few times a month.
    Infrequent,
    /// Daily to weekly.
    Frequent,
}

/// How a value was met. Days count from the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Met {
    /// First day.
    pub first_day: u32,
    /// Last day.
    pub last_day: u32,
    /// Different days.
    pub days: u16,
    /// Calls, as far as it counts.
    pub calls: u32,
}

/// What is usual for somebody.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Baseline {
    /// First call, nanoseconds since the epoch.
    pub first_ns: u64,
    /// Last call.
    pub last_ns: u64,
    /// Calls so far.
    pub calls: u64,
    /// Calls that were denied.
    pub denied: u64,
    /// Values met, by dimension.
    pub values: BTreeMap<Dimension, BTreeMap<Box<str>, Met>>,
    /// Calls by hour, UTC: 24 of working days, then 24 of week-ends. Short where none were made.
    pub hours: Vec<u32>,
    /// The hour that is being counted, since the epoch, and the calls in it.
    pub hour: (u64, u32),
    /// The most calls in one hour before it.
    pub hour_most: u32,
}

/// Baselines written out: of principals, of groups of peers, of accounts, each by name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Learned {
    /// By the principal's ARN.
    pub principals: BTreeMap<String, Baseline>,
    /// By account and kind of principal.
    pub peers: BTreeMap<String, Baseline>,
    /// By account number.
    pub accounts: BTreeMap<String, Baseline>,
}

/// Everything learned.
#[derive(Debug)]
pub(crate) struct Baselines {
    principals: Table<String, Baseline>,
    peers: Table<String, Baseline>,
    accounts: Table<String, Baseline>,
    left_out: u64,
}

impl Default for Baselines {
    fn default() -> Self {
        Self {
            principals: Table::new(BASELINES_MAX),
            peers: Table::new(BASELINES_MAX),
            accounts: Table::new(BASELINES_MAX),
            left_out: 0,
        }
    }
}

/// What a call is compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usual<'a> {
    pub(crate) principal: &'a Baseline,
    pub(crate) peers: &'a Baseline,
    pub(crate) account: &'a Baseline,
}

impl Baselines {
    /// What is usual for the caller, its peers and its account, if all have been met.
    pub(crate) fn of(&self, call: &ApiCall) -> Option<Usual<'_>> {
        let account = call.account()?;
        Some(Usual {
            principal: self.principals.get(&call.identity.actor()?.to_owned())?,
            peers: self.peers.get(&group(account, call))?,
            account: self.accounts.get(&account.to_owned())?,
        })
    }

    /// Takes a call in.
    pub(crate) fn learn(&mut self, call: &ApiCall) {
        let (Some(account), Some(actor)) = (call.account(), call.identity.actor()) else {
            return;
        };
        let values = values(call);
        let tables = [
            (&mut self.principals, actor.to_owned()),
            (&mut self.peers, group(account, call)),
            (&mut self.accounts, account.to_owned()),
        ];
        for (table, key) in tables {
            let baseline = table.write(key, call.event_time_ns);
            self.left_out += baseline.learn(call, &values);
        }
    }

    /// Writes everything out.
    pub(crate) fn export(&self) -> Learned {
        let all = |table: &Table<String, Baseline>| {
            table
                .rows()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        };
        Learned {
            principals: all(&self.principals),
            peers: all(&self.peers),
            accounts: all(&self.accounts),
        }
    }

    /// Takes back what was written out, in place of what is there under the same names.
    pub(crate) fn import(&mut self, learned: Learned) {
        let tables = [
            (&mut self.principals, learned.principals),
            (&mut self.peers, learned.peers),
            (&mut self.accounts, learned.accounts),
        ];
        for (table, rows) in tables {
            for (key, mut baseline) in rows {
                for values in baseline.values.values_mut() {
                    while values.len() > BASELINE_VALUES_MAX {
                        values.pop_last();
                        self.left_out += 1;
                    }
                }
                baseline.hours.truncate(HOURS);
                let last_ns = baseline.last_ns;
                *table.write(key, last_ns) = baseline;
            }
        }
    }

    /// Forgets a principal: what it does next is new, and it begins to learn again.
    pub(crate) fn reset(&mut self, principal: &str) -> bool {
        self.principals.remove(&principal.to_owned()).is_some()
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 2] {
        let tables = [&self.principals, &self.peers, &self.accounts];
        [
            (
                "baselines_evicted",
                tables.iter().map(|t| t.evicted()).sum(),
            ),
            ("baseline_values_left_out", self.left_out),
        ]
    }
}

/// Hours that are told apart: 24 of working days and 24 of week-ends.
const HOURS: usize = 48;

impl Baseline {
    /// Takes a call in; says how many of its values found no room.
    fn learn(&mut self, call: &ApiCall, values: &[(Dimension, String)]) -> u64 {
        let now_ns = call.event_time_ns;
        if self.calls == 0 {
            self.first_ns = now_ns;
        }
        self.first_ns = self.first_ns.min(now_ns);
        self.last_ns = self.last_ns.max(now_ns);
        self.calls += 1;
        self.denied += u64::from(is_denied(call));
        let slot = slot(now_ns);
        if self.hours.len() <= slot {
            self.hours.resize(slot + 1, 0);
        }
        self.hours[slot] = self.hours[slot].saturating_add(1);
        let hour = now_ns / HOUR_NS;
        if hour > self.hour.0 {
            self.hour_most = self.hour_most.max(self.hour.1);
            self.hour = (hour, 0);
        }
        self.hour.1 = self.hour.1.saturating_add(1);
        let today = day(now_ns);
        let mut left_out = 0;
        for (dimension, value) in values {
            let known = self.values.entry(*dimension).or_default();
            if let Some(met) = known.get_mut(value.as_str()) {
                met.meet(today);
                continue;
            }
            if known.len() >= BASELINE_VALUES_MAX {
                known.retain(|_, met| met.last_day + FORGET_DAYS >= today);
            }
            if known.len() >= BASELINE_VALUES_MAX {
                left_out += 1;
                continue;
            }
            let mut met = Met {
                first_day: today,
                last_day: today,
                days: 1,
                calls: 0,
            };
            met.meet(today);
            known.insert(value.as_str().into(), met);
        }
        left_out
    }

    /// Days between the first call and `now_ns`.
    pub(crate) fn age_days(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.first_ns) / DAY_NS
    }

    /// How often a value is met, seen from `now_ns`.
    pub(crate) fn frequency(&self, dimension: Dimension, value: &str, now_ns: u64) -> Frequency {
        let met = self
            .values
            .get(&dimension)
            .and_then(|values| values.get(value));
        met.map_or(Frequency::Unknown, |met| met.frequency(day(now_ns)))
    }

    /// The values that are met that often, the most met first, `many` at most.
    pub(crate) fn usual(
        &self,
        dimension: Dimension,
        frequency: Frequency,
        now_ns: u64,
        many: usize,
    ) -> Vec<&str> {
        let today = day(now_ns);
        let values = self.values.get(&dimension).into_iter().flatten();
        let mut fitting: Vec<(u16, &str)> = values
            .filter(|(_, met)| met.frequency(today) == frequency)
            .map(|(value, met)| (met.days, &**value))
            .collect();
        fitting.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        fitting
            .into_iter()
            .take(many)
            .map(|(_, value)| value)
            .collect()
    }

    /// Says whether no call was ever made about that hour of the day, among enough to tell.
    pub(crate) fn is_odd_hour(&self, now_ns: u64) -> bool {
        /// Calls from which hours tell something: twenty an hour if they were spread. Chosen by hand.
        const CALLS_MIN: u64 = 1_000;
        let slot = slot(now_ns);
        let base = slot / 24 * 24;
        let calls = |hour: usize| self.hours.get(base + hour % 24).copied().unwrap_or(0);
        let hour = slot % 24;
        self.calls >= CALLS_MIN && (hour + 23..=hour + 25).all(|near| calls(near) == 0)
    }

    /// Says whether this hour holds several times as many calls as any before it.
    pub(crate) fn is_loud(&self, now_ns: u64) -> bool {
        /// Calls below which an hour is not loud, and how many times the loudest before. By hand.
        const CALLS_MIN: u32 = 200;
        const TIMES: u32 = 3;
        let now = if self.hour.0 == now_ns / HOUR_NS {
            self.hour.1
        } else {
            0
        };
        now >= CALLS_MIN && now > self.hour_most.saturating_mul(TIMES)
    }

    /// Says whether hardly any call was denied so far, among enough to tell.
    pub(crate) fn is_seldom_denied(&self) -> bool {
        self.calls >= 200 && self.denied * 100 <= self.calls
    }
}

impl Met {
    fn meet(&mut self, today: u32) {
        self.calls = self.calls.saturating_add(1);
        if today > self.last_day {
            self.last_day = today;
            self.days = self.days.saturating_add(1);
        }
    }

    fn frequency(&self, today: u32) -> Frequency {
        if self.days < USUAL_DAYS || self.last_day + FORGET_DAYS < today {
            return Frequency::Unknown;
        }
        let span = today.saturating_sub(self.first_day).max(1);
        let by_month = f64::from(self.days) * 30.0 / f64::from(span);
        if by_month < 1.0 {
            Frequency::Rare
        } else if by_month < 4.0 {
            Frequency::Infrequent
        } else {
            Frequency::Frequent
        }
    }
}

/// What a call is compared by, as far as it tells.
pub(crate) fn values(call: &ApiCall) -> Vec<(Dimension, String)> {
    let service = call.service();
    let mut all = vec![
        (Dimension::Api, format!("{service}:{}", call.event_name)),
        (Dimension::Service, service.to_owned()),
    ];
    all.extend(
        call.region
            .as_deref()
            .map(|region| (Dimension::Region, region.to_owned())),
    );
    all.extend(
        call.source_address
            .map(|address| (Dimension::Network, network(address))),
    );
    all.extend(
        call.user_agent
            .as_deref()
            .map(|agent| (Dimension::Agent, program(agent))),
    );
    all
}

/// The network of an address, wide enough for a provider's customers to stay in it.
pub(crate) fn network(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            format!("{a}.{b}.0.0/16")
        }
        IpAddr::V6(v6) => {
            let [a, b, ..] = v6.segments();
            format!("{a:x}:{b:x}::/32")
        }
    }
}

/// A program without its version: what stands before the first slash. Browsers and the console are one.
pub(crate) fn program(agent: &str) -> String {
    /// Bytes of a name that is kept: programs that put a number into theirs are many.
    const NAME_MAX: usize = 48;
    let agent = agent.trim_start_matches('[');
    if agent.starts_with("Mozilla") || agent.contains("Console") || agent.contains("aws-internal") {
        return "console".to_owned();
    }
    let name = agent.split(['/', ' ']).next().unwrap_or_default();
    name[..name.floor_char_boundary(NAME_MAX)].to_owned()
}

/// The caller's peers: those of its kind in its account.
fn group(account: &str, call: &ApiCall) -> String {
    let identity = &call.identity;
    let host = || {
        identity
            .session_name()
            .is_some_and(|name| name.starts_with("i-"))
    };
    let kind = match identity.kind {
        IdentityKind::AssumedRole if host() => "hosts",
        IdentityKind::AssumedRole => "roles",
        IdentityKind::IamUser => "users",
        _ => "others",
    };
    format!("{account} {kind}")
}

fn is_denied(call: &ApiCall) -> bool {
    let code = call.error_code.as_deref().unwrap_or_default();
    code.contains("Denied") || code.contains("Unauthorized")
}

fn day(now_ns: u64) -> u32 {
    u32::try_from(now_ns / DAY_NS).unwrap_or(u32::MAX)
}

/// The hour, of a working day or of a week-end.
fn slot(now_ns: u64) -> usize {
    let hour = usize::try_from(now_ns / HOUR_NS % 24).unwrap_or(0);
    // The first of January 1970 was a Thursday.
    let is_weekend = matches!((now_ns / DAY_NS + 3) % 7, 5 | 6);
    hour + if is_weekend { 24 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{START, api};

    fn call(name: &str, address: &str, day: u64) -> Box<ApiCall> {
        let mut call = api(&format!(
            r#"{{"eventName":"{name}","eventSource":"iam.amazonaws.com","awsRegion":"eu-west-1",
            "recipientAccountId":"111122223333","sourceIPAddress":"{address}","userAgent":"aws-cli/2.1",
            "userIdentity":{{"type":"IAMUser","arn":"arn:aws:iam::111122223333:user/eve"}}}}"#
        ));
        call.event_time_ns = START + day * DAY_NS;
        call
    }

    #[test]
    fn a_value_is_usual_from_its_second_day_and_until_it_is_forgotten() {
        let mut all = Baselines::default();
        let mut frequency = |days: &[u64], at: u64| {
            for day in days {
                all.learn(&call("GetUser", "192.0.2.1", *day));
            }
            let now = call("GetUser", "192.0.2.1", at);
            let usual = all.of(&now).unwrap();
            usual
                .principal
                .frequency(Dimension::Api, "iam:GetUser", now.event_time_ns)
        };
        assert_eq!(frequency(&[0, 0, 0], 0), Frequency::Unknown);
        assert_eq!(frequency(&[1], 2), Frequency::Frequent);
        assert_eq!(frequency(&[], 40), Frequency::Infrequent);
        assert_eq!(frequency(&[], 90), Frequency::Rare);
        assert_eq!(frequency(&[], 102), Frequency::Unknown);
    }

    #[test]
    fn networks_and_programs_are_families() {
        assert_eq!(network([192, 0, 2, 1].into()), "192.0.0.0/16");
        assert_eq!(network("2001:db8:1::1".parse().unwrap()), "2001:db8::/32");
        assert_eq!(program("aws-cli/2.1 Python/3"), "aws-cli");
        assert_eq!(program("[S3Console/0.4, aws-internal/3]"), "console");
        assert_eq!(program("Mozilla/5.0 (X11)"), "console");
        assert_eq!(program(""), "");
    }

    #[test]
    fn what_is_written_out_comes_back_the_same() {
        let mut all = Baselines::default();
        for day in 0..9 {
            all.learn(&call("GetUser", "192.0.2.1", day));
        }
        let learned = all.export();
        let text = serde_json::to_string(&learned).unwrap();
        let read: Learned = serde_json::from_str(&text).unwrap();
        assert_eq!(read, learned);
        let mut again = Baselines::default();
        again.import(read);
        assert_eq!(again.export(), learned);
        assert!(again.reset("arn:aws:iam::111122223333:user/eve"));
        assert!(!again.reset("arn:aws:iam::111122223333:user/eve"));
        assert!(again.export().principals.is_empty() && !again.export().accounts.is_empty());
    }

    #[test]
    fn hours_and_loudness() {
        let mut all = Baselines::default();
        for n in 0..1_200_u64 {
            all.learn(&call("GetUser", "192.0.2.1", n / 100));
        }
        let now = call("GetUser", "192.0.2.1", 20);
        let baseline = all.of(&now).unwrap().principal;
        // Every call was about 22:13 UTC.
        assert!(!baseline.is_odd_hour(now.event_time_ns));
        assert!(baseline.is_odd_hour(now.event_time_ns + 6 * HOUR_NS));
        assert!(!baseline.is_loud(now.event_time_ns));
        for _ in 0..301 {
            all.learn(&now);
        }
        assert!(all.of(&now).unwrap().principal.is_loud(now.event_time_ns));
    }

    #[test]
    fn is_bounded() {
        let mut all = Baselines::default();
        for n in 0..2_000 {
            all.learn(&call(&format!("Get{n}"), "192.0.2.1", 0));
        }
        let learned = all.export();
        let values = learned.principals.values().next().unwrap();
        assert_eq!(values.values[&Dimension::Api].len(), BASELINE_VALUES_MAX);
        assert!(all.turned_away()[1].1 > 0);
    }
}
