//! `operators`: who may ask the collector over the network, and for what.

use std::time::Duration;

use anyhow::bail;
use clap::Subcommand;

use super::findings::{Format, print};
use super::listing::Listing;
use super::page::Table;
use super::{Outcome, intel};
use crate::api::client::{self, Address};
use crate::api::{MadeOperator, OperatorLine, Role, WantedOperator};

/// What `operators` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Makes a token and prints it, this once
    Add(Add),
    /// Lists tokens: roles, accounts, ends, last use; what they are is not kept
    List(Listing),
    /// Ends an operator's token at once
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
struct Add {
    #[command(flatten)]
    address: Address,
    /// Whose it is: letters, digits, -, _, . and @
    name: String,
    /// What it may do: look; archive findings too; everything
    #[arg(long, value_enum)]
    role: Role,
    /// An account it is bound to; as often as there are accounts. Without it: none
    #[arg(long = "account", value_name = "N")]
    accounts: Vec<String>,
    /// How long it is good for: a number and s, m, h or d; two years at most
    #[arg(long, value_name = "TIME", default_value = "365d", value_parser = intel::duration)]
    expires: Duration,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct Revoke {
    #[command(flatten)]
    address: Address,
    /// Whose token
    name: String,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    match arguments.verb {
        Verb::Add(add) => add.run(),
        Verb::List(list) => list.all("/v1/operators", table),
        Verb::Revoke(revoke) => revoke.run(),
    }
}

impl Add {
    fn run(self) -> anyhow::Result<Outcome> {
        let wanted = WantedOperator {
            name: self.name,
            role: self.role,
            accounts: self.accounts,
            expires_s: self.expires.as_secs(),
        };
        let answer = self.address.make("/v1/operators", &wanted)?;
        match self.format {
            Format::Jsonl => print(&format!("{answer}\n")),
            Format::Text => {
                let made: MadeOperator = client::parse(&answer)?;
                eprintln!(
                    "picket-collector: token of {} until {}; it is not shown again",
                    made.name, made.expires
                );
                // Alone on stdout, so that it can go into a file.
                print(&format!("{}\n", made.token))
            }
        }
    }
}

fn table(lines: &[String]) -> anyhow::Result<String> {
    let mut table = Table::new(&[
        "name",
        "id",
        "role",
        "accounts",
        "state",
        "expires",
        "last used",
        "created by",
    ]);
    for line in lines {
        let one: OperatorLine = client::parse(line)?;
        let accounts = one
            .accounts
            .map_or_else(|| "all".to_owned(), |all| all.join(" "));
        table.row(&[
            &one.name,
            &one.id,
            &one.role,
            &accounts,
            &one.state,
            &one.expires,
            one.last_used.as_deref().unwrap_or("-"),
            &one.created_by,
        ]);
    }
    Ok(table.finish())
}

impl Revoke {
    fn run(self) -> anyhow::Result<Outcome> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
        if self.name.is_empty() || !self.name.bytes().all(is_plain) {
            bail!("{:?} is no name of an operator", self.name);
        }
        let path = format!("/v1/operators/{}/revoke", self.name);
        if !self.address.post(&path)? {
            bail!("{} has no token in force", self.name);
        }
        print(&format!("revoked the token of {}\n", self.name))
    }
}
