//! `baselines`: what is usual for whom, as the running collector has learned it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use picket_detect::{Learned, Traffic, TrafficOf, Whose};

use super::Outcome;
use super::findings::{Format, joined, print};
use super::page::Table;
use super::serve::write_whole;
use crate::api::client::{self, Address};
use crate::api::{BaselineLine, Imported, Named};

/// Bytes of baselines sent at once: half of what a request may have.
const PIECE_BYTES: usize = 1 << 20;

/// What `baselines` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists whose habits are known, since when and how well
    List(List),
    /// Shows what is usual for one: each call, service, region, network and program with its days
    Show(Show),
    /// Writes all of them to a file, for another collector or for `analyze --baseline`
    Export(Export),
    /// Takes in a file of them, in place of those of the same names
    Import(Import),
    /// Forgets what is usual for a principal: it is learned anew, and told of nothing meanwhile
    Reset(Reset),
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    address: Address,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct Show {
    #[command(flatten)]
    address: Address,
    /// The ARN of a user or role, an account, an account with a kind of principal, or account, region and
    /// host, as listed
    name: String,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct Export {
    #[command(flatten)]
    address: Address,
    /// Where to write; `-` for stdout
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Import {
    #[command(flatten)]
    address: Address,
    /// What `export` or `analyze --baseline-out` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Reset {
    #[command(flatten)]
    address: Address,
    /// The ARN of a user or role, or account, region and host
    name: String,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    match arguments.verb {
        Verb::List(list) => list.run(),
        Verb::Show(show) => show.run(),
        Verb::Export(export) => export.run(),
        Verb::Import(import) => import.run(),
        Verb::Reset(reset) => reset.run(),
    }
}

impl List {
    fn run(self) -> anyhow::Result<Outcome> {
        let lines = self.address.lines("/v1/baselines", &())?;
        let lines = lines.unwrap_or_default();
        if self.format == Format::Jsonl {
            return print(&joined(&lines));
        }
        let mut table = Table::new(&[
            "whose", "calls", "denied", "apis", "networks", "first", "last", "name",
        ]);
        for line in &lines {
            let one: BaselineLine = client::parse(line)?;
            table.row(&[
                &one.whose,
                &one.calls.to_string(),
                &one.denied.to_string(),
                &one.apis.to_string(),
                &one.networks.to_string(),
                &one.first,
                &one.last,
                &one.name,
            ]);
        }
        print(&table.finish())
    }
}

/// Asks for the baselines of a name, or for all.
fn ask(address: &Address, name: Option<&str>) -> anyhow::Result<Option<Learned>> {
    let named = Named {
        name: name.map(str::to_owned),
    };
    let Some(lines) = address.lines("/v1/baselines/export", &named)? else {
        return Ok(None);
    };
    let text = lines.concat();
    let learned = Learned::from_json(text.as_bytes()).context("read the collector's answer")?;
    Ok(Some(learned))
}

impl Show {
    fn run(self) -> anyhow::Result<Outcome> {
        let Some(mut learned) = ask(&self.address, Some(&self.name))? else {
            bail!("nothing was learned of {}", self.name);
        };
        if self.format == Format::Jsonl {
            return print(&format!("{}\n", learned.to_json()));
        }
        let mut text = String::new();
        for (of, name, one) in learned.take_traffic() {
            text.push_str(&shown(of, &name, &one));
        }
        for (whose, name, one) in learned.into_rows() {
            text.push_str(&format!(
                "{} {name}: {} calls, {} denied\n",
                whose.name(),
                one.calls,
                one.denied
            ));
            let mut table = Table::new(&["what", "days", "calls", "first", "last", "value"]);
            for (what, dimension) in WHAT {
                let mut values: Vec<_> = one.values.of(dimension).collect();
                values.sort_unstable_by(|a, b| b.1.days.cmp(&a.1.days).then(a.0.cmp(b.0)));
                for (value, met) in values {
                    table.row(&[
                        what,
                        &met.days.to_string(),
                        &met.calls.to_string(),
                        &day(met.first_day),
                        &day(met.last_day),
                        value,
                    ]);
                }
            }
            text.push_str(&table.finish());
        }
        print(&text)
    }
}

/// What is usual on the network for a host, or for hosts alike.
fn shown(of: TrafficOf, name: &str, one: &Traffic) -> String {
    let of = of.name();
    let days = one.heard.days;
    let mut table = Table::new(&["what", "days", "first", "last", "most in an hour", "value"]);
    let mut row = |what: &str, met: picket_detect::Met, most: Option<u64>, value: String| {
        table.row(&[
            what,
            &met.days.to_string(),
            &day(met.first_day),
            &day(met.last_day),
            &most.map(|bytes| bytes.to_string()).unwrap_or_default(),
            &value,
        ]);
    };
    for (what, ports) in [("tcp port", &one.tcp), ("udp port", &one.udp)] {
        for (port, met) in ports {
            row(what, *met, None, port.to_string());
        }
    }
    for (what, all) in [("destination", &one.peers), ("program", &one.programs)] {
        for (value, sent) in all {
            let past = sent.peaks.past.iter().copied();
            let most = past.chain([sent.peaks.today]).max();
            row(what, sent.met, most, value.clone());
        }
    }
    format!("{of} {name}: heard on {days} days\n{}", table.finish())
}

/// What values are called.
const WHAT: [(&str, picket_detect::Dimension); 5] = [
    ("call", picket_detect::Dimension::Api),
    ("service", picket_detect::Dimension::Service),
    ("region", picket_detect::Dimension::Region),
    ("network", picket_detect::Dimension::Network),
    ("program", picket_detect::Dimension::Agent),
];

/// A day since the epoch, as a date.
fn day(number: u32) -> String {
    const DAY_NS: u64 = 86_400 * 1_000_000_000;
    let time = picket_detect::Time(u64::from(number).saturating_mul(DAY_NS));
    time.day().to_string()
}

impl Export {
    fn run(self) -> anyhow::Result<Outcome> {
        let learned = ask(&self.address, None)?.unwrap_or_default();
        let text = learned.to_json() + "\n";
        if self.file.as_os_str() == "-" {
            return print(&text);
        }
        write_whole(&self.file, &text)?;
        Ok(Outcome::Done)
    }
}

/// Reads a file of baselines.
///
/// # Errors
/// It cannot be read, is damaged, or another version wrote it.
pub(super) fn read(file: &std::path::Path) -> anyhow::Result<Learned> {
    let context = || format!("read the baselines {}", file.display());
    let json = fs::read(file).with_context(context)?;
    Learned::from_json(&json).with_context(context)
}

impl Import {
    fn run(self) -> anyhow::Result<Outcome> {
        // Read as a whole before anything is sent: a damaged file changes nothing.
        let mut learned = read(&self.file)?;
        let mut sent = 0;
        let mut send = |piece: &Learned| -> anyhow::Result<()> {
            let answer = self.address.make("/v1/baselines/import", piece)?;
            let imported: Imported = client::parse(&answer)?;
            sent += imported.baselines;
            Ok(())
        };
        let (mut piece, mut bytes) = (Learned::default(), 0);
        let of_hosts = learned.take_traffic();
        let of_hosts = of_hosts.map(|(of, name, one)| Learned::only_traffic(of, name, one));
        let of_calls = learned.into_rows();
        let of_calls = of_calls.map(|(whose, name, one)| Learned::only(whose, name, one));
        for one in of_calls.chain(of_hosts) {
            let adds = one.to_json().len();
            if bytes > 0 && bytes + adds > PIECE_BYTES {
                send(&std::mem::take(&mut piece))?;
                bytes = 0;
            }
            piece.extend(one);
            bytes += adds;
        }
        if !piece.is_empty() {
            send(&piece)?;
        }
        print(&format!("took in {sent} baselines\n"))
    }
}

impl Reset {
    fn run(self) -> anyhow::Result<Outcome> {
        let named = Named {
            name: Some(self.name.clone()),
        };
        let answer = self.address.send("/v1/baselines/reset", &named)?;
        if answer.is_none() {
            bail!(
                "nothing was learned of the {} {}",
                Whose::Principal.name(),
                self.name
            );
        }
        print(&format!("forgot what is usual for {}\n", self.name))
    }
}
