//! The collector's configuration file: TOML, read once, checked before anything starts.
//!
//! Each part's settings are a struct beside the code it steers; here they are only put together.
//! Unknown keys are refused, and whatever is wrong is said with the file and the key (exit 78).
//! `packaging/collector.example.toml` shows every key.

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

use picket_detect::settings::Accounts;
use picket_wire::{AgentId, Digest, PublicKey};

use crate::{
    alert, api, aws, digest, enrol, fetch, follow, indicators, ingest, orders, pull, rules, store,
    tls, trails,
};

/// Exit code for a bad configuration: `EX_CONFIG` of sysexits.h.
pub const EX_CONFIG: u8 = 78;

/// Why a configuration was not taken. The text names the file and the key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("read configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong kind.
    #[error("configuration {}: {why}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's words: line, key and what was expected.
        why: String,
    },
    /// A value that is well-formed and still makes no sense.
    #[error("configuration {}: {bad}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key and what is wrong.
        bad: BadValue,
    },
    /// The `feeds.toml` of a folder of lists; named in the text, with the key.
    #[error("{0}")]
    Lists(String),
}

/// A value that cannot be used, by its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct BadValue {
    /// The key, dotted, with the number of the table in a list of tables.
    pub key: String,
    /// What is wrong with it.
    pub why: String,
}

impl BadValue {
    /// Names a key and what is wrong with its value.
    pub(crate) fn new(key: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            why: why.into(),
        }
    }

    /// Names a key whose file cannot be used.
    pub(crate) fn file(key: impl Into<String>, file: &Path, why: &dyn Display) -> Self {
        Self::new(key, format!("{}: {why}", file.display()))
    }
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where agents are listened for.
    pub listen: SocketAddr,
    /// Folder of the store and of the self-made certificate.
    pub state_dir: PathBuf,
    /// Unix socket of the operator's tool.
    pub socket: PathBuf,
    /// Where metrics are served, in plain HTTP.
    pub metrics: SocketAddr,
    /// Folder of indicator lists.
    pub intel_dir: Option<PathBuf>,
    /// Whether the built-in lists are matched too.
    pub seed: bool,
    /// How indicators are published.
    pub indicators: indicators::Settings,
    /// What may be blocked.
    pub block: orders::Settings,
    /// The server's certificate.
    pub tls: tls::Settings,
    /// Who may enrol, and how.
    pub enrol: enrol::Settings,
    /// What is taken in at once.
    pub ingest: ingest::Settings,
    /// How far a clock may be off.
    pub admission: picket_detect::admit::Settings,
    /// How long things are kept.
    pub store: store::Settings,
    /// Whose accounts are ours.
    pub accounts: Accounts,
    /// One table per detection, named by its id.
    pub detections: picket_detect::settings::Detections,
    /// One table per correlation, named by its id.
    pub correlations: picket_detect::settings::Correlations,
    /// Rules of the operator's own.
    pub rules: rules::Settings,
    /// Agents whose word is taken without their having enrolled.
    pub agents: Vec<Agent>,
    /// Folders of CloudTrail files.
    pub cloudtrail: Vec<follow::Settings>,
    /// Folders of VPC flow logs.
    pub vpc_flow: Vec<follow::Settings>,
    /// Folders of resolver query logs.
    pub resolver: Vec<follow::Settings>,
    /// Folders of logs of databases.
    pub rds_log: Vec<follow::RdsSettings>,
    /// Folders of GuardDuty's findings.
    pub guardduty: Vec<follow::Settings>,
    /// How CloudTrail's digests are checked.
    pub digests: digest::Settings,
    /// When an account's CloudTrail is quiet.
    pub trails: trails::Settings,
    /// What holds for every call of AWS.
    pub aws: aws::Settings,
    /// Queues that announce logs in buckets, or carry events.
    pub sqs: Vec<pull::QueueSettings>,
    /// Buckets whose past is read.
    pub s3: Vec<pull::BucketSettings>,
    /// How quick operators may be.
    pub api: api::Settings,
    /// Whom to tell.
    pub alert: alert::Settings,
    /// What holds for all feeds of indicators.
    pub fetch: fetch::Settings,
    /// Feeds of indicators that are fetched.
    pub feed: Vec<fetch::Feed>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8443)),
            state_dir: "/var/lib/picket/collector".into(),
            socket: "/run/picket/collector.sock".into(),
            metrics: SocketAddr::from((Ipv4Addr::LOCALHOST, 9466)),
            intel_dir: None,
            seed: true,
            indicators: indicators::Settings::default(),
            block: orders::Settings::default(),
            tls: tls::Settings::default(),
            enrol: enrol::Settings::default(),
            ingest: ingest::Settings::default(),
            admission: picket_detect::admit::Settings::default(),
            store: store::Settings::default(),
            accounts: Accounts::default(),
            detections: picket_detect::settings::Detections::default(),
            correlations: picket_detect::settings::Correlations::default(),
            rules: rules::Settings::default(),
            agents: Vec::new(),
            cloudtrail: Vec::new(),
            vpc_flow: Vec::new(),
            resolver: Vec::new(),
            rds_log: Vec::new(),
            guardduty: Vec::new(),
            digests: digest::Settings::default(),
            trails: trails::Settings::default(),
            aws: aws::Settings::default(),
            sqs: Vec::new(),
            s3: Vec::new(),
            api: api::Settings::default(),
            alert: alert::Settings::default(),
            fetch: fetch::Settings::default(),
            feed: Vec::new(),
        }
    }
}

/// One agent: its key and the host it may speak for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Its id, 32 hex digits.
    #[serde(deserialize_with = "text")]
    pub id: AgentId,
    /// Its Ed25519 public key, 64 hex digits.
    #[serde(deserialize_with = "public_key")]
    pub public_key: PublicKey,
    /// The AWS account it may speak for.
    pub account: String,
    /// The region.
    pub region: String,
    /// The instance.
    pub instance: String,
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// Every [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let config: Self = toml::from_str(&text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            why: error.to_string().trim_end().to_owned(),
        })?;
        match config.check() {
            Ok(()) => Ok(config),
            Err(bad) => Err(ConfigError::Value {
                path: path.to_owned(),
                bad,
            }),
        }
    }

    /// What the analysis is told.
    pub fn detect(&self) -> picket_detect::Settings {
        picket_detect::Settings {
            accounts: self.accounts.clone(),
            detections: self.detections.clone(),
            correlations: self.correlations.clone(),
        }
    }

    /// Account that findings about the collector itself are counted to.
    pub(crate) fn own_account(&self) -> String {
        let own = self.accounts.own.first();
        own.map_or_else(|| "000000000000".to_owned(), String::clone)
    }

    /// The account whose a thing is that does not say so: ours, if it is one.
    pub(crate) fn only_account(&self) -> Option<String> {
        match &self.accounts.own[..] {
            [only] => Some(only.clone()),
            _ => None,
        }
    }

    /// Says which key is wrong and why.
    fn check(&self) -> Result<(), BadValue> {
        self.indicators.check()?;
        self.block.check()?;
        self.tls.check()?;
        self.enrol.check()?;
        self.ingest.check()?;
        self.api.check()?;
        self.alert.check()?;
        self.rules.check()?;
        if self.store.baselines_every_s == 0 {
            return Err(BadValue::new("store.baselines_every_s", "must not be 0"));
        }
        fetch::settings::check(&self.fetch, &self.feed)?;
        for (at, account) in self.accounts.own.iter().enumerate() {
            check_account(format!("accounts.own[{at}]"), account)?;
        }
        for (at, agent) in self.agents.iter().enumerate() {
            agent.check(&format!("agents[{at}]"), &self.agents[..at])?;
        }
        for (table, folders) in [
            ("cloudtrail", &self.cloudtrail),
            ("vpc_flow", &self.vpc_flow),
            ("resolver", &self.resolver),
            ("guardduty", &self.guardduty),
        ] {
            for (at, folder) in folders.iter().enumerate() {
                folder.check(&format!("{table}[{at}]"))?;
            }
        }
        for (at, folder) in self.rds_log.iter().enumerate() {
            folder.check(&format!("rds_log[{at}]"))?;
        }
        self.aws.check()?;
        for (at, queue) in self.sqs.iter().enumerate() {
            queue.check(&format!("sqs[{at}]"))?;
        }
        for (at, bucket) in self.s3.iter().enumerate() {
            bucket.check(&format!("s3[{at}]"), &self.s3[..at])?;
        }
        Ok(())
    }
}

impl Agent {
    fn check(&self, table: &str, before: &[Self]) -> Result<(), BadValue> {
        check_account(format!("{table}.account"), &self.account)?;
        for (key, value) in [("region", &self.region), ("instance", &self.instance)] {
            if value.is_empty() {
                return Err(BadValue::new(format!("{table}.{key}"), "must not be empty"));
            }
        }
        if self.public_key.is_development() {
            return Err(BadValue::new(
                format!("{table}.public_key"),
                "is the public development key, which proves nothing",
            ));
        }
        let own = AgentId::of_key(&self.public_key.0);
        if self.id != own {
            return Err(BadValue::new(
                format!("{table}.id"),
                format!("is not that of its public_key, which is {own}"),
            ));
        }
        for other in before {
            if other.id == self.id {
                let why = format!("is also that of {}", other.instance);
                return Err(BadValue::new(format!("{table}.id"), why));
            }
        }
        Ok(())
    }
}

/// Says whether a text is an account.
pub(crate) fn check_account(key: String, account: &str) -> Result<(), BadValue> {
    if account.len() == 12 && account.bytes().all(|digit| digit.is_ascii_digit()) {
        Ok(())
    } else {
        Err(BadValue::new(key, "must be twelve digits"))
    }
}

/// Reads a value that is written as text.
fn text<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    String::deserialize(from)?
        .parse()
        .map_err(de::Error::custom)
}

fn public_key<'de, D: Deserializer<'de>>(from: D) -> Result<PublicKey, D::Error> {
    // 32 bytes in hex, like a digest.
    text::<D, Digest>(from).map(|bytes| PublicKey(bytes.0))
}

#[cfg(test)]
mod tests {
    use picket_wire::Signer;

    use super::*;

    const EXAMPLE: &str = include_str!("../../packaging/collector.example.toml");

    fn load(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("collector.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_is_the_default() {
        assert_eq!(load(EXAMPLE).unwrap(), Config::default());
        assert_eq!(load("").unwrap(), Config::default());
    }

    /// The example with its optional parts, which are commented out by `#: `, taken in.
    fn full_example() -> String {
        EXAMPLE.replace("#: ", "")
    }

    #[test]
    fn the_example_shows_every_key() {
        load(&full_example()).unwrap();
        check_shown(&full_example().parse().unwrap(), &[]);
    }

    /// What the CloudFormation template writes when a collector boots for the first time, with
    /// CloudFormation's own values filled in.
    fn written_by_the_template() -> String {
        const TEMPLATE: &str = include_str!("../../packaging/cloudformation/collector.yaml");
        let (mut written, mut inside) = (String::new(), false);
        for line in TEMPLATE.lines().map(str::trim) {
            if inside && line == "END" {
                inside = false;
            } else if inside {
                written += &format!("{line}\n");
            }
            inside |= line.ends_with("/etc/picket/collector.toml <<'END'");
        }
        let queue = "https://sqs.eu-central-1.amazonaws.com/111122223333/trail";
        written
            .replace("${Name}", "collector.example.com")
            .replace("${AccountList}", "111122223333\", \"444455556666")
            .replace("${QueueUrl}", queue)
            .replace("${TrailBucket}", "example-trail")
    }

    #[test]
    fn the_template_writes_what_is_read() {
        let written = written_by_the_template();
        assert!(!written.contains("${"), "{written}");
        let config = load(&written).unwrap();
        assert_eq!(config.accounts.own, ["111122223333", "444455556666"]);
        assert_eq!(config.sqs.len(), 1);
        assert_eq!(config.sqs[0].buckets, ["example-trail"]);
    }

    /// Asks the reader which keys the table at `path` may have, by giving it one that nobody knows,
    /// and looks whether the example has them all; then goes down into its tables.
    fn check_shown(full: &toml::Table, path: &[&str]) {
        let mut table = full.clone();
        let mut inner = &mut table;
        for key in path {
            inner = match inner.get_mut(*key).unwrap() {
                toml::Value::Array(list) => list[0].as_table_mut().unwrap(),
                other => other.as_table_mut().unwrap(),
            };
        }
        let shown: Vec<String> = inner.keys().cloned().collect();
        let is_table = |value: &toml::Value| match value {
            toml::Value::Array(list) => list.first().is_some_and(toml::Value::is_table),
            // Of an empty one the operator chooses the keys.
            other => other.as_table().is_some_and(|table| !table.is_empty()),
        };
        let tables: Vec<String> = inner
            .iter()
            .filter(|(_, value)| is_table(value))
            .map(|(key, _)| key.clone())
            .collect();
        inner.insert("no_such_key".into(), true.into());
        let words = load(&toml::to_string(&table).unwrap()).unwrap_err();
        let (_, expected) = words.split_once("`no_such_key`, ").unwrap();
        for key in expected.split('`').skip(1).step_by(2) {
            assert!(
                shown.iter().any(|shown| shown == key),
                "{path:?}: {key} is not in the example"
            );
        }
        for key in &tables {
            let deeper: Vec<&str> = path.iter().copied().chain([key.as_str()]).collect();
            check_shown(full, &deeper);
        }
    }

    #[track_caller]
    fn check_refused(text: &str, named: &str) {
        let words = load(text).unwrap_err();
        assert!(words.contains(named), "{words} does not name {named}");
    }

    fn agent(id: AgentId, account: &str, key: PublicKey) -> String {
        let key = Digest(key.0);
        format!(
            "[[agents]]\nid = '{id}'\npublic_key = '{key}'\naccount = '{account}'\n\
             region = 'r'\ninstance = 'i-1'\n"
        )
    }

    #[test]
    fn an_error_names_the_key() {
        let key = PublicKey([7; 32]);
        let id = AgentId::of_key(&key.0);
        let good = agent(id, "111122223333", key);
        assert_eq!(load(&good).unwrap().agents[0].public_key, key);
        check_refused("lisen = '0.0.0.0:1'", "lisen");
        check_refused("listen = 'nowhere'", "listen");
        check_refused("[tls]\ncert_file = 'a'", "tls.key_file");
        check_refused("[tls]\nkey_file = 'a'", "tls.cert_file");
        check_refused("[tls]\nnames = []", "tls.names");
        check_refused("[tls]\nnames = ['a', 'no name']", "tls.names[1]");
        check_refused("[ingest]\nbody_bytes_max = 0", "ingest.body_bytes_max");
        check_refused("[accounts]\nown = ['12']", "accounts.own[0]");
        check_refused("[[agents]]\nid = 'xy'", "id = 'xy'");
        check_refused(&agent(id, "1", key), "agents[0].account: must be twelve");
        check_refused(&good.repeat(2), "agents[1].id");
        let other = agent(AgentId([2; 16]), "111122223333", key);
        check_refused(
            &other,
            &format!("agents[0].id: is not that of its public_key, which is {id}"),
        );
        let development = Signer::development().public_key();
        check_refused(
            &agent(id, "111122223333", development),
            "agents[0].public_key",
        );
        check_refused(
            "[[alert.webhook]]\nname = 'a'\nurl = 'ftp://x'\nsecret_file = '/s'",
            "alert.webhook[0].url",
        );
        check_refused(
            "[[alert.jsonl]]\nname = 'a'\npath = '/s'\n[[alert.jsonl]]\nname = 'a'\npath = '/t'",
            "alert.jsonl[1].name",
        );
    }
}
