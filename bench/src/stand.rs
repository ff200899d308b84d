//! A collector on the loopback, and the agents that it knows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use picket_agent::identity::Envelope;
use picket_agent::ship::Collector as Client;
use picket_tests::lab::wait_until;
use picket_wire::envelope::Chain;
use picket_wire::{AgentId, BootId, Digest, PublicKey, Signer, Summary};

/// How long a collector may take to start.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Lines of its log that are shown when something goes wrong.
const LOG_LINES: usize = 5;

/// An agent: its key and its chain.
pub(crate) struct Agent {
    /// Its key.
    pub(crate) signer: Arc<Signer>,
    /// Where it is in its run.
    pub(crate) chain: Chain,
}

impl Agent {
    /// One of its own for each number.
    pub(crate) fn new(number: u32) -> Self {
        let mut seed = [0x5e; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        let mut boot = [0xb0; 16];
        boot[..4].copy_from_slice(&number.to_be_bytes());
        let signer = Arc::new(Signer::from_seed(&seed));
        let id = AgentId::of_key(&signer.public_key().0);
        Self {
            signer,
            chain: Chain::new(id, BootId(boot)),
        }
    }

    /// So many new ones that tell the same.
    pub(crate) fn envelopes(&mut self, summary: &Summary, count: usize) -> Result<Vec<Envelope>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let now_ms = u64::try_from(now)?;
        Ok((0..count)
            .map(|_| Envelope {
                sequence: self.chain.sequence,
                bytes: self.chain.seal(summary, now_ms, &self.signer),
            })
            .collect())
    }
}

/// A process that is killed on drop.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A collector on the loopback.
pub(crate) struct Collector {
    process: Running,
    state: PathBuf,
    /// Who asks it.
    pub(crate) client: Client,
}

impl Collector {
    /// Starts it and waits until it listens.
    pub(crate) fn start(
        program: &Path,
        folder: &Path,
        agents: &[Agent],
        summary: &Summary,
    ) -> Result<Self> {
        let state = folder.join("state");
        fs::create_dir_all(&state).context("make the collector's folder")?;
        let config = folder.join("collector.toml");
        fs::write(&config, configuration(folder, agents, summary)).context("configure it")?;
        let log = fs::File::create(folder.join("log")).context("make its log")?;
        let process = Command::new(program)
            .args(["serve", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share its log")?)
            .stderr(log)
            .spawn()
            .context("start picket-collector")?;
        let mut process = Running(process);
        let listen = wait_until("the collector to listen", START_LIMIT, || {
            ensure!(process.0.try_wait()?.is_none(), "the collector ended");
            Ok(fs::read_to_string(state.join("listen")).ok())
        })?;
        let client = client(&state, listen.trim())?;
        Ok(Self {
            process,
            state,
            client,
        })
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// The end of its log.
    pub(crate) fn tail(&self) -> String {
        let log = fs::read_to_string(self.state.with_file_name("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join(" / ")
    }

    /// The key that it signs with.
    ///
    /// # Errors
    /// It does not tell.
    pub(crate) fn key(&self) -> Result<PublicKey> {
        let told = fs::read_to_string(self.state.join("signing.pub")).context("its key")?;
        let key: Digest = told.trim().parse().context("its key")?;
        Ok(PublicKey(key.0))
    }

    /// One more who asks it, over a connection of its own.
    ///
    /// # Errors
    /// It does not say where it listens.
    pub(crate) fn another_client(&self) -> Result<Client> {
        let listen = fs::read_to_string(self.state.join("listen")).context("where it listens")?;
        client(&self.state, listen.trim())
    }
}

fn client(state: &Path, listen: &str) -> Result<Client> {
    Client::new(&format!("https://{listen}"), &[state.join("ca.pem")])
}

fn configuration(folder: &Path, agents: &[Agent], summary: &Summary) -> String {
    let at = folder.display();
    let host = &summary.host;
    let mut text = format!(
        "listen = '127.0.0.1:0'\nmetrics = '127.0.0.1:0'\nstate_dir = '{at}/state'\n\
         socket = '{at}/sock'\n"
    );
    for agent in agents {
        let (id, key) = (agent.chain.agent, Digest(agent.signer.public_key().0));
        text.push_str(&format!(
            "[[agents]]\nid = '{id}'\npublic_key = '{key}'\naccount = '{}'\nregion = '{}'\n\
             instance = '{}'\n",
            host.account, host.region, host.instance
        ));
    }
    text
}
