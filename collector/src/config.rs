//! The collector's configuration file: TOML, read once, unknown keys refused.
//!
//! Each part's settings are a struct beside the code it steers; here they are only put together.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, de};

use picket_wire::PublicKey;

/// Exit code for a bad configuration: `EX_CONFIG` of sysexits.h.
pub const EX_CONFIG: u8 = 78;

/// Why a configuration was not taken. The text names the file and the key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("read configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong kind.
    #[error("configuration {path}: {why}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's words: line, key and what was expected.
        why: String,
    },
    /// A value that is well-formed and still makes no sense.
    #[error("configuration {path}: {key}: {why}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key, dotted, with the number of the table in a list of tables.
        key: String,
        /// What is wrong with it.
        why: String,
    },
}

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The agents whose word is taken, until enrolment exists.
    pub agents: Vec<Agent>,
}

/// One agent: its key and the host it may speak for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// A name for people: shown in lists and logs.
    pub id: String,
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
            Err((key, why)) => Err(ConfigError::Value {
                path: path.to_owned(),
                key,
                why,
            }),
        }
    }

    /// Says which key is wrong and why.
    fn check(&self) -> Result<(), (String, String)> {
        for (at, agent) in self.agents.iter().enumerate() {
            let key = |name: &str| format!("agents[{at}].{name}");
            let account = agent.account.as_bytes();
            if account.len() != 12 || !account.iter().all(u8::is_ascii_digit) {
                return Err((key("account"), "must be twelve digits".to_owned()));
            }
            for (name, value) in [
                ("id", &agent.id),
                ("region", &agent.region),
                ("instance", &agent.instance),
            ] {
                if value.is_empty() {
                    return Err((key(name), "must not be empty".to_owned()));
                }
            }
            let twin = |other: &&Agent| other.public_key == agent.public_key;
            if let Some(other) = self.agents[..at].iter().find(twin) {
                return Err((key("public_key"), format!("is also {}'s", other.id)));
            }
        }
        Ok(())
    }
}

fn public_key<'de, D: Deserializer<'de>>(from: D) -> Result<PublicKey, D::Error> {
    struct Hex;

    impl de::Visitor<'_> for Hex {
        type Value = PublicKey;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an Ed25519 public key in hex")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<PublicKey, E> {
            let digest: picket_wire::Digest = text.parse().map_err(E::custom)?;
            Ok(PublicKey(digest.0))
        }
    }

    from.deserialize_str(Hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("collector.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path).map_err(|error| error.to_string())
    }

    fn agent(account: &str, key: &str) -> String {
        format!(
            "[[agents]]\nid = 'web'\npublic_key = '{key}'\naccount = '{account}'\nregion = 'r'\ninstance = 'i-1'\n"
        )
    }

    #[test]
    fn reads_agents() {
        let key = "07".repeat(32);
        let config = load(&agent("111122223333", &key)).unwrap();
        assert_eq!(config.agents[0].public_key, PublicKey([7; 32]));
        assert_eq!(load("").unwrap().agents, []);
    }

    #[test]
    fn an_error_names_the_key() {
        let key = "07".repeat(32);
        for (text, expected) in [
            ("agentz = 1".to_owned(), "agentz"),
            (agent("1", &key), "agents[0].account: must be twelve digits"),
            (agent("111122223333", "07"), "public_key"),
            (
                agent("111122223333", &key) + &agent("111122223333", &key),
                "agents[1].public_key: is also web's",
            ),
            ("[[agents]]\nid = ''".to_owned(), "public_key"),
        ] {
            let error = load(&text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
