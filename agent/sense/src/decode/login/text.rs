//! Servers that answer in lines.
//!
//! ```text
//! FTP     220 ready          530 Login incorrect.              230 Login successful.
//! SMTP    220 mx ESMTP       535 5.7.8 Authentication failed   235 2.7.0 Accepted
//! POP3    +OK ready          -ERR [AUTH] Authentication failed +OK Logged in.
//! IMAP    * OK ready         a1 NO [AUTHENTICATIONFAILED] …    a1 OK Logged in
//! Redis                      -WRONGPASS invalid …              +OK
//! Telnet  IAC DO …           Login incorrect                   Last login: …
//! ```
//!
//! Codes of FTP: RFC 959 4.2; of SMTP: RFC 4954 6; answers of POP3: RFC 1939 3 and RFC 3206; of IMAP: RFC 9051
//! 7.1. An answer of 530 with an enhanced code (RFC 3463) is SMTP's and refuses a command, not a login.

use super::{ANSWERS_MAX, Outcome, Service, told};
use crate::decode::Decoded;
use crate::decode::stream::{Claim, Step, StreamProtocol, StreamView};

/// Bytes of an answer's line with its end: 512 (RFC 5321 4.5.3.1.5), and more for lists of capabilities.
const LINE_BYTES_MAX: usize = 2_048;

/// First bytes of a TLS record of a handshake: the server has gone over to it.
const TLS: [u8; 2] = [22, 3];

/// Interpret As Command, and the verbs of negotiation that follow it (RFC 854).
const IAC: u8 = 255;
const NEGOTIATION: std::ops::RangeInclusive<u8> = 251..=254;

/// A line and how many bytes it takes with its end.
enum Line<'a> {
    Whole(&'a [u8], usize),
    Unfinished,
    /// Longer than a line may be, or none at all.
    None,
}

fn line(bytes: &[u8]) -> Line<'_> {
    if bytes.starts_with(&TLS) {
        return Line::None;
    }
    let front = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    match front.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            let line = front.get(..end).unwrap_or_default();
            Line::Whole(line.strip_suffix(b"\r").unwrap_or(line), end + 1)
        }
        None if front.len() < LINE_BYTES_MAX => Line::Unfinished,
        None => Line::None,
    }
}

/// Takes lines as long as `read` has not heard of a login that was granted.
fn advance(
    view: &StreamView<'_>,
    out: &mut dyn FnMut(Decoded),
    read: impl FnOnce(&[u8]) -> Option<(Service, Outcome)>,
) -> Step {
    match line(view.bytes) {
        Line::Unfinished => Step::Wait,
        Line::None => Step::Leave,
        Line::Whole(line, taken) => {
            if view.messages >= ANSWERS_MAX {
                return Step::Leave;
            }
            let Some((service, outcome)) = read(line) else {
                return Step::Took(taken);
            };
            out(told(service, outcome));
            if outcome == Outcome::Succeeded {
                Step::Leave
            } else {
                Step::Took(taken)
            }
        }
    }
}

/// Whether the bytes begin like one of them.
fn begins(view: &StreamView<'_>, starts: &[&[u8]]) -> Claim {
    if !view.first {
        return Claim::No;
    }
    if starts.iter().any(|start| view.bytes.starts_with(start)) {
        Claim::Yes
    } else if starts.iter().any(|start| start.starts_with(view.bytes)) {
        Claim::Unsure
    } else {
        Claim::No
    }
}

fn has_word(line: &[u8], words: &[&str]) -> bool {
    let is_at = |at: &[u8]| {
        let like = |word: &&str| {
            let front = at.get(..word.len()).unwrap_or_default();
            front.eq_ignore_ascii_case(word.as_bytes())
        };
        words.iter().any(like)
    };
    (0..line.len()).any(|at| line.get(at..).is_some_and(is_at))
}

/// FTP, SMTP, POP3 and IMAP: known by how the server greets.
pub(in crate::decode) struct Lines;

impl StreamProtocol for Lines {
    fn claims(&self, view: &StreamView<'_>) -> Claim {
        begins(view, &[b"220 ", b"220-", b"+OK ", b"* OK "])
    }

    fn advance(&self, view: &StreamView<'_>, out: &mut dyn FnMut(Decoded)) -> Step {
        advance(view, out, read)
    }
}

fn read(line: &[u8]) -> Option<(Service, Outcome)> {
    const REFUSED: &[&str] = &["auth", "password", "login", "logon", "credential", "denied"];
    const GRANTED: &[&str] = &[
        "logged in",
        "login ok",
        "login complete",
        "authenticat",
        "maildrop",
    ];
    match line {
        [b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', rest @ ..] => by_code(line.get(..3)?, rest),
        [b'-', b'E', b'R', b'R', rest @ ..] => {
            has_word(rest, REFUSED).then_some((Service::Pop3, Outcome::Failed))
        }
        [b'+', b'O', b'K', rest @ ..] => {
            has_word(rest, GRANTED).then_some((Service::Pop3, Outcome::Succeeded))
        }
        [b'*' | b'+', ..] => None,
        _ => {
            let mut words = line.splitn(3, |byte| *byte == b' ');
            let (_tag, word, rest) = (words.next()?, words.next()?, words.next()?);
            if word.eq_ignore_ascii_case(b"NO") && has_word(rest, REFUSED) {
                Some((Service::Imap, Outcome::Failed))
            } else if word.eq_ignore_ascii_case(b"OK") && has_word(rest, GRANTED) {
                Some((Service::Imap, Outcome::Succeeded))
            } else {
                None
            }
        }
    }
}

fn by_code(code: &[u8], rest: &[u8]) -> Option<(Service, Outcome)> {
    if !matches!(rest.first(), None | Some(b' ' | b'-')) {
        return None;
    }
    let is_enhanced = rest.starts_with(b" 5.") || rest.starts_with(b"-5.");
    match code {
        b"530" | b"430" if !is_enhanced && !has_word(rest, &["please"]) => {
            Some((Service::Ftp, Outcome::Failed))
        }
        b"230" => Some((Service::Ftp, Outcome::Succeeded)),
        b"535" => Some((Service::Smtp, Outcome::Failed)),
        b"235" => Some((Service::Smtp, Outcome::Succeeded)),
        _ => None,
    }
}

/// Redis: known by the refusal with which it begins, since it does not greet.
pub(in crate::decode) struct Redis;

impl StreamProtocol for Redis {
    fn claims(&self, view: &StreamView<'_>) -> Claim {
        begins(
            view,
            &[b"-WRONGPASS ", b"-NOAUTH ", b"-ERR invalid password"],
        )
    }

    fn advance(&self, view: &StreamView<'_>, out: &mut dyn FnMut(Decoded)) -> Step {
        advance(view, out, |line| {
            let refused =
                line.starts_with(b"-WRONGPASS ") || line.starts_with(b"-ERR invalid password");
            match (refused, line) {
                (true, _) => Some((Service::Redis, Outcome::Failed)),
                (false, b"+OK") => Some((Service::Redis, Outcome::Succeeded)),
                (false, _) => None,
            }
        })
    }
}

/// Telnet: known by the server's negotiation.
pub(in crate::decode) struct Telnet;

impl StreamProtocol for Telnet {
    fn claims(&self, view: &StreamView<'_>) -> Claim {
        // The client negotiates alike.
        if !view.first || view.src.port >= view.dst.port {
            return Claim::No;
        }
        match view.bytes {
            [IAC] => Claim::Unsure,
            [IAC, verb, ..] if NEGOTIATION.contains(verb) => Claim::Yes,
            _ => Claim::No,
        }
    }

    fn advance(&self, view: &StreamView<'_>, out: &mut dyn FnMut(Decoded)) -> Step {
        const REFUSED: &[&str] = &[
            "incorrect",
            "login failed",
            "login invalid",
            "authentication failed",
            "bad password",
            "access denied",
        ];
        advance(view, out, |line| {
            if has_word(line, REFUSED) {
                Some((Service::Telnet, Outcome::Failed))
            } else {
                has_word(line, &["last login"]).then_some((Service::Telnet, Outcome::Succeeded))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;
    use super::Outcome::{Failed, Succeeded};
    use super::Service::*;

    #[test]
    fn refused_and_granted_by_code() {
        let ftp: &[&[u8]] = &[
            b"220-Welcome\r\n220 ready\r\n",
            b"331 Password required\r\n",
            b"530 Login incorrect.\r\n",
            b"331 again\r\n230 Login successful.\r\n",
            b"530 later\r\n",
        ];
        check(2_121, ftp, &[(Ftp, Failed), (Ftp, Succeeded)]);
        let smtp: &[&[u8]] = &[
            b"220 mx.example ESMTP\r\n250-mx\r\n250 AUTH PLAIN\r\n",
            b"535 5.7.8 Error: authentication failed\r\n",
            b"235 2.7.0 Authentication successful\r\n",
        ];
        check(25, smtp, &[(Smtp, Failed), (Smtp, Succeeded)]);
    }

    #[test]
    fn codes_that_refuse_no_login() {
        check(
            21,
            &[b"220 ready\r\n530 Please login with USER and PASS.\r\n"],
            &[],
        );
        check(
            25,
            &[b"220 mx\r\n530 5.7.0 Must issue a STARTTLS command first\r\n"],
            &[],
        );
        check(21, &[b"220 ready\r\n5301 x\r\n550 530 x\r\n"], &[]);
        check(21, &[b"530 Login incorrect.\r\n"], &[]);
        check(
            25,
            &[
                b"220 mx\r\n220 go\r\n",
                b"\x16\x03\x03\0\x0a530 no\r\n530 no\r\n",
            ],
            &[],
        );
        let long = [b"220 a\r\n".as_slice(), &[b'x'; 2_048], b"\r\n530 no\r\n"].concat();
        check(21, &[&long], &[]);
    }

    #[test]
    fn mailboxes() {
        let pop: &[&[u8]] = &[
            b"+OK Dovecot ready.\r\n+OK\r\n",
            b"-ERR [AUTH] Authentication failed.\r\n",
            b"+OK Logged in.\r\n",
        ];
        check(110, pop, &[(Pop3, Failed), (Pop3, Succeeded)]);
        check(
            110,
            &[b"+OK ready\r\n-ERR Unknown command.\r\n+OK 2 messages\r\n"],
            &[],
        );
        let imap: &[&[u8]] = &[
            b"* OK [CAPABILITY IMAP4rev1] ready\r\n",
            b"a1 NO [AUTHENTICATIONFAILED] Authentication failed.\r\n",
            b"* CAPABILITY x\r\na2 OK Logged in\r\n",
        ];
        check(143, imap, &[(Imap, Failed), (Imap, Succeeded)]);
        check(
            143,
            &[b"* OK ready\r\na1 NO no such folder\r\na2 OK Completed\r\n"],
            &[],
        );
    }

    #[test]
    fn a_store_and_a_terminal() {
        let redis: &[&[u8]] = &[
            b"-WRONGPASS invalid username-password pair or user is disabled.\r\n",
            b"-ERR invalid password\r\n",
            b"+OK\r\n",
        ];
        check(
            7_000,
            redis,
            &[(Redis, Failed), (Redis, Failed), (Redis, Succeeded)],
        );
        check(6_379, &[b"+OK\r\n", b"-WRONGPASS x\r\n"], &[]);
        check(6_379, &[b"-NOAUTH Authentication required.\r\n:1\r\n"], &[]);
        let telnet: &[&[u8]] = &[
            b"\xff\xfd\x18\xff\xfb\x01host login: ",
            b"\r\nPassword: \r\nLogin incorrect\r\n",
            b"Last login: Mon\r\n",
        ];
        check(2_323, telnet, &[(Telnet, Failed), (Telnet, Succeeded)]);
        check(23, &[b"\xff\xfd\x18welcome\r\nlogin: root\r\n"], &[]);
        check(23, &[b"\xff\xf4x\r\nLogin incorrect\r\n"], &[]);
    }
}
