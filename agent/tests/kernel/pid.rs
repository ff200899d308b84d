//! Process numbers of a container: a namespace in which the first process is number 1.

/// Has the calling thread's children made in a pid namespace of their own; the first of them is
/// number 1 there.
pub(crate) fn leave_pid_namespace() {
    // SAFETY: the call takes a number and changes where this thread's children are made.
    let answer = unsafe { libc::unshare(libc::CLONE_NEWPID) };
    assert_eq!(answer, 0, "unshare: {}", std::io::Error::last_os_error());
}
