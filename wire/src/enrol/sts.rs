//! The request to STS that an instance's role signs and the collector sends.
//!
//! Both sides build it from the same pieces, and only [`Sts`](super::Sts) travels: method, path, body,
//! host and the headers that bind it to server, nonce and key are the collector's own when it
//! sends. Signed with Signature Version 4.

use super::{NONCE_BYTES, server_of};
use crate::envelope::PublicKey;
use crate::id::Digest;

/// The body: which call it is.
pub const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";

/// Its media type.
pub const CONTENT_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// Headers that bind the request to whom it is for, all of them signed.
pub const BOUND: [&str; 3] = ["x-picket-key-sha256", "x-picket-nonce", "x-picket-server"];

/// The headers that are signed, as `SignedHeaders` lists them.
pub fn signed_headers(has_token: bool) -> String {
    let token = if has_token {
        "x-amz-security-token;"
    } else {
        ""
    };
    format!("content-type;host;x-amz-date;{token}{}", BOUND.join(";"))
}

/// The host of STS in a region.
pub fn host(region: &str) -> String {
    let domain = if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else if region.starts_with("eusc-") {
        "amazonaws.eu"
    } else {
        "amazonaws.com"
    };
    format!("sts.{region}.{domain}")
}

/// The values of [`BOUND`], in its order.
pub fn bound_values(
    key: &PublicKey,
    nonce: &[u8; NONCE_BYTES],
    collector: &PublicKey,
) -> [String; 3] {
    [
        Digest::of(&key.0).to_string(),
        Digest(*nonce).to_string(),
        server_of(collector).to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_each_partition() {
        assert_eq!(host("eu-central-1"), "sts.eu-central-1.amazonaws.com");
        assert_eq!(host("us-gov-west-1"), "sts.us-gov-west-1.amazonaws.com");
        assert_eq!(host("cn-north-1"), "sts.cn-north-1.amazonaws.com.cn");
    }

    #[test]
    fn signed_headers_are_sorted() {
        for has_token in [true, false] {
            let list = signed_headers(has_token);
            let names: Vec<&str> = list.split(';').collect();
            assert!(names.is_sorted(), "{list}");
        }
    }
}
