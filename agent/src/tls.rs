//! TLS towards the collector: version 1.3, and only certificates that stem from the pinned CAs.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Certificate authorities that may be pinned at once: the one in use and the next. More are
/// allowed for fleets in transition, not without end. Chosen by hand.
const CAS_MAX: usize = 16;

/// A client that trusts the certificates in `ca_files` (PEM) and no others.
///
/// # Errors
/// A file cannot be read or holds no certificate.
pub fn client_config(ca_files: &[PathBuf]) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for file in ca_files {
        let name = || format!("read CA file {}", file.display());
        let mut found = 0;
        for certificate in CertificateDer::pem_file_iter(file).with_context(name)? {
            roots
                .add(certificate.with_context(name)?)
                .with_context(name)?;
            found += 1;
        }
        if found == 0 {
            bail!("CA file {} holds no certificate", file.display());
        }
    }
    if roots.is_empty() || roots.len() > CAS_MAX {
        bail!(
            "{} CA certificates pinned, 1 to {CAS_MAX} needed",
            roots.len()
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("set up TLS 1.3")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Over HTTP/2 everything the agent asks shares one connection.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
