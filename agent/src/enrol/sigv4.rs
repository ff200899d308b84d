//! Signature Version 4 over the one request that is signed here: `sts:GetCallerIdentity`.
//!
//! ```text
//! canonical = POST \n / \n \n <header: value \n>… \n <signed headers> \n sha256(body)
//! to sign   = AWS4-HMAC-SHA256 \n <date> \n <day>/<region>/sts/aws4_request \n sha256(canonical)
//! key       = HMAC(HMAC(HMAC(HMAC("AWS4" + secret, day), region), "sts"), "aws4_request")
//! ```

use picket_wire::Digest;
use picket_wire::enrol::{Sts, sts};
use ring::hmac::{self, HMAC_SHA256};

/// Credentials of a role.
#[derive(Clone)]
pub(super) struct Credentials {
    /// The access key's id.
    pub(super) id: String,
    /// Its secret.
    pub(super) secret: String,
    /// The session's token.
    pub(super) token: Option<String>,
}

/// Signs the request for `region` at `date` (`20261122T103000Z`) with these values of the headers that
/// bind it.
pub(super) fn sign(
    credentials: &Credentials,
    region: &str,
    date: &str,
    bound: &[String; 3],
) -> Sts {
    let day = date.get(..8).unwrap_or_default();
    let mut headers = vec![
        ("content-type", sts::CONTENT_TYPE.to_owned()),
        ("host", sts::host(region)),
        ("x-amz-date", date.to_owned()),
    ];
    headers.extend(
        credentials
            .token
            .clone()
            .map(|token| ("x-amz-security-token", token)),
    );
    headers.extend(sts::BOUND.into_iter().zip(bound.iter().cloned()));
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}:{}\n", value.trim()))
        .collect();
    let signed_headers = sts::signed_headers(credentials.token.is_some());
    let body = Digest::of(sts::BODY.as_bytes());
    let canonical = format!("POST\n/\n\n{lines}\n{signed_headers}\n{body}");
    let scope = format!("{day}/{region}/sts/aws4_request");
    let canonical = Digest::of(canonical.as_bytes());
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{canonical}");
    let secret = format!("AWS4{}", credentials.secret);
    let mut key = secret.into_bytes();
    for part in [day, region, "sts", "aws4_request", &to_sign] {
        key = hmac::sign(&hmac::Key::new(HMAC_SHA256, &key), part.as_bytes())
            .as_ref()
            .to_vec();
    }
    let signature: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    Sts {
        authorization: format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed_headers}, \
             Signature={signature}",
            credentials.id
        ),
        date: date.to_owned(),
        token: credentials.token.clone(),
    }
}
