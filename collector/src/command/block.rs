//! `block`: what hosts are to drop in their kernels, for how long and why; and what each did.

use std::time::Duration;

use anyhow::bail;
use clap::Subcommand;

use super::findings::{Format, joined, print};
use super::page::Table;
use super::{Outcome, intel};
use crate::api::client::{self, Address};
use crate::api::{BlockLine, EndedBlock, GivenBlock, LiftedBlock, WantedBlock, WantedBlocks};

/// What `block` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Has agents drop what goes to or comes from an address, net or address:port; hosts on which blocking
    /// is off only tell what they would have dropped
    Add(Add),
    /// Lists what is blocked, and what each agent did with it
    List(List),
    /// Takes an order back at once
    Remove(Remove),
}

/// Where.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct Place {
    /// On one host: its instance id, its name, or its agent's id
    #[arg(long, value_name = "ID")]
    host: Option<String>,
    /// On the hosts of an account
    #[arg(long, value_name = "N")]
    account: Option<String>,
    /// On all hosts
    #[arg(long)]
    all: bool,
}

#[derive(Debug, clap::Args)]
struct Add {
    #[command(flatten)]
    address: Address,
    /// Address, net or address:port
    value: String,
    #[command(flatten)]
    place: Place,
    /// How long: a number and s, m, h or d; 30 days at most
    #[arg(long = "for", value_name = "TIME", value_parser = intel::duration)]
    lasts: Duration,
    /// Why, for whoever finds something blocked
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct Remove {
    #[command(flatten)]
    address: Address,
    /// Address, net or address:port
    value: String,
    #[command(flatten)]
    place: Place,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    address: Address,
    /// Also what is over or was taken back
    #[arg(long)]
    over: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    match arguments.verb {
        Verb::Add(add) => add.run(),
        Verb::Remove(remove) => remove.run(),
        Verb::List(list) => list.run(),
    }
}

impl Add {
    fn run(self) -> anyhow::Result<Outcome> {
        let Place { host, account, all } = self.place;
        if host.is_none() && account.is_none() && !all {
            bail!("say where: --host ID, --account N or --all");
        }
        let wanted = WantedBlock {
            value: self.value,
            host,
            account,
            all,
            for_s: self.lasts.as_secs(),
            reason: self.reason,
        };
        let answer = self.address.make("/v1/blocks", &wanted)?;
        if self.format == Format::Jsonl {
            return print(&format!("{answer}\n"));
        }
        let given: GivenBlock = client::parse(&answer)?;
        let mut told = format!(
            "{} is to be blocked on {} agents until {}; order {}\n",
            given.value, given.agents, given.expires, given.id
        );
        for one in given.left_out {
            told.push_str(&format!("stays open: {one}\n"));
        }
        print(&told)
    }
}

impl Remove {
    fn run(self) -> anyhow::Result<Outcome> {
        let Place { host, account, all } = self.place;
        let ended = EndedBlock {
            value: self.value,
            host,
            account,
            all,
        };
        let Some(answer) = self.address.delete("/v1/blocks", &ended)? else {
            bail!("nobody ordered that {} be blocked there", ended.value);
        };
        if self.format == Format::Jsonl {
            return print(&format!("{answer}\n"));
        }
        let lifted: LiftedBlock = client::parse(&answer)?;
        print(&format!(
            "{} is not to be blocked any more; {} orders taken back\n",
            lifted.value,
            lifted.orders.len()
        ))
    }
}

impl List {
    fn run(self) -> anyhow::Result<Outcome> {
        let wanted = WantedBlocks { over: self.over };
        let lines = self.address.lines("/v1/blocks", &wanted)?;
        let lines = lines.unwrap_or_default();
        match self.format {
            Format::Jsonl => print(&joined(&lines)),
            Format::Text => print(&shown(&lines)?),
        }
    }
}

fn shown(lines: &[String]) -> anyhow::Result<String> {
    let mut orders = Table::new(&[
        "value", "where", "standing", "ends", "by", "agents", "reason",
    ]);
    let mut agents = Table::new(&["value", "host", "did", "since", "flows", "last flow", "why"]);
    let mut refusals = String::new();
    for line in lines {
        match client::parse(line)? {
            BlockLine::Order(order) => {
                let place = match (&order.account, &order.instance) {
                    (None, _) => "all".to_owned(),
                    (Some(account), None) => format!("account {account}"),
                    (Some(_), Some(instance)) => instance.clone(),
                };
                let counts = order.outcomes.iter();
                let counts: Vec<String> = counts.map(|(did, n)| format!("{n} {did}")).collect();
                orders.row(&[
                    &order.value,
                    &place,
                    &order.standing,
                    &order.expires,
                    &order.who,
                    &counts.join(", "),
                    &order.reason,
                ]);
                for one in &order.agents {
                    agents.row(&[
                        &order.value,
                        &one.instance,
                        &one.did,
                        one.at.as_deref().unwrap_or("-"),
                        &one.flows.to_string(),
                        one.last_flow.as_deref().unwrap_or("-"),
                        one.why.as_deref().unwrap_or("-"),
                    ]);
                }
            }
            BlockLine::Refusal {
                instance, at, why, ..
            } => refusals.push_str(&format!("{instance} refused its orders at {at}: {why}\n")),
        }
    }
    Ok(format!(
        "{}\n{}{refusals}",
        orders.finish(),
        agents.finish()
    ))
}
