//! RPM packages, by `rpmbuild`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::contents::{Contents, What};
use super::{Architecture, Program, Run, empty, output, scripts};

/// Debian's place for zsh, which RPM systems do not read.
const NOT_HERE: &str = "usr/share/zsh/vendor-completions";

/// Packs what is gathered into `<name>-<version>-<release>.<architecture>.rpm` in `out`.
pub(super) fn pack(
    run: &Run<'_>,
    program: Program,
    architecture: Architecture,
    contents: &Contents,
    out: &Path,
) -> anyhow::Result<PathBuf> {
    let top = out.join("rpm.part");
    let root = top.join("root");
    empty(&top)?;
    contents.lay_out(&root, run.epoch)?;
    let spec = top.join("package.spec");
    fs::write(&spec, text(run, program, contents)?)
        .with_context(|| format!("write {}", spec.display()))?;
    // An absolute path, as rpmbuild changes folders.
    let top = fs::canonicalize(&top).with_context(|| format!("look at {}", top.display()))?;
    let mut rpmbuild = Command::new("rpmbuild");
    rpmbuild
        .arg("-bb")
        .args(["--target", &format!("{}-linux", architecture.rpm)])
        .arg("--define")
        .arg(format!("_topdir {}", top.display()))
        .arg("--define")
        .arg(format!("_dbpath {}", top.join("db").display()))
        .arg("--define")
        .arg(format!("packed_root {}", top.join("root").display()))
        .arg(&spec)
        .env("SOURCE_DATE_EPOCH", run.epoch.to_string());
    output(&mut rpmbuild)?;
    let name = format!(
        "{}-{}-{}.{}.rpm",
        program.name, run.version, run.release, architecture.rpm
    );
    let made = out.join(&name);
    fs::rename(top.join("RPMS").join(architecture.rpm).join(&name), &made)
        .with_context(|| format!("take {name}"))?;
    fs::remove_dir_all(&top).with_context(|| format!("remove {}", top.display()))?;
    Ok(made)
}

/// The spec: nothing is built, stripped or looked for, and nothing tells when or where it was packed.
/// xz, and no digests or tags that the rpm 4.11 of Amazon Linux 2 does not know.
fn text(run: &Run<'_>, program: Program, contents: &Contents) -> anyhow::Result<String> {
    let mut spec = format!(
        "%global debug_package %{{nil}}\n\
         %global __os_install_post %{{nil}}\n\
         %global _build_id_links none\n\
         %global _binary_payload w6.xzdio\n\
         %global _buildhost picket\n\
         %global use_source_date_epoch_as_buildtime 1\n\
         %global clamp_mtime_to_source_date_epoch 1\n\
         %global source_date_epoch_from_changelog 0\n\
         Name: {}\n\
         Version: {}\n\
         Release: {}\n\
         Summary: {}\n\
         License: Apache-2.0\n\
         Requires: shadow-utils\n\
         Requires(post): shadow-utils\n\n\
         %description\n{}\n\n\
         %install\nmkdir -p %{{buildroot}}\ncp -a %{{packed_root}}/. %{{buildroot}}/\n\
         rm -rf %{{buildroot}}/{NOT_HERE}\n\n",
        program.name, run.version, run.release, program.summary, program.description
    );
    for (name, script) in scripts::rpm(&run.root.join("packaging"), program.short)? {
        // A per cent sign would be a macro's.
        spec.push_str(&format!("%{name}\n{}\n", script.replace('%', "%%")));
    }
    spec.push_str("%files\n%defattr(-,root,root,-)\n%dir /etc/picket\n");
    for entry in &contents.files {
        if entry.path.starts_with(NOT_HERE) {
            continue;
        }
        let mark = match entry.what {
            What::Folder => "%dir ",
            What::Config(_) => "%config(noreplace) ",
            What::File(..) if entry.path.starts_with("usr/share/doc") => "%doc ",
            What::File(..) => "",
        };
        spec.push_str(&format!("{mark}/{}\n", entry.path.display()));
    }
    Ok(spec)
}
