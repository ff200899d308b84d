//! `top`: who talks most, what is asked for, what was hit, over the last minute or so.
//!
//! On a terminal the page is drawn again every two seconds: home, the lines, clear the rest. That
//! needs no framework, leaves what was on the screen before in its history, and ends with Ctrl-C.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use rustix::termios::tcgetwinsize;
use serde_json::{Value, json};

use super::Format;
use crate::config::Config;
use crate::status::{Status, ask, ask_top};
use crate::top::Top;

/// Time between two pages.
const REFRESH: Duration = Duration::from_secs(2);

/// Columns and rows where there is no terminal to ask.
const SIZE: (usize, usize) = (120, 50);

/// Shows who talks most, what is asked for and what was hit
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Configuration file of the agent, which says where it listens
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Socket of the agent, in place of the configured one
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// Print once and end, as it does where there is no terminal
    #[arg(long)]
    once: bool,
    /// How to print it; lines of JSON are printed once
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = match &arguments.config {
        Some(file) => Config::load(file)?,
        None => Config::default(),
    };
    let socket = arguments.socket.as_ref().unwrap_or(&config.socket);
    let terminal = io::stdout().is_terminal();
    let again = terminal && !arguments.once && arguments.format == Format::Text;
    loop {
        let top = ask_top(socket)?;
        let text = match arguments.format {
            Format::Jsonl => lines(&top)?,
            Format::Text => {
                let size = size().filter(|_| terminal).unwrap_or(SIZE);
                let page = page(&ask(socket)?, &top, size);
                if again { drawn(&page) } else { page }
            }
        };
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            outcome => outcome.context("write the page")?,
        }
        if !again {
            break;
        }
        drop(out);
        thread::sleep(REFRESH);
    }
    Ok(ExitCode::SUCCESS)
}

fn size() -> Option<(usize, usize)> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then(|| (size.ws_col.into(), size.ws_row.into()))
}

/// Over the page before: home, each line to its end, nothing below.
fn drawn(page: &str) -> String {
    let lines: String = page
        .lines()
        .map(|line| format!("{line}\x1b[K\r\n"))
        .collect();
    format!("\x1b[H{lines}\x1b[J")
}

/// One JSON object a line, each with its kind.
fn lines(top: &Top) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut put = |kind: &str, rank: usize, value: Value| {
        let Value::Object(mut object) = value else {
            return;
        };
        object.insert("kind".into(), kind.into());
        object.insert("rank".into(), rank.into());
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", Value::Object(object));
    };
    for (at, talker) in top.talkers.iter().enumerate() {
        put("talker", at + 1, serde_json::to_value(talker)?);
    }
    for (at, name) in top.names.iter().enumerate() {
        put("name", at + 1, serde_json::to_value(name)?);
    }
    for (at, hit) in top.hits.iter().enumerate() {
        put("hit", at + 1, serde_json::to_value(hit)?);
    }
    let seen = json!({ "from_ns": top.from_ns, "to_ns": top.to_ns });
    put("window", 0, seen);
    Ok(text)
}

/// The page for a person: a third of the rows for each list, what one leaves to the next.
fn page(status: &Status, top: &Top, (columns, rows): (usize, usize)) -> String {
    /// Lines that are no entries: the head, and for each list its title and a blank.
    const OTHER_LINES: usize = 2 + 3 * 2;
    let mut room = rows.saturating_sub(OTHER_LINES).max(3);
    let watch = &status.watch;
    let seconds = top.to_ns.saturating_sub(top.from_ns) / 1_000_000_000;
    let mut page = vec![format!(
        "picket-agent on {} ({}), {} packets seen, {} lost; the last {seconds} s",
        watch.rung,
        watch.interfaces.join(", "),
        watch.packets.seen,
        watch.packets.lost,
    )];
    let talkers = top.talkers.iter().map(|one| {
        format!(
            "{:>10} {:>10} {:>6}  {} > {}  {}",
            bytes(one.bytes_out),
            bytes(one.bytes_in),
            one.flows,
            one.client,
            format_args!("{}:{}/{}", one.server, one.port, one.proto),
            [&one.name, &one.process]
                .into_iter()
                .flatten()
                .cloned()
                .collect::<Vec<_>>()
                .join("  "),
        )
    });
    let names = top.names.iter().map(|one| {
        format!(
            "{:>10} {:>10}  {}  {}",
            one.asked,
            one.nxdomain,
            one.name,
            one.process.as_deref().unwrap_or_default(),
        )
    });
    let hits = top.hits.iter().map(|one| {
        let ago = (crate::watch::now_ns().saturating_sub(one.time_ns)) / 1_000_000_000;
        format!(
            "{ago:>8} s  {} ({})  {} > {}:{}  {}",
            one.indicator,
            one.category,
            one.src,
            one.dst,
            one.port,
            one.process.as_deref().unwrap_or_default(),
        )
    });
    let lists: [(&str, Vec<String>); 3] = [
        ("       out         in  flows  talkers", talkers.collect()),
        ("     asked   no such  names", names.collect()),
        ("       ago  hits", hits.collect()),
    ];
    for (at, (title, entries)) in lists.into_iter().enumerate() {
        let share = room / (3 - at);
        page.extend([String::new(), title.to_owned()]);
        let shown = entries.len().min(share);
        page.extend(entries.into_iter().take(share));
        room -= shown;
    }
    let lines = page.iter().map(|line| {
        // Names are chosen by strangers, who must not steer the terminal.
        let line: String = line.trim_end().chars().take(columns).collect();
        line.replace(char::is_control, "?") + "\n"
    });
    lines.collect()
}

/// Bytes with a unit that keeps them short.
fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = count as f64;
    let mut units = units.into_iter().peekable();
    while value >= 1024.0 && units.len() > 1 {
        value /= 1024.0;
        units.next();
    }
    let unit = units.next().unwrap_or_default();
    if unit == "B" {
        format!("{count} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_short() {
        let check = |count: u64, shown: &str| assert_eq!(bytes(count), shown);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1024, "1.0 KiB");
        check(1536 << 20, "1.5 GiB");
        check(u64::MAX, "16.0 EiB");
    }

    #[test]
    fn a_page_is_drawn_over_the_one_before() {
        assert_eq!(drawn("a\nb\n"), "\x1b[Ha\x1b[K\r\nb\x1b[K\r\n\x1b[J");
    }
}
