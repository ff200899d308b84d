//! What is known of those who call: whose accounts are ours, who works by plan, who made whom.

use std::collections::{BTreeSet, HashSet};

use super::table::Table;
use crate::limits::{ACCOUNTS_MAX, MADE_MAX, PLANNERS_MAX};
use crate::logs::agent_words::Says;
use crate::logs::cloudtrail::ApiCall;

/// Different calls by which a plan shows that it is one: it reads before it writes, which a program that
/// only calls itself so does not. Chosen by hand: the smallest plan makes about ten.
const PLAN_CALLS_MIN: usize = 5;

/// How long a plan's calls tell of it: plans run within minutes, and again on other days. Chosen by hand.
const PLAN_NS: u64 = 24 * 3_600 * 1_000_000_000;

/// How long a new user counts as new.
pub(crate) const NEW_NS: u64 = 3_600 * 1_000_000_000;

/// Accounts, plans and makers.
#[derive(Debug)]
pub(crate) struct Actors {
    /// Accounts whose trails were read.
    recipients: HashSet<Box<str>>,
    recipients_left_out: u64,
    /// Different calls of programs that call themselves planners, by principal and address.
    plans: Table<(String, String), BTreeSet<Box<str>>>,
    /// Who made a user, by account and name.
    made: Table<(String, String), Made>,
}

/// Where a user came from.
#[derive(Debug, Default, Clone)]
pub(crate) struct Made {
    /// Who made it.
    pub(crate) by: String,
    /// When.
    pub(crate) at_ns: u64,
    /// Whether it has a key or a password.
    pub(crate) has_credential: bool,
    /// Whether it may do everything.
    pub(crate) is_admin: bool,
}

impl Default for Actors {
    fn default() -> Self {
        Self {
            recipients: HashSet::new(),
            recipients_left_out: 0,
            plans: Table::new(PLANNERS_MAX),
            made: Table::new(MADE_MAX),
        }
    }
}

impl Actors {
    /// Notes what a call tells, after it was looked at.
    pub(crate) fn note(&mut self, call: &ApiCall) {
        if let Some(account) = call.recipient_account.as_deref()
            && !self.recipients.contains(account)
        {
            if self.recipients.len() < ACCOUNTS_MAX {
                self.recipients.insert(account.into());
            } else {
                self.recipients_left_out += 1;
            }
        }
        if &*call.event_name == "CreateUser"
            && call.succeeded()
            && let Some(user) = call.request_parameters.text("userName")
        {
            self.make(call, user);
        }
        if says_planned(call) {
            let calls = self.plans.write(plan(call), call.event_time_ns);
            if calls.len() < PLAN_CALLS_MIN {
                calls.insert(call.event_name.clone());
            }
        }
    }

    /// Notes that a user was made.
    fn make(&mut self, call: &ApiCall, user: &str) {
        let key = (owned(call.account()), user.to_owned());
        *self.made.write(key, call.event_time_ns) = Made {
            by: owned(call.identity.bearer()),
            at_ns: call.event_time_ns,
            ..Made::default()
        };
    }

    /// The user that a call is about, if it is new.
    pub(crate) fn made(&self, call: &ApiCall, user: &str) -> Option<&Made> {
        let made = self.made.get(&(owned(call.account()), user.to_owned()))?;
        let age_ns = call.event_time_ns.saturating_sub(made.at_ns);
        (age_ns <= NEW_NS).then_some(made)
    }

    /// The same, to note what it was given.
    pub(crate) fn made_mut(&mut self, call: &ApiCall, user: &str) -> Option<&mut Made> {
        self.made.get_mut(&(owned(call.account()), user.to_owned()))
    }

    /// Says whether logs of an account were read here.
    pub(crate) fn is_recipient(&self, account: &str) -> bool {
        self.recipients.contains(account)
    }

    /// Says whether infrastructure code made a call: a program that says so, and whose principal and
    /// address have shown a plan's calls. CloudFormation's own calls need not show more.
    pub(crate) fn is_planned(&self, call: &ApiCall) -> bool {
        by_cloudformation(call)
            || (says_planned(call)
                && (self.plans.get(&plan(call))).is_some_and(|calls| calls.len() >= PLAN_CALLS_MIN))
    }

    pub(crate) fn expire(&mut self, watermark_ns: u64) {
        self.plans.expire(watermark_ns.saturating_sub(PLAN_NS));
        self.made.expire(watermark_ns.saturating_sub(PLAN_NS));
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 3] {
        [
            ("accounts_left_out", self.recipients_left_out),
            ("plans_evicted", self.plans.evicted()),
            ("made_users_evicted", self.made.evicted()),
        ]
    }
}

fn by_cloudformation(call: &ApiCall) -> bool {
    let service = Some("cloudformation.amazonaws.com");
    // The address is AWS's to fill in, and `invokedBy` is too.
    call.source_ip.as_deref() == service || call.identity.invoked_by.as_deref() == service
}

/// Says whether the program calls itself a planner. Anybody may say so of himself.
fn says_planned(call: &ApiCall) -> bool {
    call.agent_words().has(Says::Planner)
}

fn plan(call: &ApiCall) -> (String, String) {
    (
        owned(call.identity.actor()),
        owned(call.source_ip.as_deref()),
    )
}

fn owned(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::api;

    fn call(name: &str, agent: &str, address: &str) -> Box<ApiCall> {
        api(&format!(
            r#"{{"eventName":"{name}","eventSource":"iam.amazonaws.com","userAgent":"{agent}",
            "sourceIPAddress":"{address}","recipientAccountId":"111122223333",
            "eventTime":"2023-11-14T22:13:20Z","userIdentity":{{"arn":"arn:aws:iam::111122223333:user/a"}}}}"#
        ))
    }

    #[test]
    fn a_plan_shows_itself_by_its_calls() {
        let mut actors = Actors::default();
        let agent = "APN/1.0 HashiCorp/1.0 Terraform/1.1.2";
        for name in ["GetUser", "GetRole", "ListRoles", "ListUsers", "GetPolicy"] {
            assert!(
                !actors.is_planned(&call(name, agent, "192.0.2.1")),
                "{name}"
            );
            actors.note(&call(name, agent, "192.0.2.1"));
        }
        assert!(actors.is_planned(&call("CreateUser", agent, "192.0.2.1")));
        assert!(!actors.is_planned(&call("CreateUser", agent, "192.0.2.2")));
        assert!(!actors.is_planned(&call("CreateUser", "aws-cli/2", "192.0.2.1")));
        assert!(actors.is_planned(&call("CreateUser", "x", "cloudformation.amazonaws.com")));
    }

    #[test]
    fn accounts_are_those_whose_trails_were_read() {
        let mut actors = Actors::default();
        assert!(!actors.is_recipient("111122223333"));
        actors.note(&call("GetUser", "x", "192.0.2.1"));
        assert!(actors.is_recipient("111122223333"));
    }

    #[test]
    fn a_new_user_is_new_for_an_hour() {
        let mut actors = Actors::default();
        let mut one = call("CreateUser", "x", "192.0.2.1");
        actors.make(&one, "bob");
        one.event_time_ns += NEW_NS;
        assert!(actors.made(&one, "bob").is_some() && actors.made(&one, "eve").is_none());
        one.event_time_ns += 1;
        assert!(actors.made(&one, "bob").is_none());
    }
}
