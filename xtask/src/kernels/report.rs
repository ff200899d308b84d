//! What the boots said, as one table: a row for each program and each check, a column for each
//! kernel and rung. And what in it is a failure.

use std::fmt::Write as _;

use super::Kernel;
use super::guest::{Program, Ran, Run};

/// Kernel × program × rung × result.
pub(super) fn table(rows: &[(Kernel, Ran)]) -> String {
    let runs: Vec<&Run> = rows.iter().flat_map(|(_, ran)| &ran.runs).collect();
    let mut lines: Vec<Vec<String>> = Vec::new();
    let mut line = |name: &str, cell: &dyn Fn(&Run) -> String| {
        let cells = runs.iter().map(|run| cell(run));
        lines.push(std::iter::once(name.to_owned()).chain(cells).collect());
    };
    line("kernel", &|run| short(&run.kernel).to_owned());
    line("machine", &|run| run.machine.clone());
    line("rung", &|run| run.rung.clone());
    line("", &|_| String::new());
    let programs = union(&runs, |run| {
        run.programs.iter().map(|one| one.program.as_str())
    });
    for name in programs {
        line(name, &|run| {
            let program = run.programs.iter().find(|one| one.program == name);
            program.map_or_else(|| "?".to_owned(), program_cell)
        });
    }
    line("", &|_| String::new());
    let checks = union(&runs, |run| run.checks.iter().map(|one| one.check.as_str()));
    for name in checks {
        line(name, &|run| {
            let check = run.checks.iter().find(|one| one.check == name);
            match check {
                Some(check) if check.ok => check.said.clone(),
                Some(_) => "FAILED".to_owned(),
                None => "not reached".to_owned(),
            }
        });
    }
    line("seconds", &|run| {
        run.took_s
            .map_or_else(|| "?".to_owned(), |seconds| format!("{seconds:.0}"))
    });
    let mut out = format!("\n{}", aligned(&lines));
    for (_, ran) in rows {
        let kernel = ran.runs.first().map_or("?", |run| short(&run.kernel));
        let machine = ran.runs.first().map_or("?", |run| run.machine.as_str());
        let _ = writeln!(
            out,
            "{kernel} on {machine}: {} s from power on to power off",
            ran.took.as_secs()
        );
    }
    out
}

/// What the verifier made of a program and how it is attached, in a cell.
fn program_cell(program: &Program) -> String {
    let verified = match program.verified {
        Some(verified) => verified.to_string(),
        None if program.loaded => "loaded".to_owned(),
        None => return "REFUSED".to_owned(),
    };
    match program.attached.as_slice() {
        [] => verified,
        by => format!("{verified} {}", by.join("+")),
    }
}

/// A release without the flavour that all of ours have.
fn short(kernel: &str) -> &str {
    kernel.split("-cloud-").next().unwrap_or(kernel)
}

/// Names in the order in which they are first told.
fn union<'a, N: Iterator<Item = &'a str>>(
    runs: &[&'a Run],
    names: impl Fn(&'a Run) -> N,
) -> Vec<&'a str> {
    let mut all = Vec::new();
    for name in runs.iter().flat_map(|run| names(run)) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// Lines of cells under each other, each column as wide as it must be.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(text, "{cell:<width$}  ");
        }
        let _ = writeln!(out, "{}", text.trim_end());
    }
    out
}

/// Everything that went wrong in a boot, a line each.
pub(super) fn failures(kernel: &Kernel, ran: &Ran) -> Vec<String> {
    let mut failures = Vec::new();
    let mut fail = |what: String| {
        failures.push(format!(
            "Linux {} on {}: {what}",
            kernel.series,
            kernel.machine.name()
        ));
    };
    for run in &ran.runs {
        for check in run.checks.iter().filter(|check| !check.ok) {
            fail(format!("{}: {}: {}", run.rung, check.check, check.said));
        }
    }
    if !ran.ended {
        fail("the guest did not come to its end".to_owned());
    } else if ran.runs.iter().all(|run| run.checks.is_empty()) {
        fail("nothing was checked".to_owned());
    }
    let rungs: Vec<&str> = ran.runs.iter().map(|run| run.rung.as_str()).collect();
    // Where it failed, the check that did says why.
    if failures.is_empty() && rungs != kernel.rungs {
        failures.push(format!(
            "Linux {} on {}: attached by {}, not {}",
            kernel.series,
            kernel.machine.name(),
            rungs.join(" and "),
            kernel.rungs.join(" and ")
        ));
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::super::guest::Check;
    use super::super::machine::Machine;
    use super::*;

    const KERNEL: Kernel = Kernel {
        series: "6.12",
        machine: Machine::X86_64,
        suite: "s",
        package: "p",
        rungs: &["tcx"],
    };

    fn ran(rung: &str, ok: bool, ended: bool) -> Ran {
        Ran {
            runs: vec![Run {
                kernel: "6.12.1-cloud-amd64".into(),
                machine: "x86_64".into(),
                rung: rung.into(),
                programs: vec![
                    Program {
                        program: "ether_in".into(),
                        loaded: true,
                        verified: Some(34_139),
                        attached: vec!["tcx".into()],
                    },
                    Program {
                        program: "names".into(),
                        loaded: false,
                        verified: None,
                        attached: Vec::new(),
                    },
                ],
                checks: vec![Check {
                    check: "it counts".into(),
                    ok,
                    said: "2000".into(),
                }],
                took_s: Some(4.0),
            }],
            ended,
            ..Ran::default()
        }
    }

    #[test]
    fn a_boot_fails_for_a_check_a_rung_or_an_early_end() {
        assert_eq!(failures(&KERNEL, &ran("tcx", true, true)), [""; 0]);
        for (boot, expected) in [
            (ran("tcx", false, true), "tcx: it counts: 2000"),
            (ran("clsact", true, true), "attached by clsact, not tcx"),
            (ran("tcx", true, false), "the guest did not come to its end"),
            (
                Ran {
                    ended: true,
                    ..Ran::default()
                },
                "nothing was checked",
            ),
        ] {
            let expected = format!("Linux 6.12 on x86_64: {expected}");
            assert_eq!(failures(&KERNEL, &boot), [expected]);
        }
    }

    #[test]
    fn the_table_has_a_column_for_each_run_and_a_row_for_each_program_and_check() {
        let rows = [
            (KERNEL, ran("tcx", true, true)),
            (KERNEL, ran("clsact", false, true)),
        ];
        let table = table(&rows);
        let row = |begin: &str| {
            let row = table.lines().find(|line| line.starts_with(begin));
            row.unwrap_or_default().split_whitespace().skip(1).collect()
        };
        let check = |begin: &str, expected: &[&str]| {
            let words: Vec<&str> = row(begin);
            assert_eq!(words, expected, "{table}");
        };
        check("kernel", &["6.12.1", "6.12.1"]);
        check("rung", &["tcx", "clsact"]);
        check("ether_in", &["34139", "tcx", "34139", "tcx"]);
        check("names", &["REFUSED", "REFUSED"]);
        check("it counts", &["counts", "2000", "FAILED"]);
    }
}
