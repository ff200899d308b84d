//! Why the kernel does not permit something: which capability the calling thread lacks, or what else
//! stands in the way. Linux keeps capabilities per thread.

use std::fs;
use std::io;

use rustix::thread::{CapabilitySet, capabilities};

/// What loading and attaching programs that read packets takes.
pub(super) const PROGRAMS: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::NET_ADMIN);

/// Names of the capabilities that the agent may use.
const NAMES: [(CapabilitySet, &str); 7] = [
    (CapabilitySet::DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"),
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
    (CapabilitySet::SYS_PTRACE, "CAP_SYS_PTRACE"),
    (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
    (CapabilitySet::PERFMON, "CAP_PERFMON"),
    (CapabilitySet::BPF, "CAP_BPF"),
];

/// What the capabilities of a set that we know are called.
pub(crate) fn names(set: CapabilitySet) -> Vec<String> {
    let held = NAMES.into_iter().filter(|(one, _)| set.contains(*one));
    held.map(|(_, name)| name.to_owned()).collect()
}

/// Which of these the calling thread lacks, as `missing CAP_…`; none if it has them all, or if the
/// kernel does not say.
pub(super) fn lack(wanted: CapabilitySet) -> Option<String> {
    let held = capabilities(None).ok()?.effective;
    let missing = missing(wanted, held);
    (!missing.is_empty()).then(|| format!("missing {}", names(missing).join(", ")))
}

/// What of `wanted` is not in `held`: `CAP_SYS_ADMIN` implies two of them (capabilities(7)).
fn missing(wanted: CapabilitySet, held: CapabilitySet) -> CapabilitySet {
    let implied = match held.contains(CapabilitySet::SYS_ADMIN) {
        true => CapabilitySet::BPF | CapabilitySet::PERFMON,
        false => CapabilitySet::empty(),
    };
    wanted - held - implied
}

/// Why something was refused that takes these capabilities.
pub(super) fn why(error: &io::Error, wanted: CapabilitySet) -> String {
    if !matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)) {
        return error.to_string();
    }
    lack(wanted).unwrap_or_else(|| match fs::read_to_string("/proc/self/uid_map") {
        Ok(map) if !is_of_host(&map) => {
            "its capabilities are those of a user namespace, and the host's are asked for".to_owned()
        }
        _ => format!(
            "{error}, and no capability is missing: a sandbox, a security module or lockdown forbids it"
        ),
    })
}

/// Whether users are numbered as on the host: one line, all from 0 (user_namespaces(7)).
fn is_of_host(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        let check = |held: CapabilitySet, expected: &[&str]| {
            assert_eq!(names(missing(PROGRAMS, held)), expected, "{held:?}");
        };
        check(CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN, &[]);
        check(PROGRAMS, &[]);
        check(CapabilitySet::SYS_ADMIN, &["CAP_NET_ADMIN"]);
        check(CapabilitySet::BPF, &["CAP_NET_ADMIN", "CAP_PERFMON"]);
        check(PROGRAMS - CapabilitySet::BPF, &["CAP_BPF"]);
    }

    #[test]
    fn the_hosts_users_are_told_from_those_of_a_namespace() {
        assert!(is_of_host("         0          0 4294967295\n"));
        assert!(!is_of_host("         0          0          1\n"));
        assert!(!is_of_host("0 1000 1\n1 100000 65536\n"));
        assert!(!is_of_host(""));
    }

    #[test]
    fn only_what_is_not_permitted_is_looked_into() {
        let full = io::Error::from_raw_os_error(libc::ENOMEM);
        assert_eq!(why(&full, CapabilitySet::all()), full.to_string());
    }
}
