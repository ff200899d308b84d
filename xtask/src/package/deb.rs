//! Debian's packages, by `dpkg-deb`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::contents::{Contents, LICENSE, What, gzipped};
use super::symbols::GlibcVersion;
use super::{Architecture, Program, Run, empty, output, scripts};

/// Who is named as the maintainer; there is no address to write to.
const MAINTAINER: &str = "picket <picket@invalid>";

/// Packs what is gathered into `<name>_<version>-<release>_<architecture>.deb` in `out`.
pub(super) fn pack(
    run: &Run<'_>,
    program: Program,
    architecture: Architecture,
    contents: &Contents,
    glibc: GlibcVersion,
    out: &Path,
) -> anyhow::Result<PathBuf> {
    let contents = &debian(run, program, contents)?;
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

/// Has Debian's linter look at each package in a folder. What it knows depends on its version: that of the
/// Debian it runs on.
pub(super) fn lint(folder: &Path) -> anyhow::Result<()> {
    let mut packages = super::sums::files(folder)?;
    packages.retain(|name| name.ends_with(".deb"));
    let mut lintian = Command::new("lintian");
    lintian
        .args(["--fail-on", "error,warning"])
        .args(packages.iter().map(|name| folder.join(name)))
        .env("LC_ALL", "C");
    // It writes what it finds where others write their results.
    let ran = lintian.output().context("start lintian")?;
    let told = String::from_utf8_lossy(&ran.stdout).into_owned();
    anyhow::ensure!(ran.status.success(), "lintian: {}", told.trim());
    println!("lintian: {} packages, nothing found", packages.len());
    Ok(())
}

/// The contents as Debian wants them: a change log of the packaging, the licence by reference alone, and
/// what its linter is to pass over, with reasons.
fn debian(run: &Run<'_>, program: Program, contents: &Contents) -> anyhow::Result<Contents> {
    let doc = format!("usr/share/doc/{}", program.name);
    let license = Path::new(&doc).join(LICENSE);
    let mut debian = contents.without(&license);
    let mut date = Command::new("date");
    date.args(["--utc", "--rfc-email", "--date"])
        .arg(format!("@{}", run.epoch))
        .env("LC_ALL", "C");
    let date = output(&mut date)?;
    let changes = format!(
        "{} ({}-{}) unstable; urgency=medium\n\n  * Packed; what changed is in changelog.gz.\n\n -- {MAINTAINER}  {}\n",
        program.name,
        run.version,
        run.release,
        date.trim()
    );
    let changes = gzipped(changes.as_bytes())?;
    debian.add(&format!("{doc}/changelog.Debian.gz"), changes);
    let overrides = run.root.join("packaging/lintian-overrides");
    let overrides =
        fs::read(&overrides).with_context(|| format!("read {}", overrides.display()))?;
    let at = format!("usr/share/lintian/overrides/{}", program.name);
    debian.add(&at, overrides);
    Ok(debian)
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
         Maintainer: {MAINTAINER}\n\
         Installed-Size: {installed_kib}\n\
         Depends: libc6 (>= {glibc}), passwd\n\
         Recommends: systemd\n\
         Section: net\n\
         Priority: optional\n\
         Description: {}\n{}",
        program.name,
        architecture.deb,
        program.summary,
        wrapped(program.description)
    )
}

/// A text in lines that Debian's tools show without breaking them (policy 5.6.13).
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut width = 0;
    for word in text.split_whitespace() {
        if width > 0 && width + 1 + word.len() > 76 {
            lines.push('\n');
            width = 0;
        }
        lines.push(' ');
        lines.push_str(word);
        width += 1 + word.len();
    }
    lines.push('\n');
    lines
}

fn installed_kib(contents: &Contents) -> u64 {
    let bytes = contents.files.iter().map(|one| match &one.what {
        What::Folder => 0,
        What::File(bytes, _) | What::Config(bytes) => bytes.len() as u64,
    });
    bytes.sum::<u64>().div_ceil(1024)
}
