//! Lists of what a running collector keeps, for people and for machines.

use super::Outcome;
use super::findings::{Format, joined, print};
use crate::api::client::Address;

/// Of which collector, and how it is printed: what each `list` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Listing {
    #[command(flatten)]
    pub(super) address: Address,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,
}

impl Listing {
    /// Prints everything that is kept at `path`, as it is or as the table made of its lines.
    pub(super) fn all(
        &self,
        path: &str,
        table: impl FnOnce(&[String]) -> anyhow::Result<String>,
    ) -> anyhow::Result<Outcome> {
        self.some(path, &(), table)
    }

    /// The same of what a question narrows down.
    pub(super) fn some(
        &self,
        path: &str,
        question: &impl serde::Serialize,
        table: impl FnOnce(&[String]) -> anyhow::Result<String>,
    ) -> anyhow::Result<Outcome> {
        let lines = self.address.lines(path, question)?.unwrap_or_default();
        match self.format {
            Format::Jsonl => print(&joined(&lines)),
            Format::Text => print(&table(&lines)?),
        }
    }
}
