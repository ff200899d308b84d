//! `intel feeds`: the feeds that the collector fetches, and taking what is held back.

use std::collections::BTreeMap;

use anyhow::bail;
use clap::Subcommand;

use super::Outcome;
use super::findings::print;
use super::listing::Listing;
use super::page::Table;
use crate::api::client::{self, Address};
use crate::fetch::FeedLine;

/// What `intel feeds` takes: without a verb it lists.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    list: Listing,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists feeds: entries, last answer, last change, next look, what is wrong
    List(Listing),
    /// Takes what is held back of a feed, be it empty or shrunken
    Accept(Accept),
}

#[derive(Debug, clap::Args)]
struct Accept {
    #[command(flatten)]
    address: Address,
    /// Name of the feed
    name: String,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    match arguments.verb {
        None => arguments.list.all("/v1/feeds", table),
        Some(Verb::List(list)) => list.all("/v1/feeds", table),
        Some(Verb::Accept(accept)) => accept.run(),
    }
}

fn table(lines: &[String]) -> anyhow::Result<String> {
    let mut table = Table::new(&[
        "feed",
        "state",
        "entries",
        "left out",
        "last answer",
        "last change",
        "next",
        "what is wrong",
    ]);
    for line in lines {
        let feed: FeedLine = client::parse(line)?;
        let wrong = match (&feed.held, &feed.last_error) {
            _ if feed.left_out.is_some() => {
                let why = feed.left_out.unwrap_or_default();
                format!("not looked for: {why}")
            }
            (Some(held), _) => format!("held back since {}: {}", held.since, held.why),
            (None, Some(error)) => format!("{error} ({} times)", feed.failures),
            (None, None) => feed.note.unwrap_or_else(|| "-".to_owned()),
        };
        let of = |time: Option<String>| time.unwrap_or_else(|| "-".to_owned());
        table.row(&[
            &feed.feed,
            &feed.state,
            &feed.entries.to_string(),
            &counts(&feed.entries_left_out),
            &of(feed.last_success),
            &of(feed.last_change),
            &format!("in {} s", feed.next_s),
            &wrong,
        ]);
    }
    Ok(table.finish())
}

/// Numbers by reason, in words.
pub(super) fn counts(of: &BTreeMap<String, u64>) -> String {
    let words: Vec<String> = of
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    match words.is_empty() {
        true => "-".to_owned(),
        false => words.join(", "),
    }
}

impl Accept {
    fn run(self) -> anyhow::Result<Outcome> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if !self.name.bytes().all(is_name) {
            bail!("{:?} is no name of a feed", self.name);
        }
        if !self
            .address
            .post(&format!("/v1/feeds/{}/accept", self.name))?
        {
            bail!("nothing is held back of a feed {}", self.name);
        }
        print(&format!("{} is taken as it came\n", self.name))
    }
}
