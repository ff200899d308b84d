//! Debian's packages, by `dpkg-deb`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::contents::{Contents, What};
use super::symbols::GlibcVersion;
use super::{Architecture, Program, Run, empty, output, scripts};

/// Packs what is gathered into `<name>_<version>-<release>_<architecture>.deb` in `out`.
pub(super) fn pack(
    run: &Run<'_>,
    program: Program,
    architecture: Architecture,
    contents: &Contents,
    glibc: GlibcVersion,
    out: &Path,
) -> anyhow::Result<PathBuf> {
    let version = format!("{}-{}", run.version, run.release);
    let root = out.join("deb.part");
    empty(&root)?;
    let control = root.join("DEBIAN");
    fs::create_dir_all(&control).with_context(|| format!("make {}", control.display()))?;
    let write = |name: &str, text: &str, mode: u32| {
        let path = control.join(name);
        fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .with_context(|| format!("write {}", path.display()))
    };
    let text = text(
        program,
        architecture,
        &version,
        glibc,
        installed_kib(contents),
    );
    write("control", &text, 0o644)?;
    let conffiles: String = contents
        .files
        .iter()
        .filter(|one| matches!(one.what, What::Config(_)))
        .map(|one| format!("/{}\n", one.path.display()))
        .collect();
    write("conffiles", &conffiles, 0o644)?;
    for (name, script) in scripts::deb(&run.root.join("packaging"), program.short)? {
        write(name, &script, 0o755)?;
    }
    contents.lay_out(&root, run.epoch)?;
    let made = out.join(format!(
        "{}_{version}_{}.deb",
        program.name, architecture.deb
    ));
    // One thread, as several cut the data elsewhere; xz, as Debian 11's dpkg knows no zstd.
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.args(["--root-owner-group", "--threads-max=1", "-Zxz", "--build"])
        .args([&root, &made])
        .env("SOURCE_DATE_EPOCH", run.epoch.to_string());
    output(&mut dpkg)?;
    fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
    Ok(made)
}

/// The control file.
fn text(
    program: Program,
    architecture: Architecture,
    version: &str,
    glibc: GlibcVersion,
    installed_kib: u64,
) -> String {
    format!(
        "Package: {}\n\
         Version: {version}\n\
         Architecture: {}\n\
         Maintainer: picket <picket@invalid>\n\
         Installed-Size: {installed_kib}\n\
         Depends: libc6 (>= {glibc}), passwd\n\
         Recommends: systemd\n\
         Section: net\n\
         Priority: optional\n\
         Description: {}\n {}\n",
        program.name, architecture.deb, program.summary, program.description
    )
}

fn installed_kib(contents: &Contents) -> u64 {
    let bytes = contents.files.iter().map(|one| match &one.what {
        What::Folder => 0,
        What::File(bytes, _) | What::Config(bytes) => bytes.len() as u64,
    });
    bytes.sum::<u64>().div_ceil(1024)
}
