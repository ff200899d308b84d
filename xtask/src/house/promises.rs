//! Every promise in SPECIFICATION.md names the test or bench that shows it, and that exists.
//!
//! A test is named as `file: test`, a bench as `bench: name`, with the name as the table of
//! `make bench` tells it.

use std::path::Path;

use super::{Finding, repository::Repository};

/// Where the promises stand.
const FILE: &str = "SPECIFICATION.md";

/// Where the names of benches stand.
const BENCH_NAMES: &str = "bench/src/names.rs";

/// Checks the last column of each table.
pub(super) fn check(repository: &Repository) -> anyhow::Result<Vec<Finding>> {
    let Some(text) = repository.text(Path::new(FILE))? else {
        return Ok(vec![Finding::fault(format!("{FILE} is not UTF-8"))]);
    };
    Ok(findings(&text, |file| {
        repository.text(Path::new(file)).ok().flatten()
    }))
}

fn findings(text: &str, read: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (row, line) in rows(text) {
        let Some(shown_by) = row.last() else {
            continue;
        };
        let witnesses: Vec<&str> = shown_by.split('`').skip(1).step_by(2).collect();
        if witnesses.is_empty() {
            findings.push(Finding::fault(format!(
                "{FILE}:{line}: no test stands behind this promise"
            )));
        }
        for witness in witnesses {
            if let Some(problem) = problem(witness, &read) {
                findings.push(Finding::fault(format!("{FILE}:{line}: {problem}")));
            }
        }
    }
    findings
}

/// The cells of every table row below a head, with their line.
fn rows(text: &str) -> Vec<(Vec<&str>, usize)> {
    let mut rows = Vec::new();
    let mut below_head = false;
    for (line, at) in text.lines().zip(1..) {
        let Some(inner) = line
            .strip_prefix('|')
            .and_then(|line| line.trim_end().strip_suffix('|'))
        else {
            below_head = false;
            continue;
        };
        if inner.starts_with("---") {
            below_head = true;
        } else if below_head {
            rows.push((inner.split('|').map(str::trim).collect(), at));
        }
    }
    rows
}

/// What is wrong with `file: test`, `bench: name` or `file`.
fn problem(witness: &str, read: impl Fn(&str) -> Option<String>) -> Option<String> {
    if let Some(bench) = witness.strip_prefix("bench: ") {
        let names = read(BENCH_NAMES).unwrap_or_default();
        return (!names.contains(&format!("\"{bench}\"")))
            .then(|| format!("{BENCH_NAMES} has no bench {bench}"));
    }
    let (file, test) = witness
        .split_once(": ")
        .map_or((witness, None), |(file, test)| (file, Some(test)));
    let Some(text) = read(file) else {
        return Some(format!("there is no file {file}"));
    };
    let test = test?;
    (!text.contains(&format!("fn {test}("))).then(|| format!("{file} has no test {test}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "| promise | measure | shown by |\n|---|---|---|\n";

    #[track_caller]
    fn check_row(row: &str, expected: &[&str]) {
        let text = format!("{HEAD}{row}\n\nprose | with a bar |\n");
        let read = |file: &str| match file {
            "a.rs" => Some("fn shows_it() {}".to_owned()),
            BENCH_NAMES => Some("row(\"kernel/flow\", \"ns\")".to_owned()),
            _ => None,
        };
        let texts: Vec<String> = findings(&text, read).into_iter().map(|f| f.text).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn kept_promises() {
        check_row("| a | b | `a.rs: shows_it` |", &[]);
        check_row("| a | b | `a.rs`, `a.rs: shows_it` |", &[]);
        check_row("| a | b | `bench: kernel/flow` |", &[]);
    }

    #[test]
    fn empty_promises() {
        check_row(
            "| a | b | |",
            &["SPECIFICATION.md:3: no test stands behind this promise"],
        );
        check_row(
            "| a | b | soon |",
            &["SPECIFICATION.md:3: no test stands behind this promise"],
        );
        check_row(
            "| a | b | `a.rs: shows` |",
            &["SPECIFICATION.md:3: a.rs has no test shows"],
        );
        check_row(
            "| a | b | `a.rs`, `b.rs: x` |",
            &["SPECIFICATION.md:3: there is no file b.rs"],
        );
        check_row(
            "| a | b | `bench: kernel/flo` |",
            &["SPECIFICATION.md:3: bench/src/names.rs has no bench kernel/flo"],
        );
    }
}
