//! Credentials that something on this machine hands out: the container's service (ECS, EKS Pod
//! Identity), and the metadata service of an instance, asked by session (IMDSv2) alone.

use std::net::IpAddr;

use reqwest::header::AUTHORIZATION;
use reqwest::{Client, RequestBuilder, Url, redirect};

use super::super::limits::{LOCAL_ANSWER_BYTES_MAX, LOCAL_WAIT};
use super::{AwsError, Credentials, Given, Means, read};

/// Where ECS has its service.
const CONTAINER: &str = "http://169.254.170.2";

/// Where EC2 has its own, unless AWS_EC2_METADATA_SERVICE_ENDPOINT says another.
const METADATA: &str = "http://169.254.169.254";

/// Addresses other than loopback to which a container's authorization may go in plain text: ECS and EKS
/// Pod Identity (AWS SDKs and tools reference, "Container credential provider").
const CONTAINER_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];

/// Seconds that a session with the metadata service is to last: one question or two.
const SESSION_S: &str = "60";

fn named(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn client() -> Result<Client, AwsError> {
    Client::builder()
        .tls_certs_only([])
        .no_proxy()
        .redirect(redirect::Policy::none())
        .timeout(LOCAL_WAIT)
        .build()
        .map_err(|error| AwsError::Credentials(error.to_string()))
}

/// Those of the container; `None` if this is none.
pub(super) async fn container(means: &Means) -> Result<Option<Credentials>, AwsError> {
    let url = match (
        named("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
        named("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    ) {
        (Some(path), _) => format!("{CONTAINER}{path}"),
        (None, Some(url)) => url,
        (None, None) => return Ok(None),
    };
    let url = container_url(&url).map_err(AwsError::Credentials)?;
    let token = match named("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(file) => Some(read(file.as_ref())?.trim().to_owned()),
        None => named("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    };
    let local = client()?;
    let http = if url.scheme() == "https" {
        &means.http
    } else {
        &local
    };
    let mut request = http.get(url).timeout(LOCAL_WAIT);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, token);
    }
    let text = asked(request, "the container's service").await?;
    Given::read(&text, "the container's service").map(Some)
}

/// Where a container's credentials may be asked for: anywhere by TLS, else on this machine.
fn container_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{text}: {error}"))?;
    let host = url.host_str().unwrap_or_default();
    let is_loopback = host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback || CONTAINER_HOSTS.contains(&host) => Ok(url),
        _ => Err(format!(
            "{text}: credentials are asked for there by https alone"
        )),
    }
}

/// Those of the instance's role.
pub(super) async fn instance() -> Result<Credentials, AwsError> {
    const WHO: &str = "the metadata service";
    let is_off =
        named("AWS_EC2_METADATA_DISABLED").is_some_and(|word| word.eq_ignore_ascii_case("true"));
    if is_off {
        return Err(AwsError::Credentials(
            "none in the environment, the shared files or a container, and the metadata service is \
             switched off"
                .to_owned(),
        ));
    }
    let base = named("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| METADATA.to_owned());
    let base = base.trim_end_matches('/');
    let http = client()?;
    let session = http
        .put(format!("{base}/latest/api/token"))
        .header("x-aws-ec2-metadata-token-ttl-seconds", SESSION_S);
    let session = asked(session, WHO).await?;
    let session = String::from_utf8_lossy(&session).trim().to_owned();
    let ask = |path: String| {
        let url = format!("{base}/latest/meta-data/iam/security-credentials/{path}");
        http.get(url)
            .header("x-aws-ec2-metadata-token", session.as_str())
    };
    let roles = asked(ask(String::new()), WHO).await?;
    let roles = String::from_utf8_lossy(&roles).into_owned();
    let role = roles.lines().next().map(str::trim).unwrap_or_default();
    if role.is_empty() || role.contains(['/', '?', '#']) {
        return Err(AwsError::Credentials(
            "this instance has no role".to_owned(),
        ));
    }
    Given::read(&asked(ask(role.to_owned()), WHO).await?, WHO)
}

async fn asked(request: RequestBuilder, who: &str) -> Result<Vec<u8>, AwsError> {
    let told = |why: String| AwsError::Credentials(format!("{who}: {why}"));
    let response = request.send().await;
    let mut response =
        response.map_err(|error| told(super::super::chain_of(&error.without_url())))?;
    if !response.status().is_success() {
        return Err(told(format!("answers {}", response.status())));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| told(error.without_url().to_string()))?
    {
        if body.len() + chunk.len() > LOCAL_ANSWER_BYTES_MAX {
            return Err(told("answers at too great length".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_asked_on_this_machine_or_by_tls() {
        for (text, is_good) in [
            ("http://169.254.170.2/v2/credentials/x", true),
            ("http://169.254.170.23/v1/credentials", true),
            ("http://[fd00:ec2::23]/v1/credentials", true),
            ("http://127.0.0.1:80/x", true),
            ("http://[::1]/x", true),
            ("http://localhost/x", true),
            ("https://credentials.example/x", true),
            ("http://169.254.170.20/x", false),
            ("http://credentials.example/x", false),
            ("http://localhost.example/x", false),
            ("http://169.254.170.2@evil.example/x", false),
            ("file:///x", false),
        ] {
            assert_eq!(container_url(text).is_ok(), is_good, "{text}");
        }
    }
}
