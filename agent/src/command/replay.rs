//! `replay`: captures through the same decode, match and summary path as live traffic, into signed
//! envelopes.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use picket_intel::IndicatorSet;
use picket_sense::{Clock, Sensor, SensorConfig};
use picket_wire::{AgentId, BootId, Host, Net, Summary};
use ring::digest;

use crate::capture::pcap::{CaptureError, CaptureFile};
use crate::feeds::Feeds;
use crate::identity::{Envelope, Identity, Sealer};
use crate::net;
use crate::ship::{Collector, Status};

/// Frames between two looks for finished summaries. A hit waits for so many frames at most; more
/// hits then share one envelope. Chosen by hand.
const FRAMES_PER_LOOK: u32 = 256;

/// Envelopes posted at once, and their bytes.
const BATCH_MAX: usize = 64;
const BATCH_BYTES_MAX: usize = 4 << 20;

/// Times a batch is posted before the collector is given up, a second apart.
const POSTS_MAX: u32 = 5;

/// Replays captures (pcap, pcapng, also gzipped) into signed envelopes
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Capture files
    #[arg(required = true, value_name = "CAPTURE")]
    captures: Vec<PathBuf>,
    /// Instance whose traffic it is; the file's name without its ending (`.pcap`, `.pcap.gz`)
    /// unless told otherwise
    #[arg(long)]
    instance: Option<String>,
    /// AWS account of the instance
    #[arg(long, default_value = "000000000000", value_parser = account)]
    account: String,
    /// AWS region of the instance
    #[arg(long, default_value = "local")]
    region: String,
    /// Run that the envelopes say they are of, 32 hex digits; from the capture's SHA-256 unless
    /// told otherwise
    #[arg(long, value_name = "HEX")]
    boot_id: Option<BootId>,
    /// The instance's own addresses; without them the capture is taken for a mirror of many hosts
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = net::parse)]
    local: Vec<Net>,
    /// Folder of indicator lists to match against
    #[arg(long, value_name = "DIR")]
    intel: Option<PathBuf>,
    /// Key to sign with (32 raw bytes); the public development key unless told otherwise
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Where to write the envelopes, `-` for the standard output (the default without --to)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Collector to send the envelopes to
    #[arg(long, value_name = "URL", requires = "ca_file")]
    to: Option<String>,
    /// Certificate authority that the collector's certificate must stem from; may be repeated
    #[arg(long, value_name = "FILE")]
    ca_file: Vec<PathBuf>,
}

fn account(text: &str) -> Result<String, String> {
    if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err("an account has twelve digits".to_owned())
    }
}

/// Replays each capture as a chain of its own. A damaged one is read up to its fault, which goes to
/// standard error; the exit code says that there was one.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.boot_id.is_some() && arguments.captures.len() > 1 {
        let conflict = clap::error::ErrorKind::ArgumentConflict;
        clap::Error::raw(
            conflict,
            "--boot-id names one run, so it takes one capture\n",
        )
        .exit();
    }
    let feeds = Feeds::load_if(arguments.intel.as_deref())?;
    for complaint in feeds.complaints() {
        eprintln!("picket-agent: intel: {complaint}");
    }
    let mut sinks = Sinks::open(arguments)?;
    let mut code = ExitCode::SUCCESS;
    for capture in &arguments.captures {
        match replay(arguments, capture, Arc::clone(&feeds.set), &mut sinks) {
            Ok(None) => {}
            Ok(Some(fault)) => {
                eprintln!("picket-agent: {fault}");
                code = ExitCode::FAILURE;
            }
            // Whoever reads has seen enough.
            Err(error) if is_broken_pipe(&error) => return Ok(code),
            Err(error) => return Err(error),
        }
    }
    match sinks.finish() {
        Err(error) if is_broken_pipe(&error) => Ok(code),
        Err(error) => Err(error),
        Ok(()) => Ok(code),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<io::Error>();
    cause.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// Replays one capture. Returns what is wrong with it, if anything; what was read before that has
/// gone to the sinks.
fn replay(
    arguments: &Arguments,
    capture: &Path,
    set: Arc<IndicatorSet>,
    sinks: &mut Sinks,
) -> anyhow::Result<Option<CaptureError>> {
    if arguments.boot_id.is_none() && is_pipe(capture) {
        bail!("a capture from a pipe needs --boot-id");
    }
    let mut file = match CaptureFile::open(capture) {
        Ok(file) => file,
        Err(error) => return Ok(Some(error)),
    };
    let boot = match arguments.boot_id {
        Some(boot) => boot,
        None => boot_of(capture)?,
    };
    let instance = arguments.instance.clone();
    let instance = instance.unwrap_or_else(|| stem(capture));
    let (account, region) = (arguments.account.clone(), arguments.region.clone());
    let (agent, identity) = match &arguments.key {
        Some(file) => {
            let identity = Identity::load(file)?;
            (identity.agent(), identity)
        }
        None => (
            AgentId::of_replay(&account, &region, &instance),
            Identity::development(),
        ),
    };
    let host = Host {
        instance,
        account,
        region,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        capture: "replay".to_owned(),
        local: arguments.local.clone(),
        ..Host::default()
    };
    let mut sensor = Sensor::new(SensorConfig::new(host, Clock::Packets), set);
    let mut chain = Sealed {
        sealer: Sealer::new(agent, boot, identity),
        sinks,
    };
    let bar = progress_bar(capture, file.progress().total_bytes());
    let progress = file.progress();
    let mut frames = 0u32;
    let fault = loop {
        match file.next_frame() {
            Ok(Some(frame)) => sensor.on_frame(&frame),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
        frames = frames.wrapping_add(1);
        if frames.is_multiple_of(FRAMES_PER_LOOK) || sensor.has_output() {
            chain.take_from(&mut sensor)?;
            bar.set_position(progress.read_bytes());
        }
    };
    sensor.finish(None);
    chain.take_from(&mut sensor)?;
    bar.finish_and_clear();
    Ok(fault)
}

/// What can be read only once, so not for its hash and then again for its packets.
fn is_pipe(capture: &Path) -> bool {
    let readable_twice = |metadata: Metadata| metadata.is_file() || metadata.is_dir();
    capture.as_os_str() == "-" || fs::metadata(capture).is_ok_and(|found| !readable_twice(found))
}

/// The name of a capture without its ending, which may be two: `web-1.pcap.gz` is `web-1`.
fn stem(capture: &Path) -> String {
    let ends_with = |path: &Path, endings: &[&str]| {
        let ending = path.extension().unwrap_or_default();
        endings.iter().any(|one| ending.eq_ignore_ascii_case(one))
    };
    let mut stem = Path::new(capture.file_stem().unwrap_or_default());
    if ends_with(capture, &["gz"]) && ends_with(stem, &["pcap", "pcapng", "cap"]) {
        stem = Path::new(stem.file_stem().unwrap_or_default());
    }
    stem.to_string_lossy().into_owned()
}

/// A run is named after the capture it comes from, so that replaying it again tells nothing new.
fn boot_of(capture: &Path) -> anyhow::Result<BootId> {
    let read = || format!("read {}", capture.display());
    let mut file = File::open(capture).with_context(read)?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = file.read(&mut buffer).with_context(read)?;
        if count == 0 {
            break;
        }
        hash.update(buffer.get(..count).unwrap_or_default());
    }
    let mut boot = BootId::default();
    for (to, from) in boot.0.iter_mut().zip(hash.finish().as_ref()) {
        *to = *from;
    }
    Ok(boot)
}

/// Shows how far a capture has been read, on a terminal.
fn progress_bar(capture: &Path, total: Option<u64>) -> ProgressBar {
    let style = "{msg} {wide_bar} {bytes}/{total_bytes} {eta}";
    let bar = match (total, ProgressStyle::with_template(style)) {
        (Some(total), Ok(style)) if io::stderr().is_terminal() => {
            ProgressBar::new(total).with_style(style)
        }
        _ => ProgressBar::hidden(),
    };
    let name = capture.file_name().unwrap_or_default().to_string_lossy();
    bar.with_message(name.into_owned())
}

/// Takes summaries from a sensor, seals them and passes them on.
struct Sealed<'a> {
    sealer: Sealer,
    sinks: &'a mut Sinks,
}

impl Sealed<'_> {
    fn take_from(&mut self, sensor: &mut Sensor) -> anyhow::Result<()> {
        while let Some(summary) = sensor.poll_output() {
            let signed_at_ms = signing_time_ms(&summary);
            self.sinks.put(self.sealer.seal(summary, signed_at_ms))?;
        }
        Ok(())
    }
}

/// A replayed summary is signed when its window ended.
fn signing_time_ms(summary: &Summary) -> u64 {
    summary.window.end_ns / 1_000_000
}

/// Where envelopes go.
struct Sinks {
    file: Option<Box<dyn Write>>,
    collector: Option<Posting>,
}

/// A collector and what waits to be sent to it.
struct Posting {
    runtime: tokio::runtime::Runtime,
    collector: Collector,
    batch: Vec<Envelope>,
    batch_bytes: usize,
}

impl Sinks {
    fn open(arguments: &Arguments) -> anyhow::Result<Self> {
        let file = match (&arguments.out, &arguments.to) {
            (None, Some(_)) => None,
            (Some(path), _) if path.as_os_str() != "-" => {
                let name = || format!("create {}", path.display());
                let file = File::create(path).with_context(name)?;
                Some(Box::new(BufWriter::new(file)) as Box<dyn Write>)
            }
            _ if io::stdout().is_terminal() => {
                bail!("envelopes are no text for a terminal; use --out FILE or a pipe")
            }
            _ => Some(Box::new(BufWriter::new(io::stdout())) as Box<dyn Write>),
        };
        let collector = match &arguments.to {
            None => None,
            Some(url) => Some(Posting {
                runtime: tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .context("start the runtime")?,
                collector: Collector::new(url, &arguments.ca_file)?,
                batch: Vec::new(),
                batch_bytes: 0,
            }),
        };
        Ok(Self { file, collector })
    }

    fn put(&mut self, envelope: Envelope) -> anyhow::Result<()> {
        if let Some(file) = &mut self.file {
            file.write_all(&envelope.bytes).context("write envelopes")?;
        }
        if let Some(posting) = &mut self.collector {
            posting.batch_bytes += envelope.bytes.len();
            posting.batch.push(envelope);
            if posting.batch.len() >= BATCH_MAX || posting.batch_bytes >= BATCH_BYTES_MAX {
                posting.flush()?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<()> {
        if let Some(posting) = &mut self.collector {
            posting.flush()?;
        }
        if let Some(file) = &mut self.file {
            file.flush().context("write envelopes")?;
        }
        Ok(())
    }
}

impl Posting {
    /// Posts what waits. An envelope that is refused ends the replay: the rest of its chain would
    /// hang in the air.
    fn flush(&mut self) -> anyhow::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if batch.is_empty() {
            return Ok(());
        }
        let verdicts = self.runtime.block_on(async {
            let mut posts = 1;
            loop {
                match self.collector.post(&batch).await {
                    Err(_) if posts < POSTS_MAX => {
                        posts += 1;
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                    outcome => return outcome,
                }
            }
        });
        let verdicts = verdicts.context("post envelopes")?;
        for verdict in &verdicts {
            if verdict.status == Status::Refused {
                let reason = verdict.reason.as_deref().unwrap_or("no reason given");
                bail!(
                    "the collector refused envelope {}: {reason}",
                    verdict.sequence
                );
            }
        }
        if verdicts.len() != batch.len() {
            bail!(
                "the collector answered for {} of {} envelopes",
                verdicts.len(),
                batch.len()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_named_after_its_capture() {
        for (capture, instance) in [
            ("/tmp/web-1.pcap", "web-1"),
            ("web-1.pcapng.gz", "web-1"),
            ("WEB.PCAP.GZ", "WEB"),
            ("web.1.gz", "web.1"),
            ("web.1.pcap.gz", "web.1"),
            ("web", "web"),
            ("-", "-"),
        ] {
            assert_eq!(stem(Path::new(capture)), instance, "{capture}");
        }
    }
}
