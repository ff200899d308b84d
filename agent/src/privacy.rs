//! Privacy: summaries without the names or the paths in them, or with tokens in their place.
//!
//! A token is an HMAC-SHA-256 of the text under a key of the operator's, cut to 64 bits: the same
//! text has the same token, and whoever lacks the key cannot try likely ones. Tokens of names end in
//! `.invalid`, which no name in use does (RFC 6761 section 6.4).
//!
//! What is hidden is hidden from everybody but the indicators on this host: matching comes first, and
//! a hit tells the list's own entry. Addresses, process names (`comm`) and roles stay; the addresses
//! of answers as well.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use picket_wire::{Answer, Content, Process, Summary};
use ring::hmac;
use serde::Deserialize;

use crate::command::BadConfig;
use crate::config::bad;
use crate::identity::random;

/// Bytes of a key, at least and at most.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=1024;

/// Bytes of the HMAC that make a token: as many as tell a million names apart.
const TOKEN_BYTES: usize = 8;

/// What stands for a name that may not be missing and is not told.
const NAMELESS: &str = "hidden.invalid";

/// Types of answers that are addresses: A, AAAA.
const ADDRESSES: [u16; 2] = [1, 28];

/// What becomes of texts of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shown {
    /// They are told.
    #[default]
    Clear,
    /// Tokens of them are.
    Hash,
    /// Nothing is.
    Drop,
}

/// Table `[privacy]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrivacyConfig {
    /// Names of DNS, TLS, HTTP, SOCKS and SMTP.
    pub names: Shown,
    /// Paths of programs and of HTTP requests.
    pub paths: Shown,
    /// The key of tokens; one of this run's own unless given.
    pub key_file: Option<PathBuf>,
}

impl PrivacyConfig {
    /// Checks the table.
    ///
    /// # Errors
    /// The key that is wrong.
    pub fn check(&self) -> Result<(), BadConfig> {
        let hashes = [self.names, self.paths].contains(&Shown::Hash);
        if self.key_file.is_some() && !hashes {
            return Err(bad("privacy.key_file", "of no use: nothing is hashed"));
        }
        Ok(())
    }

    /// What hides it.
    ///
    /// # Errors
    /// The key cannot be read.
    pub fn open(&self) -> anyhow::Result<Privacy> {
        let key = match &self.key_file {
            None => random::<32>()?.to_vec(),
            Some(file) => {
                let shown = file.display();
                let key = fs::read(file).with_context(|| format!("read privacy key {shown}"))?;
                if !KEY_BYTES.contains(&key.len()) {
                    bail!(
                        "privacy key {shown} has {} bytes, 16 to 1024 needed",
                        key.len()
                    );
                }
                key
            }
        };
        Ok(Privacy {
            names: self.names,
            paths: self.paths,
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
        })
    }
}

/// Hides names and paths of summaries.
#[derive(Debug, Clone)]
pub struct Privacy {
    names: Shown,
    paths: Shown,
    key: hmac::Key,
}

impl Privacy {
    /// What is hidden, in words; `None` if nothing is.
    pub fn told(&self) -> Option<String> {
        let one = |what: &str, shown| match shown {
            Shown::Clear => None,
            Shown::Hash => Some(format!("{what} hashed")),
            Shown::Drop => Some(format!("{what} dropped")),
        };
        let told = [one("names", self.names), one("paths", self.paths)];
        let told: Vec<String> = told.into_iter().flatten().collect();
        (!told.is_empty()).then(|| told.join(", "))
    }

    /// Hides those of a summary.
    pub fn apply(&self, summary: &mut Summary) {
        if self.names != Shown::Clear {
            self.hide_names(summary);
        }
        if self.paths != Shown::Clear {
            self.hide_paths(summary);
        }
    }

    fn hide_names(&self, summary: &mut Summary) {
        for one in &mut summary.conversations {
            self.name_of(&mut one.tls_name);
            self.name_of(&mut one.dns_name);
            if let Some(content) = &mut one.content {
                self.hide_names_said(content);
            }
        }
        for question in &mut summary.questions {
            question.name = self.name(&question.name).unwrap_or_else(|| NAMELESS.into());
            let answers = std::mem::take(&mut question.answers);
            let shown = answers.into_iter().filter_map(|answer| self.answer(answer));
            question.answers = shown.collect();
        }
        for hit in &mut summary.hits {
            self.name_of(&mut hit.name);
        }
        for request in &mut summary.imds {
            self.name_of(&mut request.host);
        }
    }

    fn hide_names_said(&self, content: &mut Content) {
        self.names_of(&mut content.tls_names);
        if let Some(http) = &mut content.http {
            self.name_of(&mut http.host);
            self.names_of(&mut http.hosts);
        }
        if let Some(smtp) = &mut content.smtp {
            self.name_of(&mut smtp.greeting);
            self.name_of(&mut smtp.sender_domain);
        }
        if let Some(socks) = &mut content.socks {
            socks.target = self.name(&socks.target).unwrap_or_default();
        }
    }

    fn hide_paths(&self, summary: &mut Summary) {
        for one in &mut summary.conversations {
            // The others that share it, the sensor's table among them, keep theirs.
            self.hide_programs(one.process.as_mut().map(Arc::make_mut));
            let http = one
                .content
                .as_mut()
                .and_then(|content| content.http.as_mut());
            if let Some(http) = http {
                http.path = self.path(&http.path).unwrap_or_default();
            }
        }
        for question in &mut summary.questions {
            self.hide_programs(question.process.as_mut().map(Arc::make_mut));
            self.hide_programs(&mut question.also);
        }
        for hit in &mut summary.hits {
            self.hide_programs(&mut hit.process);
        }
        for request in &mut summary.imds {
            self.hide_programs(&mut request.process);
            request.path = self.path(&request.path).unwrap_or_default();
        }
    }

    fn hide_programs<'a>(&self, processes: impl IntoIterator<Item = &'a mut Process>) {
        for process in processes {
            self.path_of(&mut process.exe);
            if let Some(parent) = &mut process.parent {
                self.path_of(&mut parent.exe);
            }
            if let Some(via) = &mut process.via {
                self.path_of(&mut via.exe);
            }
        }
    }

    fn answer(&self, answer: Answer) -> Option<Answer> {
        if ADDRESSES.contains(&answer.rtype) {
            return Some(answer);
        }
        let data = self.name(&answer.data)?;
        Some(Answer { data, ..answer })
    }

    fn name_of(&self, name: &mut Option<String>) {
        *name = name.take().and_then(|name| self.name(&name));
    }

    fn names_of(&self, names: &mut Vec<String>) {
        *names = names.iter().filter_map(|name| self.name(name)).collect();
    }

    fn path_of(&self, path: &mut Option<String>) {
        *path = path.take().and_then(|path| self.path(&path));
    }

    /// What stands for a name. An address is none, nor is the root.
    fn name(&self, name: &str) -> Option<String> {
        match self.names {
            _ if name.is_empty() || name.parse::<IpAddr>().is_ok() => Some(name.to_owned()),
            Shown::Clear => Some(name.to_owned()),
            Shown::Hash => Some(format!("{}.invalid", self.token(name))),
            Shown::Drop => None,
        }
    }

    fn path(&self, path: &str) -> Option<String> {
        match self.paths {
            _ if path.is_empty() => Some(String::new()),
            Shown::Clear => Some(path.to_owned()),
            Shown::Hash => Some(format!("/{}", self.token(path))),
            Shown::Drop => None,
        }
    }

    fn token(&self, text: &str) -> String {
        let tag = hmac::sign(&self.key, text.to_ascii_lowercase().as_bytes());
        let bytes = tag.as_ref().iter().take(TOKEN_BYTES);
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use picket_wire::{Conversation, Http, ImdsRequest, Parent, Smtp, Socks, Via};

    use super::*;
    use crate::filter::tests::{conversation, question};

    const SECRET: &str = "secret";

    /// A summary with the secret in every name and path it can hold.
    fn telling() -> Summary {
        let text = || format!("a.{SECRET}.example");
        let process = || Process {
            name: "curl".into(),
            exe: Some(format!("/opt/{SECRET}/curl")),
            parent: Some(Box::new(Parent {
                exe: Some(format!("/opt/{SECRET}/sh")),
                ..Parent::default()
            })),
            via: Some(Box::new(Via {
                exe: Some(format!("/opt/{SECRET}/dnsmasq")),
                ..Via::default()
            })),
            ..Process::default()
        };
        let content = Content {
            tls_names: vec![text()],
            http: Some(Box::new(Http {
                host: Some(text()),
                hosts: vec![text()],
                path: format!("/{SECRET}"),
                ..Http::default()
            })),
            smtp: Some(Box::new(Smtp {
                greeting: Some(text()),
                sender_domain: Some(text()),
                ..Smtp::default()
            })),
            socks: Some(Box::new(Socks {
                target: text(),
                ..Socks::default()
            })),
            ..Content::default()
        };
        let answer = |rtype: u16, data: &str| Answer {
            rtype,
            data: data.to_owned(),
        };
        let mut asked = question(&text());
        asked.process = Some(process().into());
        asked.also = vec![process()];
        asked.answers = vec![answer(5, &text()), answer(1, "192.0.2.7")];
        Summary {
            conversations: vec![Conversation {
                tls_name: Some(text()),
                dns_name: Some(text()),
                content: Some(Box::new(content)),
                process: Some(process().into()),
                ..conversation("192.0.2.1", "198.51.100.1")
            }],
            questions: vec![asked],
            imds: vec![ImdsRequest {
                time_ns: 0,
                client: [192, 0, 2, 1].into(),
                client_port: 1,
                server: [169, 254, 169, 254].into(),
                process: Some(process()),
                count: 1,
                method: "GET".into(),
                class: None,
                path: format!("/{SECRET}"),
                role: None,
                version: 2,
                status: None,
                host: Some(text()),
                forwarded: false,
                user_agent: None,
            }],
            ..Summary::default()
        }
    }

    fn hidden(names: Shown, paths: Shown) -> (Summary, Privacy) {
        let config = PrivacyConfig {
            names,
            paths,
            key_file: None,
        };
        let privacy = config.open().unwrap();
        let mut summary = telling();
        privacy.apply(&mut summary);
        (summary, privacy)
    }

    #[test]
    fn nothing_of_what_is_hidden_is_left() {
        for shown in [Shown::Hash, Shown::Drop] {
            let (summary, _) = hidden(shown, shown);
            let text = format!("{summary:?}");
            assert!(!text.contains(SECRET), "{shown:?}: {text}");
            assert!(text.contains("192.0.2.7") && text.contains("curl"));
            assert_eq!(Summary::from_bytes(&summary.to_bytes()), Ok(summary));
        }
        let (summary, _) = hidden(Shown::Drop, Shown::Clear);
        let text = format!("{summary:?}");
        assert!(!text.contains("a.secret.example") && text.contains("/opt/secret/curl"));
        assert_eq!(hidden(Shown::Clear, Shown::Clear).0, telling());
    }

    #[test]
    fn the_same_text_has_the_same_token_under_one_key_alone() {
        let (summary, privacy) = hidden(Shown::Hash, Shown::Hash);
        let one = &summary.conversations[0];
        let token = one.tls_name.as_deref().unwrap();
        assert_eq!(Some(token), one.dns_name.as_deref());
        assert_eq!(token, summary.questions[0].name);
        assert_eq!(privacy.name("A.Secret.example").as_deref(), Some(token));
        assert!(token.len() == 24 && token.ends_with(".invalid"), "{token}");
        let (other, _) = hidden(Shown::Hash, Shown::Hash);
        assert_ne!(token, other.questions[0].name);
    }

    #[test]
    fn what_is_hidden_is_told_and_a_bad_key_is_refused() {
        let told = |names, paths| hidden(names, paths).1.told();
        assert_eq!(told(Shown::Clear, Shown::Clear), None);
        let both = told(Shown::Hash, Shown::Drop);
        assert_eq!(both.as_deref(), Some("names hashed, paths dropped"));
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"short").unwrap();
        let config = PrivacyConfig {
            names: Shown::Hash,
            key_file: Some(file.path().to_owned()),
            ..PrivacyConfig::default()
        };
        let error = config.open().unwrap_err().to_string();
        assert!(error.contains("5 bytes"), "{error}");
        fs::write(file.path(), [7; 32]).unwrap();
        let token = config.open().unwrap().name("x");
        assert_eq!(token, config.open().unwrap().name("x"));
    }
}
