//! Privilege: once everything is set up, each thread gives up what it will not need again.
//!
//! Linux keeps capabilities per thread, and a new thread starts with those of its maker. The
//! watching thread keeps what its rung takes to follow interfaces that come and go and to name the
//! processes behind connections; every other thread, among them all that talk to the network or
//! write to disk, keeps none. `no_new_privs` is set before the first thread starts, so no program
//! started from here could get any back. Files stay readable and writable by their owner alone:
//! an agent that root starts becomes the owner of its state folder before it does anything.
//!
//! | rung | to start | kept by the watching thread |
//! |---|---|---|
//! | tcx, clsact | `CAP_BPF`, `CAP_PERFMON`, `CAP_NET_ADMIN` | these, `CAP_SYS_PTRACE` and `CAP_DAC_READ_SEARCH` |
//! | tcx, clsact before Linux 5.8 | `CAP_SYS_ADMIN`, `CAP_NET_ADMIN` | these, `CAP_SYS_PTRACE` and `CAP_DAC_READ_SEARCH` |
//! | afpacket | `CAP_NET_RAW` | `CAP_NET_RAW` |
//!
//! `CAP_SYS_PTRACE` reads what a process of another user runs, `CAP_DAC_READ_SEARCH` opens control
//! groups by the number that the kernel gives; without them more processes stay without either.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context, ensure};
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use crate::capture::packet;
use crate::capture::permission::names;

/// Makes sure that no program started from this thread, or from one it starts, gets more
/// privileges than it has.
///
/// # Errors
/// The kernel refuses.
pub fn gain_nothing() -> anyhow::Result<()> {
    set_no_new_privs(true).context("set no_new_privs")
}

/// What is kept of root's rights by who becomes another user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// None.
    Nothing,
    /// Those that any rung starts with.
    Watching,
}

/// Becomes the owner of `folder` where root runs this and somebody else has that folder, so that all that is
/// written there stays theirs; to be called while there is one thread. A folder that is not there is
/// nobody's.
///
/// # Errors
/// The kernel refuses; then nothing must be written.
pub fn become_owner(folder: &Path, keep: Keep) -> anyhow::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let owner = match fs::metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        owner => owner.with_context(|| format!("look at {}", folder.display()))?,
    };
    let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    if uid.is_root() {
        return Ok(());
    }
    let threads = fs::read_dir("/proc/self/task")
        .context("count our threads")?
        .count();
    ensure!(threads == 1, "{threads} threads run already");
    become_user(uid, gid, keep)
        .with_context(|| format!("become user {uid}, who owns {}", folder.display()))
}

/// Changes the calling thread, and with it those that it starts.
fn become_user(uid: Uid, gid: Gid, keep: Keep) -> io::Result<()> {
    let kept = match keep {
        Keep::Nothing => CapabilitySet::empty(),
        Keep::Watching => {
            CapabilitySet::BPF
                | CapabilitySet::PERFMON
                | CapabilitySet::SYS_ADMIN
                | CapabilitySet::NET_ADMIN
                | CapabilitySet::NET_RAW
                | CapabilitySet::SYS_PTRACE
                | CapabilitySet::DAC_READ_SEARCH
        }
    };
    let kept = kept & capabilities(None)?.permitted;
    set_keep_capabilities(true)?;
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    set_keep_capabilities(false)?;
    reduce_to(kept)
}

/// Leaves the calling thread with what watching on a rung takes, and says what that is.
///
/// # Errors
/// The kernel refuses; then the thread must not go on.
pub fn keep_for(rung: &str) -> anyhow::Result<Vec<String>> {
    let held = capabilities(None).context("ask for the capabilities held")?;
    let kept = needed(rung, held.permitted);
    reduce_to(kept).with_context(|| format!("keep only {}", names(kept).join(", ")))?;
    Ok(names(kept))
}

/// Leaves the calling thread without any capability.
///
/// # Errors
/// The kernel refuses; then the thread must not go on.
pub fn keep_nothing() -> anyhow::Result<()> {
    reduce_to(CapabilitySet::empty()).context("give up all capabilities")
}

/// What of `held` the watching thread needs.
fn needed(rung: &str, held: CapabilitySet) -> CapabilitySet {
    let wanted = if rung == packet::RUNG {
        CapabilitySet::NET_RAW
    } else {
        let loading = CapabilitySet::BPF | CapabilitySet::PERFMON;
        // CAP_SYS_ADMIN implies both, and before Linux 5.8 stands for them.
        let loading = match held.contains(loading) {
            true => loading,
            false => loading | CapabilitySet::SYS_ADMIN,
        };
        loading
            | CapabilitySet::NET_ADMIN
            | CapabilitySet::SYS_PTRACE
            | CapabilitySet::DAC_READ_SEARCH
    };
    wanted & held
}

fn reduce_to(kept: CapabilitySet) -> io::Result<()> {
    clear_ambient_capability_set()?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    // Asked for again, as a capability too many is worse than no agent.
    let left = capabilities(None)?;
    if left.permitted != kept || left.effective != kept {
        return Err(io::Error::other("the kernel left others"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rung_keeps_what_it_takes_and_nothing_else() {
        let check = |rung: &str, held: CapabilitySet, kept: &[&str]| {
            assert_eq!(names(needed(rung, held)), kept, "{rung} of {held:?}");
        };
        let modern = CapabilitySet::BPF | CapabilitySet::PERFMON | CapabilitySet::NET_ADMIN;
        check(
            "tcx",
            CapabilitySet::all(),
            &[
                "CAP_DAC_READ_SEARCH",
                "CAP_NET_ADMIN",
                "CAP_SYS_PTRACE",
                "CAP_PERFMON",
                "CAP_BPF",
            ],
        );
        check(
            "clsact",
            modern,
            &["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"],
        );
        let old = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN;
        check("clsact", old, &["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]);
        check("afpacket", CapabilitySet::all(), &["CAP_NET_RAW"]);
        check("afpacket", modern, &[]);
    }

    /// Whose rights a thread has is the thread's own, so that the others of this test stay who they are.
    #[test]
    fn root_becomes_another_and_keeps_what_watching_takes() {
        if !geteuid().is_root() {
            println!("skipped: takes root");
            return;
        }
        let thread = std::thread::spawn(|| {
            let (uid, gid) = (Uid::from_raw(65_534), Gid::from_raw(65_533));
            let held = capabilities(None).unwrap().permitted;
            become_user(uid, gid, Keep::Watching).unwrap();
            assert!(rustix::process::getgroups().unwrap().is_empty());
            let now = capabilities(None).unwrap();
            assert_eq!(now.permitted, now.effective);
            for (one, is_kept) in [
                (CapabilitySet::NET_RAW, true),
                (CapabilitySet::DAC_READ_SEARCH, true),
                (CapabilitySet::SETUID, false),
                (CapabilitySet::CHOWN, false),
                (CapabilitySet::DAC_OVERRIDE, false),
            ] {
                assert_eq!(now.effective.contains(one), is_kept && held.contains(one));
            }
            // Nobody else's folder takes anything any more.
            let folder = tempfile::tempdir().unwrap();
            assert_eq!(fs::metadata(folder.path()).unwrap().uid(), 65_534);
            assert!(fs::write("/proc/1/comm", b"x").is_err());
        });
        thread.join().unwrap();
        let thread = std::thread::spawn(|| {
            let (uid, gid) = (Uid::from_raw(65_534), Gid::from_raw(65_533));
            become_user(uid, gid, Keep::Nothing).unwrap();
            assert_eq!(
                capabilities(None).unwrap().permitted,
                CapabilitySet::empty()
            );
            assert!(become_user(Uid::ROOT, Gid::ROOT, Keep::Nothing).is_err());
        });
        thread.join().unwrap();
        // Who owns nothing of another's changes nothing.
        let folder = tempfile::tempdir().unwrap();
        become_owner(folder.path(), Keep::Nothing).unwrap();
        become_owner(&folder.path().join("none"), Keep::Nothing).unwrap();
    }

    #[test]
    fn what_is_given_up_is_gone() {
        // On a thread of its own: the others of this test go on as they are.
        let thread = std::thread::spawn(|| {
            gain_nothing().unwrap();
            let kept = keep_for("afpacket").unwrap();
            let held = capabilities(None).unwrap();
            assert_eq!(names(held.effective), kept);
            keep_nothing().unwrap();
            let held = capabilities(None).unwrap();
            assert_eq!(held.permitted, CapabilitySet::empty());
            // And does not come back.
            assert!(reduce_to(CapabilitySet::NET_RAW).is_err());
        });
        thread.join().unwrap();
    }
}
