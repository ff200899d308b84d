//! `join-tokens`: how hosts join that neither AWS nor the configuration vouches for.

use anyhow::bail;
use clap::Subcommand;

use super::Outcome;
use super::findings::{Format, print};
use super::listing::Listing;
use super::page::Table;
use crate::api::client::{self, Address};
use crate::api::join_tokens::{Made, TokenLine, Wanted};
use crate::store::join_tokens::Scope;

/// What `join-tokens` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Makes a token and prints it, this once
    Add(Add),
    /// Lists tokens; what they are is not kept
    List(Listing),
    /// Ends a token; hosts that joined with it stay
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
struct Add {
    #[command(flatten)]
    address: Address,
    /// What it is for, in your words
    #[arg(long, default_value = "")]
    label: String,
    /// Hosts that may join with it
    #[arg(long, value_name = "N", default_value_t = 1)]
    uses: u64,
    /// Seconds it is good for
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    expires_s: u64,
    /// The only account its hosts may say they are in
    #[arg(long)]
    account: Option<String>,
    /// The only region
    #[arg(long)]
    region: Option<String>,
    /// The only instance, or its beginning and `*`
    #[arg(long, value_name = "PATTERN")]
    instance: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct Revoke {
    #[command(flatten)]
    address: Address,
    /// Id of the token
    id: String,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    match arguments.verb {
        Verb::Add(add) => {
            let wanted = Wanted {
                label: add.label,
                scope: Scope {
                    account: add.account,
                    region: add.region,
                    instance: add.instance,
                },
                uses: add.uses,
                expires_s: add.expires_s,
            };
            let answer = add.address.make("/v1/join-tokens", &wanted)?;
            let made: Made = client::parse(&answer)?;
            match add.format {
                Format::Jsonl => print(&format!("{answer}\n")),
                // Alone on stdout, so that it can go to a file.
                Format::Text => {
                    eprintln!(
                        "token {}, good until {}; shown this once",
                        made.id, made.expires
                    );
                    print(&format!("{}\n", made.token))
                }
            }
        }
        Verb::List(list) => list.all("/v1/join-tokens", table),
        Verb::Revoke(revoke) => {
            let is_id = !revoke.id.is_empty() && revoke.id.bytes().all(|b| b.is_ascii_hexdigit());
            let path = format!("/v1/join-tokens/{}/revoke", revoke.id);
            if !is_id || !revoke.address.post(&path)? {
                bail!("there is no join token {:?}", revoke.id);
            }
            print(&format!("{} is revoked\n", revoke.id))
        }
    }
}

fn table(lines: &[String]) -> anyhow::Result<String> {
    let mut table = Table::new(&["token", "label", "standing", "used", "expires", "for"]);
    for line in lines {
        let token: TokenLine = client::parse(line)?;
        let of = |value: &Option<String>| value.clone().unwrap_or_else(|| "*".to_owned());
        let scope = &token.scope;
        let cells = [
            token.id,
            token.label,
            token.standing,
            format!("{} of {}", token.uses, token.uses_max),
            token.expires,
            format!(
                "{} {} {}",
                of(&scope.account),
                of(&scope.region),
                of(&scope.instance)
            ),
        ];
        let cells: Vec<&str> = cells.iter().map(String::as_str).collect();
        table.row(&cells);
    }
    Ok(table.finish())
}
