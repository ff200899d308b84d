//! Questions to the kernel over rtnetlink(7), and the attributes that its answers are made of.
//!
//! Answers are for the network namespace of the calling thread.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Bytes of the header of every message: length, type, flags, sequence number, sender.
pub(super) const HEADER_BYTES: usize = 16;

/// `NLMSG_ERROR` and `NLMSG_DONE` of include/uapi/linux/netlink.h.
pub(super) const ERROR: u16 = 2;
const DONE: u16 = 3;

/// What the kernel fills at once: `NLMSG_GOODSIZE` is at most a page, dumps ask for 32 KiB.
const ANSWER_BYTES: usize = 32 << 10;

/// Answers to one question, at most: a host with more than 65,536 interfaces is told in part.
const MESSAGES_MAX: usize = 1 << 16;

/// The value of an attribute in a row of them: length, kind, value, padding to four bytes.
pub(super) fn attribute(mut row: &[u8], wanted: u16) -> Option<&[u8]> {
    /// `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER` are no part of the kind.
    const KIND: u16 = 0x3fff;
    loop {
        let length = usize::from(u16::from_ne_bytes(bytes(row, 0)?));
        let kind = u16::from_ne_bytes(bytes(row, 2)?) & KIND;
        let value = row.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        row = row.get(length.next_multiple_of(4)..)?;
    }
}

/// So many bytes from a place on, if they are there.
pub(super) fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// A routing netlink socket.
pub(super) struct Route(OwnedFd);

impl Route {
    /// Opens one.
    pub(super) fn open() -> io::Result<Self> {
        // SAFETY: the call takes numbers only; the descriptor it gives is ours alone.
        unsafe {
            let socket = libc::socket(
                libc::AF_NETLINK,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                libc::NETLINK_ROUTE,
            );
            if socket < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(OwnedFd::from_raw_fd(socket)))
        }
    }

    /// Sends a question and takes the answer, which the kernel has ready when the question is sent.
    pub(super) fn ask(&self, question: &[u8], answer: &mut [u8]) -> io::Result<usize> {
        self.send(question)?;
        self.receive(answer)
    }

    /// Sends a question that has many answers and hands over each, its header with it.
    pub(super) fn ask_for_all(
        &self,
        question: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        self.send(question)?;
        let mut buffer = vec![0; ANSWER_BYTES];
        for _ in 0..MESSAGES_MAX {
            let received = self.receive(&mut buffer)?;
            if walk(buffer.get(..received).unwrap_or_default(), &mut each)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn send(&self, question: &[u8]) -> io::Result<()> {
        // SAFETY: the call reads `question` within the length given.
        let sent = unsafe {
            libc::send(
                self.0.as_raw_fd(),
                question.as_ptr().cast(),
                question.len(),
                0,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    fn receive(&self, answer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the call writes to `answer` within the length given.
        let received = unsafe {
            libc::recv(
                self.0.as_raw_fd(),
                answer.as_mut_ptr().cast(),
                answer.len(),
                libc::MSG_DONTWAIT,
            )
        };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }
}

/// Hands over the messages in `received`; true when the last one says that there are no more.
fn walk(mut received: &[u8], each: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    let short = || io::Error::other("a netlink answer that is too short");
    while !received.is_empty() {
        let length = u32::from_ne_bytes(bytes(received, 0).ok_or_else(short)?) as usize;
        let kind = u16::from_ne_bytes(bytes(received, 4).ok_or_else(short)?);
        let message = received.get(..length).ok_or_else(short)?;
        if length < HEADER_BYTES {
            return Err(short());
        }
        match kind {
            DONE => return Ok(true),
            ERROR => {
                let code = i32::from_ne_bytes(bytes(message, HEADER_BYTES).ok_or_else(short)?);
                return match code {
                    0 => Ok(true),
                    code => Err(io::Error::from_raw_os_error(-code)),
                };
            }
            _ => each(message),
        }
        received = received
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    Ok(false)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A message of this kind.
    pub(in crate::capture) fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut message = vec![0; HEADER_BYTES];
        let length = (HEADER_BYTES + body.len()) as u32;
        message[..4].copy_from_slice(&length.to_ne_bytes());
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message.extend(body);
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    /// An attribute of this kind.
    pub(in crate::capture) fn one(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut attribute = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        attribute.extend(kind.to_ne_bytes());
        attribute.extend(value);
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        attribute
    }

    #[test]
    fn messages_are_walked_to_the_end_and_no_further() {
        let mut seen = Vec::new();
        let mut walked = |received: &[u8]| {
            seen.clear();
            let done = walk(received, &mut |message| seen.push(message.len()));
            (done.map_err(|error| error.raw_os_error()), seen.clone())
        };
        let two = [message(16, &[1; 5]), message(16, &[2; 8])].concat();
        assert_eq!(walked(&two), (Ok(false), vec![21, 24]));
        let done = [message(16, &[1; 4]), message(DONE, &[0; 4])].concat();
        assert_eq!(walked(&done), (Ok(true), vec![20]));
        let refused = message(ERROR, &(-libc::EPERM).to_ne_bytes());
        assert_eq!(walked(&refused), (Err(Some(libc::EPERM)), vec![]));
        assert_eq!(walked(&two[..30]).0, Err(None));
        assert_eq!(walked(&[0; 16]).0, Err(None), "no endless row");
        assert_eq!(walked(&[9]).0, Err(None));
    }

    #[test]
    fn attributes_are_found_and_a_row_ends() {
        let row = [one(7, b"ether_in\0"), one(0x8000 | 11, &[7; 4])].concat();
        assert_eq!(attribute(&row, 11), Some(&[7u8; 4][..]));
        assert_eq!(attribute(&row, 12), None);
        assert_eq!(attribute(&[0, 0, 0, 0], 1), None, "no endless row");
    }
}
