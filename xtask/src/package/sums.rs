//! Checksums of what was packed, and a signature over them.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use ring::digest::{SHA256, digest};

use super::output;

/// The file with the checksums.
pub(super) const NAME: &str = "SHA256SUMS";

/// Writes the checksums as `sha256sum --check` reads them, and with a key a signature beside them.
pub(super) fn write(folder: &Path, key: Option<&Path>) -> anyhow::Result<()> {
    let mut sums = String::new();
    for name in files(folder)? {
        let path = folder.join(&name);
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        sums.push_str(&format!(
            "{}  {name}\n",
            hex(digest(&SHA256, &bytes).as_ref())
        ));
    }
    let path = folder.join(NAME);
    fs::write(&path, sums).with_context(|| format!("write {}", path.display()))?;
    match key {
        Some(key) => sign(&path, key).with_context(|| format!("sign with {}", key.display())),
        None => Ok(()),
    }
}

/// Names of the files in a folder, sorted.
pub(super) fn files(folder: &Path) -> anyhow::Result<Vec<String>> {
    let context = || format!("look into {}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        if entry.file_type().with_context(context)?.is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Signs a file with a key that is in no keyring of whoever packs, and checks what came of it.
fn sign(file: &Path, key: &Path) -> anyhow::Result<()> {
    let ring = Keyring::new("sign")?;
    ring.gpg(&["--import"], &[key])?;
    ring.gpg(&["--armor", "--detach-sign"], &[file])?;
    // With the file named: in a batch gpg does not look for it.
    ring.gpg(&["--verify"], &[&file.with_extension("asc"), file])
        .map(drop)
}

/// A keyring of its own, gone when dropped.
pub(super) struct Keyring(PathBuf);

impl Keyring {
    pub(super) fn new(name: &str) -> anyhow::Result<Self> {
        // Not beside what is signed: gpg's socket lies in it, whose path must be short.
        let folder = format!("picket-keys-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("make {}", folder.display()))?;
        Ok(Self(folder))
    }

    /// Its folder.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn gpg(&self, arguments: &[&str], paths: &[&Path]) -> anyhow::Result<String> {
        let mut gpg = Command::new("gpg");
        gpg.args(["--batch", "--yes", "--quiet", "--homedir"])
            .arg(&self.0)
            .args(arguments)
            .args(paths);
        output(&mut gpg)
    }
}

impl Drop for Keyring {
    fn drop(&mut self) {
        // Its agent would outlive us and the folder.
        let mut end = Command::new("gpgconf");
        end.arg("--homedir").arg(&self.0).args(["--kill", "all"]);
        drop(output(&mut end));
        drop(fs::remove_dir_all(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_public_key_sees_what_was_changed() {
        if crate::kernels::find("gpg").is_none() {
            println!("skipped: no gpg here");
            return;
        }
        let folder = Keyring::new("packages").unwrap();
        let maker = Keyring::new("maker").unwrap();
        let generate = [
            "--passphrase",
            "",
            "--quick-generate-key",
            "test@invalid",
            "ed25519",
            "sign",
        ];
        maker.gpg(&generate, &[]).unwrap();
        let secret = maker.gpg(
            &["--armor", "--export-secret-keys"],
            &[Path::new("test@invalid")],
        );
        let key = maker.0.join("secret.asc");
        fs::write(&key, secret.unwrap()).unwrap();
        let public = maker.gpg(&["--armor", "--export"], &[Path::new("test@invalid")]);
        let public_file = maker.0.join("public.asc");
        fs::write(&public_file, public.unwrap()).unwrap();

        fs::write(folder.0.join("a.deb"), "content").unwrap();
        write(&folder.0, Some(&key)).unwrap();
        let sums = fs::read_to_string(folder.0.join(NAME)).unwrap();
        // `printf content | sha256sum`
        let expected = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";
        assert_eq!(sums, format!("{expected}  a.deb\n"));

        let reader = Keyring::new("reader").unwrap();
        reader.gpg(&["--import"], &[&public_file]).unwrap();
        let (signature, sums_file) = (folder.0.join("SHA256SUMS.asc"), folder.0.join(NAME));
        let signed = [signature.as_path(), &sums_file];
        reader.gpg(&["--verify"], &signed).unwrap();
        fs::write(folder.0.join(NAME), sums.replace("a.deb", "b.deb")).unwrap();
        assert!(reader.gpg(&["--verify"], &signed).is_err());
        // A file that holds no key is an error, not packages without a signature.
        assert!(write(&folder.0, Some(&folder.0.join("a.deb"))).is_err());
    }
}
