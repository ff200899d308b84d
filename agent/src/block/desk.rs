//! The desk where orders come in: reads the bundle when it has changed, verifies it, refuses what
//! is older than the last, and knows what is protected on this host.

use std::fs;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use picket_wire::limits::ORDERS_BYTES_MAX;
use picket_wire::{AgentId, Digest, Net, Orders, OrdersError, PublicKey, protected};
use tokio::time::timeout;

use super::report::Shared;
use super::{BlockConfig, resolvers};
use crate::command::BadConfig;
use crate::config::bad;
use crate::state;

/// How often the bundle is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often resolvers and the collector's addresses are asked for.
const PROTECTED_EVERY: Duration = Duration::from_secs(60);

/// Longest wait for the collector's addresses.
const LOOKUP_WAIT: Duration = Duration::from_secs(5);

/// The collector's addresses that are protected at most.
const COLLECTOR_ADDRESSES_MAX: usize = 64;

/// Bytes of a file with a version that are read: 20 digits, and blanks.
const VERSION_BYTES_MAX: u64 = 64;

/// Where the system names its resolvers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Orders for the thread that watches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Posted {
    /// All that is ordered.
    pub orders: Orders,
    /// Networks that no order can block.
    pub protected: Vec<Net>,
}

/// Who gives orders to this host, and where they lie.
#[derive(Debug, Clone)]
pub struct Givers {
    file: PathBuf,
    keys: Vec<PublicKey>,
    agent: AgentId,
    /// Whom this host was before, under other keys: what was given to them and kept still counts.
    former: Vec<AgentId>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Somebody lays them into the file that the configuration names.
    File,
    /// The collector, whose word must name this agent.
    Collector,
}

impl Givers {
    /// Those of the configuration: a file, else the collector with these `keys`; `None` if there is
    /// neither.
    ///
    /// # Errors
    /// The key cannot be read: the configuration is bad.
    pub fn of(
        config: &BlockConfig,
        state_dir: &Path,
        (agent, former): (AgentId, Vec<AgentId>),
        keys: Vec<PublicKey>,
    ) -> Result<Option<Self>, BadConfig> {
        if let (true, Some(file), Some(key_file)) =
            (config.enabled, &config.orders_file, &config.key_file)
        {
            let key = read_key(key_file);
            let key = key.map_err(|error| bad("block.key_file", &format!("{error:#}")))?;
            return Ok(Some(Self {
                file: file.clone(),
                keys: vec![key],
                agent,
                former,
                kind: Kind::File,
            }));
        }
        if keys.is_empty() {
            if config.enabled {
                tracing::warn!(
                    "blocking is enabled, and nobody is known whose orders count: name a key of the \
                     collector's in indicators.key_file, or a file of orders"
                );
            }
            return Ok(None);
        }
        Ok(Some(Self {
            file: state_dir.join("given-orders"),
            keys,
            agent,
            former,
            kind: Kind::Collector,
        }))
    }

    /// Where the orders lie.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether the collector is to be asked.
    #[must_use]
    pub fn is_collector(&self) -> bool {
        self.kind == Kind::Collector
    }

    /// Where the highest version is written down that was ever taken.
    pub(super) fn version_file(&self, state_dir: &Path) -> PathBuf {
        state_dir.join(match self.kind {
            Kind::File => "orders-version",
            Kind::Collector => "given-orders-version",
        })
    }

    /// Verifies and reads a bundle that somebody gives.
    ///
    /// # Errors
    /// An [`OrdersError`], or it is for another agent.
    pub(super) fn open(&self, bytes: &[u8]) -> anyhow::Result<Orders> {
        self.open_for(bytes, &[self.agent])
    }

    /// Verifies and reads a bundle from our own disk: one that was given before the key was rotated
    /// counts too.
    fn open_kept(&self, bytes: &[u8]) -> anyhow::Result<Orders> {
        let agents = [&[self.agent], self.former.as_slice()].concat();
        self.open_for(bytes, &agents)
    }

    fn open_for(&self, bytes: &[u8], agents: &[AgentId]) -> anyhow::Result<Orders> {
        let mut opened = Err(OrdersError::Signature);
        for key in &self.keys {
            opened = Orders::open(bytes, key);
            if opened != Err(OrdersError::Signature) {
                break;
            }
        }
        let orders = opened?;
        let names_nobody = orders.agent.is_none() && self.kind == Kind::Collector;
        if names_nobody || !agents.iter().any(|agent| orders.is_for(*agent)) {
            bail!("they are for another agent than {}", self.agent);
        }
        Ok(orders)
    }
}

/// Where orders come in.
#[derive(Debug)]
pub struct Desk {
    givers: Givers,
    trusted: Vec<Net>,
    /// Host and port of the collector.
    collector: Option<(String, u16)>,
    collector_addresses: Vec<IpAddr>,
    protected_at: Option<Instant>,
    /// The highest version that was taken, also by runs before; `None` as long as that is not known, and
    /// then nothing is taken.
    version: Option<u64>,
    /// Whether it was told that it is not known.
    is_told: bool,
    version_file: PathBuf,
    /// What the file looked like when it was last read.
    looked: Option<(SystemTime, u64)>,
    last: Posted,
    shared: Arc<Shared>,
}

impl Desk {
    /// Opens the desk. What cannot be read there is told by a look.
    ///
    /// # Errors
    /// A network of the configuration is none.
    pub fn open(
        config: &BlockConfig,
        state_dir: &Path,
        givers: Givers,
        collector: Option<(String, u16)>,
        shared: Arc<Shared>,
    ) -> Result<Self, BadConfig> {
        let version_file = givers.version_file(state_dir);
        Ok(Self {
            givers,
            trusted: config.trusted_nets()?,
            collector,
            collector_addresses: Vec::new(),
            protected_at: None,
            version: None,
            is_told: false,
            version_file,
            looked: None,
            last: Posted::default(),
            shared,
        })
    }

    /// Looks whether orders or what is protected have changed. `None` if not.
    ///
    /// # Errors
    /// The bundle is refused. What was in force stays.
    pub async fn look(&mut self) -> anyhow::Result<Option<Posted>> {
        let read = self.read_if_changed();
        let orders = read.inspect_err(|error| self.shared.unread(&format!("{error:#}")))?;
        if orders.is_some() {
            self.shared.read();
        }
        let due = self
            .protected_at
            .is_none_or(|at| at.elapsed() >= PROTECTED_EVERY);
        if orders.is_none() && !due {
            return Ok(None);
        }
        let posted = Posted {
            orders: orders.unwrap_or_else(|| self.last.orders.clone()),
            protected: if due {
                self.protected().await
            } else {
                self.last.protected.clone()
            },
        };
        if posted == self.last {
            return Ok(None);
        }
        self.last = posted.clone();
        Ok(Some(posted))
    }

    /// The next look passes everything on again.
    pub fn forget(&mut self) {
        self.looked = None;
        self.last = Posted::default();
        self.protected_at = None;
    }

    /// The highest version that was taken; `None` if it is not known, which is told once. Whoever puts
    /// the file right need not start the agent again.
    fn highest(&mut self) -> anyhow::Result<Option<u64>> {
        if self.version.is_none() {
            match read_version(&self.version_file) {
                Ok(version) => self.version = Some(version),
                Err(_) if self.is_told => return Ok(None),
                Err(error) => {
                    self.is_told = true;
                    return Err(error.context("no orders are taken"));
                }
            }
            self.is_told = false;
        }
        Ok(self.version)
    }

    fn read_if_changed(&mut self) -> anyhow::Result<Option<Orders>> {
        let Some(highest) = self.highest()? else {
            return Ok(None);
        };
        let file = self.givers.file();
        let named = || format!("orders {}", file.display());
        let looks = match fs::metadata(file) {
            Ok(metadata) => Some((metadata.modified().with_context(named)?, metadata.len())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(named),
        };
        if looks == self.looked {
            return Ok(None);
        }
        // Also when it is refused: it is told once, not every second.
        self.looked = looks;
        if looks.is_none() {
            // Whoever takes the bundle away lifts its orders.
            return Ok(Some(Orders::default()));
        }
        let mut bytes = Vec::new();
        fs::File::open(file)
            .and_then(|file| {
                file.take(ORDERS_BYTES_MAX as u64 + 1)
                    .read_to_end(&mut bytes)
            })
            .with_context(named)?;
        let orders = self.givers.open_kept(&bytes).with_context(named)?;
        if orders.version < highest {
            bail!(
                "{}: version {} is older than {}, which was taken before",
                named(),
                orders.version,
                highest
            );
        }
        if orders.version > highest {
            let text = orders.version.to_string();
            state::replace(&self.version_file, text.as_bytes())
                .with_context(|| format!("write {}", self.version_file.display()))?;
            self.version = Some(orders.version);
        }
        Ok(Some(orders))
    }

    async fn protected(&mut self) -> Vec<Net> {
        self.protected_at = Some(Instant::now());
        if let Some((host, port)) = &self.collector {
            match timeout(LOOKUP_WAIT, tokio::net::lookup_host((host.as_str(), *port))).await {
                Ok(Ok(found)) => {
                    let found = found.take(COLLECTOR_ADDRESSES_MAX);
                    self.collector_addresses = found.map(|at| at.ip().to_canonical()).collect();
                    self.collector_addresses.sort_unstable();
                }
                // What was known of it stays protected.
                Ok(Err(error)) => tracing::warn!(%error, "collector's addresses not found"),
                Err(_) => tracing::warn!("collector's addresses not found in time"),
            }
        }
        let named = resolvers(Path::new(RESOLV_CONF)).unwrap_or_else(|error| {
            tracing::warn!(%error, "resolvers not read");
            Vec::new()
        });
        let mut all: Vec<Net> = protected::always().iter().map(|(net, _)| *net).collect();
        all.extend(&self.trusted);
        let addresses = named.iter().chain(&self.collector_addresses);
        all.extend(addresses.map(|address| protected::lone(*address)));
        all
    }
}

/// A public key: 64 hexadecimal digits, like a digest.
fn read_key(path: &Path) -> anyhow::Result<PublicKey> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let key: Digest = text
        .trim()
        .parse()
        .with_context(|| format!("{} holds no public key", path.display()))?;
    Ok(PublicKey(key.0))
}

pub(super) fn read_version(path: &Path) -> anyhow::Result<u64> {
    let shown = path.display();
    let mut text = String::new();
    let read = fs::File::open(path)
        .and_then(|file| file.take(VERSION_BYTES_MAX).read_to_string(&mut text));
    match read {
        Ok(_) => text.trim().parse().with_context(|| {
            format!("{shown} holds no version; remove it, and the next orders count")
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error)
            .with_context(|| format!("read {shown}; remove it, and the next orders count")),
    }
}
