//! What a package puts on a system, whichever kind of package it is: a folder that looks as the
//! system's root will.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};

use super::{Architecture, Program, Run, bill, notices};

/// The whole text of the licence.
pub(super) const LICENSE: &str = "LICENSE";

/// What packages of one program and architecture share.
pub(super) struct Contents {
    /// Files, folders first, each relative to the root.
    pub(super) files: Vec<Entry>,
}

/// A file or a folder.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) what: What,
}

/// What an entry is.
#[derive(Clone)]
pub(super) enum What {
    /// Made empty; what others put in stays theirs.
    Folder,
    /// Its bytes and mode.
    File(Vec<u8>, u32),
    /// Kept as its owner left it.
    Config(Vec<u8>),
}

impl Contents {
    /// Reads everything that goes into a package.
    pub(super) fn gather(
        run: &Run<'_>,
        program: Program,
        architecture: Architecture,
        built: &Path,
    ) -> anyhow::Result<Self> {
        let Program { name, short, .. } = program;
        let packaging = run.root.join("packaging");
        let doc = format!("usr/share/doc/{name}");
        let mut made = Self { files: Vec::new() };
        for folder in program.folders {
            made.put(folder, What::Folder);
        }
        made.put(&format!("usr/bin/{name}"), What::File(read(built)?, 0o755));
        let config = read(&packaging.join("config").join(format!("{short}.toml")))?;
        made.put(&format!("etc/picket/{short}.toml"), What::Config(config));
        let systemd = packaging.join("systemd");
        made.copy(
            &format!("usr/lib/systemd/system/{name}.service"),
            &systemd.join(format!("{name}.service")),
        )?;
        made.copy(
            &format!("usr/lib/tmpfiles.d/{name}.conf"),
            &systemd.join("picket.tmpfiles"),
        )?;
        made.manual(run, name)?;
        let example = format!("{short}.example.toml");
        made.copy(&format!("{doc}/{example}"), &packaging.join(&example))?;
        // Not with the documentation, which need not be installed.
        for part in program.parts {
            made.copy(&format!("usr/lib/{name}/{part}"), &systemd.join(part))?;
        }
        for page in ["operating.md", "enrolment.md", "feeds.md", "findings.md"] {
            made.copy(&format!("{doc}/{page}"), &run.root.join("docs").join(page))?;
        }
        made.copy(&format!("{doc}/copyright"), &packaging.join("copyright"))?;
        // Debian has this text once for all.
        made.copy(&format!("{doc}/{LICENSE}"), &run.root.join("LICENSE"))?;
        if program.carries_kernel_programs {
            let license = run.root.join("ebpf/LICENSE-MIT");
            made.copy(&format!("{doc}/copyright.kernel-programs"), &license)?;
        }
        let changes = gzipped(&read(&run.root.join("CHANGELOG.md"))?)?;
        made.put(&format!("{doc}/changelog.gz"), What::File(changes, 0o644));
        let parts = bill::Parts::of(run.root, program, architecture.triple)?;
        let bill = bill::cyclonedx(&parts, run.version, run.epoch)?;
        made.put(&format!("{doc}/sbom.cdx.json"), What::File(bill, 0o644));
        let notices = gzipped(&notices::of(&parts)?)?;
        made.put(
            &format!("{doc}/third-party.txt.gz"),
            What::File(notices, 0o644),
        );
        Ok(made)
    }

    /// Manual pages and completions that belong to a program.
    fn manual(&mut self, run: &Run<'_>, name: &str) -> anyhow::Result<()> {
        let mut pages = 0;
        let mut names = super::sums::files(run.manual)?;
        names.retain(|file| file.ends_with(".1") && file.starts_with(name));
        for file in names {
            let page = gzipped(&read(&run.manual.join(&file))?)?;
            self.put(
                &format!("usr/share/man/man1/{file}.gz"),
                What::File(page, 0o644),
            );
            pages += 1;
        }
        ensure!(
            pages > 0,
            "no manual pages of {name} in {}",
            run.manual.display()
        );
        for (from, at) in [
            (
                format!("{name}.bash"),
                format!("bash-completion/completions/{name}"),
            ),
            (format!("_{name}"), format!("zsh/site-functions/_{name}")),
            (
                format!("_{name}"),
                format!("zsh/vendor-completions/_{name}"),
            ),
            (
                format!("{name}.fish"),
                format!("fish/vendor_completions.d/{name}.fish"),
            ),
        ] {
            self.copy(&format!("usr/share/{at}"), &run.manual.join(from))?;
        }
        Ok(())
    }

    /// The same without a file.
    pub(super) fn without(&self, path: &Path) -> Self {
        let files = self.files.iter().filter(|one| one.path != path);
        Self {
            files: files.cloned().collect(),
        }
    }

    /// A file that one kind of package has and the other has not.
    pub(super) fn add(&mut self, at: &str, bytes: Vec<u8>) {
        self.put(at, What::File(bytes, 0o644));
    }

    fn copy(&mut self, at: &str, from: &Path) -> anyhow::Result<()> {
        let bytes = read(from)?;
        self.put(at, What::File(bytes, 0o644));
        Ok(())
    }

    fn put(&mut self, at: &str, what: What) {
        let path = PathBuf::from(at);
        self.files.push(Entry { path, what });
    }

    /// Writes everything below `root`, with the run's time and the modes that it will have.
    pub(super) fn lay_out(&self, root: &Path, epoch: u64) -> anyhow::Result<()> {
        for entry in &self.files {
            let at = root.join(&entry.path);
            let (bytes, mode) = match &entry.what {
                What::Folder => {
                    fs::create_dir_all(&at).with_context(|| format!("make {}", at.display()))?;
                    continue;
                }
                What::File(bytes, mode) => (bytes, *mode),
                What::Config(bytes) => (bytes, 0o644),
            };
            let folder = at.parent().context("a file without a folder")?;
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
            fs::write(&at, bytes).with_context(|| format!("write {}", at.display()))?;
            fs::set_permissions(&at, fs::Permissions::from_mode(mode))
                .with_context(|| format!("set the mode of {}", at.display()))?;
        }
        settle(root, SystemTime::UNIX_EPOCH + Duration::from_secs(epoch))
    }
}

/// Gives everything below a folder, and it, the same time, and folders the mode of folders.
fn settle(at: &Path, time: SystemTime) -> anyhow::Result<()> {
    let context = || format!("set the time of {}", at.display());
    if at.is_dir() {
        fs::set_permissions(at, fs::Permissions::from_mode(0o755)).with_context(context)?;
        for entry in fs::read_dir(at).with_context(context)? {
            settle(&entry.with_context(context)?.path(), time)?;
        }
    }
    let file = File::open(at).with_context(context)?;
    file.set_modified(time).with_context(context)
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("read {}", file.display()))
}

/// Packed without a name or a time.
pub(super) fn gzipped(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut gzip = Command::new("gzip")
        .args(["-9", "--no-name"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start gzip")?;
    let mut input = gzip.stdin.take().context("gzip has no input")?;
    let packed = std::thread::scope(|scope| {
        let writing = scope.spawn(move || input.write_all(bytes));
        let packed = gzip.wait_with_output();
        writing.join().map(|written| (written, packed))
    });
    let Ok((written, packed)) = packed else {
        anyhow::bail!("writing to gzip broke off");
    };
    written.context("write to gzip")?;
    let packed = packed.context("read from gzip")?;
    ensure!(packed.status.success(), "gzip: {}", packed.status);
    Ok(packed.stdout)
}
