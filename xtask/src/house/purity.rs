//! The four cores name no socket, file, clock, sleep, process, environment or standard stream, and
//! take no randomness of their own: fed the same bytes and times they give the same answers.

use anyhow::Context;

use super::{
    CORES, Finding,
    code::{Code, Named},
    repository::Repository,
};

/// Consecutive segments that a path in a core may not have, and what they are.
const FORBIDDEN: &[(&[&str], &str)] = &[
    (&["std", "fs"], "files"),
    (&["std", "process"], "processes"),
    (&["std", "env"], "the environment"),
    (&["std", "thread"], "threads and sleep"),
    (&["std", "os"], "the operating system"),
    (&["std", "*"], "everything in std"),
    (&["std", "net", "*"], "sockets among addresses"),
    (&["TcpStream"], "a socket"),
    (&["TcpListener"], "a socket"),
    (&["UdpSocket"], "a socket"),
    (&["ToSocketAddrs"], "the resolver"),
    (&["UnixStream"], "a socket"),
    (&["UnixListener"], "a socket"),
    (&["UnixDatagram"], "a socket"),
    (&["fs", "File"], "a file"),
    (&["thread", "sleep"], "sleep"),
    (&["SystemTime", "now"], "the clock"),
    (&["Instant", "now"], "the clock"),
    (&["Timestamp", "now"], "the clock"),
    (&["Zoned", "now"], "the clock"),
    (&["TimeZone", "system"], "the machine's time zone"),
    (&["io", "stdin"], "a standard stream"),
    (&["io", "stdout"], "a standard stream"),
    (&["io", "stderr"], "a standard stream"),
    (&["print!"], "a standard stream"),
    (&["println!"], "a standard stream"),
    (&["eprint!"], "a standard stream"),
    (&["eprintln!"], "a standard stream"),
    (&["dbg!"], "a standard stream"),
    (&["SystemRandom"], "randomness"),
];

/// Checks the sources of the cores outside their tests.
pub(super) fn check(repository: &Repository) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (file, text) in repository.sources()? {
        let in_core = CORES
            .iter()
            .any(|(_, folder)| file.starts_with(format!("{folder}/src")));
        if !in_core || file.ends_with("tests.rs") {
            continue;
        }
        let code =
            Code::outside_tests(&text).with_context(|| format!("read {}", file.display()))?;
        for named in code.named() {
            if let Some(what) = forbidden(&named) {
                findings.push(Finding::fault(format!(
                    "{}:{}: a core may not touch {what}: {}",
                    file.display(),
                    named.line,
                    named.segments.join("::")
                )));
            }
        }
    }
    Ok(findings)
}

fn forbidden(named: &Named) -> Option<&'static str> {
    let hit = FORBIDDEN.iter().find(|(pattern, _)| {
        named
            .segments
            .windows(pattern.len())
            .any(|window| window.iter().zip(*pattern).all(|(a, b)| a == b))
    });
    hit.map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_code(text: &str, expected: &[&str]) {
        let code = Code::outside_tests(text).unwrap();
        let found: Vec<&str> = code.named().iter().filter_map(forbidden).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn what_touches_the_world_is_found() {
        check_code("use std::net::{IpAddr, UdpSocket};", &["a socket"]);
        check_code("use std::fs;", &["files"]);
        check_code("use std::fs::File;", &["files"]);
        check_code("fn f() { let t = SystemTime::now(); }", &["the clock"]);
        check_code("fn f() { std::time::Instant::now(); }", &["the clock"]);
        check_code(
            "use std::{collections::HashMap, thread::sleep};",
            &["threads and sleep"],
        );
        check_code("fn f() { let p = std::process::id(); }", &["processes"]);
        check_code("fn f() { vec![std::env::var(x)] }", &["the environment"]);
        check_code("fn f() { eprintln!(\"x\") }", &["a standard stream"]);
        check_code(
            "fn f() { ring::rand::SystemRandom::new() }",
            &["randomness"],
        );
        check_code("use std::net::*;", &["sockets among addresses"]);
    }

    #[test]
    fn what_only_looks_like_it_is_not() {
        check_code("use std::net::{IpAddr, SocketAddr};", &[]);
        check_code("use std::io::Read; fn f(now: u64) -> u64 { now }", &[]);
        check_code(
            "use std::time::{Duration, SystemTime}; fn f(now: SystemTime) {}",
            &[],
        );
        check_code(
            "struct File; mod fs {} fn f() { record.process(File) }",
            &[],
        );
        check_code("#[cfg(test)] mod tests { use std::fs; }", &[]);
        check_code(
            "fn f() { let env = 1; self.sleep(env); writeln!(out, \"{env}\") }",
            &[],
        );
    }
}
