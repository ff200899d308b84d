//! A call as detections of calls see it, with what is known of who makes it.

use serde_json::Value;

use crate::history::{Frequency, History, api_of, network_of};
use crate::logs::IdentityKind;
use crate::logs::agent_words::Says;
use crate::logs::cloudtrail::ApiCall;
use crate::logs::identity::resource;
use crate::policy::{Policy, account_of, glob, texts};
use crate::settings::Accounts;

/// How the command line and the SDKs begin the name of a session that a profile asks for without one.
const SESSIONS_OF_PROFILES: [&str; 4] = [
    "AWSCLI-Session",
    "aws-go-sdk-",
    "aws-sdk-",
    "botocore-session-",
];

/// A call, and what may be consulted about it.
#[derive(Clone, Copy)]
pub(crate) struct Look<'a> {
    pub(crate) call: &'a ApiCall,
    pub(crate) history: &'a History,
    pub(crate) accounts: &'a Accounts,
}

impl<'a> Look<'a> {
    /// The text of a parameter.
    pub(crate) fn asked(&self, key: &str) -> Option<&'a str> {
        self.call.request_parameters.text(key)
    }

    /// The first of several parameters that is text: services disagree on names.
    pub(crate) fn asked_any(&self, keys: &[&str]) -> Option<&'a str> {
        keys.iter().find_map(|key| self.asked(key))
    }

    /// A parameter that may stand deeper, its names joined by dots.
    pub(crate) fn asked_at(&self, path: &str) -> Option<&'a Value> {
        let parameters = &self.call.request_parameters;
        if parameters.is_absent() {
            return None;
        }
        path.split('.')
            .try_fold(&**parameters, |value, name| value.get(name))
    }

    /// A flag, written as one, as text, or wrapped as EC2 does (`{"value": false}`).
    pub(crate) fn flag(&self, path: &str) -> Option<bool> {
        let value = self.asked_at(path)?;
        let value = value.get("value").unwrap_or(value);
        match value {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }

    /// A number, written as one or as text.
    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        let value = self.asked_at(path)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    }

    /// Every text of a parameter that is a list, or the one that stands alone.
    pub(crate) fn all(&self, path: &str) -> Vec<String> {
        self.asked_at(path).map(texts).unwrap_or_default()
    }

    /// Says whether the parameters hold a piece of text anywhere. Parses nothing.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        self.call.request_parameters.raw().contains(text)
    }

    /// A policy document among the parameters.
    pub(crate) fn policy(&self, path: &str) -> Option<Policy> {
        self.asked_at(path).and_then(Policy::of)
    }

    /// Says whether an account is none of ours. What is no account is not foreign.
    pub(crate) fn is_foreign(&self, account: &str) -> bool {
        if account_of(account).is_none() || self.call.account() == Some(account) {
            return false;
        }
        if self.accounts.own.is_empty() {
            !self.history.actors.is_recipient(account)
        } else {
            !self.accounts.own.iter().any(|own| own == account)
        }
    }

    /// The foreign account that an ARN or a number names.
    pub(crate) fn foreign_of<'t>(&self, text: &'t str) -> Option<&'t str> {
        account_of(text).filter(|account| self.is_foreign(account))
    }

    /// Says whether a person's credentials made the call: a user's, root's, a federated user's, a role that
    /// IAM Identity Center hands to people, or a role session that shows a person.
    /// Roles else belong to machines.
    pub(crate) fn is_person(&self) -> bool {
        let identity = &self.call.identity;
        match identity.kind {
            IdentityKind::IamUser
            | IdentityKind::Root
            | IdentityKind::FederatedUser
            | IdentityKind::SamlUser
            | IdentityKind::IdentityCenterUser => true,
            IdentityKind::AssumedRole => {
                let role = identity.actor().unwrap_or_default();
                resource(role).starts_with("role/aws-reserved/sso.amazonaws.com/")
                    || identity.is_of_center()
                    || self.is_persons_session()
            }
            _ => false,
        }
    }

    /// Says whether a role session shows a person behind it: it is named by a mail address; or as the command
    /// line and the SDKs call a session that a profile asks for, and either a person is known to take the role
    /// or the command line or the console makes the call. A service whose SDK takes a role has such names too,
    /// so they alone say nothing. A workload that vouches by a token (web identity) has them as well, and what
    /// runs in a runtime of AWS is nobody. A second factor says nothing here: who has it is mostly the right
    /// person, and deployments inherit it.
    fn is_persons_session(&self) -> bool {
        let identity = &self.call.identity;
        let words = self.call.agent_words();
        if identity.provider.is_some() || words.has(Says::Runtime) {
            return false;
        }
        let name = identity.session_name().unwrap_or_default();
        let is_default = SESSIONS_OF_PROFILES.iter().any(|one| name.starts_with(one));
        let is_typed = || {
            words.has(Says::CommandLine)
                || self.is_console()
                || (identity.actor()).is_some_and(|role| self.history.takers.is_of_people(role))
        };
        name.contains('@') || (is_default && is_typed())
    }

    /// Says whether the session is one that EC2 made for an instance.
    pub(crate) fn is_instance(&self) -> bool {
        self.call.identity.kind == IdentityKind::AssumedRole
            && (self.call.identity.session_name()).is_some_and(|name| name.starts_with("i-"))
    }

    /// The caller's own name: a user's, or for a role session the name of the session, which is the
    /// person's where people sign in.
    pub(crate) fn is_caller(&self, name: &str) -> bool {
        let identity = &self.call.identity;
        identity.user_name.as_deref() == Some(name)
            || (identity.kind == IdentityKind::IamUser
                && (identity.arn.as_deref())
                    .is_some_and(|arn| arn.rsplit('/').next() == Some(name)))
            || (self.call.identity.session_name()) == Some(name)
    }

    /// Says whether infrastructure code made the call, by what it showed or by configuration.
    pub(crate) fn is_planned(&self) -> bool {
        let arn = self.call.identity.actor().unwrap_or_default();
        let named = self
            .accounts
            .automation
            .iter()
            .any(|pattern| glob(pattern, arn));
        named || self.history.actors.is_planned(self.call)
    }

    /// Says whether a trail is known to write to the bucket.
    pub(crate) fn is_trail_bucket(&self, bucket: &str) -> bool {
        let account = self.call.account().unwrap_or_default();
        self.history.trails.writer(account, bucket).is_some()
    }

    /// Says whether the caller has been known for long enough, and never called from this network on more
    /// than a day.
    pub(crate) fn is_elsewhere(&self) -> bool {
        /// What is asked of a baseline before it says anything: as `anomalous_behaviour` asks by default.
        const LEARNING_DAYS: u64 = 7;
        const CALLS_MIN: u64 = 100;
        let now_ns = self.call.event_time_ns;
        let Some(known) = self.history.baselines.of_principal(self.call) else {
            return false;
        };
        known.calls >= CALLS_MIN
            && known.age_days(now_ns) >= LEARNING_DAYS
            && network_of(self.call)
                .is_some_and(|network| known.frequency(&network, now_ns) == Frequency::Unknown)
    }

    /// Says whether the caller is known to make this call: on more than one day of its past.
    pub(crate) fn is_usual(&self) -> bool {
        let now_ns = self.call.event_time_ns;
        (self.history.baselines.of_principal(self.call))
            .is_some_and(|known| known.frequency(&api_of(self.call), now_ns) != Frequency::Unknown)
    }

    /// Says whether nobody vouched for the caller: anybody on the Internet may be it.
    pub(crate) fn is_anybody(&self) -> bool {
        let identity = &self.call.identity;
        identity.kind == IdentityKind::AwsAccount
            && identity.account.as_deref() == Some("ANONYMOUS_PRINCIPAL")
    }

    /// Says whether a person clicked: the console makes many calls for one look at a page.
    pub(crate) fn is_console(&self) -> bool {
        let words = self.call.agent_words();
        self.call.from_console == Some(true)
            || self.call.identity.invoked_by.as_deref() == Some("signin.amazonaws.com")
            || words.has(Says::Console)
            || words.has(Says::ConsoleProgram)
    }
}

/// A call's name without the date of its API, which Lambda and CloudFront append.
pub(crate) fn undated(name: &str) -> &str {
    let cut = name
        .find(|c: char| c.is_ascii_digit())
        .map_or(name, |at| &name[..at]);
    let date = &name[cut.len()..];
    if date.len() >= 8 && date.bytes().take(8).all(|b| b.is_ascii_digit()) {
        cut.trim_end_matches('_')
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;

    #[test]
    fn sessions_show_who_is_behind_them() {
        let check = |session: &str,
                     rest: &str,
                     agent: &str,
                     taker: Option<&str>,
                     expected: bool| {
            let mut history = History::default();
            if let Some(taker) = taker {
                history.learn(&Event::Api(crate::testing::api(&format!(
                    r#"{{"eventName":"AssumeRole","eventSource":"sts.amazonaws.com",
                    "requestParameters":{{"roleArn":"arn:aws:iam::111122223333:role/r"}},
                    "recipientAccountId":"111122223333","userIdentity":{{{taker}}}}}"#
                ))));
            }
            let call = crate::testing::api(&format!(
                r#"{{"eventName":"A","userAgent":"{agent}","userIdentity":{{"type":"AssumedRole",
                "arn":"arn:aws:sts::111122223333:assumed-role/r/{session}","sessionContext":{{
                "sessionIssuer":{{"type":"Role","arn":"arn:aws:iam::111122223333:role/r"}}{rest}}}}}}}"#
            ));
            let look = Look {
                call: &call,
                history: &history,
                accounts: &Accounts::default(),
            };
            assert_eq!(
                look.is_person(),
                expected,
                "{session} {rest} {agent} {taker:?}"
            );
        };
        let factor = r#","attributes":{"mfaAuthenticated":"true"}"#;
        check("ann@example.com", "", "aws-cli/2", None, true);
        check("ann@example.com", "", "Boto3/1", None, true);
        check("any", factor, "aws-cli/2", None, false);
        check("any", "", "aws-cli/2", None, false);
        check("i-0abc", "", "aws-cli/2", None, false);
        // Default names say something where people are known to take the role, or type.
        let default = "botocore-session-1688990082";
        let user = r#""type":"IAMUser","arn":"arn:aws:iam::111122223333:user/ann""#;
        let center = r#""type":"AssumedRole",
            "arn":"arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Admin_1/ann""#;
        let service =
            r#""type":"AssumedRole","arn":"arn:aws:sts::111122223333:assumed-role/app/run""#;
        check(default, "", "aws-cli/2", None, true);
        check(default, "", "Mozilla/5.0", None, true);
        check(default, "", "Boto3/1", None, false);
        check(default, "", "Boto3/1", Some(user), true);
        check(default, "", "Boto3/1", Some(center), true);
        check(default, "", "Boto3/1", Some(service), false);
        let sdk = "aws-sdk-js-1688990082523";
        check(sdk, "", "aws-sdk-nodejs/2.1", None, false);
        check(sdk, "", "aws-sdk-nodejs/2.1", Some(user), true);
        check("aws-go-sdk-1688990082523310002", "", "x", None, false);
        let token =
            r#","webIdFederationData":{"federatedProvider":"arn:aws:iam::1:oidc-provider/x"}"#;
        check(default, token, "aws-cli/2", Some(user), false);
        let runtime = "Boto3/1 exec-env/AWS_Lambda_python3.9";
        check("ann@example.com", "", runtime, None, false);
        check(default, "", runtime, Some(user), false);
    }

    #[test]
    fn dates_of_apis_are_cut() {
        let check = |name, expected| assert_eq!(undated(name), expected);
        check("UpdateFunctionCode20150331v2", "UpdateFunctionCode");
        check(
            "CreateDistribution2020_05_31",
            "CreateDistribution2020_05_31",
        );
        check("AddPermission20150331", "AddPermission");
        check("CreateRule", "CreateRule");
        check("PutBucketV2", "PutBucketV2");
        check("", "");
    }
}
