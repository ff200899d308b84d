//! What was done lately that gives a later call its meaning: a key pair made, a role made mighty, an
//! identity provider changed.

use super::table::Table;
use crate::limits::LATELY_MAX;
use crate::logs::cloudtrail::ApiCall;

/// How long it counts as lately. Chosen by hand: a working day and the night after.
const LATELY_NS: u64 = 24 * 3_600 * 1_000_000_000;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Lately {
    /// A key pair was made or brought.
    KeyPair,
    /// A role was allowed everything.
    MadeAdmin,
    /// An identity provider was made or changed.
    Provider,
}

/// Who did it, and when.
#[derive(Debug, Clone, Default)]
pub(crate) struct Did {
    pub(crate) by: String,
    pub(crate) at_ns: u64,
}

/// What was done lately, by what it was, account and name.
#[derive(Debug)]
pub(crate) struct Doings(Table<(Lately, String, String), Did>);

impl Default for Doings {
    fn default() -> Self {
        Self(Table::new(LATELY_MAX))
    }
}

impl Doings {
    /// Notes that `call` did it to `name`.
    pub(crate) fn note(&mut self, what: Lately, name: &str, call: &ApiCall) {
        let account = call.account().unwrap_or_default().to_owned();
        *self
            .0
            .write((what, account, name.to_owned()), call.event_time_ns) = Did {
            by: call.identity.actor().unwrap_or_default().to_owned(),
            at_ns: call.event_time_ns,
        };
    }

    /// Notes what a call that was carried out tells by itself.
    pub(crate) fn learn(&mut self, call: &ApiCall) {
        let (asked, answered) = (&call.request_parameters, &call.response_elements);
        match (call.service(), &*call.event_name) {
            ("ec2", "CreateKeyPair" | "ImportKeyPair") => {
                if let Some(name) = asked.text("keyName") {
                    self.note(Lately::KeyPair, name, call);
                }
            }
            (
                "iam",
                "CreateSAMLProvider"
                | "UpdateSAMLProvider"
                | "CreateOpenIDConnectProvider"
                | "UpdateOpenIDConnectProviderThumbprint"
                | "AddClientIDToOpenIDConnectProvider",
            ) => {
                for key in ["sAMLProviderArn", "openIDConnectProviderArn"] {
                    if let Some(arn) = asked.text(key).or_else(|| answered.text(key)) {
                        self.note(Lately::Provider, arn, call);
                    }
                }
            }
            _ => {}
        }
    }

    /// Who did it to `name` within a day before `call`, if somebody did.
    pub(crate) fn of(
        &self,
        what: Lately,
        account: &str,
        name: &str,
        call: &ApiCall,
    ) -> Option<&Did> {
        if self.0.is_empty() {
            return None;
        }
        let did = self.0.get(&(what, account.to_owned(), name.to_owned()))?;
        let age_ns = call.event_time_ns.saturating_sub(did.at_ns);
        (age_ns <= LATELY_NS).then_some(did)
    }

    pub(crate) fn expire(&mut self, watermark_ns: u64) {
        self.0.expire(watermark_ns.saturating_sub(LATELY_NS));
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 1] {
        [("doings_evicted", self.0.evicted())]
    }
}
