//! Identity documents, signed as the metadata service signs them, with keys of our own.

use anyhow::{Result, anyhow};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};

/// A region: its name, and the certificate and key that its documents are signed with.
pub struct Region {
    /// Its name.
    pub name: &'static str,
    /// Its certificate, DER.
    pub certificate: &'static [u8],
    key: RsaKeyPair,
}

/// The two regions there are. Their keys are public and sign nothing but tests.
///
/// # Errors
/// A key is no key.
pub fn regions() -> Result<[Region; 2]> {
    let key = |bytes: &[u8]| RsaKeyPair::from_pkcs8(bytes).map_err(|why| anyhow!("{why}"));
    Ok([
        Region {
            name: "eu-central-1",
            certificate: include_bytes!("here.der"),
            key: key(include_bytes!("here.pk8"))?,
        },
        Region {
            name: "us-west-2",
            certificate: include_bytes!("there.der"),
            key: key(include_bytes!("there.pk8"))?,
        },
    ])
}

/// The document of an instance, as the service writes it.
pub fn document(account: &str, region: &str, instance: &str, pending: &str) -> String {
    format!(
        "{{\n  \"accountId\" : \"{account}\",\n  \"architecture\" : \"x86_64\",\n  \
         \"instanceId\" : \"{instance}\",\n  \"pendingTime\" : \"{pending}\",\n  \
         \"privateIp\" : \"10.0.0.5\",\n  \"region\" : \"{region}\",\n  \
         \"version\" : \"2017-09-30\"\n}}"
    )
}

const SHA256_ALGORITHM: &[u8] = &[
    0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 3, 4, 2, 1,
];
const RSA_ALGORITHM: &[u8] = &[
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 0x05, 0x00,
];
const DATA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
const SIGNED_DATA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
const CONTENT_TYPE: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 3];
const MESSAGE_DIGEST: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 4];

/// An element of definite length.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(len) if len < 0x80 => out.push(len),
        _ => {
            let len = u16::try_from(content.len()).unwrap_or(u16::MAX);
            out.push(0x82);
            out.extend(len.to_be_bytes());
        }
    }
    out.extend(content);
    out
}

/// An element of indefinite length.
fn ber(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[tag, 0x80], parts.concat().as_slice(), &[0, 0]].concat()
}

impl Region {
    /// Signs a document: what `rsa2048` of the metadata service holds, not yet in base64.
    ///
    /// # Errors
    /// The key does not sign.
    pub fn sign(&self, document: &str) -> Result<Vec<u8>> {
        self.sign_other(document, document)
    }

    /// Signs one document and encloses another, as a forger would.
    ///
    /// # Errors
    /// The key does not sign.
    pub fn sign_other(&self, signed: &str, enclosed: &str) -> Result<Vec<u8>> {
        let content_digest = digest(&SHA256, signed.as_bytes());
        let attributes = [
            der(0x30, &[CONTENT_TYPE, &der(0x31, &[DATA])]),
            der(
                0x30,
                &[
                    MESSAGE_DIGEST,
                    &der(0x31, &[&der(0x04, &[content_digest.as_ref()])]),
                ],
            ),
        ]
        .concat();
        let mut signature = vec![0; self.key.public().modulus_len()];
        let to_sign = der(0x31, &[&attributes]);
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                &to_sign,
                &mut signature,
            )
            .map_err(|why| anyhow!("sign a document: {why}"))?;
        let (serial, issuer) = self.named();
        let signer = der(
            0x30,
            &[
                &[0x02, 0x01, 0x01],
                &der(0x30, &[issuer, serial]),
                SHA256_ALGORITHM,
                &der(0xa0, &[&attributes]),
                RSA_ALGORITHM,
                &der(0x04, &[&signature]),
            ],
        );
        let content = ber(0x24, &[&der(0x04, &[enclosed.as_bytes()])]);
        let signed = ber(
            0x30,
            &[
                &[0x02, 0x01, 0x01],
                &der(0x31, &[SHA256_ALGORITHM]),
                &ber(0x30, &[DATA, &ber(0xa0, &[&content])]),
                &der(0x31, &[&signer]),
            ],
        );
        Ok(ber(0x30, &[SIGNED_DATA, &ber(0xa0, &[&signed])]))
    }

    /// Serial number and issuer of the certificate, whole. Its own certificates are known: version,
    /// serial number, algorithm, issuer, in elements of known lengths.
    fn named(&self) -> (&'static [u8], &'static [u8]) {
        // Two heads of four bytes each, and the version's five.
        let rest = &self.certificate[13..];
        let len = |element: &[u8]| 2 + usize::from(element[1]);
        let (serial, rest) = rest.split_at(len(rest));
        let (_, rest) = rest.split_at(len(rest));
        (serial, &rest[..len(rest)])
    }
}
