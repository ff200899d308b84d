//! `incidents`: the stories the running collector has put together.

use anyhow::bail;
use clap::Subcommand;
use picket_detect::Incident;

use super::Outcome;
use super::findings::{Format, print};
use super::listing::Listing;
use super::page::{Page, Table, severity};
use crate::api::client::{self, Address};
use crate::api::is_id;

/// What `incidents` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists incidents, the latest first
    List(Listing),
    /// Shows one incident with its stages
    Show(Show),
}

#[derive(Debug, clap::Args)]
struct Show {
    #[command(flatten)]
    address: Address,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Id of the incident
    id: String,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    match arguments.verb {
        Verb::List(list) => list.all("/v1/incidents", table),
        Verb::Show(show) => show.run(),
    }
}

fn table(lines: &[String]) -> anyhow::Result<String> {
    let mut table = Table::new(&["last stage", "severity", "stages", "id", "title"]);
    for line in lines {
        let incident: Incident = client::parse(line)?;
        table.row(&[
            &incident.updated_at.to_string(),
            &severity(incident.severity),
            &incident.stages.len().to_string(),
            &incident.id,
            &incident.title,
        ]);
    }
    Ok(table.finish())
}

impl Show {
    fn run(self) -> anyhow::Result<Outcome> {
        if !is_id(&self.id) {
            bail!("{:?} is no id of an incident", self.id);
        }
        let Some(body) = self.address.one(&format!("/v1/incidents/{}", self.id))? else {
            bail!("no incident {}", self.id);
        };
        if self.format == Format::Jsonl {
            return print(&(body + "\n"));
        }
        let incident: Incident = client::parse(&body)?;
        let mut page = Page::default();
        super::page::incident(&mut page, &incident);
        page.part("its findings");
        for finding in &incident.findings {
            page.line(&format!(
                "picket-collector findings show {finding}{}",
                self.address.words()
            ));
        }
        print(&page.finish())
    }
}
