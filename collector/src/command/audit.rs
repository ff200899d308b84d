//! `audit`: who changed what, and who was refused.

use std::time::Duration;

use super::findings::{Format, joined, print};
use super::page::Table;
use super::{Outcome, intel};
use crate::api::LISTED_MAX;
use crate::api::client::{self, Address};
use crate::clock;
use crate::store::audit::{AuditLine, Wanted};

/// What `audit` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    address: Address,
    /// Only calls of the last so many: a number and s, m, h or d
    #[arg(long, value_name = "TIME", value_parser = intel::duration)]
    last: Option<Duration>,
    /// Only calls of callers of whom this is a part of the name
    #[arg(long, value_name = "TEXT")]
    who: Option<String>,
    /// Only calls that were refused
    #[arg(long)]
    refused: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    let since = |last: Duration| {
        let last_ms = u64::try_from(last.as_millis()).unwrap_or(u64::MAX);
        clock::now_ms().saturating_sub(last_ms)
    };
    let wanted = Wanted {
        since_ms: arguments.last.map(since),
        who: arguments.who,
        refused: arguments.refused,
    };
    let lines = arguments.address.lines("/v1/audit", &wanted)?;
    let lines = lines.unwrap_or_default();
    if lines.len() >= LISTED_MAX {
        eprintln!("picket-collector: only the latest {LISTED_MAX} are listed; ask for fewer");
    }
    match arguments.format {
        Format::Jsonl => print(&joined(&lines)),
        Format::Text => {
            let mut table = Table::new(&["time", "who", "from", "what", "about", "outcome"]);
            for line in &lines {
                let one: AuditLine = client::parse(line)?;
                let about = one.detail.as_deref().unwrap_or("-");
                table.row(&[
                    &one.time,
                    &one.who,
                    &one.from,
                    &one.what,
                    about,
                    &one.outcome,
                ]);
            }
            print(&table.finish())
        }
    }
}
