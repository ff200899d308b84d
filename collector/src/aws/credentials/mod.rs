//! Who we are to AWS, found where AWS's own tools look, in their order: the environment, the profile in
//! the shared files, a web identity token, the container's service, the instance's metadata service.
//!
//! A role may be assumed on top, with an external id: that of a member account. Credentials are kept
//! until shortly before they end. What is not supported (single sign-on, programs that print
//! credentials) is named when a profile asks for it.

mod local;
mod profile;

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::limits::{FILE_BYTES_MAX, RENEW_BEFORE_S};
use super::{AwsError, sts};

/// Credentials, of a user or of a session.
#[derive(Clone)]
pub(crate) struct Credentials {
    /// The access key's id.
    pub(super) id: String,
    /// Its secret.
    pub(super) secret: String,
    /// The session's token.
    pub(super) token: Option<String>,
    /// When they end, if they do.
    pub(super) until: Option<Timestamp>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither secret nor token: this may reach a log.
        write!(out, "credentials {}", self.id)
    }
}

/// A role to assume.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Role {
    /// Its ARN.
    pub(crate) arn: String,
    /// What its trust policy asks for besides.
    pub(crate) external_id: Option<String>,
    /// Name of the session, as CloudTrail shows it.
    pub(crate) session: String,
}

/// Name of our sessions unless a profile says another: whoever reads CloudTrail should know it.
pub(crate) const SESSION: &str = "picket-collector";

/// Finds credentials, and keeps them until they are about to end.
pub(super) struct Chain {
    means: Means,
    role: Option<Role>,
    kept: Mutex<Option<Credentials>>,
}

/// What finding credentials takes.
pub(super) struct Means {
    pub(super) http: Client,
    /// Where STS is, if not at AWS.
    pub(super) endpoint: Option<Url>,
    /// Region whose STS is asked.
    pub(super) region: Option<String>,
}

/// The region that the environment or the profile names.
pub(super) fn region() -> Option<String> {
    let named = |name| {
        std::env::var(name)
            .ok()
            .filter(|value: &String| !value.is_empty())
    };
    named("AWS_REGION")
        .or_else(|| named("AWS_DEFAULT_REGION"))
        .or_else(profile::region)
}

impl Chain {
    pub(super) fn new(
        http: Client,
        endpoint: Option<Url>,
        region: Option<String>,
        role: Option<Role>,
    ) -> Self {
        Self {
            means: Means {
                http,
                endpoint,
                region,
            },
            role,
            kept: Mutex::new(None),
        }
    }

    /// Credentials that hold for a while yet.
    pub(super) async fn credentials(&self) -> Result<Credentials, AwsError> {
        let mut kept = self.kept.lock().await;
        let now = Timestamp::now();
        if let Some(credentials) = kept.as_ref().filter(|kept| kept.holds(now, RENEW_BEFORE_S)) {
            return Ok(credentials.clone());
        }
        match self.find().await {
            Ok(found) => Ok(kept.insert(found).clone()),
            // Those that are about to end are better than none.
            Err(error) => kept
                .as_ref()
                .filter(|kept| kept.holds(now, 0))
                .cloned()
                .ok_or(error),
        }
    }

    /// Has credentials found anew.
    pub(super) async fn forget(&self) {
        *self.kept.lock().await = None;
    }

    async fn find(&self) -> Result<Credentials, AwsError> {
        let own = self.means.own().await?;
        match &self.role {
            Some(role) => sts::assume(&self.means, &own, role).await,
            None => Ok(own),
        }
    }
}

impl Credentials {
    fn holds(&self, now: Timestamp, seconds: i64) -> bool {
        self.until
            .is_none_or(|until| until.duration_since(now) > SignedDuration::from_secs(seconds))
    }
}

impl Means {
    /// The first that is there.
    async fn own(&self) -> Result<Credentials, AwsError> {
        if let Some(found) = environment()? {
            return Ok(found);
        }
        if let Some(found) = profile::find(self).await? {
            return Ok(found);
        }
        if let Some(found) = self.web_identity_of_environment().await? {
            return Ok(found);
        }
        if let Some(found) = local::container(self).await? {
            return Ok(found);
        }
        local::instance().await
    }

    async fn web_identity_of_environment(&self) -> Result<Option<Credentials>, AwsError> {
        let named = |name| {
            std::env::var(name)
                .ok()
                .filter(|value: &String| !value.is_empty())
        };
        let (Some(file), Some(arn)) = (named("AWS_WEB_IDENTITY_TOKEN_FILE"), named("AWS_ROLE_ARN"))
        else {
            return Ok(None);
        };
        let role = Role {
            arn,
            external_id: None,
            session: named("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| SESSION.to_owned()),
        };
        let token = read(Path::new(&file))?;
        sts::assume_with_token(self, token.trim(), &role)
            .await
            .map(Some)
    }
}

/// Those of the environment; `None` if it has none.
fn environment() -> Result<Option<Credentials>, AwsError> {
    let named = |name| {
        std::env::var(name)
            .ok()
            .filter(|value: &String| !value.is_empty())
    };
    let (id, secret) = (named("AWS_ACCESS_KEY_ID"), named("AWS_SECRET_ACCESS_KEY"));
    match (id, secret) {
        (Some(id), Some(secret)) => Ok(Some(Credentials {
            id,
            secret,
            token: named("AWS_SESSION_TOKEN"),
            until: None,
        })),
        (None, None) => Ok(None),
        _ => Err(AwsError::Credentials(
            "the environment has one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned(),
        )),
    }
}

/// Reads a small file that AWS tools share.
fn read(path: &Path) -> Result<String, AwsError> {
    use std::io::Read as _;
    let told = |error| AwsError::Credentials(format!("read {}: {error}", path.display()));
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(told)?;
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(told)?;
    Ok(text)
}

/// Credentials as the metadata service and the container's write them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    code: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    token: Option<String>,
    expiration: Option<String>,
}

impl Given {
    fn read(text: &[u8], who: &str) -> Result<Credentials, AwsError> {
        let given: Self = serde_json::from_slice(text).map_err(|error| {
            AwsError::Credentials(format!("{who} answers in another form: {error}"))
        })?;
        let until = given.expiration.map(|text| text.parse()).transpose();
        let until = until.map_err(|error| {
            AwsError::Credentials(format!("{who} says when they end in another form: {error}"))
        })?;
        let is_good = given.code.as_deref().is_none_or(|code| code == "Success");
        match (given.access_key_id, given.secret_access_key) {
            (Some(id), Some(secret)) if is_good => Ok(Credentials {
                id,
                secret,
                token: given.token,
                until,
            }),
            _ => Err(AwsError::Credentials(format!(
                "{who} gives none: {}",
                given.code.as_deref().unwrap_or("no reason")
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_services_write_is_read() {
        let text = br#"{"Code":"Success","LastUpdated":"2026-01-01T00:00:00Z","Type":"AWS-HMAC",
            "AccessKeyId":"ASIA1","SecretAccessKey":"s","Token":"t","Expiration":"2026-01-01T06:00:00Z"}"#;
        let read = Given::read(text, "x").unwrap();
        assert_eq!(
            (read.id.as_str(), read.token.as_deref()),
            ("ASIA1", Some("t"))
        );
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(read.holds(at("2026-01-01T05:50:00Z"), 300));
        assert!(!read.holds(at("2026-01-01T05:56:00Z"), 300));
        assert!(read.holds(at("2026-01-01T05:56:00Z"), 0));
        assert!(!format!("{read:?}").contains("secret"));
        for bad in [
            &br#"{"Code":"AssumeRoleUnauthorizedAccess"}"#[..],
            br#"{"AccessKeyId":"a"}"#,
            b"<html>",
        ] {
            assert!(Given::read(bad, "x").is_err());
        }
    }
}
