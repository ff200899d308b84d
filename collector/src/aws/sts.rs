//! STS: credentials of a role for a while.

use jiff::Timestamp;
use reqwest::Url;

use super::credentials::{Credentials, Means, Role};
use super::encode::encode;
use super::limits::REFUSAL_BYTES_MAX;
use super::sign::{self, ToSign};
use super::{AwsError, authority, chain_of, held, refusal, xml};

/// Region of STS where none is known. Its answers hold everywhere.
const REGION: &str = "us-east-1";

/// Assumes a role with other credentials.
///
/// # Errors
/// Every [`AwsError`].
pub(super) async fn assume(
    means: &Means,
    by: &Credentials,
    role: &Role,
) -> Result<Credentials, AwsError> {
    let mut form = vec![
        ("Action", "AssumeRole"),
        ("Version", "2011-06-15"),
        ("RoleArn", &role.arn),
        ("RoleSessionName", &role.session),
    ];
    if let Some(id) = &role.external_id {
        form.push(("ExternalId", id));
    }
    ask(means, Some(by), &form)
        .await
        .map_err(|error| told(&role.arn, &error))
}

/// Assumes a role with a token of an identity provider.
///
/// # Errors
/// Every [`AwsError`].
pub(super) async fn assume_with_token(
    means: &Means,
    token: &str,
    role: &Role,
) -> Result<Credentials, AwsError> {
    let form = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", &role.arn),
        ("RoleSessionName", &role.session),
        ("WebIdentityToken", token),
    ];
    ask(means, None, &form)
        .await
        .map_err(|error| told(&role.arn, &error))
}

fn told(arn: &str, error: &AwsError) -> AwsError {
    AwsError::Credentials(format!("assume {arn}: {error}"))
}

async fn ask(
    means: &Means,
    by: Option<&Credentials>,
    form: &[(&str, &str)],
) -> Result<Credentials, AwsError> {
    let region = means.region.as_deref().unwrap_or(REGION);
    let base = match &means.endpoint {
        Some(endpoint) => endpoint.clone(),
        None => Url::parse(&format!(
            "https://{}/",
            picket_wire::enrol::sts::host(region)
        ))
        .map_err(|error| AwsError::Request(error.to_string()))?,
    };
    let body: Vec<String> = form
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value, false)))
        .collect();
    let body = body.join("&").into_bytes();
    let host = authority(&base);
    let content = "application/x-www-form-urlencoded; charset=utf-8".to_owned();
    let mut headers = vec![("content-type", content)];
    if let Some(by) = by {
        headers = sign::sign(
            &ToSign {
                method: "POST",
                path: "/",
                query: &[],
                host: &host,
                headers: &headers,
                body: &body,
                region,
                service: "sts",
                at: Timestamp::now(),
            },
            by,
        );
    }
    let mut request = means.http.post(format!("{}://{host}/", base.scheme()));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let response = request
        .body(body)
        .send()
        .await
        .map_err(|error| AwsError::Send(chain_of(&error.without_url())))?;
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    read(&held(response, REFUSAL_BYTES_MAX).await?)
}

fn read(body: &[u8]) -> Result<Credentials, AwsError> {
    let (mut id, mut secret, mut token, mut until) = (None, None, None, None);
    xml::for_each(body, &mut |path, value| {
        let field = path
            .rsplit_once("Result/Credentials/")
            .map(|(_, field)| field);
        match field {
            Some("AccessKeyId") => id = Some(value),
            Some("SecretAccessKey") => secret = Some(value),
            Some("SessionToken") => token = Some(value),
            Some("Expiration") => until = value.parse::<Timestamp>().ok(),
            _ => {}
        }
    })?;
    match (id, secret, token, until) {
        (Some(id), Some(secret), Some(token), Some(until)) => Ok(Credentials {
            id,
            secret,
            token: Some(token),
            until: Some(until),
        }),
        _ => Err(AwsError::Answer("no credentials in it".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_and_nothing_less() {
        let text = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
            <AssumeRoleResult><Credentials><SessionToken>t</SessionToken><SecretAccessKey>s</SecretAccessKey>\
            <Expiration>2026-01-01T01:00:00Z</Expiration><AccessKeyId>ASIA</AccessKeyId></Credentials>\
            </AssumeRoleResult></AssumeRoleResponse>";
        let credentials = read(text.as_bytes()).unwrap();
        assert_eq!(credentials.id, "ASIA");
        assert!(credentials.until.is_some());
        for field in [
            "SessionToken",
            "SecretAccessKey",
            "Expiration",
            "AccessKeyId",
        ] {
            assert!(
                read(text.replace(field, "Other").as_bytes()).is_err(),
                "{field}"
            );
        }
    }
}
