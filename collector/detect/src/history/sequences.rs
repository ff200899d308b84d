//! Signs of an attack that each principal gave within a day, so that they can be seen together.

use super::table::Table;
use crate::finding::Evidence;
use crate::limits::{SEQUENCE_EVIDENCE_MAX, SEQUENCE_SIGNS_MAX, SEQUENCES_MAX};

/// Signs by account and principal.
#[derive(Debug)]
pub(crate) struct Sequences {
    rows: Table<(String, String), Signs>,
    left_out: u64,
}

/// The signs of one principal.
#[derive(Debug, Default)]
pub(crate) struct Signs {
    signs: Vec<Sign>,
    /// Types of sequences that were told of it, with when last.
    told: Vec<(&'static str, u64)>,
}

/// One sign: something medium or worse that was found of the principal.
#[derive(Debug, Clone)]
pub(crate) struct Sign {
    /// The finding's type.
    pub(crate) kind: &'static str,
    /// What of it, where a type is of several behaviours.
    pub(crate) behaviour: String,
    /// The worst it was.
    pub(crate) severity: f64,
    /// When first.
    pub(crate) first_ns: u64,
    /// When last.
    pub(crate) last_ns: u64,
    /// A few of its events.
    pub(crate) evidence: Vec<Evidence>,
}

impl Default for Sequences {
    fn default() -> Self {
        Self {
            rows: Table::new(SEQUENCES_MAX),
            left_out: 0,
        }
    }
}

impl Sequences {
    /// Notes a sign, forgets those last given before `begin_ns`, and shows all.
    pub(crate) fn note(
        &mut self,
        account: &str,
        principal: &str,
        sign: Sign,
        begin_ns: u64,
    ) -> &mut Signs {
        let key = (account.to_owned(), principal.to_owned());
        let row = self.rows.write(key, sign.last_ns);
        row.signs.retain(|one| one.last_ns >= begin_ns);
        row.told.retain(|(_, told_ns)| *told_ns >= begin_ns);
        let same = |one: &&mut Sign| one.kind == sign.kind && one.behaviour == sign.behaviour;
        if let Some(known) = row.signs.iter_mut().find(same) {
            known.severity = known.severity.max(sign.severity);
            known.last_ns = known.last_ns.max(sign.last_ns);
            let room = SEQUENCE_EVIDENCE_MAX.saturating_sub(known.evidence.len());
            known.evidence.extend(sign.evidence.into_iter().take(room));
        } else if row.signs.len() < SEQUENCE_SIGNS_MAX {
            let mut sign = sign;
            sign.evidence.truncate(SEQUENCE_EVIDENCE_MAX);
            row.signs.push(sign);
        } else {
            self.left_out += 1;
        }
        row
    }

    pub(crate) fn expire(&mut self, before_ns: u64) {
        self.rows.expire(before_ns);
    }

    pub(crate) fn turned_away(&self) -> [(&'static str, u64); 2] {
        [
            ("sequences_evicted", self.rows.evicted()),
            ("sequence_signs_left_out", self.left_out),
        ]
    }
}

impl Signs {
    /// Every sign, in the order they were first given.
    pub(crate) fn all(&self) -> &[Sign] {
        &self.signs
    }

    /// Notes that a sequence was told; returns whether it was before.
    pub(crate) fn tell(&mut self, kind: &'static str, now_ns: u64) -> bool {
        match self.told.iter_mut().find(|(told, _)| *told == kind) {
            Some((_, told_ns)) => {
                *told_ns = now_ns.max(*told_ns);
                true
            }
            None => {
                self.told.push((kind, now_ns));
                false
            }
        }
    }
}
