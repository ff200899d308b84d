//! The product as its users meet it: two binaries, their config files, their output.

pub mod agent;
pub mod alert;
pub mod collector;
pub mod offline;
pub mod rig;
pub mod story;
pub mod watch;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use toml::Table;

pub use agent::Agent;
pub use alert::Alert;
pub use collector::Collector;
pub use offline::Analysis;
pub use rig::Rig;
pub use story::Story;
pub use watch::Watch;

/// Sets a key of a configuration file in the table named, or before all tables.
fn set_key(file: &Path, table: &str, key: &str, value: toml::Value) -> Result<()> {
    let context = || format!("change {}", file.display());
    let text = fs::read_to_string(file).with_context(context)?;
    let mut config: Table = text.parse().with_context(context)?;
    let keys = match table {
        "" => Some(&mut config),
        table => config
            .entry(table)
            .or_insert_with(|| Table::new().into())
            .as_table_mut(),
    };
    keys.with_context(|| format!("{table} is no table"))?
        .insert(key.to_owned(), value);
    fs::write(file, config.to_string()).with_context(context)
}

/// Where the two binaries are.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// `picket-agent`.
    pub agent: PathBuf,
    /// `picket-collector`.
    pub collector: PathBuf,
}

impl Binaries {
    /// Finds them: in the folder that `PICKET_BIN` names, else where this program was built,
    /// optimised before not.
    ///
    /// # Errors
    /// Says where they were looked for.
    pub fn find() -> Result<Self> {
        let folders = match std::env::var_os("PICKET_BIN") {
            Some(folder) => vec![PathBuf::from(folder)],
            None => build_folders()?,
        };
        for folder in &folders {
            let found = Self {
                agent: folder.join("picket-agent"),
                collector: folder.join("picket-collector"),
            };
            if found.agent.exists() && found.collector.exists() {
                return Ok(found);
            }
        }
        let folders: Vec<String> = folders
            .iter()
            .map(|one| one.display().to_string())
            .collect();
        bail!(
            "picket-agent and picket-collector are not in {} (make build, or set PICKET_BIN)",
            folders.join(" nor in ")
        )
    }
}

/// `release` and `debug` beside each other, found from where this program runs
/// (`target/debug/picket-lab`, `target/debug/deps/<test>`).
fn build_folders() -> Result<Vec<PathBuf>> {
    let us = std::env::current_exe().context("where this program is")?;
    let profile = us
        .ancestors()
        .skip(1)
        .find(|folder| !folder.ends_with("deps"))
        .and_then(Path::parent)
        .context("this program lies at the root of the file system")?;
    Ok(vec![profile.join("release"), profile.join("debug")])
}

/// Runs a command to its end, with `input` on its standard input.
///
/// # Errors
/// When it cannot be started. Its exit code is the caller's to judge.
pub fn run(mut command: Command, input: &[u8]) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {name}"))?;
    let pipe = child.stdin.take();
    thread::scope(|scope| {
        scope.spawn(|| {
            // A program that reads only part of its input has its reasons; its exit code tells.
            let _ = pipe.map(|mut pipe| pipe.write_all(input));
        });
        child
            .wait_with_output()
            .with_context(|| format!("wait for {name}"))
    })
}

/// Reads JSON lines.
///
/// # Errors
/// Names the line that is none.
pub fn json_lines(bytes: &[u8]) -> Result<Vec<Value>> {
    let text = std::str::from_utf8(bytes).context("output that is not UTF-8")?;
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}")))
        .collect()
}

/// The exit code and both outputs, for a message about what went wrong.
pub fn describe(output: &Output) -> String {
    format!(
        "{}\nout: {}\nerr: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout).trim_end(),
        String::from_utf8_lossy(&output.stderr).trim_end()
    )
}
