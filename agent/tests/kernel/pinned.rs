//! A place for pins that is a test's own.

use crate::link::command;

/// A folder whose `bpf` is a bpffs, seen by the calling thread and what it starts; gone with the last
/// of them.
pub(crate) fn bpf_fs() -> tempfile::TempDir {
    // SAFETY: the call takes a number and changes the calling thread alone.
    let answer = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    assert_eq!(answer, 0, "unshare: {}", std::io::Error::last_os_error());
    command("mount --make-rprivate /");
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("bpf");
    std::fs::create_dir(&place).expect("a folder in it");
    command(&format!("mount -t bpf bpf {}", place.display()));
    folder
}
