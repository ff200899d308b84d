//! `top`: who talks most, what is asked for, what was hit, over the last minute or so.
//!
//! On a terminal the page is drawn again every two seconds on a screen of its own, until `q` or
//! Ctrl-C; elsewhere it is printed once.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use super::Format;
use super::screen::{self, Screen};
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
    if terminal && !arguments.once && arguments.format == Format::Text {
        return watch(socket);
    }
    let text = match arguments.format {
        Format::Jsonl => lines(&ask_top(socket)?)?,
        Format::Text => asked(socket, screen::size().filter(|_| terminal).unwrap_or(SIZE))?,
    };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("write the page")
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Draws page after page until somebody has seen enough. An agent that stops meanwhile is waited for.
fn watch(socket: &Path) -> anyhow::Result<ExitCode> {
    let mut page = asked(socket, screen::size().unwrap_or(SIZE))?;
    let screen = Screen::enter(REFRESH).context("take over the terminal")?;
    loop {
        screen.draw(&page).context("write the page")?;
        if screen.wait(REFRESH).context("wait for a key")? {
            return Ok(ExitCode::SUCCESS);
        }
        let size = screen::size().unwrap_or(SIZE);
        page = asked(socket, size).unwrap_or_else(|error| shown(&[format!("{error:#}")], size));
    }
}

/// The page as it is now.
fn asked(socket: &Path, size: (usize, usize)) -> anyhow::Result<String> {
    let top = ask_top(socket)?;
    Ok(page(&ask(socket)?, &top, size))
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
    shown(&page, (columns, rows))
}

/// Lines as far as there is room for them.
fn shown(page: &[String], (columns, rows): (usize, usize)) -> String {
    let lines = page.iter().take(rows).map(|line| {
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
    fn a_page_fits_the_terminal() {
        let lines: Vec<String> = (0..50)
            .map(|at| format!("{at} \x1b[2J{}", "x".repeat(100)))
            .collect();
        let page = shown(&lines, (80, 24));
        assert_eq!(page.lines().count(), 24);
        assert!(page.lines().all(|line| line.chars().count() <= 80));
        assert!(!page.contains('\x1b'), "names do not steer the terminal");
    }
}
