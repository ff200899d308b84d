//! The rows: as a table for a person, as JSON for a program.

use std::fmt::Write as _;

use serde::Serialize;

use crate::names::{self, NAMES, Name};
use crate::rounds::{Samples, median};

/// A row as it is written. What was not run has no numbers and says why.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    name: &'static str,
    unit: &'static str,
    min: Option<f64>,
    median: Option<f64>,
    max: Option<f64>,
    baseline: Option<f64>,
    ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_run: Option<String>,
}

/// Every row so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a row of which less is better, under a name whose ratio says by how much less: the
    /// baseline's over ours.
    pub(crate) fn add_inverse(&mut self, name: &str, samples: &Samples) {
        let turned = Samples {
            ours: samples.baseline.clone(),
            baseline: samples.ours.clone(),
        };
        self.add_with(name, samples, turned.ratio());
    }

    /// Adds a row under its name.
    pub(crate) fn add(&mut self, name: &str, samples: &Samples) {
        self.add_with(name, samples, samples.ratio());
    }

    fn add_with(&mut self, name: &str, samples: &Samples, ratio: Option<f64>) {
        let Some(known) = names::find(name) else {
            eprintln!("picket-bench: {name} has no line in NAMES");
            return;
        };
        let ours = &samples.ours;
        let row = Row {
            min: ours.iter().copied().min_by(f64::total_cmp),
            median: median(ours),
            max: ours.iter().copied().max_by(f64::total_cmp),
            baseline: median(&samples.baseline),
            ratio,
            ..Row::empty(known, None)
        };
        eprintln!("  {}", line(known, &row));
        self.rows.push(row);
    }

    /// Notes a row that could not be measured.
    pub(crate) fn lacks(&mut self, name: &str, why: &str) {
        if let Some(known) = names::find(name) {
            self.rows.push(Row::empty(known, Some(why)));
        }
    }

    /// Notes every row with one of these beginnings that is not here yet.
    pub(crate) fn not_run(&mut self, beginnings: &[&str], why: &str) {
        for known in NAMES {
            let is_of_it = beginnings.iter().any(|begin| known.name.starts_with(begin));
            if is_of_it && self.rows.iter().all(|row| row.name != known.name) {
                self.rows.push(Row::empty(known, Some(why)));
            }
        }
    }

    /// The rows in the order of their names' list.
    fn sorted(&self) -> Vec<&Row> {
        NAMES
            .iter()
            .filter_map(|known| self.rows.iter().find(|row| row.name == known.name))
            .collect()
    }

    /// For a person.
    pub(crate) fn table(&self) -> String {
        let mut out = format!(
            "\n{:<35} {:<16} {:>10} {:>10} {:>10} {:>10} {:>8}  promised\n",
            "name", "unit", "min", "median", "max", "baseline", "ratio"
        );
        for row in self.sorted() {
            if let Some(known) = names::find(row.name) {
                let _ = writeln!(out, "{}", line(known, row));
            }
        }
        out
    }

    /// For a program.
    pub(crate) fn json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(&self.sorted())? + "\n")
    }
}

impl Row {
    fn empty(known: &Name, why: Option<&str>) -> Self {
        Self {
            name: known.name,
            unit: known.unit,
            min: None,
            median: None,
            max: None,
            baseline: None,
            ratio: None,
            not_run: why.map(str::to_owned),
        }
    }
}

fn line(known: &Name, row: &Row) -> String {
    let start = format!("{:<35} {:<16}", row.name, row.unit);
    if let Some(why) = &row.not_run {
        return format!(
            "{start} not run: {}",
            why.lines().next().unwrap_or_default()
        );
    }
    let number = |number: Option<f64>| number.map_or_else(String::new, told);
    let holds = row
        .median
        .and_then(|median| known.promise.holds(median, row.ratio));
    let verdict = match holds {
        Some(true) => format!("{}: kept", known.promise.said()),
        Some(false) => format!("{}: MISSED", known.promise.said()),
        None => known.promise.said(),
    };
    let over = match known.over {
        "" => String::new(),
        over => format!(" (over {over})"),
    };
    format!(
        "{start} {:>10} {:>10} {:>10} {:>10} {:>8}  {verdict}{over}",
        number(row.min),
        number(row.median),
        number(row.max),
        number(row.baseline),
        row.ratio
            .map_or_else(String::new, |ratio| format!("{ratio:.3}")),
    )
}

/// Three digits or so.
fn told(number: f64) -> String {
    match number.abs() {
        0.0..10.0 => format!("{number:.3}"),
        10.0..1000.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_in_order_with_what_was_not_run() {
        let mut report = Report::default();
        let samples = Samples {
            ours: vec![20.0, 21.0, 19.0],
            baseline: vec![10.0, 10.0, 10.0],
        };
        report.lacks("kernel/flow_new", "not root");
        report.add("kernel/flow_existing", &samples);
        report.add("kernel/of_no_such_name", &samples);
        report.not_run(&["kernel/flow_"], "too late");
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        let rows = json.as_array().unwrap();
        let names: Vec<&str> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
        let expected = [
            "kernel/flow_existing",
            "kernel/flow_active_1000",
            "kernel/flow_new",
        ];
        assert_eq!(names, expected);
        let first = serde_json::json!({
            "name": "kernel/flow_existing", "unit": "ns", "min": 19.0, "median": 20.0,
            "max": 21.0, "baseline": 10.0, "ratio": 2.0
        });
        assert_eq!(rows[0], first);
        assert_eq!(rows[1]["not_run"], "too late");
        assert_eq!(rows[2]["not_run"], "not root");
        assert!(rows[2]["ratio"].is_null());
        let table = report.table();
        assert!(table.contains("ratio <= 2.5: kept"), "{table}");
        assert!(table.contains("not run: not root"), "{table}");
    }
}
