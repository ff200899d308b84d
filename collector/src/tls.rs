//! The collector's own identity: a certificate from files, or one it makes for itself.
//!
//! Without `cert_file` the collector keeps an authority of its own in the state folder: `ca.pem` is
//! what agents pin, `ca.key` (mode 0600) never leaves. The server's certificate is made from it at
//! each start and lives in memory alone. TLS 1.3 only; agents show no certificate, their envelopes
//! are signed. Assumes that ring was installed as the process' TLS provider.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use picket_wire::limits::{AUTHORITIES_MAX, AUTHORITY_BYTES_MAX};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{RootCertStore, ServerConfig};
use serde::Deserialize;

use crate::config::BadValue;

/// Where the server's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Certificate chain in PEM, the server's own first. With `key_file`, or neither.
    pub cert_file: Option<PathBuf>,
    /// Its private key in PEM.
    pub key_file: Option<PathBuf>,
    /// Authorities (PEM) that enrolled agents are to trust: the one in use and the next. The self-made
    /// one is always among them.
    pub ca_files: Vec<PathBuf>,
    /// Names and addresses that the self-made certificate answers for.
    pub names: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cert_file: None,
            key_file: None,
            // Agents then go on with what they pinned.
            ca_files: Vec::new(),
            // What works on one machine; a fleet needs the name its agents use.
            names: vec!["localhost".into(), "127.0.0.1".into(), "::1".into()],
        }
    }
}

impl Settings {
    /// Checks what can be checked without reading files.
    pub(crate) fn check(&self) -> Result<(), BadValue> {
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => Err(BadValue::new(
                "tls.key_file",
                "is needed with tls.cert_file",
            )),
            (None, Some(_)) => Err(BadValue::new(
                "tls.cert_file",
                "is needed with tls.key_file",
            )),
            (None, None) if self.names.is_empty() => Err(BadValue::new(
                "tls.names",
                "must not be empty without tls.cert_file",
            )),
            _ => self.check_names(),
        }
    }

    fn check_names(&self) -> Result<(), BadValue> {
        for (at, name) in self.names.iter().enumerate() {
            if ServerName::try_from(name.as_str()).is_err() {
                let why = format!("{name:?} is neither a host name nor an address");
                return Err(BadValue::new(format!("tls.names[{at}]"), why));
            }
        }
        Ok(())
    }
}

/// What the listener needs, and what agents need to trust it.
pub(crate) struct Identity {
    /// The server's side of TLS.
    pub(crate) config: Arc<ServerConfig>,
    /// The file agents pin, if the authority is our own.
    pub(crate) ca_file: Option<PathBuf>,
    /// The certificates (DER) that agents are told to pin.
    pub(crate) authorities: Vec<Vec<u8>>,
}

/// Loads the certificate from files, or makes one below `state_dir`.
pub(crate) fn identity(settings: &Settings, state_dir: &Path) -> anyhow::Result<Identity> {
    let (chain, key, ca_file) = match (&settings.cert_file, &settings.key_file) {
        (Some(cert_file), Some(key_file)) => {
            let chain = CertificateDer::pem_file_iter(cert_file)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| BadValue::file("tls.cert_file", cert_file, &error))?;
            if chain.is_empty() {
                let none = "no certificate in it";
                return Err(BadValue::file("tls.cert_file", cert_file, &none).into());
            }
            let key = PrivateKeyDer::from_pem_file(key_file)
                .map_err(|error| BadValue::file("tls.key_file", key_file, &error))?;
            (chain, key, None)
        }
        _ => {
            let (chain, key, ca_file) = self_made(&settings.names, state_dir)?;
            (chain, key, Some(ca_file))
        }
    };
    let authorities = authorities(&settings.ca_files, ca_file.as_deref(), &chain)?;
    let mut config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| BadValue::new("tls.key_file", error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Identity {
        config: Arc::new(config),
        ca_file,
        authorities,
    })
}

/// The certificates that agents are to pin. One that does not vouch for what we serve would keep them
/// out, so at least one must.
fn authorities(
    files: &[PathBuf],
    own: Option<&Path>,
    chain: &[CertificateDer<'static>],
) -> Result<Vec<Vec<u8>>, BadValue> {
    let mut roots = RootCertStore::empty();
    let mut all: Vec<Vec<u8>> = Vec::new();
    for (at, file) in own
        .into_iter()
        .chain(files.iter().map(PathBuf::as_path))
        .enumerate()
    {
        let at = at.saturating_sub(usize::from(own.is_some()));
        let key = format!("tls.ca_files[{at}]");
        let refuse = |error: &dyn std::fmt::Display| BadValue::file(key.clone(), file, error);
        let certificates = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| refuse(&error))?;
        if certificates.is_empty() {
            return Err(refuse(&"no certificate in it"));
        }
        for certificate in certificates {
            if certificate.len() > AUTHORITY_BYTES_MAX {
                return Err(refuse(&format!("more than {AUTHORITY_BYTES_MAX} bytes")));
            }
            roots
                .add(certificate.clone())
                .map_err(|error| refuse(&error))?;
            if !all.iter().any(|one| one.as_slice() == &*certificate) {
                all.push(certificate.to_vec());
            }
        }
    }
    if all.len() > AUTHORITIES_MAX {
        let why = format!("are {} certificates, {AUTHORITIES_MAX} allowed", all.len());
        return Err(BadValue::new("tls.ca_files", why));
    }
    let (Some((first, others)), false) = (chain.split_first(), all.is_empty()) else {
        return Ok(all);
    };
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let vouched = ParsedCertificate::try_from(first).and_then(|certificate| {
        let now = UnixTime::now();
        verify_server_cert_signed_by_trust_anchor(&certificate, &roots, others, now, algorithms.all)
    });
    match vouched {
        Ok(()) => Ok(all),
        Err(error) => {
            let why = format!(
                "none of them vouches for tls.cert_file ({error}): agents that pin them could not come back"
            );
            Err(BadValue::new("tls.ca_files", why))
        }
    }
}

type Made = (
    Vec<CertificateDer<'static>>,
    PrivateKeyDer<'static>,
    PathBuf,
);

fn self_made(names: &[String], state_dir: &Path) -> anyhow::Result<Made> {
    let (ca_pem, authority, ca_file) = authority(state_dir)?;
    let key =
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("make the server's TLS key")?;
    let mut params = CertificateParams::new(names.to_vec())
        .map_err(|error| BadValue::new("tls.names", error.to_string()))?;
    params.distinguished_name = named("picket collector");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    outlive(&mut params);
    let leaf = params
        .signed_by(&key, &authority)
        .context("sign the server's certificate")?;
    let ca = CertificateDer::from_pem_slice(ca_pem.as_bytes())
        .with_context(|| format!("read {}", ca_file.display()))?;
    let key = PrivateKeyDer::try_from(key.serialize_der())
        .map_err(|error| anyhow::anyhow!("take the server's TLS key: {error}"))?;
    Ok((vec![leaf.der().clone(), ca], key, ca_file))
}

/// Reads our authority, or makes it at the first start.
fn authority(state_dir: &Path) -> anyhow::Result<(String, Issuer<'static, KeyPair>, PathBuf)> {
    let (ca_file, key_file) = (state_dir.join("ca.pem"), state_dir.join("ca.key"));
    if !ca_file.exists() {
        let key =
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("make the authority's key")?;
        let certificate = authority_params()
            .self_signed(&key)
            .context("sign the authority's certificate")?;
        // The certificate comes last: its presence says that the pair is whole.
        write_new(&key_file, key.serialize_pem().as_bytes(), 0o600)?;
        write_new(&ca_file, certificate.pem().as_bytes(), 0o644)?;
    }
    let pem = std::fs::read_to_string(&key_file)
        .with_context(|| format!("read {}", key_file.display()))?;
    let key =
        KeyPair::from_pem(&pem).with_context(|| format!("read the key {}", key_file.display()))?;
    let ca_pem =
        std::fs::read_to_string(&ca_file).with_context(|| format!("read {}", ca_file.display()))?;
    Ok((ca_pem, Issuer::new(authority_params(), key), ca_file))
}

/// The same at each start, so that what is signed today names the issuer that was pinned long ago.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("picket collector authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    outlive(&mut params);
    params
}

/// Valid from before this was written to long after anyone will run it: pinned by hand on each
/// host, the authority is renewed by a second pin, not by a date that stops a fleet.
fn outlive(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2050, 1, 1);
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// Writes a file whole or not at all, in place of one left half-written before.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let context = || format!("write {}", path.display());
    let part = path.with_extension("part");
    let _ = std::fs::remove_file(&part);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&part)
        .with_context(context)?;
    file.write_all(bytes).with_context(context)?;
    file.sync_all().with_context(context)?;
    std::fs::rename(&part, path).with_context(context)
}
