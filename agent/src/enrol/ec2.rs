//! What an EC2 instance can show: its identity, and a request that its role signed.

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use picket_wire::PublicKey;
use picket_wire::enrol::{Challenge, Proof, Sts, sts};
use serde::Deserialize;

use super::sigv4::{self, Credentials};
use crate::imds::Imds;

/// Credentials as the metadata service gives them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    code: String,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    token: Option<String>,
}

/// Proves for `key` under `challenge` which instance this is.
///
/// # Errors
/// This is no EC2 instance, or its metadata service does not answer as it should.
pub(super) async fn proof(
    imds: &mut Imds,
    key: &PublicKey,
    challenge: &Challenge,
) -> anyhow::Result<Proof> {
    let identity = imds
        .text("dynamic/instance-identity/rsa2048")
        .await?
        .context("the metadata service has no identity of this instance")?;
    let identity: String = identity.split_whitespace().collect();
    let identity = STANDARD
        .decode(identity)
        .context("the instance's identity is no base64")?;
    let sts = signed(imds, key, challenge).await?;
    if sts.is_none() {
        tracing::warn!("this instance has no role; the collector may want one");
    }
    Ok(Proof::Ec2 { identity, sts })
}

/// The request to STS; `None` where the instance has no role.
async fn signed(
    imds: &mut Imds,
    key: &PublicKey,
    challenge: &Challenge,
) -> anyhow::Result<Option<Sts>> {
    const ROLES: &str = "meta-data/iam/security-credentials/";
    let Some(roles) = imds.text(ROLES).await? else {
        return Ok(None);
    };
    let Some(role) = roles.lines().next().filter(|role| !role.is_empty()) else {
        return Ok(None);
    };
    let given = imds
        .text(&format!("{ROLES}{role}"))
        .await?
        .with_context(|| format!("the metadata service has no credentials of role {role}"))?;
    let given: Given = serde_json::from_str(&given).context("read the role's credentials")?;
    let (Some(id), Some(secret), "Success") = (
        given.access_key_id,
        given.secret_access_key,
        given.code.as_str(),
    ) else {
        bail!("role {role} has no credentials: {}", given.code);
    };
    let region = imds
        .text("meta-data/placement/region")
        .await?
        .context("the metadata service does not know its region")?;
    let credentials = Credentials {
        id,
        secret,
        token: given.token,
    };
    let date = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let bound = sts::bound_values(key, &challenge.nonce, &challenge.key());
    Ok(Some(sigv4::sign(
        &credentials,
        region.trim(),
        &date,
        &bound,
    )))
}
