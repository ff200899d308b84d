//! That interfaces, addresses or routes have changed, as the kernel tells it over rtnetlink(7), so
//! that a new interface is watched at once and not with the next timed look.
//!
//! What has changed is not read from the messages: whoever hears of a change looks at all there is,
//! as at any other time, so a message that was lost or that we would not understand costs nothing.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// Shortest time between two looks: a flood of changes (a host that starts containers, somebody
/// who adds and removes addresses) must not keep us busy. Chosen by hand.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Messages taken away at once.
const MESSAGES_MAX: usize = 256;

/// Hears of changes in the network namespace of the thread that made it.
#[derive(Debug)]
pub(crate) struct Changes {
    socket: OwnedFd,
    heard: bool,
    looked: Option<Instant>,
}

impl Changes {
    /// Begins to listen.
    ///
    /// # Errors
    /// The system refuses the socket.
    pub(crate) fn listen() -> io::Result<Self> {
        // RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE of linux/rtnetlink.h.
        const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
        const KIND: libc::c_int = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: the call takes numbers only; a descriptor it gives is ours alone.
        let socket = unsafe {
            let socket = libc::socket(libc::AF_NETLINK, KIND, libc::NETLINK_ROUTE);
            if socket < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(socket)
        };
        // SAFETY: sockaddr_nl is integers, for which zeros are valid; the call reads one.
        let answer = unsafe {
            let mut address: libc::sockaddr_nl = std::mem::zeroed();
            address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
            address.nl_groups = GROUPS;
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_nl>() as libc::socklen_t,
            )
        };
        if answer != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            socket,
            heard: false,
            looked: None,
        })
    }

    /// Says whether it is time to look: something has changed since the last time this said so.
    /// Never waits.
    pub(crate) fn call_for_a_look(&mut self, now: Instant) -> bool {
        self.hear();
        let soon = self
            .looked
            .is_some_and(|looked| now.saturating_duration_since(looked) < LOOK_EVERY);
        if !self.heard || soon {
            return false;
        }
        (self.heard, self.looked) = (false, Some(now));
        true
    }

    /// Takes away what waits.
    fn hear(&mut self) {
        // Messages may be longer; the rest of one is cut off, and nobody reads it.
        let mut message = [0u8; 64];
        for _ in 0..MESSAGES_MAX {
            // SAFETY: the call writes at most as many bytes as it is told into ours.
            let read = unsafe {
                libc::recv(
                    self.socket.as_raw_fd(),
                    message.as_mut_ptr().cast(),
                    message.len(),
                    0,
                )
            };
            if read < 0 {
                // Where the queue ran over, some were lost: that is news as well.
                let error = io::Error::last_os_error();
                self.heard |= error.raw_os_error() == Some(libc::ENOBUFS);
                if error.kind() == io::ErrorKind::WouldBlock {
                    return;
                }
                continue;
            }
            self.heard = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_calls_while_nothing_changes_and_calls_are_spaced() {
        let mut changes = Changes::listen().unwrap();
        let now = Instant::now();
        changes.heard = true;
        assert!(changes.call_for_a_look(now));
        changes.heard = true;
        assert!(!changes.call_for_a_look(now + LOOK_EVERY / 2), "too soon");
        assert!(changes.call_for_a_look(now + LOOK_EVERY), "not forgotten");
    }
}
