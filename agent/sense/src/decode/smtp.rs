//! What a mail client says before its mail (RFC 5321), up to the first message or to TLS.
//!
//! Kept are the name it greets with, the domains of senders, the mechanism of a login and whether
//! it goes over to TLS (RFC 3207); no mailbox, no credential, no mail.

use serde::Serialize;

use super::Decoded;
use super::bytes::{Bytes, escaped};
use super::stream::{Claim, Step, StreamProtocol, StreamView};
use crate::limits::CONTENT_CHARS_MAX;

/// Bytes of a command: 512 (RFC 5321 4.5.3.1.4), and more for extensions.
const LINE_BYTES_MAX: usize = 2_048;

/// Commands told of one direction: some messages' worth. Chosen by hand.
const COMMANDS_MAX: u32 = 64;

/// What a client commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// A greeting: EHLO, HELO or LHLO.
    Greeting,
    /// The sender of a message.
    Mail,
    /// A login.
    Auth,
    /// On to TLS.
    StartTls,
}

/// A command that says something of its client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Command {
    /// Which one.
    pub command: Verb,
    /// The name greeted with, the sender's domain, the mechanism.
    pub argument: Option<String>,
}

/// What a line is for us.
enum Line {
    Told(Command),
    Ignored,
    /// A message follows.
    Data,
}

fn read(line: &[u8]) -> Line {
    let mut words = line.splitn(2, |byte| *byte == b' ');
    let (verb, rest) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let is = |known: &str| verb.eq_ignore_ascii_case(known.as_bytes());
    let (command, argument) = if is("EHLO") || is("HELO") || is("LHLO") {
        (Verb::Greeting, first_word(rest))
    } else if is("MAIL") {
        (Verb::Mail, sender_domain(rest))
    } else if is("AUTH") {
        (Verb::Auth, first_word(rest))
    } else if is("STARTTLS") {
        (Verb::StartTls, None)
    } else if is("DATA") || is("BDAT") {
        return Line::Data;
    } else {
        return Line::Ignored;
    };
    Line::Told(Command {
        command,
        argument: argument.map(shown),
    })
}

fn first_word(text: &[u8]) -> Option<&[u8]> {
    let word = text.trim_ascii().split(|byte| *byte == b' ').next();
    word.filter(|word| !word.is_empty())
}

/// What stands between `@` and `>` in `FROM:<box@domain> …`.
fn sender_domain(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|byte| *byte == b'>')?;
    let address = text.get(..end)?;
    let at = address.iter().rposition(|byte| *byte == b'@')?;
    address.get(at + 1..).filter(|domain| !domain.is_empty())
}

fn shown(bytes: &[u8]) -> String {
    let mut text = escaped(bytes);
    text.truncate(CONTENT_CHARS_MAX);
    text
}

/// SMTP, on any port: known by its greeting.
pub(super) struct OverTcp;

impl StreamProtocol for OverTcp {
    fn claims(&self, view: &StreamView<'_>) -> Claim {
        if !view.first {
            return Claim::No;
        }
        let front = view.bytes.get(..5).unwrap_or(view.bytes);
        let starts = [&b"EHLO "[..], b"HELO ", b"LHLO "];
        let like = |start: &&[u8]| {
            let same = start.get(..front.len()).unwrap_or_default();
            same.eq_ignore_ascii_case(front)
        };
        match (starts.iter().any(like), front.len() == 5) {
            (true, true) => Claim::Yes,
            (true, false) => Claim::Unsure,
            (false, _) => Claim::No,
        }
    }

    fn advance(&self, view: &StreamView<'_>, out: &mut dyn FnMut(Decoded)) -> Step {
        let mut bytes = Bytes::new(view.bytes);
        let Some(line) = bytes.line().filter(|line| line.len() <= LINE_BYTES_MAX) else {
            let more = view.bytes.len() <= LINE_BYTES_MAX;
            return if more { Step::Wait } else { Step::Leave };
        };
        let taken = view.bytes.len() - bytes.rest().len();
        match read(line) {
            Line::Told(command) if view.messages < COMMANDS_MAX => {
                let hands_over = command.command == Verb::StartTls;
                out(Decoded::Smtp(command));
                if hands_over {
                    Step::Hand(taken)
                } else {
                    Step::Took(taken)
                }
            }
            Line::Ignored => Step::Took(taken),
            Line::Told(_) | Line::Data => Step::Leave,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{client_hello, over_tcp, tls_record};

    #[track_caller]
    fn check(parts: &[&[u8]], expected: &[&str]) {
        let told: Vec<String> = over_tcp(parts)
            .iter()
            .map(|message| match message {
                Decoded::Smtp(Command { command, argument }) => {
                    format!("{command:?} {}", argument.as_deref().unwrap_or("-"))
                }
                Decoded::ClientHello(hello) => hello.sni.clone().unwrap_or_default(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn a_client_that_sends_mail() {
        let parts: [&[u8]; 6] = [
            b"EHLO mail.example\r\n",
            b"AUTH PLAIN AHVzZXIAczNjcmV0\r\n",
            b"MAIL FROM:<box@Example.com> SIZE=100\r\nRCPT TO:<a@b.example>\r\n",
            b"DATA\r\n",
            b"MAIL FROM:<x@y.example>\r\n.\r\n",
            b"QUIT\r\n",
        ];
        let expected = ["Greeting mail.example", "Auth PLAIN", "Mail Example.com"];
        check(&parts, &expected);
        let bytes = parts.concat();
        check(&bytes.chunks(3).collect::<Vec<_>>(), &expected);
    }

    #[test]
    fn a_client_that_goes_over_to_tls() {
        let hello = tls_record(&client_hello("mx.example"));
        let parts = [b"ehlo me\r\n", &b"STARTTLS\r\n"[..], &hello];
        check(&parts, &["Greeting me", "StartTls -", "mx.example"]);
    }

    #[test]
    fn near_misses() {
        check(&[b"HELLO there\r\n"], &[]);
        check(&[b"EHLO no end"], &[]);
        check(&[b"220 ready\r\n", b"EHLO me\r\n"], &[]);
        check(
            &[b"HELO \r\nMAIL FROM:<>\r\nmail from:box@b.example\r\n"],
            &["Greeting -", "Mail -", "Mail -"],
        );
        check(
            &[b"HELO a\r\n", &[b'x'; 3_000], b"\r\nMAIL FROM:<a@b>\r\n"],
            &["Greeting a"],
        );
    }
}
