//! `make bench`: what picket costs, against what it is compared with, measured in turns in one run.
//!
//! Each file beside measures one part and adds its rows to the [`Report`]; [`names`] holds what
//! every row is called, in which unit it is told and what is promised of it. A part that cannot run
//! here says why, and its rows are told as not run. Nothing here asserts: a machine that is busy is
//! slow, and the table says so in minimum, median and maximum.

mod analysis;
mod bundle;
mod capture;
mod cloudtrail;
mod cpu;
mod fleet;
mod ingest;
mod kernel;
mod limits;
mod live;
mod names;
mod offline;
mod report;
mod rounds;
mod sets;
mod stand;
mod traffic;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use picket_tests::product::Binaries;

use report::Report;

/// What the parts are given.
#[derive(Debug)]
struct Setting {
    /// The product.
    binaries: Binaries,
    /// The kernel object of the benches.
    object: PathBuf,
    /// A folder for what is made.
    scratch: PathBuf,
    /// Rounds of each measurement.
    rounds: usize,
}

/// Measures and prints.
#[derive(Debug, Parser)]
#[command(name = "picket-bench")]
struct Arguments {
    /// Kernel object that `cargo xtask kernel --bench` made
    #[arg(long, value_name = "FILE")]
    object: PathBuf,
    /// Where the numbers go
    #[arg(long, value_name = "FILE", default_value = "bench-results.json")]
    out: PathBuf,
    /// Only parts whose name begins so: kernel, traffic, sets, bundle, offline, live, wire, limits, ingest, fleet, analysis, cloudtrail
    #[arg(long, value_name = "PART")]
    only: Option<String>,
    /// Rounds of each measurement
    #[arg(long, default_value = "7")]
    rounds: usize,
    /// Of the analysis part: analyse this many hosts, tell what it took, and do nothing else
    #[arg(long, hide = true, requires = "template")]
    hold: Option<u32>,
    /// What each of them tells
    #[arg(long, hide = true)]
    template: Option<PathBuf>,
}

/// Measures one part.
type Part = fn(&Setting, &mut Report) -> anyhow::Result<()>;

/// Every part, with the beginnings of the names of its rows.
const PARTS: &[(&str, Part, &[&str])] = &[
    ("kernel", kernel::measure, &["kernel/"]),
    ("traffic", traffic::measure, &["traffic/"]),
    ("sets", sets::measure, &["sets/"]),
    ("bundle", bundle::measure, &["bundle/"]),
    ("offline", offline::measure, &["agent/inspect_"]),
    (
        "live",
        live::measure,
        &[
            "agent/cpu_",
            "agent/rss_",
            "agent/start_",
            "agent/kernel_memory",
        ],
    ),
    ("wire", wire::measure, &["agent/veth_"]),
    ("limits", limits::measure, &["limits/"]),
    ("ingest", ingest::measure, &["collector/ingest_"]),
    ("fleet", fleet::measure, &["fleet/"]),
    ("analysis", analysis::measure, &["collector/analysis_"]),
    (
        "cloudtrail",
        cloudtrail::measure,
        &["collector/cloudtrail_"],
    ),
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("picket-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let (Some(hosts), Some(template)) = (arguments.hold, &arguments.template) {
        return analysis::hold(template, hosts);
    }
    let scratch = tempfile::Builder::new()
        .prefix("pk-bench-")
        .tempdir()
        .context("make a folder for scratch files")?;
    let setting = Setting {
        binaries: Binaries::find()?,
        object: arguments.object,
        scratch: scratch.path().to_owned(),
        rounds: arguments.rounds.max(3),
    };
    let mut report = Report::default();
    for (name, part, rows) in PARTS {
        if arguments
            .only
            .as_ref()
            .is_some_and(|only| !name.starts_with(only.as_str()))
        {
            report.not_run(rows, "not asked for");
            continue;
        }
        eprintln!("measuring {name}");
        if let Err(error) = part(&setting, &mut report) {
            report.not_run(rows, &format!("{error:#}"));
        }
        report.not_run(rows, "not measured");
    }
    print!("{}", report.table());
    let text = report.json().context("write the results")?;
    std::fs::write(&arguments.out, text)
        .with_context(|| format!("write {}", arguments.out.display()))
}
