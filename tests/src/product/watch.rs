//! Watches alerts come in and keeps count of what is still missing.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::alert::Alert;
use crate::lab::wait_until;
use crate::lab::webhook::Webhook;
use crate::scene::expected::{Expected, Finding};

/// What came in by webhook so far, each finding once.
#[derive(Debug)]
pub struct Watch<'a> {
    webhook: &'a Webhook,
    deliveries: usize,
    known: BTreeSet<String>,
    /// The first alert of each finding, in the order they came.
    pub alerts: Vec<Alert>,
    /// The latest state of each finding and whatever else came, in the order they came.
    pub states: Vec<Value>,
}

impl<'a> Watch<'a> {
    /// Starts with what the webhook has already taken.
    pub fn new(webhook: &'a Webhook) -> Self {
        Self {
            webhook,
            deliveries: 0,
            known: BTreeSet::new(),
            alerts: Vec::new(),
            states: Vec::new(),
        }
    }

    /// Takes in what came since the last look and returns the findings that are new.
    ///
    /// # Errors
    /// When a delivery is no alert.
    pub fn look(&mut self) -> Result<Vec<Alert>> {
        let mut new = Vec::new();
        for delivery in self.webhook.deliveries_after(self.deliveries) {
            self.deliveries += 1;
            let alert = Alert::read(&delivery)?;
            self.states.push(alert.finding.clone());
            if self.known.insert(alert.id().to_owned()) {
                self.alerts.push(alert.clone());
                new.push(alert);
            }
        }
        Ok(new)
    }

    /// What of `expected` has not come yet.
    pub fn missing<'e>(&self, expected: &'e Expected) -> Vec<&'e Finding> {
        expected.missing(&self.states)
    }

    /// Waits until every finding of `expected` has come, telling `shown` of each new one.
    ///
    /// # Errors
    /// Names what is missing when `limit` has passed.
    pub fn until_complete(
        &mut self,
        expected: &Expected,
        limit: Duration,
        mut shown: impl FnMut(&Alert),
    ) -> Result<()> {
        let waited = wait_until("findings", limit, || {
            self.look()?.iter().for_each(&mut shown);
            Ok(self.missing(expected).is_empty().then_some(()))
        });
        waited.map_err(|error| {
            let missing: Vec<String> = self
                .missing(expected)
                .iter()
                .map(|finding| format!("{} ({})", finding.kind, finding.mentions.join(", ")))
                .collect();
            error.context(format!("missing: {}", missing.join("; ")))
        })
    }
}
