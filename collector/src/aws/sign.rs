//! Signature Version 4 in the headers of a request (AWS general reference, "Signing AWS API requests").
//!
//! ```text
//! canonical = method \n path \n query \n <header: value \n>… \n <signed headers> \n sha256(body)
//! to sign   = AWS4-HMAC-SHA256 \n <date> \n <day>/<region>/<service>/aws4_request \n sha256(canonical)
//! key       = HMAC(HMAC(HMAC(HMAC("AWS4" + secret, day), region), service), "aws4_request")
//! ```
//!
//! Path and query are signed as they are sent: encoded once, which is S3's rule, and the same for
//! services whose path is `/`.

use jiff::Timestamp;
use picket_wire::Digest;
use ring::hmac::{self, HMAC_SHA256};

use super::credentials::Credentials;

/// What is signed.
pub(super) struct ToSign<'a> {
    pub(super) method: &'a str,
    /// Encoded, from its first `/`.
    pub(super) path: &'a str,
    /// Encoded names and values.
    pub(super) query: &'a [(String, String)],
    /// The host, with its port if that is not the scheme's own.
    pub(super) host: &'a str,
    /// Others to be signed, in lower case.
    pub(super) headers: &'a [(&'static str, String)],
    pub(super) body: &'a [u8],
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    pub(super) at: Timestamp,
}

/// Encoded names and values as they are signed and sent: in order.
pub(super) fn query_text(query: &[(String, String)]) -> String {
    let mut pairs: Vec<&(String, String)> = query.iter().collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// Gives every header that the request needs besides its host.
pub(super) fn sign(what: &ToSign<'_>, by: &Credentials) -> Vec<(&'static str, String)> {
    let date = what.at.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = date.get(..8).unwrap_or_default();
    let body = Digest::of(what.body).to_string();
    let mut headers: Vec<(&'static str, String)> = what.headers.to_vec();
    headers.push(("x-amz-content-sha256", body.clone()));
    headers.push(("x-amz-date", date.clone()));
    headers.extend(
        by.token
            .clone()
            .map(|token| ("x-amz-security-token", token)),
    );
    let mut signed = headers.clone();
    signed.push(("host", what.host.to_owned()));
    signed.sort();
    let lines: String = signed
        .iter()
        .map(|(name, value)| format!("{name}:{}\n", value.trim()))
        .collect();
    let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let ToSign {
        method,
        path,
        region,
        service,
        ..
    } = what;
    let query = query_text(what.query);
    let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{body}");
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let canonical = Digest::of(canonical.as_bytes());
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{canonical}");
    let mut key = format!("AWS4{}", by.secret).into_bytes();
    for part in [day, region, service, "aws4_request", &to_sign] {
        let tag = hmac::sign(&hmac::Key::new(HMAC_SHA256, &key), part.as_bytes());
        key = tag.as_ref().to_vec();
    }
    let signature: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    headers.push((
        "authorization",
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            by.id
        ),
    ));
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the S3 API reference, "Authenticating requests: using the Authorization header".
    fn signature(query: &[(&str, &str)], path: &str, headers: &[(&'static str, &str)]) -> String {
        let query: Vec<(String, String)> = query
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let headers: Vec<(&'static str, String)> = headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        let signed = sign(
            &ToSign {
                method: "GET",
                path,
                query: &query,
                host: "examplebucket.s3.amazonaws.com",
                headers: &headers,
                body: b"",
                region: "us-east-1",
                service: "s3",
                at: "2013-05-24T00:00:00Z".parse().unwrap(),
            },
            &Credentials {
                id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
                secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
                token: None,
                until: None,
            },
        );
        let (_, text) = signed.last().unwrap();
        text.rsplit_once("Signature=").unwrap().1.to_owned()
    }

    #[test]
    fn the_published_examples_are_met() {
        assert_eq!(
            signature(&[], "/test.txt", &[("range", "bytes=0-9")]),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        assert_eq!(
            signature(&[("lifecycle", "")], "/", &[]),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        );
        assert_eq!(
            signature(&[("prefix", "J"), ("max-keys", "2")], "/", &[]),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
    }
}
