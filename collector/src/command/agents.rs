//! `agents`: who speaks to the running collector, how they do, and whose word is taken.

use anyhow::bail;
use clap::Subcommand;
use picket_wire::AgentId;

use super::Outcome;
use super::findings::print;
use super::listing::Listing;
use super::page::Table;
use crate::api::AgentLine;
use crate::api::client::{self, Address};

/// What `agents` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists agents: last heard, sequence, what they watch and how, loss, refusals
    List(Listing),
    /// Lets an agent in that could show a document of AWS and nothing more
    Approve(One),
    /// Never believes an agent's key again, from this moment on
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
struct One {
    /// Id of the agent
    id: AgentId,
    #[command(flatten)]
    address: Address,
}

#[derive(Debug, clap::Args)]
struct Revoke {
    #[command(flatten)]
    one: One,
    /// Let another key enrol for its instance
    #[arg(long)]
    release: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    match arguments.verb {
        Verb::List(list) => list.all("/v1/agents", table),
        Verb::Approve(one) => {
            let path = format!("/v1/agents/{}/approve", one.id);
            if !one.address.post(&path)? {
                bail!("no agent {} waits to be approved", one.id);
            }
            print(&format!("{} is trusted now\n", one.id))
        }
        Verb::Revoke(Revoke { one, release }) => {
            let path = format!("/v1/agents/{}/revoke?release={release}", one.id);
            if !one.address.post(&path)? {
                bail!("the collector knows no agent {}", one.id);
            }
            print(&format!("{} is revoked\n", one.id))
        }
    }
}

fn table(lines: &[String]) -> anyhow::Result<String> {
    let mut table = Table::new(&[
        "agent",
        "instance",
        "trust",
        "last seen",
        "sequence",
        "capture",
        "canary",
        "user space",
        "seen",
        "lost",
        "gaps",
        "cut",
        "refused",
    ]);
    for line in lines {
        let agent: AgentLine = client::parse(line)?;
        let state = agent.state.as_ref();
        let sensor = state.and_then(|state| state.sensor.as_ref());
        let of = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let refused: Vec<String> = agent
            .refused
            .iter()
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        let cells = [
            agent.agent.clone(),
            of(agent.instance.clone()),
            match (&agent.standing, &agent.level) {
                (Some(standing), Some(level)) if standing == "trusted" => level.clone(),
                (Some(standing), Some(level)) => format!("{level}, {standing}"),
                _ => "unknown".to_owned(),
            },
            of(state.map(|state| format!("{} ({} s ago)", state.last_seen, state.silent_s))),
            of(state.map(|state| state.sequence.to_string())),
            of(state.map(|state| match sensor {
                Some(sensor) if !sensor.interfaces.is_empty() => {
                    format!("{} on {}", state.capture, sensor.interfaces.join(" "))
                }
                _ => state.capture.clone(),
            })),
            of(sensor.map(|sensor| sensor.canary.clone())),
            of(sensor
                .map(|sensor| sensor.user_space.join(" "))
                .filter(|stages| !stages.is_empty())),
            of(state.map(|state| state.packets_seen.to_string())),
            of(state.map(|state| {
                format!("{} ({:.4} %)", state.packets_lost, state.loss_share * 100.0)
            })),
            of(state.map(|state| state.gaps.to_string())),
            of(state.map(|state| state.cut.to_string())),
            if refused.is_empty() {
                "-".to_owned()
            } else {
                refused.join(", ")
            },
        ];
        let cells: Vec<&str> = cells.iter().map(String::as_str).collect();
        table.row(&cells);
    }
    Ok(table.finish())
}
