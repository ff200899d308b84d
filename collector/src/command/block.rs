//! `block`: what hosts are to drop in their kernels, for how long and why; and what each did.

use std::time::Duration;

use anyhow::bail;
use clap::Subcommand;

use super::findings::{Format, print};
use super::listing::Listing;
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
    listing: Listing,
    /// Only orders of this address, net or address:port
    value: Option<String>,
    /// The latest orders, so many at most
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Also what is over or was taken back
    #[arg(long)]
    over: bool,
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
        print(&format!(
            "{} is to be blocked on {} agents until {}; order {}\n",
            given.value, given.agents, given.expires, given.id
        ))
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
        let wanted = WantedBlocks {
            over: self.over,
            value: self.value,
            limit: self.limit,
        };
        self.listing.some("/v1/blocks", &wanted, shown)
    }
}

/// Orders, lines of agents, and refusals that are shown to people; of orders the latest.
const ORDERS_SHOWN: usize = 100;
const AGENTS_SHOWN: usize = 200;
const REFUSALS_SHOWN: usize = 100;

fn shown(lines: &[String]) -> anyhow::Result<String> {
    let lines = lines.iter().map(|line| client::parse(line));
    let lines: Vec<BlockLine> = lines.collect::<Result<_, _>>()?;
    let is_order = |line: &&BlockLine| matches!(line, BlockLine::Order(_));
    let unshown_orders = lines.iter().filter(is_order).count();
    let unshown_orders = unshown_orders.saturating_sub(ORDERS_SHOWN);
    let (mut unshown_agents, mut unshown_refusals) = (0, 0);
    let (mut shown_agents, mut shown_refusals) = (0, 0);
    let mut orders = Table::new(&[
        "value", "where", "standing", "ends", "by", "agents", "reason",
    ]);
    let mut agents = Table::new(&["value", "host", "did", "since", "flows", "last flow", "why"]);
    let mut refusals = String::new();
    // Orders stand before refusals.
    for line in lines.iter().skip(unshown_orders) {
        match line {
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
                    if shown_agents == AGENTS_SHOWN {
                        unshown_agents += 1;
                        continue;
                    }
                    shown_agents += 1;
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
            BlockLine::Refusal { .. } if shown_refusals == REFUSALS_SHOWN => unshown_refusals += 1,
            BlockLine::Refusal {
                instance, at, why, ..
            } => {
                shown_refusals += 1;
                refusals.push_str(&format!("{instance} refused its orders at {at}: {why}\n"));
            }
        }
    }
    let mut text = format!("{}\n{}{refusals}", orders.finish(), agents.finish());
    if unshown_orders + unshown_agents + unshown_refusals > 0 {
        text.push_str(&format!(
            "not shown: {unshown_orders} older orders, {unshown_agents} lines of agents, \
             {unshown_refusals} refusals; name a value, or see --format jsonl\n"
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: usize, agents: usize) -> String {
        let agent = |n: usize| {
            serde_json::json!({"agent": "", "instance": format!("i-{n}"), "did": "waiting",
                "why": null, "at": null, "flows": 0, "last_flow": null, "last_at": null})
        };
        let agents: Vec<_> = (0..agents).map(agent).collect();
        serde_json::json!({"kind": "order", "id": id, "value": format!("value-{id}."), "account": null,
            "instance": null, "reason": "", "who": "", "added": "", "expires": "",
            "standing": "in_force", "lifted_by": null, "outcomes": {}, "flows": 0, "agents": agents})
        .to_string()
    }

    #[test]
    fn what_is_shown_is_bounded_and_the_rest_counted() {
        let few: Vec<String> = (0..3).map(|id| line(id, 3)).collect();
        let text = shown(&few).unwrap();
        assert!(!text.contains("not shown"), "{text}");
        let many: Vec<String> = (0..1_000).map(|id| line(id, 3)).collect();
        let text = shown(&many).unwrap();
        assert!(text.lines().count() < 320, "{}", text.lines().count());
        assert!(text.contains("value-999.") && !text.contains("value-899."));
        assert!(
            text.contains("not shown: 900 older orders, 100 lines of agents, 0 refusals"),
            "{text}"
        );
    }
}
