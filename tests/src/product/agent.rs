//! A running `picket-agent run` in the lab, and what it can be asked.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use picket_wire::{PublicKey, Signer};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::Value;
use toml::Table;

use super::{Binaries, describe, json_lines, run, set_key};
use crate::lab::topology::SCENE_INTERFACE;
use crate::lab::{Clock, Group, Lab, Process, SmallDisk, wait_until};
use crate::scene::template::{ACCOUNT, INSTANCE_ID, REGION};

/// How long it may take until it captures.
const START_LIMIT: Duration = Duration::from_secs(20);

/// The agent's place in the lab: its files, and its process while it runs.
#[derive(Debug)]
pub struct Agent {
    lab: Arc<Lab>,
    program: PathBuf,
    folder: PathBuf,
    seed: [u8; 32],
    clock: Option<Clock>,
    /// Socket of a service manager, and how long that waits for a sign of life.
    manager: Option<(PathBuf, Duration)>,
    group: Option<Arc<Group>>,
    process: Option<Process>,
    /// Taken off when the process has ended.
    disk: Option<SmallDisk>,
}

impl Agent {
    /// Lays out its folders and a fresh key; nothing runs yet.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn install(lab: &Arc<Lab>, binaries: &Binaries) -> Result<Self> {
        let folder = lab.folder().join("agent");
        for part in ["state", "intel"] {
            let path = folder.join(part);
            fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        }
        let mut seed = [0; 32];
        if SystemRandom::new().fill(&mut seed).is_err() {
            bail!("the system gives no random bytes");
        }
        let mut key = fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(folder.join("agent.key"))
            .context("make agent.key")?;
        key.write_all(&seed).context("write agent.key")?;
        Ok(Self {
            lab: Arc::clone(lab),
            program: binaries.agent.clone(),
            folder,
            seed,
            clock: None,
            manager: None,
            group: None,
            process: None,
            disk: None,
        })
    }

    /// The public half of its key.
    pub fn public_key(&self) -> PublicKey {
        self.signer().public_key()
    }

    /// Its key, for tests that speak in its name.
    pub fn signer(&self) -> Signer {
        Signer::from_seed(&self.seed)
    }

    /// Folder of lists that it reads.
    pub fn intel(&self) -> PathBuf {
        self.folder.join("intel")
    }

    /// Folder of what it keeps: the spool, the state.
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

    /// Holds it to the limits of `group` from its next start on.
    pub fn hold_in(&mut self, group: &Arc<Group>) {
        self.group = Some(Arc::clone(group));
    }

    /// Has it tell a service manager how it is from its next start on, which waits `watchdog` for signs of
    /// life.
    pub fn tell_manager(&mut self, socket: &Path, watchdog: Duration) {
        self.manager = Some((socket.to_owned(), watchdog));
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.join("agent.toml")
    }

    /// Writes the configuration: where the collector listens and which authority to pin.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn configure(&self, collector: &str, ca_file: &Path) -> Result<()> {
        let text = |path: PathBuf| path.display().to_string();
        let identity = Table::from_iter([
            ("instance".into(), INSTANCE_ID.into()),
            ("account".into(), ACCOUNT.into()),
            ("region".into(), REGION.into()),
        ]);
        let config = Table::from_iter([
            ("state_dir".into(), text(self.state()).into()),
            ("socket".into(), text(self.folder.join("agent.sock")).into()),
            (
                "key_file".into(),
                text(self.folder.join("agent.key")).into(),
            ),
            ("intel_dir".into(), text(self.intel()).into()),
            // A replay takes the lists it is given alone, and is compared with.
            ("seed".into(), false.into()),
            ("interfaces".into(), vec![SCENE_INTERFACE].into()),
            ("identity".into(), identity.into()),
            // Nothing of a test stays in the kernel, and agents side by side do not meet.
            (
                "capture".into(),
                Table::from_iter([("pins".into(), "".into())]).into(),
            ),
            ("collector".into(), format!("https://{collector}").into()),
            (
                "ca_files".into(),
                vec![ca_file.display().to_string()].into(),
            ),
        ]);
        fs::write(self.config(), config.to_string()).context("write agent.toml")
    }

    /// Sets a key of the configuration in the table named, or before all tables.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn set(&self, table: &str, key: &str, value: toml::Value) -> Result<()> {
        set_key(&self.config(), table, key, value)
    }

    /// Has it capture on a rung of the ladder, in place of the best.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn capture_on(&self, rung: &str) -> Result<()> {
        self.set("capture", "rung", rung.into())
    }

    /// Starts it and waits until it captures.
    ///
    /// # Errors
    /// With the end of its log when it does not.
    pub fn start(&mut self) -> Result<()> {
        let mut command = match &self.group {
            Some(group) => {
                let mut shell = self.lab.instance.command("sh");
                group.hold(&mut shell);
                shell.arg(&self.program);
                shell
            }
            None => self.lab.instance.command(&self.program),
        };
        command.arg("run").arg("--config").arg(self.config());
        if let Some(clock) = &self.clock {
            clock.rule(&mut command);
        }
        if let Some((socket, watchdog)) = &self.manager {
            command.env("NOTIFY_SOCKET", socket);
            command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        }
        let mut process = Process::start("agent", command, self.lab.folder())?;
        wait_until("the agent to capture", START_LIMIT, || {
            if let Some(status) = process.ended()? {
                bail!("the agent ended ({status})");
            }
            // Until its socket is there, it has no status to tell.
            Ok(self.status().ok().map(drop))
        })
        .map_err(|error| error.context(process.tail(20)))?;
        self.process = Some(process);
        Ok(())
    }

    /// Starts it without a collector (`run --standalone`) and waits until it captures.
    ///
    /// # Errors
    /// With the end of its log when it does not.
    pub fn start_standalone(&mut self) -> Result<()> {
        let mut command = self.lab.instance.command(&self.program);
        command
            .args(["run", "--standalone", "--config"])
            .arg(self.config());
        let mut process = Process::start("standalone", command, self.lab.folder())?;
        wait_until("the agent to capture", START_LIMIT, || {
            if let Some(status) = process.ended()? {
                bail!("the agent ended ({status})");
            }
            // It has no socket; its log is what a person would watch.
            Ok(process.stderr().contains("watching").then_some(()))
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
        self.process.as_mut().context("the agent does not run")
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

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// When it does not run or does not end.
    pub fn stop(&mut self) -> Result<()> {
        let status = self.process()?.stop()?;
        ensure!(status.success(), "the agent ended with {status}");
        self.process = None;
        Ok(())
    }

    /// A command that a person could type on the instance.
    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(words.split_whitespace())
            .arg("--config")
            .arg(self.config());
        command
    }

    /// `status --format jsonl`.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> Result<Vec<Value>> {
        let mut command = self.command("status");
        command.args(["--format", "jsonl"]);
        let output = run(command, &[])?;
        ensure!(
            output.status.success(),
            "picket-agent status: {}",
            describe(&output)
        );
        json_lines(&output.stdout)
    }
}
