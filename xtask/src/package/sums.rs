//! Checksums of what was packed, and a signature over them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use ring::digest::{SHA256, digest};

use super::output;

/// Names the file with the secret key (OpenPGP, armoured) that signs.
const KEY: &str = "PICKET_SIGNING_KEY";

const SUMS: &str = "SHA256SUMS";

/// Writes `SHA256SUMS`, as `sha256sum --check` reads it, and with a key `SHA256SUMS.asc`.
pub(super) fn write(folder: &Path) -> anyhow::Result<()> {
    let mut sums = String::new();
    for name in files(folder)? {
        let path = folder.join(&name);
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        sums.push_str(&format!(
            "{}  {name}\n",
            hex(digest(&SHA256, &bytes).as_ref())
        ));
    }
    let path = folder.join(SUMS);
    fs::write(&path, sums).with_context(|| format!("write {}", path.display()))?;
    match std::env::var_os(KEY).filter(|key| !key.is_empty()) {
        Some(key) => sign(&path, Path::new(&key)),
        None => {
            println!("not signed: {KEY} names no key");
            Ok(())
        }
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
    let home = file.with_extension("keys.part");
    super::empty(&home)?;
    let gpg = |arguments: &[&str], path: &Path| {
        let mut gpg = Command::new("gpg");
        gpg.args(["--batch", "--yes", "--quiet", "--homedir"])
            .arg(&home)
            .args(arguments)
            .arg(path);
        output(&mut gpg)
    };
    let signed = gpg(&["--import"], key)
        .and_then(|_| gpg(&["--armor", "--detach-sign"], file))
        .and_then(|_| gpg(&["--verify"], &file.with_extension("asc")));
    // Its agent would outlive us and the folder.
    let mut end = Command::new("gpgconf");
    end.arg("--homedir").arg(&home).args(["--kill", "all"]);
    drop(output(&mut end));
    fs::remove_dir_all(&home).with_context(|| format!("remove {}", home.display()))?;
    signed.with_context(|| format!("sign with {}", key.display()))?;
    println!("signed: {SUMS}.asc");
    Ok(())
}
