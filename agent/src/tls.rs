//! TLS towards the collector: version 1.3, and only certificates that stem from what is pinned.
//!
//! Pinned are certificate authorities, by their certificates or, for the first contact, by the SHA-256
//! of one that the collector shows in its chain. The pins of a running agent may be replaced: a
//! collector announces its next authority in a signed receipt, and connections made from then on
//! follow.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context, bail};
use picket_wire::Digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// Certificate authorities that may be pinned at once: the one in use and the next. More are
/// allowed for fleets in transition, not without end. Chosen by hand.
const CAS_MAX: usize = 16;

/// What the collector's certificate must stem from.
pub struct Pins {
    provider: Arc<CryptoProvider>,
    trust: Mutex<Trust>,
}

#[derive(Clone)]
enum Trust {
    /// One of these authorities.
    Authorities(Arc<WebPkiServerVerifier>),
    /// An authority in the chain that is shown, of one of these digests; the first that was.
    Digests(Arc<[Digest]>, Arc<OnceLock<Vec<u8>>>),
}

impl Pins {
    /// The certificates in `ca_files` (PEM) and no others.
    ///
    /// # Errors
    /// A file cannot be read or holds no certificate.
    pub fn of_files(ca_files: &[PathBuf]) -> anyhow::Result<Self> {
        Self::of_certificates(&certificates(ca_files)?)
    }

    /// These certificates and no others.
    ///
    /// # Errors
    /// There are none, too many, or one is no authority's.
    pub fn of_certificates(certificates: &[CertificateDer<'static>]) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = verifier(certificates, &provider)?;
        Ok(Self {
            provider,
            trust: Mutex::new(Trust::Authorities(verifier)),
        })
    }

    /// Authorities whose certificates (DER) have one of these digests. Any but the collector's own
    /// certificate, in the chain it shows, may be one.
    ///
    /// # Errors
    /// There are none, or too many.
    pub fn of_digests(digests: &[Digest]) -> anyhow::Result<Self> {
        check_count(digests.len())?;
        Ok(Self {
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            trust: Mutex::new(Trust::Digests(digests.into(), Arc::default())),
        })
    }

    /// The authority (DER) that was shown and has a digest that is pinned, once there was one.
    pub fn shown(&self) -> Option<Vec<u8>> {
        match self.trust() {
            Trust::Authorities(_) => None,
            Trust::Digests(_, shown) => shown.get().cloned(),
        }
    }

    /// Pins these certificates in place of what was pinned, for connections from now on.
    ///
    /// # Errors
    /// As [`Pins::of_certificates`]; then the old pins stay.
    pub fn replace(&self, certificates: &[CertificateDer<'static>]) -> anyhow::Result<()> {
        let verifier = verifier(certificates, &self.provider)?;
        let mut trust = self.trust.lock().unwrap_or_else(PoisonError::into_inner);
        *trust = Trust::Authorities(verifier);
        Ok(())
    }

    fn trust(&self) -> Trust {
        let trust = self.trust.lock().unwrap_or_else(PoisonError::into_inner);
        trust.clone()
    }

    /// A client that trusts what is pinned and nothing else.
    ///
    /// # Errors
    /// TLS 1.3 cannot be set up.
    pub fn client_config(self: &Arc<Self>) -> anyhow::Result<ClientConfig> {
        let pins: Arc<dyn ServerCertVerifier> = self.clone();
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context("set up TLS 1.3")?
            .dangerous()
            .with_custom_certificate_verifier(pins)
            .with_no_client_auth();
        // Over HTTP/2 everything the agent asks shares one connection.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// A client that trusts nobody, for plain HTTP to our own hypervisor.
///
/// # Errors
/// TLS 1.3 cannot be set up.
pub fn trusting_nobody() -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("set up TLS 1.3")?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

/// The certificates in these files (PEM).
///
/// # Errors
/// A file cannot be read or holds no certificate.
pub fn certificates(ca_files: &[PathBuf]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let mut all = Vec::new();
    for file in ca_files {
        let name = || format!("read CA file {}", file.display());
        let found = all.len();
        for certificate in CertificateDer::pem_file_iter(file).with_context(name)? {
            all.push(certificate.with_context(name)?);
        }
        if all.len() == found {
            bail!("CA file {} holds no certificate", file.display());
        }
    }
    Ok(all)
}

fn check_count(count: usize) -> anyhow::Result<()> {
    if count == 0 || count > CAS_MAX {
        bail!("{count} CA certificates pinned, 1 to {CAS_MAX} needed");
    }
    Ok(())
}

fn verifier(
    certificates: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> anyhow::Result<Arc<WebPkiServerVerifier>> {
    check_count(certificates.len())?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate.clone())
            .context("take a CA certificate")?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .context("pin CA certificates")
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pins")
    }
}

impl ServerCertVerifier for Pins {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verify = |verifier: &WebPkiServerVerifier| {
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        match self.trust() {
            Trust::Authorities(verifier) => verify(&verifier),
            Trust::Digests(digests, shown) => {
                let is_pinned =
                    |certificate: &&CertificateDer<'_>| digests.contains(&Digest::of(certificate));
                let unknown = || Error::from(CertificateError::UnknownIssuer);
                let authority = intermediates.iter().find(is_pinned).ok_or_else(unknown)?;
                let authority = authority.clone().into_owned();
                let verifier = verifier(std::slice::from_ref(&authority), &self.provider)
                    .map_err(|_| unknown())?;
                let verified = verify(&verifier)?;
                let _ = shown.set(authority.to_vec());
                Ok(verified)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Version 1.3 is the only one that is offered.
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
