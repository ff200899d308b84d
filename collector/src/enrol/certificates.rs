//! The certificates of AWS' regions: those that AWS has published, in `regions.pem`, and the
//! operator's own, `<region>.pem` or `<region>.der` each, which count in place of them.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context as _, bail};
use picket_detect::identity::{Certificate, is_region};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Certificates taken at most; AWS has some forty regions.
const CERTIFICATES_MAX: usize = 1_024;

/// What AWS has published.
const PUBLISHED: &str = include_str!("regions.pem");

/// The published certificates, and in place of those of the same regions the ones in `folder`.
pub(super) fn all(folder: Option<&Path>) -> anyhow::Result<Vec<Certificate>> {
    let mut certificates = folder.map_or_else(|| Ok(Vec::new()), read)?;
    let own: HashSet<String> = certificates.iter().map(|one| one.region.clone()).collect();
    let published = published().filter(|(region, _)| !own.contains(*region));
    for (region, der) in published {
        certificates.push(Certificate::read(region, &der).with_context(|| region.to_owned())?);
    }
    Ok(certificates)
}

/// Each published certificate with its region, which stands in the line before it.
fn published() -> impl Iterator<Item = (&'static str, CertificateDer<'static>)> {
    PUBLISHED.split("\nregion: ").skip(1).filter_map(|part| {
        let (region, pem) = part.split_once('\n')?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        Some((region, der))
    })
}

/// Reads the folder.
fn read(folder: &Path) -> anyhow::Result<Vec<Certificate>> {
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

    /// Regions whose certificate was published when `regions.pem` was written.
    const REGIONS_LEAST: usize = 39;

    const HERE: &[u8] = include_bytes!("../../detect/src/identity/testdata/here.der");

    /// A character that was taken over wrongly would break the signature of the certificate itself.
    #[test]
    fn what_aws_has_published_is_whole() {
        let all = all(None).unwrap();
        let regions: HashSet<&str> = all.iter().map(|one| one.region.as_str()).collect();
        assert_eq!(
            regions.len(),
            PUBLISHED.matches("BEGIN CERTIFICATE").count()
        );
        assert!(regions.len() >= REGIONS_LEAST, "{}", regions.len());
        assert!(regions.iter().all(|region| is_region(region)));
        for (certificate, (region, der)) in all.iter().zip(published()) {
            assert_eq!(certificate.region, region);
            assert!(certificate.is_self_signed(&der), "{region}");
        }
    }

    #[test]
    fn the_operators_own_counts_in_place_of_a_published_one() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("eu-central-1.der"), HERE).unwrap();
        let all = all(Some(folder.path())).unwrap();
        let of = |region: &str| all.iter().filter(|one| one.region == region).count();
        assert_eq!((of("eu-central-1"), of("eu-west-1")), (1, 1));
        let own = Certificate::read("eu-central-1", HERE).unwrap();
        assert!(all.contains(&own));
    }

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
