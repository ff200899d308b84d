//! What GuardDuty would charge: a table of prices as data, with its date and region, and the arithmetic of tiers.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::{Row, Source};

/// The table that picket brings.
const BUILT_IN: &str = include_str!("prices.toml");

/// A table of prices.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prices {
    /// When they were list prices, `YYYY-MM-DD`.
    pub(crate) date: String,
    /// Where.
    pub(crate) region: String,
    /// In which money.
    pub(crate) currency: String,
    meter: Vec<Meter>,
}

/// One thing that is charged.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meter {
    name: String,
    sources: Vec<Source>,
    unit: Unit,
    /// Units to a step.
    per: u64,
    tiers: Vec<Tier>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Unit {
    Events,
    Bytes,
}

/// Steps at one price.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tier {
    /// Where it ends, in steps from zero.
    up_to: Option<u64>,
    /// Of one step.
    price: f64,
}

/// What one account would pay for one meter in one month.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Charge {
    /// `YYYY-MM`.
    pub(crate) month: String,
    /// Whose.
    pub(crate) account: String,
    /// For what.
    pub(crate) meter: String,
    /// How much of it: steps of the meter (millions of events, gigabytes).
    pub(crate) quantity: f64,
    /// What it would cost.
    pub(crate) price: f64,
}

impl Prices {
    /// The table that picket brings.
    ///
    /// # Errors
    /// None in a build whose tests passed.
    pub(crate) fn built_in() -> anyhow::Result<Self> {
        Self::of(BUILT_IN).context("read the table of prices")
    }

    /// A table of one's own.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("read {}", path.display()))?;
        Self::of(&text).with_context(|| format!("read prices in {}", path.display()))
    }

    fn of(text: &str) -> anyhow::Result<Self> {
        let prices: Self = toml::from_str(text)?;
        for meter in &prices.meter {
            let name = &meter.name;
            ensure!(meter.per > 0, "meter {name}: per must not be 0");
            let (last, others) = meter
                .tiers
                .split_last()
                .with_context(|| format!("meter {name}: no tiers"))?;
            ensure!(
                last.up_to.is_none(),
                "meter {name}: the last tier has no end"
            );
            let ends: Option<Vec<u64>> = others.iter().map(|tier| tier.up_to).collect();
            let ends =
                ends.with_context(|| format!("meter {name}: a tier before the last has an end"))?;
            ensure!(
                ends.is_sorted(),
                "meter {name}: tiers end one after the other"
            );
        }
        Ok(prices)
    }

    /// What each account would pay, by month and meter.
    pub(crate) fn charges(&self, rows: &[Row]) -> Vec<Charge> {
        let mut units: BTreeMap<(&str, &str, usize), BTreeMap<&str, u64>> = BTreeMap::new();
        for row in rows {
            let month = row.day.get(.."YYYY-MM".len()).unwrap_or_default();
            let meters = self.meter.iter().enumerate();
            for (at, meter) in meters.filter(|(_, meter)| meter.sources.contains(&row.source)) {
                let amount = match meter.unit {
                    Unit::Events => row.events,
                    Unit::Bytes => row.bytes,
                };
                let regions = units.entry((month, &row.account, at)).or_default();
                let sum = regions.entry(&row.region).or_default();
                *sum = sum.saturating_add(amount);
            }
        }
        let mut charges = Vec::new();
        for ((month, account, at), regions) in units {
            let Some(meter) = self.meter.get(at) else {
                continue;
            };
            let steps = |units: u64| units as f64 / meter.per as f64;
            charges.push(Charge {
                month: month.to_owned(),
                account: account.to_owned(),
                meter: meter.name.clone(),
                quantity: regions.values().map(|units| steps(*units)).sum(),
                // Tiers begin anew in each region.
                price: regions
                    .values()
                    .map(|units| meter.price(steps(*units)))
                    .sum(),
            });
        }
        charges
    }
}

impl Meter {
    /// What so many steps cost.
    fn price(&self, quantity: f64) -> f64 {
        let mut from = 0.0;
        let mut sum = 0.0;
        for tier in &self.tiers {
            let end = tier.up_to.map_or(f64::INFINITY, |steps| steps as f64);
            sum += (quantity.min(end) - from).max(0.0) * tier.price;
            from = end;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(day: &str, source: Source, account: &str, events: u64, bytes: u64) -> Row {
        Row {
            day: day.to_owned(),
            source,
            account: account.to_owned(),
            region: "eu-west-1".to_owned(),
            events,
            bytes,
        }
    }

    const GB: u64 = 1_000_000_000;

    #[test]
    fn a_month_of_an_account_costs_what_its_tiers_say() {
        let prices = Prices::built_in().unwrap();
        let check = |rows: &[Row], expected: &[(&str, &str, &str, f64)]| {
            let charges = prices.charges(rows);
            let told: Vec<(&str, &str, &str, f64)> = charges
                .iter()
                .map(|one| (&*one.month, &*one.account, &*one.meter, one.price))
                .collect();
            assert_eq!(told, expected);
        };
        // Worked examples of the price list: 50 M management events, 1,000 GB of logs.
        let events = row(
            "2026-10-01",
            Source::CloudtrailManagement,
            "1",
            50_000_000,
            9,
        );
        check(&[events], &[("2026-10", "1", "management_events", 200.0)]);
        let logs = [
            row("2026-10-01", Source::VpcFlow, "1", 1, 600 * GB),
            row("2026-10-31", Source::Resolver, "1", 1, 400 * GB),
        ];
        check(&logs, &[("2026-10", "1", "flow_and_dns_logs", 750.0)]);
        let more = [row("2026-10-01", Source::VpcFlow, "1", 1, 3_500 * GB)];
        check(
            &more,
            &[("2026-10", "1", "flow_and_dns_logs", 500.0 + 1_000.0 + 250.0)],
        );
        let data = [row("2026-10-01", Source::CloudtrailS3, "1", 600_000_000, 1)];
        check(&data, &[("2026-10", "1", "s3_data_events", 440.0)]);
    }

    #[test]
    fn tiers_begin_anew_in_each_region() {
        let prices = Prices::built_in().unwrap();
        let here = row("2026-10-01", Source::VpcFlow, "1", 1, 600 * GB);
        let there = Row {
            region: "us-east-1".to_owned(),
            ..here.clone()
        };
        let sum = |rows: &[Row]| {
            let charges = prices.charges(rows);
            assert_eq!(charges.len(), 1);
            (charges[0].quantity, charges[0].price)
        };
        assert_eq!(sum(&[here.clone(), there]), (1_200.0, 2.0 * 550.0));
        assert_eq!(sum(&[here.clone(), here]), (1_200.0, 500.0 + 350.0));
    }

    #[test]
    fn months_and_accounts_are_charged_apart() {
        let prices = Prices::built_in().unwrap();
        let rows = [
            row("2026-09-30", Source::VpcFlow, "1", 1, 500 * GB),
            row("2026-10-01", Source::VpcFlow, "1", 1, 500 * GB),
            row("2026-10-01", Source::VpcFlow, "2", 1, 500 * GB),
            row("2026-10-01", Source::Agent, "2", 1, 500 * GB),
        ];
        let sums: Vec<f64> = prices.charges(&rows).iter().map(|one| one.price).collect();
        assert_eq!(sums, [500.0, 500.0, 500.0]);
        assert!(prices.charges(&[]).is_empty());
    }

    #[test]
    fn a_table_that_makes_no_sense_is_refused() {
        let check = |from: &str, to: &str, expected: &str| {
            let error = Prices::of(&BUILT_IN.replacen(from, to, 1)).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(
            "per = 1_000_000",
            "per = 0",
            "meter management_events: per must not be 0",
        );
        check("tiers = [{ price = 4.00 }]", "tiers = []", "no tiers");
        check(
            "{ price = 4.00 }",
            "{ up_to = 5, price = 4.00 }",
            "the last tier has no end",
        );
        check(
            "up_to = 2_500",
            "up_to = 400",
            "tiers end one after the other",
        );
        check("cloudtrail_s3", "s3", "unknown variant");
        check("currency", "money", "unknown field");
    }
}
