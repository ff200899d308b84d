//! Signatures within RPM packages, by the key that signs the checksums: so `dnf` with `gpgcheck=1` takes them
//! from a repository, and `rpm --checksig` says whose they are.
//!
//! A signature carries the time at which it was made; it is put on after the packages were compared.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::output;
use super::sums::{Keyring, files};

/// Signs each .rpm in `folder`, and checks what came of it.
pub(super) fn rpms(folder: &Path, key: &Path) -> anyhow::Result<usize> {
    let mut packages = files(folder)?;
    packages.retain(|name| name.ends_with(".rpm"));
    if packages.is_empty() {
        return Ok(0);
    }
    let packages: Vec<PathBuf> = packages.iter().map(|name| folder.join(name)).collect();
    let ring = Keyring::new("rpm")?;
    ring.gpg(&["--import"], &[key])?;
    let told = ring.gpg(&["--list-secret-keys", "--with-colons"], &[])?;
    let mut prints = told.lines().filter_map(|line| line.strip_prefix("fpr:"));
    let print = prints.next().context("the key has no fingerprint")?;
    let print = print.trim_matches(':');
    let mut rpmsign = Command::new("rpmsign");
    rpmsign
        .arg("--addsign")
        .arg("--define")
        .arg(format!("_gpg_name {print}"))
        .arg("--define")
        .arg(format!("_gpg_path {}", ring.path().display()))
        // Its own idea of the place is that of the machine it was built on.
        .args(["--define", "__gpg /usr/bin/gpg"])
        .args(&packages);
    output(&mut rpmsign)?;
    let public = ring.path().join("public.asc");
    let armoured = ring.gpg(&["--armor", "--export"], &[])?;
    std::fs::write(&public, armoured).with_context(|| format!("write {}", public.display()))?;
    for package in &packages {
        check(package, &public)?;
    }
    Ok(packages.len())
}

/// Fails unless a package carries a signature of a public key, and nothing in it was changed.
fn check(package: &Path, public: &Path) -> anyhow::Result<()> {
    let records = Keyring::new("records")?;
    let rpm = |arguments: &[&str], path: &Path| {
        let mut rpm = Command::new("rpm");
        rpm.arg("--define")
            .arg(format!("_dbpath {}", records.path().display()))
            .args(arguments)
            .arg(path)
            .env("LC_ALL", "C");
        output(&mut rpm)
    };
    rpm(&["--import"], public)?;
    let told = rpm(&["--checksig"], package)?;
    ensure!(
        told.trim_end().ends_with("signatures OK"),
        "not signed: {}",
        told.trim()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A package with nothing in it.
    fn package(folder: &Path) -> PathBuf {
        let spec = folder.join("empty.spec");
        let text = "Name: empty\nVersion: 1\nRelease: 1\nSummary: empty\nLicense: none\nBuildArch: noarch\n\
                    %description\nempty\n%files\n";
        fs::write(&spec, text).unwrap();
        let mut rpmbuild = Command::new("rpmbuild");
        rpmbuild
            .args(["-bb", "--define"])
            .arg(format!("_topdir {}", folder.join("top").display()))
            .arg(&spec);
        output(&mut rpmbuild).unwrap();
        let to = folder.join("empty-1-1.noarch.rpm");
        fs::rename(folder.join("top/RPMS/noarch/empty-1-1.noarch.rpm"), &to).unwrap();
        to
    }

    #[test]
    fn rpm_sees_whose_a_package_is_and_that_nothing_was_changed() {
        for tool in ["gpg", "rpm", "rpmbuild", "rpmsign"] {
            if crate::kernels::find(tool).is_none() {
                println!("skipped: no {tool} here");
                return;
            }
        }
        let folder = Keyring::new("seal-test").unwrap();
        let made = package(folder.path());
        let mut publics = Vec::new();
        for name in ["seal-maker", "seal-other"] {
            let ring = Keyring::new(name).unwrap();
            let user = format!("{name}@invalid");
            let generate = [
                "--passphrase",
                "",
                "--quick-generate-key",
                &user,
                "rsa2048",
                "sign",
            ];
            ring.gpg(&generate, &[]).unwrap();
            let secret = ring.gpg(&["--armor", "--export-secret-keys"], &[]).unwrap();
            fs::write(folder.path().join(format!("{name}.key")), secret).unwrap();
            let public = folder.path().join(format!("{name}.asc"));
            fs::write(&public, ring.gpg(&["--armor", "--export"], &[]).unwrap()).unwrap();
            publics.push(public);
        }
        let unsigned = check(&made, &publics[0]).unwrap_err();
        assert!(
            format!("{unsigned:#}").contains("not signed"),
            "{unsigned:#}"
        );
        assert_eq!(
            rpms(folder.path(), &folder.path().join("seal-maker.key")).unwrap(),
            1
        );
        check(&made, &publics[0]).unwrap();
        assert!(check(&made, &publics[1]).is_err(), "another key's");
        let mut bytes = fs::read(&made).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&made, bytes).unwrap();
        assert!(check(&made, &publics[0]).is_err(), "a bit was changed");
    }
}
