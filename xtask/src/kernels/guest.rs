//! What a machine says on its serial line, as data: lines of JSON from `picket-guest`, told from the
//! kernel's own by how they begin.

use std::time::Duration;

use serde::Deserialize;

/// How the guest begins its lines.
const MARK: &str = "PICKET {";

/// A line that the guest writes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum Line {
    /// What follows is of a run with this wish for a rung.
    Begin {
        begin: String,
        kernel: String,
        machine: String,
    },
    /// How the programs that see packets are attached.
    Rung { rung: String },
    /// What the kernel made of a program.
    Program(Program),
    /// How a check fared.
    Check(Check),
    /// How long the run took, seconds of the guest.
    Took { took_s: f64 },
}

/// What the kernel made of a program.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Program {
    pub(super) program: String,
    pub(super) loaded: bool,
    /// Instructions that the verifier went through, where the kernel tells.
    pub(super) verified: Option<u32>,
    /// How it hangs somewhere.
    pub(super) attached: Vec<String>,
}

/// How a check fared.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Check {
    pub(super) check: String,
    pub(super) ok: bool,
    /// A word or two, or at length why it failed.
    pub(super) said: String,
}

/// The product's run on one rung of one kernel.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Run {
    /// As `uname -r` has it.
    pub(super) kernel: String,
    /// As Rust names architectures.
    pub(super) machine: String,
    /// The rung that was asked for, until it is known which one it got.
    pub(super) rung: String,
    pub(super) programs: Vec<Program>,
    pub(super) checks: Vec<Check>,
    /// Seconds, if it came to its end.
    pub(super) took_s: Option<f64>,
}

/// What came of a boot.
#[derive(Debug, Default)]
pub(super) struct Ran {
    /// What the guest said, a run after the other.
    pub(super) runs: Vec<Run>,
    /// Whether the guest came to its end.
    pub(super) ended: bool,
    /// From power on to power off.
    pub(super) took: Duration,
    /// Everything else on the serial line.
    pub(super) log: Vec<String>,
}

impl Ran {
    /// Takes in a line of the serial line.
    pub(super) fn hear(&mut self, line: &str) {
        let line = line.trim_end();
        // Firmware moves the cursor before the first line.
        let said = line.find(MARK).map(|at| &line[at + MARK.len() - 1..]);
        match said.and_then(|json| serde_json::from_str(json).ok()) {
            Some(line) => self.take(line),
            None => {
                self.ended |=
                    line.ends_with("guest ended with 0") || line.contains("guest ended with 1");
                self.log.push(line.to_owned());
            }
        }
    }

    fn take(&mut self, line: Line) {
        if let Line::Begin {
            begin,
            kernel,
            machine,
        } = line
        {
            self.runs.push(Run {
                kernel,
                machine,
                rung: begin,
                ..Run::default()
            });
            return;
        }
        if self.runs.is_empty() {
            self.runs.push(Run::default());
        }
        let Some(run) = self.runs.last_mut() else {
            return;
        };
        match line {
            Line::Begin { .. } => {}
            Line::Rung { rung } => run.rung = rung,
            Line::Program(program) => run.programs.push(program),
            Line::Check(check) => run.checks.push(check),
            Line::Took { took_s } => run.took_s = Some(took_s),
        }
    }

    /// The last lines of what was not for us, for a person.
    pub(super) fn tail(&self, lines: usize) -> String {
        let from = self.log.len().saturating_sub(lines);
        self.log[from..]
            .iter()
            .fold(String::new(), |mut all, line| {
                all.push_str("  | ");
                all.push_str(line);
                all.push('\n');
                all
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guest_says_is_told_from_what_the_kernel_says() {
        let mut ran = Ran::default();
        ran.hear(
            "\u{1b}[2JPICKET {\"begin\":\"auto\",\"kernel\":\"6.12\",\"machine\":\"x86_64\"}\r\n",
        );
        ran.hear("[    1.0] veth: module loaded\r\n");
        ran.hear("PICKET {\"rung\":\"tcx\"}\r\n");
        ran.hear("PICKET {\"check\":\"a\",\"ok\":false,\"said\":\"b\"}\n");
        ran.hear("PICKET {\"program\":\"p\",\"loaded\":true,\"verified\":7,\"translated_bytes\":8,\"attached\":[\"tcx\"]}\n");
        ran.hear("PICKET {\"took_s\":4.5}\n");
        ran.hear("PICKET {\"begin\":\"clsact\",\"kernel\":\"6.12\",\"machine\":\"x86_64\"}\r\n");
        ran.hear("PICKET {\"other\":1}\n");
        assert!(!ran.ended);
        ran.hear("guest ended with 1\r\n");
        assert!(ran.ended);
        assert_eq!(ran.log.len(), 3);
        let [by_link, by_filter] = &ran.runs[..] else {
            panic!("{:?}", ran.runs);
        };
        assert_eq!((by_link.rung.as_str(), by_link.took_s), ("tcx", Some(4.5)));
        assert_eq!(by_link.programs[0].attached, ["tcx"]);
        assert!(!by_link.checks[0].ok);
        assert_eq!(
            (by_filter.rung.as_str(), by_filter.took_s),
            ("clsact", None)
        );
    }

    #[test]
    fn a_check_before_any_run_is_kept() {
        let mut ran = Ran::default();
        ran.hear("PICKET {\"check\":\"a\",\"ok\":false,\"said\":\"b\"}\n");
        assert_eq!(ran.runs[0].checks[0].said, "b");
    }
}
