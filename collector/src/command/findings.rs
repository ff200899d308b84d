//! `findings`: what the running collector has found.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use clap::{Subcommand, ValueEnum};
use picket_detect::Finding;

use super::Outcome;
use super::page::{Page, Table};
use super::shape::Shape;
use crate::api::client::{self, Address};
use crate::api::{Asked, LISTED_MAX, is_id};

/// What `findings` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists findings, the latest first
    List(List),
    /// Shows one finding with its evidence
    Show(Show),
    /// Puts a finding away; if the issue comes again, another is opened
    Archive(Archive),
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    address: Address,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The form of findings as JSON lines
    #[arg(long, value_enum, default_value_t)]
    shape: Shape,
    /// Only findings at least this severe (1.0 to 10.0)
    #[arg(long, value_name = "SEVERITY")]
    severity_min: Option<f64>,
    /// Only findings of this type; a `*` at its end takes all that begin so
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only findings that are not archived
    #[arg(long)]
    open: bool,
    /// Only findings near the occurrences of this one
    #[arg(long, value_name = "ID")]
    around: Option<String>,
    /// How near, in minutes
    #[arg(long, value_name = "MINUTES", requires = "around")]
    minutes: Option<u64>,
}

#[derive(Debug, clap::Args)]
struct Show {
    #[command(flatten)]
    address: Address,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Id of the finding
    id: String,
}

#[derive(Debug, clap::Args)]
struct Archive {
    #[command(flatten)]
    address: Address,
    /// Id of the finding
    id: String,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One JSON object per line
    Jsonl,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    match arguments.verb {
        Verb::List(list) => list.run(),
        Verb::Show(show) => show.run(),
        Verb::Archive(archive) => archive.run(),
    }
}

impl List {
    fn run(self) -> anyhow::Result<Outcome> {
        let asked = Asked {
            severity_min: self.severity_min,
            kind: self.kind,
            open: self.open,
            around: self.around,
            minutes: self.minutes,
        };
        let Some(lines) = self.address.lines("/v1/findings", &asked)? else {
            bail!("no finding {}", asked.around.unwrap_or_default());
        };
        if lines.len() >= LISTED_MAX {
            eprintln!("picket-collector: only the latest {LISTED_MAX} are listed; ask for fewer");
        }
        let text = match self.format {
            Format::Jsonl if self.shape == Shape::Guardduty => joined(&lines),
            Format::Jsonl => joined(&shaped(&lines, self.shape)?),
            Format::Text => table(&lines)?,
        };
        print(&text)
    }
}

fn shaped(lines: &[String], shape: Shape) -> anyhow::Result<Vec<String>> {
    let one = |line: &String| Ok(shape.line(&client::parse::<Finding>(line)?));
    lines.iter().map(one).collect()
}

fn table(lines: &[String]) -> anyhow::Result<String> {
    let mut table = Table::new(&["last seen", "severity", "count", "id", "type", "title"]);
    for line in lines {
        let finding: Finding = client::parse(line)?;
        table.row(&[
            &finding.updated_at.to_string(),
            &super::page::severity(finding.severity),
            &finding.service.count.to_string(),
            &finding.id,
            &finding.type_name,
            &finding.title,
        ]);
    }
    Ok(table.finish())
}

impl Show {
    fn run(self) -> anyhow::Result<Outcome> {
        let Some(body) = self.address.one(&path(&self.id)?)? else {
            bail!("no finding {}", self.id);
        };
        let text = match self.format {
            Format::Jsonl => body + "\n",
            Format::Text => {
                let finding: Finding = client::parse(&body)?;
                let mut page = Page::default();
                super::page::finding(&mut page, &finding);
                page.part("near in time");
                page.line(&format!(
                    "picket-collector findings list --around {} --minutes 10{}",
                    finding.id,
                    self.address.words()
                ));
                if let Some(incident) = &finding.picket.incident {
                    page.part("the story it is part of");
                    page.line(&format!(
                        "picket-collector incidents show {incident}{}",
                        self.address.words()
                    ));
                }
                page.finish()
            }
        };
        print(&text)
    }
}

impl Archive {
    fn run(self) -> anyhow::Result<Outcome> {
        if !self.address.post(&format!("{}/archive", path(&self.id)?))? {
            bail!("no finding {}", self.id);
        }
        print(&format!("archived {}\n", self.id))
    }
}

fn path(id: &str) -> anyhow::Result<String> {
    if !is_id(id) {
        bail!("{id:?} is no id of a finding");
    }
    Ok(format!("/v1/findings/{id}"))
}

/// Lines with their ends.
pub(super) fn joined(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

/// Writes to stdout; a reader that has seen enough is no failure.
pub(super) fn print(text: &str) -> anyhow::Result<Outcome> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Outcome::Done),
        other => other.context("write to stdout").map(|()| Outcome::Done),
    }
}
