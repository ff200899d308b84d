//! `usage`: what the running collector analysed, and what GuardDuty would charge for the same.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};

use super::Outcome;
use super::findings::{Format, joined, print};
use super::page::Table;
use crate::api::Days;
use crate::api::client::{self, Address};
use crate::usage::prices::{Charge, Prices};
use crate::usage::{Row, Source};

/// What `usage` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    address: Address,
    /// Only this day and later, by the time of the events in UTC
    #[arg(long, value_name = "YYYY-MM-DD")]
    since: Option<String>,
    /// Table of prices, in the place of the one that is built in
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    let prices = match &arguments.prices {
        Some(path) => Prices::load(path)?,
        None => Prices::built_in()?,
    };
    let since = arguments.since.clone().unwrap_or_default();
    let is_day = since.len() == 10
        && since.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    ensure!(
        since.is_empty() || is_day,
        "--since {since:?}: not of the form YYYY-MM-DD"
    );
    let lines = arguments.address.lines("/v1/usage", &Days { since })?;
    let lines = lines.context("the collector knows of no usage")?;
    let rows: Vec<Row> = lines
        .iter()
        .map(|line| client::parse(line))
        .collect::<Result<_, _>>()?;
    let charges = prices.charges(&rows);
    match arguments.format {
        Format::Jsonl => print(&joined(&json_lines(&rows, &charges, &prices)?)),
        Format::Text => print(&text(&rows, &charges, &prices)),
    }
}

/// Each row, each charge, and their sum.
pub(super) fn json_lines(
    rows: &[Row],
    charges: &[Charge],
    prices: &Prices,
) -> anyhow::Result<Vec<String>> {
    let of_kind = |kind: &str, value: serde_json::Value| {
        let mut line = serde_json::json!({ "kind": kind });
        if let (Some(line), serde_json::Value::Object(members)) = (line.as_object_mut(), value) {
            line.extend(members);
        }
        line.to_string()
    };
    let mut lines = Vec::new();
    for row in rows {
        lines.push(of_kind("usage", serde_json::to_value(row)?));
    }
    for charge in charges {
        lines.push(of_kind("charge", serde_json::to_value(charge)?));
    }
    let sum = serde_json::json!({
        "price": charges.iter().map(|one| one.price).sum::<f64>(),
        "currency": prices.currency,
        "prices_of": prices.date,
        "region": prices.region,
    });
    lines.push(of_kind("totals", sum));
    Ok(lines)
}

fn text(rows: &[Row], charges: &[Charge], prices: &Prices) -> String {
    let mut sums: BTreeMap<(&str, &str, Source), (u64, u64)> = BTreeMap::new();
    for row in rows {
        let month = row.day.get(.."YYYY-MM".len()).unwrap_or_default();
        let sum = sums.entry((month, &row.account, row.source)).or_default();
        *sum = (
            sum.0.saturating_add(row.events),
            sum.1.saturating_add(row.bytes),
        );
    }
    let mut analysed = Table::new(&["month", "account", "source", "events", "megabytes"]);
    for ((month, account, source), (events, bytes)) in sums {
        let megabytes = format!("{:.1}", bytes as f64 / 1e6);
        analysed.row(&[
            month,
            account,
            source.name(),
            &events.to_string(),
            &megabytes,
        ]);
    }
    let mut charged = Table::new(&["month", "account", "meter", "quantity", &prices.currency]);
    for one in charges {
        let (quantity, price) = (format!("{:.3}", one.quantity), format!("{:.2}", one.price));
        charged.row(&[&one.month, &one.account, &one.meter, &quantity, &price]);
    }
    let sum: f64 = charges.iter().map(|one| one.price).sum();
    format!(
        "{}\nWhat GuardDuty would charge for it ({}, list prices of {}):\n{}\n{sum:.2} {} in all. Hosts with its agent and \
         databases are charged by their processors, which no log tells.\n",
        analysed.finish(),
        prices.region,
        prices.date,
        charged.finish(),
        prices.currency,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_months_and_machines_days() {
        let row = |day: &str, events| Row {
            day: day.to_owned(),
            source: Source::CloudtrailManagement,
            account: "111122223333".to_owned(),
            region: "eu-west-1".to_owned(),
            events,
            bytes: 1_500_000,
        };
        let rows = [row("2026-10-01", 1_000_000), row("2026-10-02", 500_000)];
        let prices = Prices::built_in().unwrap();
        let charges = prices.charges(&rows);
        let told = text(&rows, &charges, &prices);
        for expected in [
            "1500000",
            "3.0",
            "1.500",
            "6.00 USD in all",
            "us-east-1",
            "2026-10-07",
        ] {
            assert!(told.contains(expected), "{expected}: {told}");
        }
        let lines = json_lines(&rows, &charges, &prices).unwrap();
        assert_eq!(lines.len(), 4);
        let first: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(
            (&first["kind"], &first["day"], &first["events"]),
            (&"usage".into(), &"2026-10-01".into(), &1_000_000.into())
        );
        let last: serde_json::Value = serde_json::from_str(&lines[3]).unwrap();
        assert_eq!(
            (&last["kind"], &last["price"]),
            (&"totals".into(), &6.0.into())
        );
    }
}
