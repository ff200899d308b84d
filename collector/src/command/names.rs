//! `names score`: how much each name of a list looks as if a program had made it up, and why.
//!
//! One name a line in, one line out for each, in order; blank lines are none. Lines are read one by one and
//! bounded, so a list may be endless.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write, stdin, stdout};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use picket_detect::dga;
use serde::Serialize;

use super::Outcome;
use super::findings::Format;

/// Most bytes of a line that are read: a name of 255 octets, all of them escaped, is a quarter of it.
/// What is beyond is counted as a line that is no name.
const LINE_BYTES_MAX: u64 = 4_096;

/// What `names` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// How much names look generated, from 0 to 1; from 0.99 on one in a thousand ordinary names does
    Score {
        /// File with a name a line; - for standard input
        #[arg(value_name = "FILE|-")]
        names: PathBuf,
        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

/// One line of output.
#[derive(Debug, Serialize)]
struct Line<'a> {
    name: &'a str,
    dga: f64,
    reasons: &'a [String],
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    let Action::Score { names, format } = &arguments.action;
    let mut out = BufWriter::new(stdout().lock());
    let scored = if names == Path::new("-") {
        score(stdin().lock(), *format, &mut out)
    } else {
        let file = File::open(names).with_context(|| format!("open {}", names.display()))?;
        score(BufReader::new(file), *format, &mut out)
    };
    let ended = scored.and_then(|()| out.flush());
    match ended {
        Ok(()) => Ok(Outcome::Done),
        // Who read has enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Outcome::Done),
        Err(error) => Err(error).with_context(|| format!("score the names of {}", names.display())),
    }
}

fn score(mut names: impl BufRead, format: Format, out: &mut impl Write) -> std::io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = names
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        if read as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            skip_line(&mut names)?;
        }
        let text = String::from_utf8_lossy(&line);
        let name = text.trim();
        if name.is_empty() {
            continue;
        }
        let judged = dga::judge(name);
        // Nine digits tell scores apart that are nearly 1.
        let dga = (judged.dga * 1e9).round() / 1e9;
        match format {
            Format::Jsonl => {
                let line = Line {
                    name,
                    dga,
                    reasons: &judged.reasons,
                };
                serde_json::to_writer(&mut *out, &line)?;
                out.write_all(b"\n")?;
            }
            Format::Text => {
                let name: String = name.escape_default().collect();
                writeln!(out, "{dga:.4}  {name}  {}", judged.reasons.join("; "))?;
            }
        }
    }
}

/// Passes over what is left of a line.
fn skip_line(names: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let some = names.fill_buf()?;
        if some.is_empty() {
            return Ok(());
        }
        match some.iter().position(|byte| *byte == b'\n') {
            Some(at) => {
                names.consume(at + 1);
                return Ok(());
            }
            None => {
                let all = some.len();
                names.consume(all);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> Vec<serde_json::Value> {
        let mut out = Vec::new();
        score(input, Format::Jsonl, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn one_line_for_each_name_in_order() {
        let lines = lines(b"example.com\n\nxjwqkzpvtrbn.com.\r\n 1.0.0.127.in-addr.arpa");
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0]["name"], "example.com");
        assert_eq!(lines[0]["reasons"], serde_json::json!([]));
        assert!(lines[0]["dga"].as_f64().unwrap() < 0.1);
        assert_eq!(lines[1]["name"], "xjwqkzpvtrbn.com.");
        assert!(lines[1]["dga"].as_f64().unwrap() > 0.99);
        assert!(!lines[1]["reasons"].as_array().unwrap().is_empty());
        assert_eq!(lines[2]["dga"], 0.0);
    }

    #[test]
    fn hostile_lines_are_bounded_and_the_next_is_read() {
        let mut input = vec![b'a'; 100_000];
        input.extend(b"\nexample.com\n\xff\xfe\x00.com\n\"\\\n");
        let lines = lines(&input);
        assert_eq!(lines.len(), 4);
        assert_eq!(
            lines[0]["name"].as_str().unwrap().len() as u64,
            LINE_BYTES_MAX
        );
        assert_eq!(lines[0]["dga"], 0.0);
        assert_eq!(lines[1]["name"], "example.com");
        assert_eq!(lines[3]["name"], "\"\\");
    }

    #[test]
    fn a_terminal_sees_no_control_characters() {
        let mut out = Vec::new();
        score(&b"a\x1b[31mb.com\n"[..], Format::Text, &mut out).unwrap();
        assert!(!out.contains(&0x1b));
    }
}
