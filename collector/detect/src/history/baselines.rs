//! What is usual: a baseline for each principal, for its peers and for its account.
//!
//! Nothing is inferred and nothing hidden: a baseline is a list of values with their days, which can be
//! written out, read, changed and taken back ([`Learned`]). What was met on one day only is not usual
//! yet, so an intruder's first day does not become normal by going on; what was not met for
//! [`FORGET_DAYS`](super::baseline::FORGET_DAYS) is forgotten.

use std::collections::BTreeMap;

use super::baseline::Baseline;
use super::compared::compared_by;
use super::learned::Learned;
use super::table::Table;
use crate::limits::BASELINES_MAX;
use crate::logs::IdentityKind;
use crate::logs::cloudtrail::ApiCall;

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
    /// What is usual for the caller alone, if it has been met.
    pub(crate) fn of_principal(&self, call: &ApiCall) -> Option<&Baseline> {
        self.principals.get(call.identity.actor()?)
    }

    /// What is usual for the caller, its peers and its account, if all have been met.
    pub(crate) fn of(&self, call: &ApiCall) -> Option<Usual<'_>> {
        let account = call.account()?;
        Some(Usual {
            principal: self.of_principal(call)?,
            peers: self.peers.get(group(account, call).as_str())?,
            account: self.accounts.get(account)?,
        })
    }

    /// Takes a call in.
    pub(crate) fn learn(&mut self, call: &ApiCall) {
        let (Some(account), Some(actor)) = (call.account(), call.identity.actor()) else {
            return;
        };
        let values = compared_by(call);
        let group = group(account, call);
        let tables = [
            (&mut self.principals, actor),
            (&mut self.peers, &group),
            (&mut self.accounts, account),
        ];
        for (table, key) in tables {
            let baseline = table.write_by(key, call.event_time_ns);
            self.left_out += baseline.learn(call, &values);
        }
    }

    /// Writes everything out.
    pub(crate) fn export(&self) -> Learned {
        self.written(|_| true)
    }

    /// Writes out what goes by one name.
    pub(crate) fn named(&self, name: &str) -> Learned {
        self.written(|(key, _)| *key == name)
    }

    /// Writes out what was learned since it was last asked.
    pub(crate) fn poll(&mut self) -> Learned {
        let learned = self.written(|(_, one)| one.is_changed);
        for table in [&mut self.principals, &mut self.peers, &mut self.accounts] {
            for one in table.values_mut() {
                one.is_changed = false;
            }
        }
        learned
    }

    fn written(&self, wanted: impl Fn(&(&String, &Baseline)) -> bool) -> Learned {
        let some = |table: &Table<String, Baseline>| -> BTreeMap<String, Baseline> {
            let rows = table.rows().filter(|row| wanted(row));
            rows.map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        };
        let mut learned = Learned::default();
        learned.principals = some(&self.principals);
        learned.peers = some(&self.peers);
        learned.accounts = some(&self.accounts);
        learned
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
                self.left_out += baseline.settle();
                baseline.is_changed = true;
                let last_ns = baseline.last_ns;
                *table.write(key, last_ns) = baseline;
            }
        }
    }

    /// Forgets a principal: what it does next is new, and it begins to learn again.
    pub(crate) fn reset(&mut self, principal: &str) -> bool {
        self.principals.remove(principal).is_some()
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
    [account, kind].join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::baseline::Frequency;
    use super::super::compared::{Dimension, compared_by};
    use super::*;
    use crate::limits::BASELINE_VALUES_MAX;
    use crate::testing::{START, api};

    const DAY_NS: u64 = 24 * 3_600 * 1_000_000_000;
    const HOUR_NS: u64 = 3_600 * 1_000_000_000;

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
            let [api, ..] = compared_by(&now);
            usual.principal.frequency(&api.unwrap(), now.event_time_ns)
        };
        assert_eq!(frequency(&[0, 0, 0], 0), Frequency::Unknown);
        assert_eq!(frequency(&[1], 2), Frequency::Frequent);
        assert_eq!(frequency(&[], 40), Frequency::Infrequent);
        assert_eq!(frequency(&[], 90), Frequency::Rare);
        assert_eq!(frequency(&[], 102), Frequency::Unknown);
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

    /// A file from elsewhere may say what it likes.
    #[test]
    fn what_is_taken_in_could_have_been_learned() {
        let mut all = Baselines::default();
        all.learn(&call("GetUser", "192.0.2.1", 0));
        let mut learned = all.export();
        let arn = "arn:aws:iam::111122223333:user/eve";
        let mut text = serde_json::to_value(&learned.principals[arn]).unwrap();
        let met = &mut text["values"]["api"]["iam:GetUser"];
        met["last_day"] = u32::MAX.into();
        met["days"] = u16::MAX.into();
        text["hour"][0] = u64::MAX.into();
        for n in 0..2 * BASELINE_VALUES_MAX {
            text["values"]["region"][format!("r{n}")] = met_on(3);
        }
        learned
            .principals
            .insert(arn.to_owned(), serde_json::from_value(text).unwrap());
        let mut again = Baselines::default();
        again.import(learned);
        let taken = &again.export().principals[arn];
        let met = taken.values.get(Dimension::Api, "iam:GetUser").unwrap();
        let today = u32::try_from(START / DAY_NS).unwrap();
        assert_eq!((met.first_day, met.last_day, met.days), (today, today, 1));
        assert_eq!(taken.values.count(Dimension::Region), BASELINE_VALUES_MAX);
        assert_eq!(taken.hour.0, START / HOUR_NS);
        assert!(again.turned_away()[1].1 > 0);
    }

    fn met_on(day: u32) -> serde_json::Value {
        serde_json::json!({"first_day": day, "last_day": day, "days": 1, "calls": 1})
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
        assert_eq!(values.values.count(Dimension::Api), BASELINE_VALUES_MAX);
        assert!(all.turned_away()[1].1 > 0);
    }
}
