//! What runs inside a machine: the product, the checks, and the programs that they call, with the
//! libraries of each, packed into the first file system.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::Arguments;
use super::archive::{Archive, find};
use super::debian::Debian;
use super::image::Image;
use super::machine::Machine;

/// Programs that the checks call, and the Debian package of each.
const CALLED: &[(&str, &str)] = &[
    ("busybox", "busybox-static"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("ethtool", "ethtool"),
    ("dnsmasq", "dnsmasq-base"),
];

/// The suite that programs for another machine come from: what the product is built for runs there.
const SUITE: &str = "bookworm";

/// What runs inside.
#[derive(Debug)]
pub(super) struct System<'a> {
    pub(super) machine: Machine,
    /// The repository.
    root: &'a Path,
    /// Agent, collector and checks.
    ours: [PathBuf; 3],
    /// The kernel object.
    object: PathBuf,
    /// Where programs that are called and libraries are found.
    tree: Tree,
}

impl<'a> System<'a> {
    /// For a machine.
    pub(super) fn of(
        machine: Machine,
        root: &'a Path,
        target: &Path,
        arguments: &Arguments,
        cache: &Path,
    ) -> anyhow::Result<Self> {
        let (bin, checks, tree) = match (machine, &arguments.aarch64) {
            (Machine::Aarch64, Some(folder)) => {
                (folder.clone(), folder.clone(), Tree::get(machine, cache)?)
            }
            _ => (
                arguments.bin.clone(),
                target.join("debug"),
                Tree(PathBuf::from("/")),
            ),
        };
        let ours = [
            bin.join("picket-agent"),
            bin.join("picket-collector"),
            checks.join("picket-guest"),
        ];
        for program in &ours {
            ensure!(program.is_file(), "no {}", program.display());
        }
        Ok(Self {
            machine,
            root,
            ours,
            object: target.join("kernel").join("picket.o"),
            tree,
        })
    }

    /// Packs it with the modules of a kernel.
    pub(super) fn pack(&self, image: &Image, archive: &Path) -> anyhow::Result<()> {
        let out = File::create(archive).with_context(|| format!("create {}", archive.display()))?;
        let mut out = Archive::new(BufWriter::new(out));
        let init = fs::read(self.root.join("packaging/kernels/init")).context("read init")?;
        out.file(Path::new("/init"), &init, 0o755)?;
        for (tool, _) in CALLED {
            let from = self.tree.find(tool)?;
            let at = match *tool {
                "busybox" => PathBuf::from("/bin/busybox"),
                tool => Path::new("/usr/bin").join(tool),
            };
            self.program(&mut out, &from, &at)?;
        }
        for program in &self.ours {
            let name = program.file_name().context("a program without a name")?;
            let small = archive.with_extension("stripped");
            // Of another machine's programs ours may know nothing.
            let stripped = Command::new("strip")
                .arg("-o")
                .arg(&small)
                .arg(program)
                .output();
            let from = match stripped {
                Ok(output) if output.status.success() => &small,
                _ => program,
            };
            let packed = self.program(&mut out, from, &Path::new("/picket").join(name));
            let _ = fs::remove_file(&small);
            packed?;
        }
        out.copy(&self.object, Path::new("/picket/picket.o"))?;
        // The guest reads its scenes where it was built.
        out.tree(&self.root.join("tests/scenarios"))?;
        out.file(Path::new("/etc/passwd"), b"root:x:0:0::/:/bin/sh\n", 0o644)?;
        out.file(Path::new("/etc/group"), b"root:x:0:\n", 0o644)?;
        // What an HTTP client trusts; it asks for it even where it speaks plain HTTP.
        let trusted = Path::new("/etc/ssl/certs/ca-certificates.crt");
        if trusted.is_file() {
            out.copy(trusted, trusted)?;
        }
        let mut order = String::new();
        for module in &image.modules {
            let name = module.file_name().context("a module without a name")?;
            out.copy(module, &Path::new("/modules").join(name))?;
            order.push_str(&name.to_string_lossy());
            order.push('\n');
        }
        out.file(Path::new("/modules/order"), order.as_bytes(), 0o644)?;
        out.finish()?;
        Ok(())
    }

    /// Adds a program with the libraries that it and they are linked to, each where the loader looks.
    fn program(
        &self,
        out: &mut Archive<BufWriter<File>>,
        from: &Path,
        at: &Path,
    ) -> anyhow::Result<()> {
        out.copy(from, at)?;
        let mut files = vec![from.to_path_buf()];
        while let Some(file) = files.pop() {
            for name in linked(&file)? {
                let (from, at) = self
                    .tree
                    .library(&name, self.machine)
                    .with_context(|| format!("{} needs {name}", file.display()))?;
                if !out.has(&at) {
                    out.copy(&from, &at)?;
                    files.push(from);
                }
            }
        }
        Ok(())
    }
}

/// A folder that is the root of a Debian, this machine's own or one of another.
#[derive(Debug)]
struct Tree(PathBuf);

impl Tree {
    /// The programs that the checks call, for another machine: fetched once.
    fn get(machine: Machine, cache: &Path) -> anyhow::Result<Self> {
        let name = format!("tree-{}", machine.debian());
        let whole = cache.join(&name);
        if !whole.is_dir() {
            println!("fetching programs for {}", machine.name());
            let part = cache.join(format!("{name}.part"));
            let _ = fs::remove_dir_all(&part);
            fs::create_dir_all(&part).with_context(|| format!("make {}", part.display()))?;
            let mut packages: Vec<&str> = CALLED.iter().map(|(_, package)| *package).collect();
            packages.dedup();
            Debian::open(SUITE, machine.debian(), cache)?.unpack(&packages, &part)?;
            fs::rename(&part, &whole).with_context(|| format!("keep {}", whole.display()))?;
        }
        Ok(Self(whole))
    }

    fn find(&self, tool: &str) -> anyhow::Result<PathBuf> {
        if self.0 == Path::new("/") {
            return find(tool).with_context(|| format!("{tool} is gone"));
        }
        let folders = ["usr/bin", "usr/sbin", "bin", "sbin"];
        let files = folders.map(|folder| self.0.join(folder).join(tool));
        files
            .into_iter()
            .find(|file| file.is_file())
            .with_context(|| format!("no {tool} in {}", self.0.display()))
    }

    /// Where a library or loader is, by its name or path, and where it must be inside.
    fn library(&self, name: &str, machine: Machine) -> Option<(PathBuf, PathBuf)> {
        let places = if let Some(path) = name.strip_prefix('/') {
            vec![PathBuf::from(path)]
        } else {
            let folders =
                ["lib", "usr/lib"].map(|folder| Path::new(folder).join(machine.triplet()));
            let others = ["lib64", "usr/lib64", "lib", "usr/lib"].map(PathBuf::from);
            let folders = folders.into_iter().chain(others);
            folders.map(|folder| folder.join(name)).collect()
        };
        places
            .into_iter()
            .map(|place| (self.0.join(&place), Path::new("/").join(&place)))
            .find(|(from, _)| from.is_file())
    }
}

/// What a program or library asks the loader for, and the loader.
fn linked(file: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new("readelf")
        .args(["--program-headers", "--dynamic", "--wide"])
        .arg(file)
        .env("LC_ALL", "C")
        .output()
        .context("start readelf")?;
    ensure!(
        output.status.success(),
        "readelf {}: {}",
        file.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(names_in(&String::from_utf8_lossy(&output.stdout)))
}

fn names_in(text: &str) -> Vec<String> {
    let marks = ["Shared library: [", "[Requesting program interpreter: "];
    let lines = text.lines().filter_map(|line| {
        let rest = marks.iter().find_map(|mark| line.split_once(mark))?.1;
        Some(rest.strip_suffix(']').unwrap_or(rest).to_owned())
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::super::TOOLS;
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_read_from_what_readelf_says() {
        let text = "  INTERP 0x1\n      [Requesting program interpreter: /lib64/ld.so.2]\n \
                    0x01 (NEEDED)   Shared library: [libc.so.6]\n 0x0e (SONAME) Library soname: [x]\n";
        assert_eq!(names_in(text), ["/lib64/ld.so.2", "libc.so.6"]);
        assert!(names_in("There is no dynamic section in this file.\n").is_empty());
    }

    #[test]
    fn every_tool_that_is_called_is_asked_for() {
        for called in CALLED {
            assert!(TOOLS.contains(called), "{called:?}");
        }
    }
}
