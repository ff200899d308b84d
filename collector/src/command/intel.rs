//! `intel`: what the fleet looks for: enter an indicator, take it away, see what is published.

use std::time::Duration;

use anyhow::bail;
use clap::Subcommand;
use picket_intel::Category;

use super::findings::{Format, print};
use super::listing::Listing;
use super::page::Table;
use super::{Outcome, feeds};
use crate::api::client::{self, Address};
use crate::api::{Addition, Changed, Removal, StatusLine, Superseded};
use crate::clock;
use crate::store::intel::OperatorEntry;

/// What `intel` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Has every agent look for an address, net, address:port or domain; answers once that is on disk
    Add(Add),
    /// Feeds that the collector fetches: how each does, and what is held back
    Feeds(feeds::Arguments),
    /// Lists what operators have entered
    List(Listing),
    /// Looks for something no more that an operator entered
    Remove(Remove),
    /// The published bundle, its lists, what is left out, and how many agents do not have it yet
    Status(Listing),
    /// Publishes above what every agent has, after the collector's state or clock was set back
    Supersede(Listing),
}

#[derive(Debug, clap::Args)]
struct Add {
    #[command(flatten)]
    address: Address,
    /// The indicator
    value: String,
    /// What it is: c2, mining, tor, phishing, blackhole, droppoint, driveby, dga, scanner, custom
    #[arg(long)]
    category: Category,
    /// When it ends by itself: a number and s, m, h or d
    #[arg(long, value_name = "TIME", value_parser = duration)]
    expires: Option<Duration>,
    /// Why it is looked for
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct Remove {
    #[command(flatten)]
    address: Address,
    /// The indicator
    value: String,
    /// Only where it was entered as this
    #[arg(long)]
    category: Option<Category>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    match arguments.verb {
        Verb::Add(add) => {
            let addition = Addition {
                value: add.value,
                category: add.category.name().to_owned(),
                comment: add.comment,
                expires_s: add.expires.map(|time| time.as_secs()),
            };
            let answer = add.address.send("/v1/intel", &addition)?;
            changed(answer.as_deref().unwrap_or_default(), "entered", add.format)
        }
        Verb::Feeds(arguments) => feeds::run(arguments),
        Verb::Remove(remove) => {
            let removal = Removal {
                value: remove.value,
                category: remove.category.map(|category| category.name().to_owned()),
            };
            match remove.address.delete("/v1/intel", &removal)? {
                Some(answer) => changed(&answer, "removed", remove.format),
                None => bail!("no operator entered {}", removal.value),
            }
        }
        Verb::List(list) => list.all("/v1/intel", entries),
        Verb::Supersede(shown) => {
            let answer = shown.address.send("/v1/intel/supersede", &())?;
            let answer = answer.unwrap_or_default();
            match shown.format {
                Format::Jsonl => print(&format!("{answer}\n")),
                Format::Text => {
                    let Superseded { bundle } = client::parse(&answer)?;
                    print(&format!(
                        "version {bundle} is published, above what agents have\n"
                    ))
                }
            }
        }
        Verb::Status(status) => status.all("/v1/intel/status", standing),
    }
}

fn changed(answer: &str, word: &str, format: Format) -> anyhow::Result<Outcome> {
    match format {
        Format::Jsonl => print(&format!("{answer}\n")),
        Format::Text => {
            let Changed { value, bundle } = client::parse(answer)?;
            print(&format!(
                "{value} {word}; in the bundle from version {bundle} on\n"
            ))
        }
    }
}

fn entries(lines: &[String]) -> anyhow::Result<String> {
    let mut table = Table::new(&["value", "category", "entered", "by", "ends", "comment"]);
    for line in lines {
        let entry: OperatorEntry = client::parse(line)?;
        let ends = entry
            .expires_ms
            .map_or_else(|| "-".to_owned(), clock::rfc3339);
        table.row(&[
            &entry.value,
            &entry.category,
            &clock::rfc3339(entry.added_ms),
            &entry.who,
            &ends,
            entry.comment.as_deref().unwrap_or("-"),
        ]);
    }
    Ok(table.finish())
}

fn standing(lines: &[String]) -> anyhow::Result<String> {
    let mut head = String::new();
    let mut table = Table::new(&[
        "list",
        "source",
        "category",
        "confidence",
        "entries",
        "left out",
        "read",
        "age",
    ]);
    let mut tail = String::new();
    for line in lines {
        match client::parse(line)? {
            StatusLine::Bundle {
                version,
                set,
                issued,
                expires,
                entries,
                bytes,
                signing_key,
                agents,
                agents_behind,
                agents_ahead,
                ahead_until,
            } => {
                head = format!(
                    "bundle       version {version}, content {set}, {entries} entries, {bytes} bytes\n\
                     issued       {issued}, stale from {expires} on\n\
                     signed with  {signing_key}\n\
                     agents       {agents}, {agents_behind} of them do not have it yet\n"
                );
                if let Some(until) = ahead_until {
                    head.push_str(&format!(
                        "ahead        {agents_ahead} agents have later versions than this: the collector's \
                         state or clock was set back. They\n             take indicators again from {until} \
                         on, or at once after: picket-collector intel supersede\n"
                    ));
                }
                head.push('\n');
            }
            StatusLine::List {
                name,
                source,
                category,
                confidence,
                entries,
                read,
                age_s,
                left_out,
            } => table.row(&[
                &name,
                &source,
                &category,
                &confidence.to_string(),
                &entries.to_string(),
                &feeds::counts(&left_out),
                &read,
                &format!("{age_s} s"),
            ]),
            StatusLine::LeftOut {
                name,
                source,
                category,
                why,
            } => tail.push_str(&format!(
                "not looked for: list {name} ({category}) of {source}: {why}\n"
            )),
            StatusLine::Skipped { file, source, why } => {
                tail.push_str(&format!("not read: {file} of {source}: {why}\n"));
            }
        }
    }
    if !tail.is_empty() {
        tail.insert(0, '\n');
    }
    Ok(head + &table.finish() + &tail)
}

/// Reads a length of time: a number and s, m, h or d.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let refuse = || format!("{text:?} is no length of time such as 30m, 12h or 7d");
    let at = text
        .find(|c: char| !c.is_ascii_digit())
        .ok_or_else(refuse)?;
    let (number, unit) = text.split_at(at);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(refuse()),
    };
    let number: u64 = number.parse().map_err(|_| refuse())?;
    let seconds = number.checked_mul(seconds).filter(|seconds| *seconds > 0);
    seconds.map(Duration::from_secs).ok_or_else(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        let check = |text: &str, expected: Option<u64>| {
            let read = duration(text).ok().map(|time| time.as_secs());
            assert_eq!(read, expected, "{text}");
        };
        check("90s", Some(90));
        check("30m", Some(1_800));
        check("12h", Some(43_200));
        check("7d", Some(604_800));
        check("0d", None);
        check("7", None);
        check("d", None);
        check("7 d", None);
        check("99999999999999999999d", None);
    }
}
