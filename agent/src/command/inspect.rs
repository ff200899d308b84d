//! `inspect`: decodes captures and prints every record, flow and total.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use picket_sense::decode::dns::AnswerData;
use picket_sense::decode::http::imds;
use picket_sense::decode::{Decoded, Record};
use picket_sense::flow::Flow;
use picket_sense::inspect::{Inspector, Line, Totals};

use super::Format;
use crate::capture::heap;
use crate::capture::pcap::{CaptureError, CaptureFile};

/// Bytes gathered before they are written. Chosen by hand.
const OUTPUT_BYTES: usize = 64 << 10;

/// Decodes captures (pcap, pcapng, also gzipped) and prints flows, DNS, TLS and totals
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Capture files; `-` is the standard input
    #[arg(required = true, value_name = "CAPTURE")]
    captures: Vec<PathBuf>,
    /// How to print records
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Inspects each capture. A damaged one is read up to its fault, which goes to standard error; the
/// exit code says that there was one.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    heap::keep_little();
    let mut printer = Printer {
        out: BufWriter::with_capacity(OUTPUT_BYTES, io::stdout().lock()),
        format: arguments.format,
        first_ns: None,
        failed: None,
    };
    let code = inspect(&arguments.captures, &mut printer);
    if printer.failed.is_none() {
        printer.failed = printer.out.flush().err();
    }
    match printer.failed {
        // Whoever reads has seen enough.
        Some(error) if error.kind() == ErrorKind::BrokenPipe => Ok(code),
        Some(error) => Err(anyhow::Error::new(error).context("write records")),
        None => Ok(code),
    }
}

fn inspect(captures: &[PathBuf], printer: &mut Printer<impl Write>) -> ExitCode {
    let mut inspector = Inspector::new();
    let mut code = ExitCode::SUCCESS;
    for capture in captures {
        if let Err(error) = inspect_one(capture, &mut inspector, printer) {
            // What was read before it comes first, also where both go to one terminal.
            let _ = printer.out.flush();
            eprintln!("picket-agent: {error}");
            code = ExitCode::FAILURE;
        }
        if printer.failed.is_some() {
            return code;
        }
    }
    inspector.end(&mut |line| printer.line(line));
    code
}

fn inspect_one(
    capture: &Path,
    inspector: &mut Inspector,
    printer: &mut Printer<impl Write>,
) -> Result<(), CaptureError> {
    let mut file = CaptureFile::open(capture)?;
    let outcome = loop {
        match file.next_frame() {
            Ok(Some(frame)) => {
                printer.first_ns.get_or_insert(frame.ts_ns);
                inspector.on_frame(&frame, &mut |line| printer.line(line));
                if printer.failed.is_some() {
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    inspector.end_capture(&capture.to_string_lossy(), &mut |line| printer.line(line));
    printer.first_ns = None;
    outcome
}

/// Writes lines and keeps the first error, after which it writes nothing.
struct Printer<W: Write> {
    out: W,
    format: Format,
    /// Time of a capture's first frame; people are shown times from there.
    first_ns: Option<u64>,
    failed: Option<io::Error>,
}

impl<W: Write> Printer<W> {
    fn line(&mut self, line: Line<'_>) {
        if self.failed.is_some() {
            return;
        }
        let written = match self.format {
            Format::Jsonl => serde_json::to_writer(&mut self.out, &line)
                .map_err(io::Error::from)
                .and_then(|()| self.out.write_all(b"\n")),
            Format::Text => match line {
                Line::Message(record) => self.message(record),
                Line::Flow(flow) => self.flow(flow),
                Line::Totals(totals) => self.totals(totals),
            },
        };
        self.failed = written.err();
    }

    /// Seconds since the first frame.
    fn since_start(&self, ts_ns: u64) -> f64 {
        ts_ns.saturating_sub(self.first_ns.unwrap_or(ts_ns)) as f64 / 1e9
    }

    fn message(&mut self, record: &Record) -> io::Result<()> {
        let time = self.since_start(record.ts_ns);
        let (src, dst) = (record.src, record.dst);
        match &record.message {
            Decoded::Dns(message) => {
                let (service, id) = (message.service.name(), message.id);
                write!(self.out, "{time:12.6} {service:5} {src} → {dst} {id:#06x}")?;
                if let Some(question) = &message.question {
                    write!(self.out, " {} {}", question.kind, question.name)?;
                }
                if message.response {
                    write!(self.out, " {}", message.rcode)?;
                }
                for answer in &message.answers {
                    write!(self.out, "; {} ", answer.kind)?;
                    match &answer.data {
                        AnswerData::A(addr) => write!(self.out, "{addr}")?,
                        AnswerData::Aaaa(addr) => write!(self.out, "{addr}")?,
                        AnswerData::Name(name) => write!(self.out, "{name}")?,
                        AnswerData::Text(text) => write!(self.out, "{}", text.escape_debug())?,
                    }
                }
                match message.fault {
                    Some(fault) => writeln!(self.out, " ({fault})"),
                    None => writeln!(self.out),
                }
            }
            Decoded::ClientHello(hello) => writeln!(
                self.out,
                "{time:12.6} tls   {src} → {dst} {} {}",
                hello.sni.as_deref().unwrap_or("-"),
                hello.ja4.as_deref().unwrap_or("-")
            ),
            message => {
                write!(self.out, "{time:12.6} {:5} {src} → {dst}", message.kind())?;
                let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
                match message {
                    Decoded::Http(request) => {
                        let host = or_none(&request.host);
                        writeln!(self.out, " {} {host} {}", request.method, request.path)
                    }
                    Decoded::Imds(message) => match &**message {
                        imds::Message::Request(asked) => {
                            let (method, path) = (&asked.method, &asked.path);
                            writeln!(self.out, " {method} {path} version {}", asked.version)
                        }
                        imds::Message::Answer { status, .. } => writeln!(self.out, " {status}"),
                    },
                    Decoded::Ssh(banner) => {
                        writeln!(self.out, " {} {}", banner.protocol, banner.software)
                    }
                    Decoded::Stratum(call) => {
                        let (login, agent) = (or_none(&call.login), or_none(&call.agent));
                        writeln!(self.out, " {} {login} {agent}", call.method)
                    }
                    Decoded::Smtp(command) => {
                        let argument = or_none(&command.argument);
                        writeln!(self.out, " {:?} {argument}", command.command)
                    }
                    Decoded::Socks(request) => {
                        let (target, port) = (&request.target, request.target_port);
                        writeln!(self.out, " {} {target} {port}", request.command)
                    }
                    Decoded::Login(login) => {
                        let service = login.service.name();
                        writeln!(self.out, " {service} {:?}", login.outcome)
                    }
                    Decoded::Dns(_) | Decoded::ClientHello(_) => writeln!(self.out),
                }
            }
        }
    }

    fn flow(&mut self, flow: &Flow) -> io::Result<()> {
        let time = self.since_start(flow.first_ns);
        let (src, dst) = (flow.key.end(flow.opener), flow.key.end(flow.opener.other()));
        let (out, back) = (flow.out(), flow.back());
        writeln!(
            self.out,
            "{time:12.6} flow  {src} → {dst} {} {}; {} packets, {} bytes out; {} packets, {} bytes in",
            flow.key.protocol(),
            flow.direction.name(),
            out.packets,
            out.bytes,
            back.packets,
            back.bytes
        )
    }

    fn totals(&mut self, totals: &Totals) -> io::Result<()> {
        writeln!(
            self.out,
            "{}:",
            totals.file.as_deref().unwrap_or("all captures")
        )?;
        for (place, counts) in [("", &totals.counts), (" inside tunnels", &totals.inner)] {
            if counts.packets == 0 && !place.is_empty() {
                continue;
            }
            writeln!(
                self.out,
                "  {} packets{place}, {} bytes, {} flows; {} DNS queries for {} names, {} responses; \
                 {} ClientHellos for {} servers",
                counts.packets,
                counts.bytes,
                counts.flows,
                counts.dns_queries,
                counts.unique_qnames,
                counts.dns_responses,
                counts.tls_client_hellos,
                counts.unique_sni
            )?;
        }
        for (what, reasons) in [
            ("not a flow", &totals.not_flow),
            ("lost", &totals.lost),
            ("not looked into", &totals.undecoded),
        ] {
            if !reasons.is_empty() {
                let list: Vec<String> = reasons
                    .iter()
                    .map(|(reason, count)| format!("{count} {reason}"))
                    .collect();
                writeln!(self.out, "  {what}: {}", list.join(", "))?;
            }
        }
        Ok(())
    }
}
