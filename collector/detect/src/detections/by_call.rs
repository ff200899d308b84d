//! What looks at calls of certain names, found by the name.

use std::collections::{BTreeMap, HashMap};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::look::undated;
use crate::finding::FindingType;
use crate::logs::cloudtrail::ApiCall;

/// Services without their domain, each with names of calls, without Lambda's dates.
pub(crate) type Named = &'static [(&'static str, &'static [&'static str])];

/// Entries by the names of calls, so that an event that none is about costs one look.
pub(crate) struct ByCall<T: 'static>(HashMap<&'static str, Vec<(&'static str, &'static T)>>);

impl<T> ByCall<T> {
    /// Of entries with the calls that each is about.
    pub(crate) fn new(entries: impl Iterator<Item = (Named, &'static T)>) -> Self {
        let mut all: HashMap<&str, Vec<_>> = HashMap::new();
        for (services, entry) in entries {
            for (service, names) in services {
                for name in *names {
                    all.entry(name).or_default().push((*service, entry));
                }
            }
        }
        Self(all)
    }

    /// The entries that are about `call`.
    pub(crate) fn of(&self, call: &ApiCall) -> impl Iterator<Item = &'static T> {
        let entries = self.0.get(undated(&call.event_name));
        let service = call.service();
        let entries = entries.into_iter().flatten();
        entries
            .filter(move |(of, _)| *of == service)
            .map(|(_, entry)| *entry)
    }
}

/// Every type once, sorted by name.
pub(crate) fn types(
    kinds: impl Iterator<Item = &'static FindingType>,
) -> Vec<&'static FindingType> {
    let by_name: BTreeMap<&str, &FindingType> = kinds.map(|kind| (kind.name, kind)).collect();
    by_name.into_values().collect()
}

/// Reads an id that must be one of `known`; a `noun` else that there is not.
// Derived, an id would borrow the text it is read from for ever.
pub(crate) fn known_id<'de, D: Deserializer<'de>>(
    from: D,
    noun: &str,
    mut known: impl Iterator<Item = &'static str>,
) -> Result<&'static str, D::Error> {
    let text = String::deserialize(from)?;
    known
        .find(|id| *id == text)
        .ok_or_else(|| D::Error::custom(format!("there is no {noun} `{text}`")))
}
