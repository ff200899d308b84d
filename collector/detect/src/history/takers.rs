//! Who takes which roles: pairs of a caller and a role, by account.

use super::table::Table;
use crate::limits::{ACCOUNTS_MAX, ROLE_TAKERS_MAX};
use crate::logs::IdentityKind;
use crate::logs::cloudtrail::ApiCall;

const DAY_NS: u64 = 24 * 3_600 * 1_000_000_000;

/// How long an account is only learned from. As `anomalous_behaviour` has it: every day of a week was seen.
const LEARNING_NS: u64 = 7 * DAY_NS;

/// How long a pair that is not met any more is remembered. Chosen by hand: a quarter of a year, since what
/// is done each quarter is done again.
const FORGET_NS: u64 = 100 * DAY_NS;

/// Pairs of callers and roles.
#[derive(Debug)]
pub(crate) struct Takers {
    /// Role, and who took it.
    pairs: Table<(String, String), ()>,
    /// Roles that a person took.
    of_people: Table<String, ()>,
    /// Since when an account is known.
    accounts: Table<String, Since>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Since(Option<u64>);

impl Default for Takers {
    fn default() -> Self {
        Self {
            pairs: Table::new(ROLE_TAKERS_MAX),
            of_people: Table::new(ROLE_TAKERS_MAX),
            accounts: Table::new(ACCOUNTS_MAX),
        }
    }
}

impl Takers {
    /// Says whether a caller takes a role that it never took, in an account that is known for long enough.
    pub(crate) fn is_new(&self, call: &ApiCall, role: &str) -> bool {
        let (Some(account), Some(taker)) = (call.account(), taker(call)) else {
            return false;
        };
        let since = self.accounts.get(account).and_then(|since| since.0);
        let is_known = since
            .is_some_and(|since_ns| call.event_time_ns.saturating_sub(since_ns) >= LEARNING_NS);
        is_known && (self.pairs.get(&(role.to_owned(), taker.to_owned()))).is_none()
    }

    /// Says whether one of two took the other, which is a role.
    pub(crate) fn is_pair(&self, one: &str, other: &str) -> bool {
        let took = |role: &str, taker: &str| {
            (self.pairs.get(&(role.to_owned(), taker.to_owned()))).is_some()
        };
        took(one, other) || took(other, one)
    }

    /// Says whether a person is known to take a role: a user, root, or who came by IAM Identity Center.
    pub(crate) fn is_of_people(&self, role: &str) -> bool {
        self.of_people.get(role).is_some()
    }

    /// Notes that a role was taken.
    pub(crate) fn learn(&mut self, call: &ApiCall) {
        if call.service() != "sts" || &*call.event_name != "AssumeRole" || !call.succeeded() {
            return;
        }
        let role = call.request_parameters.text("roleArn");
        let (Some(account), Some(taker), Some(role)) = (call.account(), taker(call), role) else {
            return;
        };
        let now_ns = call.event_time_ns;
        self.accounts
            .write_by(account, now_ns)
            .0
            .get_or_insert(now_ns);
        self.pairs
            .write((role.to_owned(), taker.to_owned()), now_ns);
        if is_person(call) {
            self.of_people.write_by(role, now_ns);
        }
    }

    pub(crate) fn expire(&mut self, watermark_ns: u64) {
        let before_ns = watermark_ns.saturating_sub(FORGET_NS);
        self.pairs.expire(before_ns);
        self.of_people.expire(before_ns);
        self.accounts.expire(before_ns);
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 1] {
        let evicted = self.pairs.evicted() + self.of_people.evicted();
        [("role_takers_evicted", evicted)]
    }
}

/// Says whether a person takes a role, by what kind of credential that is. Sessions of roles that have
/// taken one further are not asked again.
fn is_person(call: &ApiCall) -> bool {
    let identity = &call.identity;
    let is_user = matches!(
        identity.kind,
        IdentityKind::IamUser | IdentityKind::Root | IdentityKind::FederatedUser
    );
    is_user || identity.is_of_center()
}

/// Who takes a role: a principal of ours, or the account where no more is told of somebody else's.
fn taker(call: &ApiCall) -> Option<&str> {
    let identity = &call.identity;
    identity
        .arn
        .as_deref()
        .and(identity.actor())
        .or(identity.account.as_deref())
}
