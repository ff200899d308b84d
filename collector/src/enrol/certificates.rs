//! The certificates of AWS' regions, from the operator's folder: `<region>.pem` or `<region>.der` each.

use std::path::Path;

use anyhow::{Context as _, bail};
use picket_detect::identity::{Certificate, is_region};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Certificates taken at most; AWS has some forty regions.
const CERTIFICATES_MAX: usize = 1_024;

/// Reads the folder.
pub(super) fn read(folder: &Path) -> anyhow::Result<Vec<Certificate>> {
    let shown = folder.display();
    let mut certificates = Vec::new();
    let mut paths = std::fs::read_dir(folder)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<Vec<_>, _>>()
        })
        .with_context(|| format!("read {shown}"))?;
    paths.sort();
    for path in paths {
        let extension = path.extension().and_then(|text| text.to_str());
        let region = path.file_stem().and_then(|text| text.to_str());
        let (Some(region), Some(extension @ ("pem" | "der"))) = (region, extension) else {
            continue;
        };
        let named = || format!("read {}", path.display());
        if !is_region(region) {
            bail!("{} is not named after a region", path.display());
        }
        let der = if extension == "pem" {
            CertificateDer::from_pem_file(&path)
                .with_context(named)?
                .to_vec()
        } else {
            std::fs::read(&path).with_context(named)?
        };
        certificates.push(Certificate::read(region, &der).with_context(named)?);
        if certificates.len() > CERTIFICATES_MAX {
            bail!("{shown} holds more than {CERTIFICATES_MAX} certificates");
        }
    }
    if certificates.is_empty() {
        bail!("{shown} holds no certificate: <region>.pem or <region>.der");
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &[u8] = include_bytes!("../../detect/src/identity/testdata/here.der");

    #[test]
    fn files_are_named_after_their_region() {
        let folder = tempfile::tempdir().unwrap();
        let read = || read(folder.path()).map_err(|error| format!("{error:#}"));
        assert!(read().unwrap_err().contains("no certificate"));
        std::fs::write(folder.path().join("README"), "").unwrap();
        std::fs::write(folder.path().join("eu-central-1.der"), HERE).unwrap();
        assert_eq!(read().unwrap()[0].region, "eu-central-1");
        std::fs::write(folder.path().join("us-east-1.pem"), "none").unwrap();
        assert!(read().unwrap_err().contains("us-east-1.pem"));
        std::fs::remove_file(folder.path().join("us-east-1.pem")).unwrap();
        std::fs::write(folder.path().join("here.der"), HERE).unwrap();
        assert!(read().unwrap_err().contains("not named after a region"));
    }
}
