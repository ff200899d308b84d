//! Who signed the summaries that verify: each agent with its key, and what is known of that key.
//!
//! An envelope carries its key, so that any is analysed; whose word it is stands here, for the
//! totals and, once for each signer that nobody named, for stderr.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use picket_wire::{AgentId, Header, PublicKey};
use serde::{Serialize, Serializer};

use crate::source::limits::SIGNERS_MAX;

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The configuration names it.
    Configured,
    /// It is the public development key: anybody may have signed.
    Development,
    /// Nobody named it: it proves that one and the same signed, and not who.
    Unknown,
}

/// An agent and the key it signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Signer {
    /// The agent.
    #[serde(serialize_with = "as_text")]
    pub agent: AgentId,
    /// Its key.
    #[serde(serialize_with = "as_text")]
    pub key: PublicKey,
    /// What is known of the key.
    pub standing: Standing,
}

impl Signer {
    /// Takes agent and key from a header that verified.
    pub fn of(header: &Header, standing: Standing) -> Self {
        Self {
            agent: header.agent,
            key: header.key,
            standing,
        }
    }
}

/// The signers met, a bounded number of them.
#[derive(Debug, Clone, Default)]
pub struct Signers {
    met: BTreeMap<Signer, u64>,
    /// Envelopes of those that found no room.
    more: u64,
}

impl Signers {
    /// The signers met, with their envelopes.
    pub fn iter(&self) -> impl Iterator<Item = (&Signer, u64)> {
        self.met
            .iter()
            .map(|(signer, &envelopes)| (signer, envelopes))
    }

    /// Counts an envelope; says whether it is the first of its signer that is noticed.
    pub fn note(&mut self, signer: Signer) -> bool {
        let has_room = self.met.len() < SIGNERS_MAX;
        match self.met.get_mut(&signer) {
            Some(envelopes) => {
                *envelopes += 1;
                false
            }
            None if has_room => {
                self.met.insert(signer, 1);
                true
            }
            None => {
                self.more += 1;
                false
            }
        }
    }

    /// How many agents of each standing there are, as a person reads it.
    pub fn in_words(&self) -> Option<String> {
        let count = |wanted: Standing| {
            let of_it = self.met.keys().filter(|one| one.standing == wanted);
            of_it.map(|one| one.agent).collect::<BTreeSet<_>>().len()
        };
        let parts: Vec<String> = [
            (Standing::Configured, "named in the configuration"),
            (Standing::Development, "with the public development key"),
            (Standing::Unknown, "with keys nobody named"),
        ]
        .into_iter()
        .map(|(standing, words)| (count(standing), words))
        .filter(|(agents, _)| *agents > 0)
        .map(|(agents, words)| format!("{agents} {words}"))
        .collect();
        (!parts.is_empty()).then(|| format!("agents: {}", parts.join(", ")))
    }
}

impl Serialize for Signers {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Row<'a> {
            #[serde(flatten)]
            signer: &'a Signer,
            envelopes: u64,
        }

        #[derive(Serialize)]
        struct Rows<'a> {
            signers: Vec<Row<'a>>,
            signers_more: u64,
        }

        let row = |(signer, &envelopes)| Row { signer, envelopes };
        let rows = Rows {
            signers: self.met.iter().map(row).collect(),
            signers_more: self.more,
        };
        rows.serialize(to)
    }
}

fn as_text<S: Serializer>(value: &impl fmt::Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}
