//! `analyze`: the whole analysis offline, in the order of event time, without a server or a store.
//!
//! Every finding is printed once, in its final state, by first occurrence; then the incidents; then
//! one line of totals. The same input gives the same output, on every machine.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::ArgGroup;
use picket_detect::logs::{ApiCall, ApiCallError, Login, Place, Reported, ReportedError, Seen};
use picket_detect::sigma::RuleSet;
use picket_detect::{Analyzer, Event, Finding, Incident, Output, Settings, SourceKind};
use picket_intel::IndicatorSet;
use picket_wire::Summary;
use serde::Serialize;

use super::findings::Format;
use super::page::{self, Table};
use super::shape::Shape;
use super::{Outcome, baselines, serve};
use crate::config::{Agent, Config};
use crate::digest::{self, Keys};
use crate::rules;
use crate::source::hosts::{self, Log};
use crate::source::limits::EVENTS_SEEN_MAX;
use crate::source::sort::{Kind, Sorted};
use crate::source::{Report, Sorter, chains, cloudtrail, guardduty, intel, rds, summaries};
use crate::usage::prices::{Charge, Prices};
use crate::usage::{Row, Usage};

/// What `analyze` takes.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("input").args(["summaries", "cloudtrail", "vpc_flow", "resolver", "rds_log", "guardduty"]).required(true).multiple(true)))]
pub(crate) struct Arguments {
    /// Summaries as an agent writes them: a file, a folder, or `-` for stdin
    #[arg(long, value_name = "FILE|-")]
    summaries: Vec<PathBuf>,
    /// CloudTrail logs in any common shape: a file or a folder, packed or not
    #[arg(long, value_name = "PATH")]
    cloudtrail: Vec<PathBuf>,
    /// VPC flow logs as text, in any order of fields, or Parquet: a file or a folder, packed or not
    #[arg(long, value_name = "PATH")]
    vpc_flow: Vec<PathBuf>,
    /// Route 53 Resolver query logs: a file or a folder, packed or not
    #[arg(long, value_name = "PATH")]
    resolver: Vec<PathBuf>,
    /// Logs of RDS and Aurora databases (PostgreSQL; MySQL and MariaDB: audit, error), as files or exports of CloudWatch
    /// Logs: a file or a folder, packed or not
    #[arg(long, value_name = "PATH")]
    rds_log: Vec<PathBuf>,
    /// Identifier of the DB instance that `--rds-log` is of, where its path does not say
    #[arg(long, value_name = "ID", requires = "rds_log")]
    rds_instance: Option<String>,
    /// Account of the databases, where neither path nor log say
    #[arg(long, value_name = "ACCOUNT", requires = "rds_log")]
    rds_account: Option<String>,
    /// Region of the databases, alike
    #[arg(long, value_name = "REGION", requires = "rds_log")]
    rds_region: Option<String>,
    /// Findings of GuardDuty to join with ours: exports to S3, events of EventBridge, what `get-findings` prints
    #[arg(long, value_name = "PATH")]
    guardduty: Vec<PathBuf>,
    /// Folder of indicator lists named `<category>-<kind>.txt`
    #[arg(long, value_name = "DIR")]
    intel: Option<PathBuf>,
    /// Folder of Sigma rules, in place of the configuration's
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// Configuration: settings of the analysis, agents and their keys
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What is usual for whom, as `baselines export` or --baseline-out wrote it
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Where to write what is usual once all is read
    #[arg(long, value_name = "FILE")]
    baseline_out: Option<PathBuf>,
    /// How to print; for people if absent and a terminal listens
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The form of findings as JSON; JSON lines are printed then
    #[arg(long, value_enum)]
    shape: Option<Shape>,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    let config = match &arguments.config {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
    let mut stderr = io::stderr();
    let mut report = Report::new(&mut stderr);
    let folder = arguments.intel.as_ref().or(config.intel_dir.as_ref());
    let indicators = intel::gather(
        &intel::Request {
            lists: folder.map(|folder| &**folder),
            seed: config.seed,
            ..intel::Request::default()
        },
        &mut report,
    )
    .map_err(intel::as_config)?;
    let mut analyzer = Analyzer::new(config.detect(), indicators.set);
    let folders: Vec<PathBuf> = arguments.rules.iter().cloned().collect();
    let folders = match &config.rules.folder {
        Some(folder) if folders.is_empty() => vec![folder.clone()],
        _ => folders,
    };
    let rules = rules::read(&folders, &config.rules.placeholders(), &mut report);
    analyzer.set_rules(Arc::new(rules.rules));
    if let Some(file) = &arguments.baseline {
        analyzer.set_learned(baselines::read(file)?);
    }
    let mut files = Vec::new();
    let keys = config.digests.keys();
    let keys = keys
        .map_err(|bad| anyhow::anyhow!(bad))
        .context("configuration")?;
    let (sorted, mut input, mut logs_usage, digests) =
        read(arguments, config.agents, &mut files, &mut report).context("sort events by time")?;
    let mut offline = Offline::new(analyzer);
    offline
        .feed(sorted, &files, &mut report)
        .context("sort events by time")?;
    if let Some(file) = &arguments.baseline_out {
        serve::write_whole(file, &(offline.analyzer.learned().to_json() + "\n"))?;
    }
    offline.usage.merge(std::mem::take(&mut logs_usage));
    if config.digests.check {
        offline.check(&digests, &keys, &mut report);
    }
    let results = offline.finish(&mut input);
    let prices = Prices::built_in()?;
    input.charges = prices.charges(&input.usage);
    input.prices = format!("{} {}", prices.date, prices.region);
    input.faults = report.faults();
    let is_bad = input.faults > 0;
    let for_people = arguments.format.map_or_else(
        || arguments.shape.is_none() && io::stdout().is_terminal(),
        |format| format == Format::Text,
    );
    let mut out = BufWriter::new(io::stdout().lock());
    let written = if for_people {
        results.write_text(&input, &mut out)
    } else {
        results.write_lines(arguments.shape.unwrap_or_default(), &input, &mut out)
    };
    match written.and_then(|()| out.flush()) {
        // Whoever read it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        other => other.context("write findings")?,
    }
    Ok(if is_bad {
        Outcome::Failed
    } else {
        Outcome::Done
    })
}

/// The findings of CloudTrail logs, with rules of the operator's own.
pub(super) fn with_rules(
    logs: &[PathBuf],
    settings: Settings,
    set: Arc<RuleSet>,
    report: &mut Report<'_>,
) -> io::Result<Vec<Finding>> {
    let mut analyzer = Analyzer::new(settings, IndicatorSet::default());
    analyzer.set_rules(set);
    let mut files = Vec::new();
    let mut sorter = Sorter::default();
    let mut cloudtrail = cloudtrail::Reader::default();
    for path in logs {
        cloudtrail.read(path, &mut files, &mut sorter, report)?;
    }
    let mut offline = Offline::new(analyzer);
    offline.feed(sorter.finish()?, &files, report)?;
    Ok(offline.finish(&mut Input::default()).findings)
}

/// Reads everything into the order of time.
fn read(
    arguments: &Arguments,
    agents: Vec<Agent>,
    files: &mut Vec<PathBuf>,
    report: &mut Report<'_>,
) -> io::Result<(Sorted, Input, Usage, Vec<PathBuf>)> {
    let mut sorter = Sorter::default();
    let mut summaries = summaries::Reader::new(agents);
    for path in &arguments.summaries {
        summaries.read(path, files, &mut sorter, report)?;
    }
    let mut cloudtrail = cloudtrail::Reader::default();
    for path in &arguments.cloudtrail {
        cloudtrail.read(path, files, &mut sorter, report)?;
    }
    let mut usage = Usage::default();
    let mut hosts = |log, paths: &[PathBuf]| -> io::Result<hosts::Totals> {
        let mut reader = hosts::Reader::new(log);
        for path in paths {
            reader.read(path, files, &mut sorter, report)?;
        }
        usage.merge(reader.usage);
        Ok(reader.totals)
    };
    let vpc_flow = hosts(Log::VpcFlow, &arguments.vpc_flow)?;
    let resolver = hosts(Log::ResolverQuery, &arguments.resolver)?;
    let mut rds = rds::Reader::new(rds::Whence {
        account: arguments.rds_account.clone(),
        region: arguments.rds_region.clone(),
        instance: arguments.rds_instance.clone(),
    });
    for path in &arguments.rds_log {
        rds.read(path, files, &mut sorter, report)?;
    }
    rds.finish(&mut sorter)?;
    let mut guardduty = guardduty::Reader::default();
    for path in &arguments.guardduty {
        guardduty.read(path, files, &mut sorter, report)?;
    }
    usage.merge(std::mem::take(&mut rds.usage));
    let input = Input {
        vpc_flow,
        resolver,
        rds: rds.totals,
        guardduty: guardduty.totals,
        chains: summaries.chains.totals(),
        summaries: summaries.totals,
        cloudtrail: cloudtrail.totals,
        ..Input::default()
    };
    Ok((sorter.finish()?, input, usage, cloudtrail.digests))
}

/// What became of the input before it reached the analyzer.
#[derive(Debug, Default, Serialize)]
struct Input {
    summaries: summaries::Totals,
    chains: chains::Totals,
    cloudtrail: cloudtrail::Totals,
    vpc_flow: hosts::Totals,
    resolver: hosts::Totals,
    rds: rds::Totals,
    guardduty: guardduty::Totals,
    /// CloudTrail events that had been there before.
    repeated: u64,
    /// CloudTrail events forgotten for want of room: repeats of those counted as new.
    forgotten: u64,
    /// Places that could not be read.
    faults: u64,
    /// What was analysed, by day, source and account.
    usage: Vec<Row>,
    /// What GuardDuty would charge for it, by month, account and meter.
    charges: Vec<Charge>,
    /// Date and region of the list prices.
    prices: String,
}

/// Bytes of room that are kept from one call for the next: most records are far smaller, and a few so large
/// that nobody should hold on to theirs.
const ROOM_BYTES_MAX: usize = 64 << 10;

/// The analyzer being fed.
struct Offline {
    analyzer: Analyzer,
    seen: Seen,
    repeated: u64,
    foreign: u64,
    refused: u64,
    usage: Usage,
    newest_ns: BTreeMap<SourceKind, u64>,
    room: String,
}

impl Offline {
    fn new(analyzer: Analyzer) -> Self {
        Self {
            analyzer,
            seen: Seen::new(EVENTS_SEEN_MAX),
            repeated: 0,
            foreign: 0,
            refused: 0,
            usage: Usage::default(),
            newest_ns: BTreeMap::new(),
            room: String::new(),
        }
    }

    fn feed(
        &mut self,
        mut sorted: Sorted,
        files: &[PathBuf],
        report: &mut Report<'_>,
    ) -> io::Result<()> {
        while let Some(record) = sorted.next_record()? {
            let file = usize::try_from(record.origin.file).ok();
            let file = file.and_then(|number| files.get(number));
            let file = file.map_or(Path::new("?"), PathBuf::as_path);
            let place = Some(Place {
                byte: record.origin.byte,
                line: record.origin.line,
            });
            let event = match record.kind {
                Kind::Summary => match Summary::from_bytes(record.bytes) {
                    Ok(summary) => Event::Summary(Box::new(summary)),
                    Err(error) => {
                        self.refused += 1;
                        report.fault(file, place, error);
                        continue;
                    }
                },
                Kind::Reported => match reported(record.bytes) {
                    Ok(finding) => Event::Reported(Box::new(finding)),
                    Err(error) => {
                        self.refused += 1;
                        report.fault(file, place, error);
                        continue;
                    }
                },
                Kind::Login => match serde_json::from_slice::<Login>(record.bytes) {
                    Ok(login) => Event::Login(Box::new(login)),
                    Err(error) => {
                        self.refused += 1;
                        report.fault(file, place, error);
                        continue;
                    }
                },
                Kind::Api => match ApiCall::parse_in(record.bytes, record.time_ns, self.room()) {
                    Ok(call) if !self.seen.insert(call.key) => {
                        self.repeated += 1;
                        continue;
                    }
                    Ok(call) => Event::Api(Box::new(call)),
                    Err(error @ ApiCallError::NotAnEvent) => {
                        self.foreign += 1;
                        report.notice(file, place, error);
                        continue;
                    }
                    Err(error @ ApiCallError::NotJson { .. }) => {
                        self.refused += 1;
                        report.fault(file, place, error);
                        continue;
                    }
                },
            };
            self.usage.note_event(&event, record.bytes.len());
            self.take(event);
        }
        Ok(())
    }

    /// Checks CloudTrail's digests against the files that they name.
    fn check(&mut self, digests: &[PathBuf], keys: &Keys, report: &mut Report<'_>) {
        for path in digests {
            match digest::folder::check(path, keys) {
                Ok(Ok(events)) => events
                    .into_iter()
                    .for_each(|event| self.take(Event::Trail(event))),
                Ok(Err(why)) => report.fault(path, None, format_args!("no digest: {why}")),
                Err(error) => report.fault(path, None, error),
            }
        }
    }

    fn take(&mut self, mut event: Event) {
        let source = event.source();
        let newest = self.newest_ns.entry(source).or_default();
        *newest = event.time_ns().max(*newest);
        let watermark = newest.saturating_sub(source.lateness_ns());
        self.analyzer.on_event_mut(&mut event);
        if let Event::Api(call) = event {
            let room = call.into_room();
            self.room = if room.capacity() <= ROOM_BYTES_MAX {
                room
            } else {
                String::new()
            };
        }
        self.analyzer.advance(source, watermark);
    }

    /// The room of the last call.
    fn room(&mut self) -> String {
        std::mem::take(&mut self.room)
    }

    fn finish(mut self, input: &mut Input) -> Results {
        self.analyzer.finish();
        let (mut findings, mut incidents) = (BTreeMap::new(), BTreeMap::new());
        while let Some(output) = self.analyzer.poll_output() {
            match output {
                Output::Finding(finding) => {
                    findings.insert(finding.id.clone(), *finding);
                }
                Output::Incident(incident) => {
                    incidents.insert(incident.id.clone(), *incident);
                }
            }
        }
        let mut findings: Vec<_> = findings.into_values().collect();
        findings.sort_by(|one, other| {
            (one.service.event_first_seen, &one.id)
                .cmp(&(other.service.event_first_seen, &other.id))
        });
        let mut incidents: Vec<_> = incidents.into_values().collect();
        incidents
            .sort_by(|one, other| (one.created_at, &one.id).cmp(&(other.created_at, &other.id)));
        input.usage = self.usage.rows();
        input.repeated = self.repeated;
        input.forgotten = self.seen.forgotten();
        input.cloudtrail.foreign += self.foreign;
        let mut totals = self.analyzer.totals();
        for (&reason, &count) in &input.summaries.refused {
            totals.refused.insert(reason.to_owned(), count);
        }
        if self.refused > 0 {
            *totals.refused.entry("malformed".to_owned()).or_default() += self.refused;
        }
        Results {
            findings,
            incidents,
            totals,
        }
    }
}

/// What came out.
struct Results {
    findings: Vec<Finding>,
    incidents: Vec<Incident>,
    totals: picket_detect::Totals,
}

impl Results {
    fn write_lines(&self, shape: Shape, input: &Input, out: &mut dyn Write) -> io::Result<()> {
        #[derive(Serialize)]
        struct Last<'a> {
            #[serde(flatten)]
            totals: &'a picket_detect::Totals,
            input: &'a Input,
        }

        let totals = &self.totals;
        for finding in &self.findings {
            match shape {
                // As it stands: the members keep their order.
                Shape::Guardduty => line(finding, out)?,
                other => writeln!(out, "{}", other.line(finding))?,
            }
        }
        for incident in &self.incidents {
            line(incident, out)?;
        }
        line(&Last { totals, input }, out)
    }

    fn write_text(&self, input: &Input, out: &mut dyn Write) -> io::Result<()> {
        if !self.findings.is_empty() {
            let mut table = Table::new(&["first seen", "severity", "count", "type", "title"]);
            for finding in &self.findings {
                table.row(&[
                    &finding.service.event_first_seen.to_string(),
                    &page::severity(finding.severity),
                    &finding.service.count.to_string(),
                    &finding.type_name,
                    &finding.title,
                ]);
            }
            writeln!(out, "{}", table.finish())?;
        }
        if !self.incidents.is_empty() {
            let mut table = Table::new(&["first seen", "severity", "stages", "incident"]);
            for incident in &self.incidents {
                table.row(&[
                    &incident.created_at.to_string(),
                    &page::severity(incident.severity),
                    &incident.stages.len().to_string(),
                    &incident.title,
                ]);
            }
            writeln!(out, "{}", table.finish())?;
        }
        let events: Vec<String> = self
            .totals
            .events
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(source, count)| format!("{count} of {source}"))
            .collect();
        let of_hosts = input.vpc_flow.files + input.resolver.files;
        let files = input.summaries.files + input.cloudtrail.files + of_hosts + input.rds.files;
        let files = files + input.guardduty.files;
        writeln!(
            out,
            "{} findings and {} incidents in {} events ({}) of {files} files; {} repeated, {} envelopes missing, {} faults",
            self.findings.len(),
            self.incidents.len(),
            self.totals.events.values().sum::<u64>(),
            events.join(", "),
            input.repeated + input.chains.repeats,
            input.chains.missing,
            input.faults,
        )?;
        match input.summaries.signers.in_words() {
            Some(words) => writeln!(out, "{words}"),
            None => Ok(()),
        }
    }
}

/// A finding of GuardDuty's, as the reader wrote it.
fn reported(json: &[u8]) -> Result<Reported, ReportedError> {
    Reported::parse(json)?.pop().ok_or(ReportedError::Other)?
}

fn line(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}
