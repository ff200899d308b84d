//! The configuration of `run`: TOML, read once and checked. `packaging/agent.example.toml` shows
//! every key.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use picket_wire::PublicKey;
use serde::Deserialize;

use crate::block::BlockConfig;
use crate::capture::ebpf::{Handover, Options};
use crate::capture::ladder::CaptureConfig;
use crate::command::BadConfig;
use crate::enrol::cloned::left;
use crate::enrol::{EnrolConfig, Enrolment};
use crate::filter::FilterConfig;
use crate::identity::{Identity, Succession};
use crate::intel::IndicatorsConfig;
use crate::metrics::Address;
use crate::privacy::PrivacyConfig;
use crate::ship::collector::{Proxy, envelopes_url};
use crate::spool::SpoolConfig;
use crate::tls::Pins;

/// Longest texts that name the host: they stand in every summary.
const NAME_BYTES_MAX: usize = 255;

/// What stands for no proxy.
const NO_PROXY: &str = "off";

/// Windows may last from a second to ten minutes.
const WINDOW_S: std::ops::RangeInclusive<u64> = 1..=600;

/// What the service is told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address of the collector, `https://host:port`. Needed unless `--standalone` is given.
    pub collector: Option<String>,
    /// Certificate authorities (PEM) that the collector's certificate must stem from one of.
    pub ca_files: Vec<PathBuf>,
    /// A proxy on the way to the collector, `http://host:port`, or `off`.
    pub proxy: String,
    /// File with `user:password` for it.
    pub proxy_credentials_file: Option<PathBuf>,
    /// Who this host is.
    pub identity: IdentityConfig,
    /// How it comes by an identity of its own.
    pub enrol: EnrolConfig,
    /// Interfaces to watch whatever they are.
    pub interfaces: Vec<String>,
    /// Whether to watch interfaces with a default route as well.
    pub default_route: bool,
    /// How to capture.
    pub capture: CaptureConfig,
    /// Length of a window, seconds.
    pub window_s: u64,
    /// Folder of indicator lists.
    pub intel_dir: Option<PathBuf>,
    /// Whether the built-in lists are matched too.
    pub seed: bool,
    /// Folder for the key, the spool and what must outlive a restart.
    pub state_dir: PathBuf,
    /// The agent's key; `agent.key` in `state_dir` unless told otherwise. Made at the first start.
    pub key_file: Option<PathBuf>,
    /// Socket that `status` asks.
    pub socket: PathBuf,
    /// Where metrics are scraped.
    pub metrics: Address,
    /// Envelopes that wait for the collector.
    pub spool: SpoolConfig,
    /// Indicators from the collector.
    pub indicators: IndicatorsConfig,
    /// Orders to block.
    pub block: BlockConfig,
    /// What is not told.
    pub filter: FilterConfig,
    /// What is told without its names.
    pub privacy: PrivacyConfig,
    /// What a collector said of this host when it enrolled; never in the file.
    #[serde(skip)]
    pub enrolment: Option<Enrolment>,
    /// The collector that this host is enrolled with, if it is another than the file names: what that
    /// one said is not used. Never in the file.
    #[serde(skip)]
    pub elsewhere: Option<String>,
    /// The enrolment of another host that was found on this one, while it has none of its own. Never in
    /// the file.
    #[serde(skip)]
    pub carried: Option<Enrolment>,
}

/// Who this host is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityConfig {
    /// EC2 instance id. Needed unless `--standalone` is given.
    pub instance: String,
    /// AWS account, twelve digits. Needed unless `--standalone` is given.
    pub account: String,
    /// AWS region. Needed unless `--standalone` is given.
    pub region: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            collector: None,
            ca_files: Vec::new(),
            proxy: NO_PROXY.to_owned(),
            proxy_credentials_file: None,
            identity: IdentityConfig::default(),
            enrol: EnrolConfig::default(),
            interfaces: Vec::new(),
            default_route: true,
            capture: CaptureConfig::default(),
            window_s: 10,
            intel_dir: None,
            seed: true,
            state_dir: PathBuf::from("/var/lib/picket/agent"),
            key_file: None,
            socket: PathBuf::from("/run/picket/agent.sock"),
            metrics: Address::default(),
            spool: SpoolConfig::default(),
            indicators: IndicatorsConfig::default(),
            block: BlockConfig::default(),
            filter: FilterConfig::default(),
            privacy: PrivacyConfig::default(),
            enrolment: None,
            elsewhere: None,
            carried: None,
        }
    }
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`BadConfig`] names the key, or says that the file cannot be read.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path)
            .map_err(|error| bad("--config", &format!("read {}: {error}", path.display())))?;
        let config = Self::parse(&text);
        config.with_context(|| format!("configuration {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, BadConfig> {
        let config: Self = toml::from_str(text).map_err(|error| BadConfig {
            key: key_at(text, &error),
            problem: error.message().to_owned(),
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), BadConfig> {
        if let Some(url) = &self.collector {
            envelopes_url(url).map_err(|error| bad("collector", &format!("{error:#}")))?;
        }
        if self.proxy != NO_PROXY {
            let proxy = Proxy::new(&self.proxy, None);
            proxy.map_err(|error| bad("proxy", &format!("{error:#}")))?;
        }
        let IdentityConfig {
            instance,
            account,
            region,
        } = &self.identity;
        for (key, value) in [("identity.instance", instance), ("identity.region", region)] {
            if value.len() > NAME_BYTES_MAX {
                return Err(bad(key, "longer than 255 bytes"));
            }
        }
        let digits = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        if !account.is_empty() && !digits {
            return Err(bad("identity.account", "an account has twelve digits"));
        }
        if !WINDOW_S.contains(&self.window_s) {
            return Err(bad("window_s", "a window lasts 1 to 600 seconds"));
        }
        if !self.default_route && self.interfaces.is_empty() {
            return Err(bad("interfaces", "names none, and default_route is off"));
        }
        self.enrol.check()?;
        self.capture.check()?;
        self.indicators.check()?;
        self.block.check()?;
        self.filter.check()?;
        self.privacy.check()?;
        self.spool.check()
    }

    /// Checks what a service that ships needs besides.
    ///
    /// # Errors
    /// The key that is missing.
    pub fn check_shipping(&self) -> Result<(), BadConfig> {
        let IdentityConfig {
            instance,
            account,
            region,
        } = &self.identity;
        let collector = self.collector.as_deref().unwrap_or_default();
        for (key, value) in [
            ("collector", collector),
            ("identity.instance", instance),
            ("identity.account", account),
            ("identity.region", region),
        ] {
            if value.is_empty() {
                let problem =
                    "missing: enroll this host, or set it; only --standalone goes without";
                return Err(bad(key, problem));
            }
        }
        let is_told = self.enrolment.is_some() || self.carried.is_some();
        if self.ca_files.is_empty() && !is_told {
            return Err(bad(
                "ca_files",
                "needed with a collector that this host is not enrolled with: the authority to pin",
            ));
        }
        Ok(())
    }

    /// Takes what the collector said when this host enrolled, where the file does not say otherwise. A
    /// rotation that broke off is brought to its end. What the file says of the host counts no more where
    /// it is what another host was called whose identity was found here.
    ///
    /// # Errors
    /// The enrolment cannot be read, or is that of another key.
    pub fn adopt(&mut self) -> anyhow::Result<()> {
        self.carried = None;
        let was = left(&self.state_dir);
        if let Some(was) = &was
            && self.identity.instance == was.receipt.instance
        {
            self.identity = IdentityConfig::default();
        }
        let Some(enrolment) = Enrolment::load(&self.state_dir)? else {
            if let Some(was) = was {
                self.carry(was);
            }
            return Ok(());
        };
        let key_file = self.key_file();
        if let Some(succession) = Succession::begun(&key_file)?
            && succession.next.agent() == enrolment.agent()
        {
            succession.finish()?;
        }
        if !key_file.exists() || Identity::load(&key_file)?.agent() != enrolment.agent() {
            tracing::warn!(
                agent_id = %enrolment.agent(), key_file = %key_file.display(),
                "enrolment not used: it is that of another key; enroll this host again"
            );
            return Ok(());
        }
        let receipt = &enrolment.receipt;
        let collector = self
            .collector
            .get_or_insert_with(|| enrolment.collector.clone());
        let is_its = is_same(collector, &enrolment.collector);
        if !is_its {
            tracing::warn!(
                collector,
                enrolled_with = enrolment.collector,
                "what this host was told when it enrolled is not used: it was by another collector"
            );
            self.elsewhere = Some(enrolment.collector.clone());
        }
        for (own, said) in [
            (&mut self.identity.instance, &receipt.instance),
            (&mut self.identity.account, &receipt.account),
            (&mut self.identity.region, &receipt.region),
        ] {
            if own.is_empty() {
                own.clone_from(said);
            }
        }
        // What another collector signed says nothing of this one.
        self.enrolment = Some(enrolment).filter(|_| is_its);
        Ok(())
    }

    /// Takes of another host's enrolment where its collector is, and nothing else.
    fn carry(&mut self, was: Enrolment) {
        let collector = self.collector.get_or_insert_with(|| was.collector.clone());
        if !is_same(collector, &was.collector) {
            self.elsewhere = Some(was.collector.clone());
        }
        self.carried = Some(was);
    }

    /// Why the collector's indicators are not taken although this host is enrolled, if so.
    ///
    /// # Errors
    /// As [`Config::collector_keys`].
    pub fn no_indicators(&self) -> anyhow::Result<Option<String>> {
        let Some(elsewhere) = &self.elsewhere else {
            return Ok(None);
        };
        let has_keys = !self.collector_keys()?.is_empty();
        let collector = self.collector.as_deref().unwrap_or_default();
        let why = || {
            format!(
                "no indicators are taken: this host is enrolled with {elsewhere}, and `collector` \
                 names {collector}; write the same, or enroll with the other"
            )
        };
        Ok((!has_keys).then(why))
    }

    /// What the collector's certificate must stem from: the configured authorities, else those that it
    /// announced.
    ///
    /// # Errors
    /// There are none, or they cannot be used.
    pub fn pins(&self) -> anyhow::Result<Arc<Pins>> {
        let pins = match &self.enrolment {
            _ if !self.ca_files.is_empty() => Pins::of_files(&self.ca_files)
                .map_err(|error| bad("ca_files", &format!("{error:#}")))?,
            Some(enrolment) => Pins::of_certificates(&enrolment.pins())?,
            None if self.elsewhere.is_none()
                && let Some(was) = &self.carried =>
            {
                Pins::of_certificates(&was.pins())?
            }
            None => return Err(bad("ca_files", "missing: the authority to pin").into()),
        };
        Ok(Arc::new(pins))
    }

    /// The keys that the collector signs indicators with: those of the file that is named, else the one
    /// that this host was told when it enrolled; none if neither is there.
    ///
    /// # Errors
    /// The file cannot be read or holds no key.
    pub fn collector_keys(&self) -> anyhow::Result<Vec<PublicKey>> {
        let named = self.indicators.keys();
        let named = named.map_err(|error| bad("indicators.key_file", &format!("{error:#}")))?;
        let told = self.enrolment.as_ref().filter(|_| named.is_empty());
        Ok(told.map_or(named, |enrolment| vec![enrolment.receipt.collector]))
    }

    /// The proxy on the way to the collector, if there is one.
    ///
    /// # Errors
    /// Its credentials cannot be read.
    pub fn proxy(&self) -> anyhow::Result<Option<Proxy>> {
        if self.proxy == NO_PROXY {
            return Ok(None);
        }
        let credentials = match &self.proxy_credentials_file {
            None => None,
            Some(file) => {
                let refuse = |why: String| {
                    let problem = format!("{}: {why}", file.display());
                    bad("proxy_credentials_file", &problem)
                };
                let text = fs::read_to_string(file).map_err(|error| refuse(error.to_string()))?;
                let split = text.trim().split_once(':');
                let (user, password) =
                    split.ok_or_else(|| refuse("not user:password".to_owned()))?;
                Some((user.to_owned(), password.to_owned()))
            }
        };
        Proxy::new(&self.proxy, credentials).map(Some)
    }

    /// What to capture.
    pub fn options(&self) -> Options {
        Options {
            interfaces: self.interfaces.clone(),
            default_route: self.default_route,
            excluded: self.filter.interfaces.clone(),
            stacked: self.capture.stacked,
            mirror: self.capture.mirror(),
            ..Options::default()
        }
    }

    /// What outlives the service's process, whose last window in the spool ended at `kept_ns`; nothing
    /// where that is not wanted.
    pub fn handover(&self, kept_ns: u64) -> Option<Handover> {
        let pins = &self.capture.pins;
        (!pins.as_os_str().is_empty()).then(|| Handover {
            pins: pins.clone(),
            // Beside the socket, which a reboot removes as well.
            checkpoints: self.socket.with_extension("told"),
            kept_ns,
        })
    }

    /// Where the key is.
    pub fn key_file(&self) -> PathBuf {
        let default = || self.state_dir.join("agent.key");
        self.key_file.clone().unwrap_or_else(default)
    }

    /// Where envelopes wait.
    pub fn spool_dir(&self) -> PathBuf {
        self.state_dir.join("spool")
    }

    /// Length of a window.
    pub fn window(&self) -> Duration {
        Duration::from_secs(self.window_s)
    }
}

/// A key with what is wrong with its value.
pub(crate) fn bad(key: &str, problem: &str) -> BadConfig {
    BadConfig {
        key: key.to_owned(),
        problem: problem.to_owned(),
    }
}

/// The key that an error of the parser is about, with the table it stands in.
fn key_at(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let before = text.get(..at).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text.get(line_start..).unwrap_or_default();
    let line = line.lines().next().unwrap_or_default().trim();
    if let Some(table) = line.strip_prefix('[') {
        return table.trim_end_matches(']').to_owned();
    }
    let key = line.split('=').next().unwrap_or_default().trim();
    let lines = text.get(..line_start).unwrap_or_default().lines().rev();
    let table = lines.map(str::trim).find_map(|line| line.strip_prefix('['));
    match table {
        _ if key.is_empty() => format!("(line {})", before.lines().count().max(1)),
        Some(table) => format!("{}.{key}", table.trim_end_matches(']')),
        None => key.to_owned(),
    }
}

/// Whether two addresses name the same collector, however they are written.
fn is_same(one: &str, other: &str) -> bool {
    let plain = |text: &str| {
        let mut url = envelopes_url(text).ok()?;
        let host = url.host_str()?.trim_end_matches('.').to_owned();
        url.set_host(Some(&host)).ok()?;
        Some(url)
    };
    match (plain(one), plain(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../packaging/agent.example.toml");

    /// The example must hold the defaults, but for what has none.
    #[test]
    fn a_collector_is_the_same_however_it_is_written() {
        let known = "https://collector.example:8443";
        let check = |one: &str, other: &str, expected: bool| {
            assert_eq!(is_same(one, other), expected, "{one} {other}");
        };
        check(known, "https://collector.example:8443/", true);
        check(known, "HTTPS://Collector.Example:8443", true);
        check(known, "https://collector.example.:8443//", true);
        check("https://a.example", "https://a.example:443/", true);
        check("https://[2001:db8::1]", "https://[2001:DB8:0::1]/", true);
        check("https://a.example/x", "https://a.example/x/", true);
        check(known, "https://collector.example", false);
        check(known, "https://other.example:8443", false);
        check("https://a.example/x", "https://a.example/y", false);
        check("nothing", "nothing", true);
    }

    #[test]
    fn the_example_shows_every_key_with_its_default() {
        let example = Config::parse(EXAMPLE).unwrap();
        let default = Config {
            collector: Some("https://collector.example.com:8443".into()),
            ca_files: vec!["/etc/picket/collector-ca.pem".into()],
            identity: IdentityConfig {
                instance: "i-0123456789abcdef0".into(),
                account: "123456789012".into(),
                region: "eu-west-1".into(),
            },
            intel_dir: Some("/etc/picket/intel".into()),
            key_file: Some("/var/lib/picket/agent/agent.key".into()),
            proxy_credentials_file: Some("/etc/picket/proxy".into()),
            enrol: EnrolConfig {
                token_file: Some("/etc/picket/join-token".into()),
                ..EnrolConfig::default()
            },
            indicators: IndicatorsConfig {
                key_file: Some("/etc/picket/collector-signing.pub".into()),
                ..IndicatorsConfig::default()
            },
            block: BlockConfig {
                orders_file: Some("/var/lib/picket/agent/orders".into()),
                key_file: Some("/etc/picket/orders.key".into()),
                ..BlockConfig::default()
            },
            ..Config::default()
        };
        assert_eq!(example, default);
        assert_eq!(example.key_file(), Config::default().key_file());
        example.check_shipping().unwrap();
        let table: toml::Table = EXAMPLE.parse().unwrap();
        let keys: Vec<&str> = table.keys().map(String::as_str).collect();
        let known = [
            "block",
            "ca_files",
            "capture",
            "collector",
            "default_route",
            "enrol",
            "filter",
            "identity",
            "indicators",
            "intel_dir",
            "interfaces",
            "key_file",
            "metrics",
            "privacy",
            "proxy",
            "proxy_credentials_file",
            "seed",
            "socket",
            "spool",
            "state_dir",
            "window_s",
        ];
        assert_eq!(keys, known);
    }

    #[test]
    fn a_bad_key_is_named() {
        let check = |text: &str, key: &str| {
            let error = Config::parse(text).unwrap_err();
            assert_eq!(error.key, key, "{text}: {error}");
        };
        check("[filter]\nranges = ['ten']", "filter.ranges");
        check("[filter]\nnames = ['a..b']", "filter.names");
        check("[filter]\nname = []", "filter.name");
        check("[privacy]\nnames = 'hide'", "privacy.names");
        check("[privacy]\nkey_file = '/k'", "privacy.key_file");
        check("[capture]\nstacked = 'all'", "capture.stacked");
        check("windows_s = 1", "windows_s");
        check("window_s = 'x'", "window_s");
        check("window_s = 0", "window_s");
        check("[spool]\nbytes_max = 1\nage = 2", "spool.age");
        check("[spool]\nbytes_max = 1", "spool.bytes_max");
        check("[capture]\nrung = 'xdp'", "capture.rung");
        check("[capture]\ncpu_percent = 0", "capture.cpu_percent");
        check(
            "[block]\nenabled = true\nkey_file = '/k'",
            "block.orders_file",
        );
        check(
            "[block]\nenabled = true\norders_file = '/o'",
            "block.key_file",
        );
        check("[block]\ntrusted = ['ten']", "block.trusted");
        check("[capture]\nmirror_vnis = [7]", "capture.mirror_vnis");
        check(
            "[capture]\nmirror = true\nmirror_vnis = [16777216]",
            "capture.mirror_vnis",
        );
        check(
            "window_s = 1\n[identity]\naccount = '12'",
            "identity.account",
        );
        check("[identity]\n\naccount = 12", "identity.account");
        check("metrics = '9465'", "metrics");
        check("collector = 'http://a'", "collector");
        check("proxy = 'https://a'", "proxy");
        check("proxy = 'http://u:p@a:1'", "proxy");
        check("default_route = false", "interfaces");
        check("[enrol]\nimds = 'nowhere'", "enrol.imds");
        check("[enrol]\ntoken = 'x'", "enrol.token");
        check("[unknown]\na = 1", "unknown");
        check("window_s =", "window_s");
        let missing = Config::default().check_shipping().unwrap_err();
        assert_eq!(missing.key, "collector");
    }
}
