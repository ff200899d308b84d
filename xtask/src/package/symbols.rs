//! Which C library a program needs at least, as `readelf` lists the versions of its symbols, and which
//! libraries besides. A program that needs a newer one than the oldest system we name does not start
//! there.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, ensure};

/// Libraries that every system has: they come with the C library.
const LIBRARIES: &[&str] = &[
    "libc.so.6",
    "libdl.so.2",
    // Debian's C library depends on it; RPM asks for it by itself.
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
    "libutil.so.1",
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
];

/// A version of the C library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GlibcVersion {
    major: u32,
    minor: u32,
}

impl FromStr for GlibcVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut numbers = text.split('.').map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok(Self { major, minor }),
            _ => Err(format!("{text:?} is no version of the C library")),
        }
    }
}

impl fmt::Display for GlibcVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What a program needs of the system that it starts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Needs {
    /// The newest symbol's version.
    pub(super) glibc: GlibcVersion,
    libraries: Vec<String>,
}

impl Needs {
    /// Fails if the program needs more than every system has.
    pub(super) fn check(&self, glibc_max: GlibcVersion) -> anyhow::Result<()> {
        ensure!(
            self.glibc <= glibc_max,
            "needs glibc {}, at most {glibc_max} is allowed",
            self.glibc
        );
        let odd = self
            .libraries
            .iter()
            .find(|one| !LIBRARIES.contains(&one.as_str()));
        ensure!(odd.is_none(), "needs {}", odd.map_or("", String::as_str));
        Ok(())
    }

    /// Of what `readelf --version-info --dynamic --wide` writes.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let versions = text.split("Name: GLIBC_").skip(1).filter_map(|rest| {
            let number = rest.split_whitespace().next()?;
            number.parse::<GlibcVersion>().ok()
        });
        let libraries = text.lines().filter_map(|line| {
            let name = line.split_once("Shared library: [")?.1;
            Some(name.split_once(']')?.0.to_owned())
        });
        Ok(Self {
            glibc: versions.max().context("no symbol of the C library")?,
            libraries: libraries.collect(),
        })
    }
}

/// What the program in a file needs.
pub(super) fn of(program: &Path) -> anyhow::Result<Needs> {
    ensure!(
        program.is_file(),
        "{} has not been built",
        program.display()
    );
    let mut readelf = Command::new("readelf");
    readelf
        .args(["--version-info", "--dynamic", "--wide"])
        .arg(program);
    Needs::parse(&super::output(&mut readelf)?).with_context(|| program.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "\
 0x0000000000000001 (NEEDED)             Shared library: [libm.so.6]
 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]
Version needs section '.gnu.version_r' contains 2 entries:
  000000: Version: 1  File: libm.so.6  Cnt: 1
  0x0010:   Name: GLIBC_2.2.5  Flags: none  Version: 5
  0x0020: Version: 1  File: libc.so.6  Cnt: 3
  0x0030:   Name: GLIBC_2.17  Flags: none  Version: 4
  0x0040:   Name: GLIBC_2.9  Flags: none  Version: 3
";

    #[test]
    fn the_newest_version_counts_by_number() {
        let needs = Needs::parse(TOLD).unwrap();
        assert_eq!(needs.glibc.to_string(), "2.17");
        assert_eq!(needs.libraries, ["libm.so.6", "libc.so.6"]);
        let check = |max: &str| needs.check(max.parse().unwrap());
        assert!(check("2.17").is_ok());
        assert!(check("2.26").is_ok());
        let error = check("2.9").unwrap_err().to_string();
        assert_eq!(error, "needs glibc 2.17, at most 2.9 is allowed");
        assert!(Needs::parse("static").is_err());
        assert!("two".parse::<GlibcVersion>().is_err());
    }

    #[test]
    fn a_library_that_some_systems_lack_is_named() {
        let told = TOLD.replace("libm.so.6]", "libssl.so.3]");
        let needs = Needs::parse(&told).unwrap();
        let error = needs.check(needs.glibc).unwrap_err();
        assert_eq!(error.to_string(), "needs libssl.so.3");
    }

    /// The test itself is a program of this system.
    #[test]
    fn what_readelf_says_of_a_real_program_is_read() {
        let us = std::env::current_exe().unwrap();
        let needs = of(&us).unwrap();
        assert!(needs.libraries.contains(&"libc.so.6".to_owned()));
        assert!(needs.check("2.0".parse().unwrap()).is_err());
    }
}
