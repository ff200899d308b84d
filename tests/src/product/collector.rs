//! A running `picket-collector serve` in the lab, and what it can be asked.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use picket_wire::{AgentId, Digest, PublicKey};
use serde_json::Value;
use toml::Table;

use super::{Binaries, describe, json_lines, run, set_key};
use crate::lab::topology::COLLECTOR;
use crate::lab::webhook;
use crate::lab::{Clock, Lab, Process, SmallDisk, wait_until};
use crate::scene::template::{ACCOUNT, INSTANCE_ID, REGION};

/// How long it may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(20);

/// An agent whose word the collector takes.
#[derive(Debug, Clone, Copy)]
pub struct KnownAgent<'a> {
    /// Its key.
    pub public_key: PublicKey,
    /// The instance it may speak for.
    pub instance: &'a str,
}

impl KnownAgent<'_> {
    /// The scene's instance, speaking with `public_key`.
    pub fn of_scene(public_key: PublicKey) -> Self {
        Self {
            public_key,
            instance: INSTANCE_ID,
        }
    }
}

/// The collector's place in the lab: its files, and its process while it runs.
#[derive(Debug)]
pub struct Collector {
    lab: Arc<Lab>,
    program: PathBuf,
    folder: PathBuf,
    clock: Option<Clock>,
    process: Option<Process>,
    /// Taken off when the process has ended.
    disk: Option<SmallDisk>,
}

impl Collector {
    /// Lays out its folders; nothing runs yet. `intel` and `cloudtrail` lie below [`Self::folder`].
    ///
    /// # Errors
    /// When the folders cannot be made.
    pub fn install(lab: &Arc<Lab>, binaries: &Binaries) -> Result<Self> {
        let folder = lab.folder().join("collector");
        for part in ["state", "intel", "cloudtrail"] {
            let path = folder.join(part);
            fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        }
        fs::write(folder.join("webhook.secret"), webhook::SECRET)
            .context("write the webhook's secret")?;
        Ok(Self {
            lab: Arc::clone(lab),
            program: binaries.collector.clone(),
            folder,
            clock: None,
            process: None,
            disk: None,
        })
    }

    /// Folder of lists that it reads.
    pub fn intel(&self) -> PathBuf {
        self.folder.join("intel")
    }

    /// Folder of CloudTrail files that it reads.
    pub fn cloudtrail(&self) -> PathBuf {
        self.folder.join("cloudtrail")
    }

    /// Folder of what it keeps: the store, the authority.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Gives it a disk of its own for what it keeps, before its first start.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn keep_on_disk(&mut self, bytes: u64) -> Result<()> {
        self.disk = Some(SmallDisk::mount(&self.state(), bytes)?);
        Ok(())
    }

    /// That disk.
    ///
    /// # Errors
    /// When it has none.
    pub fn disk(&self) -> Result<&SmallDisk> {
        self.disk.as_ref().context("no disk of its own")
    }

    /// Has it live by `clock` from its next start on.
    pub fn live_by(&mut self, clock: &Clock) {
        self.clock = Some(clock.clone());
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.join("collector.toml")
    }

    /// The authority that agents pin.
    pub fn ca_file(&self) -> PathBuf {
        self.state().join("ca.pem")
    }

    /// Writes the configuration: who may speak, and where alerts go.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn configure(&self, agents: &[KnownAgent<'_>], webhook: Option<&str>) -> Result<()> {
        let text = |path: PathBuf| path.display().to_string();
        let name = COLLECTOR.to_string();
        let mut config = Table::new();
        config.insert("listen".into(), self.address().into());
        config.insert("state_dir".into(), text(self.state()).into());
        config.insert(
            "socket".into(),
            text(self.folder.join("collector.sock")).into(),
        );
        config.insert("intel_dir".into(), text(self.intel()).into());
        config.insert(
            "tls".into(),
            Table::from_iter([("names".into(), vec![name].into())]).into(),
        );
        let cloudtrail = Table::from_iter([("path".into(), text(self.cloudtrail()).into())]);
        config.insert("cloudtrail".into(), vec![cloudtrail].into());
        let agents: Vec<Table> = agents
            .iter()
            .map(|agent| {
                Table::from_iter([
                    (
                        "id".into(),
                        AgentId::of_key(&agent.public_key.0).to_string().into(),
                    ),
                    (
                        "public_key".into(),
                        Digest(agent.public_key.0).to_string().into(),
                    ),
                    ("account".into(), ACCOUNT.into()),
                    ("region".into(), REGION.into()),
                    ("instance".into(), agent.instance.into()),
                ])
            })
            .collect();
        config.insert("agents".into(), agents.into());
        if let Some(url) = webhook {
            let secret = text(self.folder.join("webhook.secret"));
            let channel = Table::from_iter([
                ("name".into(), "lab".into()),
                ("url".into(), url.into()),
                ("secret_file".into(), secret.into()),
            ]);
            let alert = Table::from_iter([("webhook".into(), vec![channel].into())]);
            config.insert("alert".into(), alert.into());
        }
        fs::write(self.config(), config.to_string()).context("write collector.toml")
    }

    /// Sets a key of the configuration in the table named, or before all tables.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn set(&self, table: &str, key: &str, value: toml::Value) -> Result<()> {
        set_key(&self.config(), table, key, value)
    }

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// With the end of its log when it does not.
    pub fn start(&mut self) -> Result<()> {
        // Where it listens is written anew at each start.
        let listen = self.state().join("listen");
        let _ = fs::remove_file(&listen);
        let mut command = self.lab.collector.command(&self.program);
        command.arg("serve").arg("--config").arg(self.config());
        if let Some(clock) = &self.clock {
            clock.rule(&mut command);
        }
        let mut process = Process::start("collector", command, self.lab.folder())?;
        wait_until("the collector to listen", START_LIMIT, || {
            if let Some(status) = process.ended()? {
                bail!("the collector ended ({status}):\n{}", process.tail(20));
            }
            Ok(listen.exists().then_some(()))
        })
        .map_err(|error| error.context(process.tail(20)))?;
        self.process = Some(process);
        Ok(())
    }

    /// Its process, while it runs.
    ///
    /// # Errors
    /// When it was not started or was killed.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("the collector does not run")
    }

    /// Kills it without a chance to tidy up.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let killed = self.process()?.kill();
        self.process = None;
        killed
    }

    /// Where it listens for agents. The port is fixed, because the namespace is the lab's own and
    /// agents must find it again after a restart.
    pub fn address(&self) -> String {
        SocketAddr::from((COLLECTOR, 8443)).to_string()
    }

    /// A command of the operator's tool that a person could type, run against it.
    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(words.split_whitespace())
            .arg("--config")
            .arg(self.config());
        command
    }

    /// Runs a command of the operator's tool and reads its JSON lines.
    ///
    /// # Errors
    /// When the command fails.
    pub fn ask(&self, words: &str) -> Result<Vec<Value>> {
        let mut command = self.command(words);
        command.args(["--format", "jsonl"]);
        let output = run(command, &[])?;
        ensure!(
            output.status.success(),
            "picket-collector {words}: {}",
            describe(&output)
        );
        json_lines(&output.stdout)
    }

    /// Its metrics, as text.
    ///
    /// # Errors
    /// When they cannot be had.
    pub fn metrics(&self) -> Result<String> {
        use std::io::{Read, Write};
        use std::net::TcpStream;

        let page = self.lab.collector.run(|| -> Result<String> {
            let mut stream = TcpStream::connect("127.0.0.1:9466").context("connect to metrics")?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: lab\r\nconnection: close\r\n\r\n")?;
            let mut page = String::new();
            stream.read_to_string(&mut page)?;
            Ok(page)
        })??;
        Ok(page)
    }

    /// A counter of [`Self::metrics`], 0 where it is not there: its name with labels as printed.
    ///
    /// # Errors
    /// When the metrics cannot be had.
    pub fn metric(&self, name: &str) -> Result<u64> {
        let page = self.metrics()?;
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        // Counters are whole numbers, also where they are printed with a point.
        Ok(line
            .and_then(|value| value.trim().parse::<f64>().ok())
            .unwrap_or(0.0) as u64)
    }

    /// Every envelope it has taken in, in the order of acceptance: its journal, read beside it.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn journal(&self) -> Result<Vec<Vec<u8>>> {
        use rusqlite::{Connection, OpenFlags};

        let path = self.state().join("picket.db");
        let database = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .with_context(|| format!("open {}", path.display()))?;
        let mut rows = database.prepare("SELECT envelope FROM journal ORDER BY id")?;
        let envelopes = rows.query_map([], |row| row.get(0))?;
        envelopes
            .collect::<Result<_, _>>()
            .context("read the journal")
    }
}
