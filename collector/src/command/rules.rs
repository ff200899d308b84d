//! `rules`: what they are, trying them out on logs, and letting them page.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use picket_detect::finding::Evidence;
use picket_detect::sigma::{Rule, RuleSet};
use picket_detect::time::Time;
use picket_detect::{Finding, Settings};
use serde::Serialize;

use super::findings::{Format, print};
use super::listing::Listing;
use super::page::Table;
use super::{Outcome, analyze};
use crate::api::Enabled;
use crate::api::client::{self, Address};
use crate::config::Config;
use crate::rules::{self, RuleLine};
use crate::source::Report;

/// What `rules` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists rules and detections: state, threshold, when each last fired
    List(Listing),
    /// Checks rules without a collector, and shows what they match in logs
    Test(Test),
    /// Runs rules over logs, and with --enable lets those page that found little enough
    Replay(Replay),
    /// Lets a rule page as it is now
    Enable(One),
    /// Puts a rule on trial: its findings are stored and nobody is told
    Trial(One),
}

#[derive(Debug, clap::Args)]
struct One {
    #[command(flatten)]
    address: Address,
    /// Id of the rule
    id: String,
}

#[derive(Debug, clap::Args)]
struct Tried {
    /// CloudTrail logs in any common shape: a file or a folder, packed or not
    #[arg(long, value_name = "PATH")]
    cloudtrail: Vec<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct Test {
    #[command(flatten)]
    tried: Tried,
    /// Configuration: placeholders and accounts
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Files of rules, or folders of them
    #[arg(required = true, value_name = "FILE")]
    rules: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Replay {
    #[command(flatten)]
    address: Address,
    #[command(flatten)]
    tried: Tried,
    /// Files of rules, or folders of them; in place of the configuration's folder
    #[arg(value_name = "FILE")]
    rules: Vec<PathBuf>,
    /// Let rules page in the running collector that made no more findings than --findings-max
    #[arg(long)]
    enable: bool,
    /// Findings in these logs above which a rule stays on trial
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    findings_max: u64,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Outcome> {
    match arguments.verb {
        Verb::List(list) => list.all("/v1/rules", table),
        Verb::Test(test) => test.run(),
        Verb::Replay(replay) => replay.run(),
        Verb::Enable(one) => one.enable(),
        Verb::Trial(one) => one.try_out(),
    }
}

fn table(lines: &[String]) -> anyhow::Result<String> {
    let mut table = Table::new(&[
        "kind",
        "state",
        "level",
        "findings",
        "count",
        "last fired",
        "id",
        "threshold",
        "title",
    ]);
    for line in lines {
        let rule: RuleLine = client::parse(line)?;
        let last = rule
            .last_fired_ms
            .map(|ms| Time(ms * 1_000_000).to_string());
        let title = match (&rule.file, rule.line) {
            (Some(file), Some(line)) if rule.kind == "fault" => {
                format!("{file}:{line}: {}", rule.title)
            }
            _ if rule.title.is_empty() => rule.type_name,
            _ => rule.title,
        };
        table.row(&[
            &rule.kind,
            &rule.state,
            rule.level.as_deref().unwrap_or("-"),
            &rule.findings.to_string(),
            &rule.occurrences.to_string(),
            last.as_deref().unwrap_or("never"),
            &rule.id,
            &rule.threshold,
            &title,
        ]);
    }
    Ok(table.finish())
}

impl One {
    fn path(&self, verb: &str) -> anyhow::Result<String> {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if self.id.is_empty() || !self.id.bytes().all(is_part) {
            bail!("{:?} is no id of a rule", self.id);
        }
        Ok(format!("/v1/rules/{}/{verb}", self.id))
    }

    fn enable(self) -> anyhow::Result<Outcome> {
        let wanted = Enabled {
            digest: None,
            how: "enabled by hand".to_owned(),
        };
        if self.address.send(&self.path("enable")?, &wanted)?.is_none() {
            bail!("no rule {}", self.id);
        }
        print(&format!("{} may page\n", self.id))
    }

    fn try_out(self) -> anyhow::Result<Outcome> {
        if !self.address.post(&self.path("trial")?)? {
            bail!("no rule {}", self.id);
        }
        print(&format!("{} is on trial\n", self.id))
    }
}

/// What a rule did over logs.
#[derive(Debug, Serialize)]
struct Did<'a> {
    kind: &'static str,
    id: &'a str,
    title: &'a str,
    level: &'static str,
    file: &'a str,
    digest: &'a str,
    /// Whether it is there for correlations alone.
    silent: bool,
    findings: u64,
    occurrences: u64,
    /// A few of the calls.
    calls: Vec<String>,
}

/// Calls shown of one rule.
const CALLS_SHOWN: usize = 3;

fn config(path: Option<&Path>) -> anyhow::Result<Config> {
    Ok(match path {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    })
}

impl Tried {
    /// Loads rules and runs them over the logs; gives the rules, what they found, and whether
    /// anything was bad.
    fn run(
        &self,
        config: &Config,
        paths: &[PathBuf],
    ) -> anyhow::Result<(Arc<RuleSet>, Vec<Finding>, bool)> {
        let mut stderr = io::stderr();
        let mut report = Report::new(&mut stderr);
        let loaded = rules::read(paths, &config.rules.placeholders(), &mut report);
        let set = Arc::new(loaded.rules);
        let settings = Settings {
            accounts: config.accounts.clone(),
            ..Settings::default()
        };
        let found = if self.cloudtrail.is_empty() {
            Vec::new()
        } else {
            analyze::with_rules(&self.cloudtrail, settings, set.clone(), &mut report)
                .context("sort events by time")?
        };
        let is_rules = |finding: &Finding| finding.picket.rule.starts_with("sigma/");
        let found = found.into_iter().filter(is_rules).collect();
        Ok((set, found, report.faults() > 0))
    }

    fn print(&self, did: &[Did<'_>]) -> anyhow::Result<Outcome> {
        let mut text = String::new();
        if self.format == Format::Jsonl {
            for line in did {
                text.push_str(&serde_json::to_string(line).context("write a line")?);
                text.push('\n');
            }
            return print(&text);
        }
        let mut table = Table::new(&["findings", "count", "level", "id", "title"]);
        for line in did {
            table.row(&[
                &line.findings.to_string(),
                &line.occurrences.to_string(),
                line.level,
                line.id,
                &if line.silent {
                    format!("{} (for correlations alone)", line.title)
                } else {
                    line.title.to_owned()
                },
            ]);
        }
        text.push_str(&table.finish());
        for line in did.iter().filter(|line| !line.calls.is_empty()) {
            text.push_str(&format!("\n{}\n", super::page::clean(line.title)));
            for call in &line.calls {
                text.push_str(&format!("  {}\n", super::page::clean(call)));
            }
        }
        print(&text)
    }
}

/// What each rule did.
fn did<'a>(set: &'a RuleSet, found: &[Finding]) -> Vec<Did<'a>> {
    let mut of: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in found {
        of.entry(&finding.picket.rule).or_default().push(finding);
    }
    let each = set.rules().iter().map(|rule: &Rule| {
        let name = format!("sigma/{}", rule.id);
        let findings = of.get(&*name).map(Vec::as_slice).unwrap_or_default();
        let calls = findings.iter().flat_map(|f| f.picket.evidence.iter());
        let calls = calls.filter_map(|evidence| match &*evidence {
            Evidence::Cloudtrail(call) => Some(format!(
                "{} {} {} by {} from {}",
                call.time, call.event_source, call.event_name, call.principal, call.source_ip
            )),
            _ => None,
        });
        Did {
            kind: "rule",
            id: &rule.id,
            title: &rule.title,
            level: rule.level.name(),
            file: &rule.file,
            digest: &rule.digest,
            silent: rule.is_silent,
            findings: findings.len() as u64,
            occurrences: findings.iter().map(|finding| finding.count()).sum(),
            calls: calls.take(CALLS_SHOWN).collect(),
        }
    });
    each.collect()
}

impl Test {
    fn run(self) -> anyhow::Result<Outcome> {
        let config = config(self.config.as_deref())?;
        let (set, found, is_bad) = self.tried.run(&config, &self.rules)?;
        self.tried.print(&did(&set, &found))?;
        Ok(if is_bad {
            Outcome::Failed
        } else {
            Outcome::Done
        })
    }
}

impl Replay {
    fn run(self) -> anyhow::Result<Outcome> {
        let config = config(self.address.config())?;
        let mut paths = self.rules.clone();
        if paths.is_empty() {
            paths.extend(config.rules.folder.clone());
        }
        if paths.is_empty() {
            bail!("no rules: name files, or a configuration with rules.folder");
        }
        let mut tried = self.tried;
        if tried.cloudtrail.is_empty() {
            // What the collector reads is what there is to replay.
            tried.cloudtrail = config.cloudtrail.iter().map(|c| c.path.clone()).collect();
        }
        if tried.cloudtrail.is_empty() {
            bail!("no logs: name some with --cloudtrail, or a configuration with [[cloudtrail]]");
        }
        let (set, found, is_bad) = tried.run(&config, &paths)?;
        let did = did(&set, &found);
        tried.print(&did)?;
        if self.enable {
            for line in did.iter().filter(|line| !line.silent) {
                if line.findings > self.findings_max {
                    eprintln!(
                        "picket-collector: {} stays on trial: {} findings are more than {}",
                        line.id, line.findings, self.findings_max
                    );
                    continue;
                }
                let wanted = Enabled {
                    digest: Some(line.digest.to_owned()),
                    how: format!(
                        "replayed: {} findings, {} occurrences",
                        line.findings, line.occurrences
                    ),
                };
                let path = format!("/v1/rules/{}/enable", line.id);
                if self.address.send(&path, &wanted)?.is_none() {
                    eprintln!(
                        "picket-collector: {} is no rule of the running collector's",
                        line.id
                    );
                }
            }
        }
        Ok(if is_bad {
            Outcome::Failed
        } else {
            Outcome::Done
        })
    }
}
