//! What the boots said, as a table, and what in it is a failure.

use std::fmt::Write as _;
use std::time::Duration;

use super::Kernel;
use super::machine::{Line, Ran};

/// What a boot with its checks should take. A warning: the machine may be busy.
const BOOT_WANTED: Duration = Duration::from_secs(60);

/// Kernel × program × rung × instructions, then the checks.
pub(super) fn table(rows: &[(Kernel, Ran)]) -> String {
    let mut out = format!(
        "\n{:<27} {:<24} {:<8} {:>10} {:>12}\n",
        "kernel", "program", "rung", "verified", "translated"
    );
    for (kernel, ran) in rows {
        let (rung, release) = rung(ran).unwrap_or(("none", kernel.series));
        for line in &ran.lines {
            if let Line::Program {
                program,
                loaded,
                verified,
                translated_bytes,
            } = line
            {
                let told = |number: &Option<u32>, unit: &str| match number {
                    Some(number) => format!("{number}{unit}"),
                    None if *loaded => "not told".to_owned(),
                    None => "not loaded".to_owned(),
                };
                let _ = writeln!(
                    out,
                    "{release:<27} {program:<24} {rung:<8} {:>10} {:>12}",
                    told(verified, ""),
                    told(translated_bytes, " B"),
                );
            }
        }
    }
    out.push('\n');
    for (kernel, ran) in rows {
        let (_, release) = rung(ran).unwrap_or(("none", kernel.series));
        for line in &ran.lines {
            if let Line::Check { check, ok, said } = line {
                let mark = if *ok { "ok" } else { "FAILED" };
                let said = said.lines().next().unwrap_or_default();
                let _ = writeln!(out, "{release:<27} {mark:<6} {check}: {said}");
            }
        }
        let slow = if ran.took > BOOT_WANTED {
            "  (more than a minute: is this machine busy?)"
        } else {
            ""
        };
        let _ = writeln!(out, "{release:<27} {} s{slow}", ran.took.as_secs());
    }
    out
}

/// Everything that went wrong in a boot, a line each.
pub(super) fn failures(kernel: &Kernel, ran: &Ran) -> Vec<String> {
    let mut failures = Vec::new();
    let series = kernel.series;
    let mut checks = 0;
    for line in &ran.lines {
        if let Line::Check { check, ok, said } = line {
            checks += 1;
            if !ok {
                failures.push(format!("Linux {series}: {check}: {said}"));
            }
        }
    }
    if !ran.ended {
        failures.push(format!("Linux {series}: the guest did not come to its end"));
    } else if checks == 0 {
        failures.push(format!("Linux {series}: nothing was checked"));
    }
    match rung(ran) {
        Some((rung, _)) if rung != kernel.rung => {
            failures.push(format!(
                "Linux {series}: attached by {rung}, not {}",
                kernel.rung
            ));
        }
        // The check that failed says why nothing was attached.
        _ => {}
    }
    failures
}

fn rung(ran: &Ran) -> Option<(&str, &str)> {
    ran.lines.iter().find_map(|line| match line {
        Line::Rung { rung, kernel } => Some((rung.as_str(), kernel.as_str())),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: Kernel = Kernel {
        series: "6.12",
        package: "p",
        rung: "tcx",
    };

    fn ran(rung: &str, ok: bool, ended: bool) -> Ran {
        Ran {
            lines: vec![
                Line::Rung {
                    rung: rung.into(),
                    kernel: "6.12.1".into(),
                },
                Line::Program {
                    program: "ether_in".into(),
                    loaded: true,
                    verified: Some(34_139),
                    translated_bytes: None,
                },
                Line::Check {
                    check: "it counts".into(),
                    ok,
                    said: "2000".into(),
                },
            ],
            ended,
            ..Ran::default()
        }
    }

    #[test]
    fn a_boot_fails_for_a_check_a_rung_or_an_early_end() {
        assert_eq!(failures(&KERNEL, &ran("tcx", true, true)), [""; 0]);
        for (boot, expected) in [
            (ran("tcx", false, true), "Linux 6.12: it counts: 2000"),
            (
                ran("clsact", true, true),
                "Linux 6.12: attached by clsact, not tcx",
            ),
            (
                ran("tcx", true, false),
                "Linux 6.12: the guest did not come to its end",
            ),
        ] {
            assert_eq!(failures(&KERNEL, &boot), [expected]);
        }
        let silent = Ran {
            ended: true,
            ..Ran::default()
        };
        assert_eq!(
            failures(&KERNEL, &silent),
            ["Linux 6.12: nothing was checked"]
        );
    }

    #[test]
    fn the_table_names_kernel_program_rung_and_instructions() {
        let table = table(&[(KERNEL, ran("tcx", true, true))]);
        let row = table.lines().find(|line| line.contains("ether_in"));
        let words: Vec<&str> = row.unwrap_or_default().split_whitespace().collect();
        assert_eq!(words, ["6.12.1", "ether_in", "tcx", "34139", "not", "told"]);
    }
}
