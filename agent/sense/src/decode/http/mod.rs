//! HTTP/1 requests (RFC 9112), on any port, also to a proxy.
//!
//! ```text
//! METHOD SP target SP HTTP/1.x CRLF
//! name: value CRLF …
//! CRLF
//! body, as long as Content-Length says, or in chunks
//! ```
//!
//! Of the fields only those are looked at that say where a request goes, who makes it and how long
//! it is: never cookies, authorization or bodies. A request to the metadata service is told as one
//! of those instead, see [`imds`]; only there are answers read, and of them the status.

pub mod imds;

use serde::Serialize;

use super::Decoded;
use super::bytes::{Bytes, escaped};
use super::stream::{Claim, Step, StreamProtocol, StreamView};
use crate::limits::{CONTENT_CHARS_MAX, HTTP_HEAD_BYTES_MAX};

/// Bytes of a request's first line, looked at for an end. The 8,000 that RFC 9112 3 recommends to
/// take, and room for the method.
const LINE_BYTES_MAX: usize = 8_192;

/// Bytes of a method: the longest registered one has 17 (`UPDATEREDIRECTREF`).
const METHOD_BYTES_MAX: usize = 20;

/// An HTTP/1 request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Request {
    /// `GET`, …
    pub method: String,
    /// The host asked for: from the target if it names one, else from the field.
    pub host: Option<String>,
    /// The target without scheme and host; with its query.
    pub path: String,
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// Set where the rest of the head is missing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

impl Request {
    /// The path without what follows `?` or `#`.
    #[must_use]
    pub fn path_alone(&self) -> &str {
        let end = self.path.find(['?', '#']).unwrap_or(self.path.len());
        self.path.get(..end).unwrap_or_default()
    }
}

/// The fields of a head that are looked at.
#[derive(Debug, Default)]
struct Head<'a> {
    first_line: &'a [u8],
    host: Option<&'a [u8]>,
    user_agent: Option<&'a [u8]>,
    body: Body,
    has_token: bool,
    forwarded: bool,
    /// Whether its end was there.
    complete: bool,
}

/// What follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Body {
    #[default]
    None,
    Bytes(usize),
    /// Its length stands within it, or another protocol follows.
    Unknown,
}

impl<'a> Head<'a> {
    /// Reads a head and returns it with the bytes it takes, as far as it is there.
    fn read(bytes: &'a [u8]) -> (Self, usize) {
        let mut rest = Bytes::new(bytes);
        let mut head = Self::default();
        let Some(first_line) = rest.line() else {
            head.first_line = bytes;
            return (head, bytes.len());
        };
        head.first_line = first_line;
        while let Some(line) = rest.line() {
            if line.is_empty() {
                head.complete = true;
                break;
            }
            if let Some(colon) = line.iter().position(|byte| *byte == b':') {
                let (name, value) = line.split_at(colon);
                head.field(name, value.get(1..).unwrap_or_default().trim_ascii());
            }
        }
        (head, bytes.len() - rest.rest().len())
    }

    fn field(&mut self, name: &[u8], value: &'a [u8]) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("host") {
            self.host.get_or_insert(value);
        } else if is("user-agent") {
            self.user_agent.get_or_insert(value);
        } else if is("content-length") && self.body == Body::None {
            let digits = str::from_utf8(value).unwrap_or_default();
            self.body = digits.parse().map_or(Body::Unknown, Body::Bytes);
        } else if is("transfer-encoding") || is("upgrade") {
            self.body = Body::Unknown;
        } else if is("x-aws-ec2-metadata-token") {
            self.has_token = true;
        } else if is("x-forwarded-for") || is("forwarded") {
            self.forwarded = true;
        }
    }

    /// Method and target, if the first line is a request's. Blanks may be many, and stand in the
    /// target too: servers are as lenient (RFC 9112 3).
    fn request_line(&self) -> Option<(&'a [u8], &'a [u8])> {
        let is_blank = |byte: &u8| *byte == b' ';
        let method_end = self.first_line.iter().position(is_blank)?;
        let (method, rest) = self.first_line.split_at(method_end);
        let rest = rest.trim_ascii();
        let target = match rest.iter().rposition(is_blank).map(|at| rest.split_at(at)) {
            Some((target, version)) if version.starts_with(b" HTTP/1.") => target.trim_ascii_end(),
            _ if !self.complete => rest.split(is_blank).next().unwrap_or_default(),
            _ => return None,
        };
        (is_method(method) && !target.is_empty()).then_some((method, target))
    }

    fn request(&self) -> Option<Request> {
        let (method, target) = self.request_line()?;
        let (named, path) = split_target(method, target);
        Some(Request {
            method: shown(method),
            host: named.or(self.host).map(shown),
            path: shown(path),
            user_agent: self.user_agent.map(shown_spaced),
            cut: !self.complete,
        })
    }
}

/// An upper-case word, as every method in use is.
fn is_method(word: &[u8]) -> bool {
    (3..=METHOD_BYTES_MAX).contains(&word.len()) && word.iter().all(is_of_method)
}

const fn is_of_method(byte: &u8) -> bool {
    byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_')
}

/// The host and the path of a target (RFC 9112 3.2). A name before `@` is left out: it may come
/// with a password.
fn split_target<'a>(method: &[u8], target: &'a [u8]) -> (Option<&'a [u8]>, &'a [u8]) {
    let absolute = [&b"http://"[..], b"https://", b"ws://"]
        .iter()
        .find_map(|scheme| target.strip_prefix(*scheme));
    let (authority, path) = match absolute {
        Some(rest) => {
            let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
            rest.split_at(end.unwrap_or(rest.len()))
        }
        None if method == b"CONNECT" => (target, &b""[..]),
        None => return (None, target),
    };
    let host = authority.rsplit(|byte| *byte == b'@').next();
    (host, path)
}

/// Text of a request, safe to show and bounded.
fn shown(bytes: &[u8]) -> String {
    let mut text = escaped(bytes.get(..CONTENT_CHARS_MAX).unwrap_or(bytes));
    text.truncate(CONTENT_CHARS_MAX);
    text
}

/// The same for text in which blanks are usual.
fn shown_spaced(bytes: &[u8]) -> String {
    let words = bytes
        .get(..CONTENT_CHARS_MAX)
        .unwrap_or(bytes)
        .split(|byte| *byte == b' ');
    let mut text = words.map(escaped).collect::<Vec<_>>().join(" ");
    text.truncate(CONTENT_CHARS_MAX);
    text
}

/// HTTP/1, on any port: known by its first line.
pub(super) struct OverTcp;

impl StreamProtocol for OverTcp {
    fn claims(&self, view: &StreamView<'_>) -> Claim {
        const ANSWER: &[u8] = b"HTTP/1.";
        if view.bytes.starts_with(ANSWER) {
            // A server's side. What follows it is not for us, but for the metadata service's.
            return if imds::is_service(view.src.addr) {
                Claim::Yes
            } else {
                Claim::Over
            };
        }
        if ANSWER.starts_with(view.bytes) {
            return Claim::Unsure;
        }
        // No further than a method goes: this is asked of every segment that is nobody's.
        let front = view.bytes.get(..=METHOD_BYTES_MAX).unwrap_or(view.bytes);
        let Some(end) = front.iter().position(|byte| !is_of_method(byte)) else {
            return if front.len() <= METHOD_BYTES_MAX {
                Claim::Unsure
            } else {
                Claim::No
            };
        };
        let (word, rest) = front.split_at(end);
        if rest.first() != Some(&b' ') || !is_method(word) {
            return Claim::No;
        }
        match Bytes::new(view.bytes).line() {
            Some(line) => {
                let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
                let three = line.iter().filter(|byte| **byte == b' ').count() >= 2;
                if three && version.starts_with(b"HTTP/1.") {
                    Claim::Yes
                } else {
                    Claim::No
                }
            }
            // The bytes so far are those of a line, and the capture may have cut it.
            None if view.bytes.len() < LINE_BYTES_MAX => Claim::Unsure,
            None => Claim::No,
        }
    }

    fn advance(&self, view: &StreamView<'_>, out: &mut dyn FnMut(Decoded)) -> Step {
        let (head, taken) = Head::read(view.bytes);
        if !head.complete && view.bytes.len() < HTTP_HEAD_BYTES_MAX {
            return Step::Wait;
        }
        let told = tell(&head, view);
        let known = told.is_some();
        if let Some(message) = told {
            out(message);
        }
        let connects = head.first_line.starts_with(b"CONNECT ");
        match head.body {
            _ if !known || !head.complete => Step::Leave,
            Body::None if !connects => Step::Took(taken),
            Body::Bytes(body) => Step::Took(taken.saturating_add(body)),
            _ => Step::Hand(taken),
        }
    }

    fn cut(&self, view: &StreamView<'_>, out: &mut dyn FnMut(Decoded)) {
        let (head, _) = Head::read(view.bytes);
        if let Some(message) = tell(&head, view) {
            out(message);
        }
    }
}

fn tell(head: &Head<'_>, view: &StreamView<'_>) -> Option<Decoded> {
    if let Some(rest) = head.first_line.strip_prefix(b"HTTP/1.") {
        return Some(Decoded::Imds(Box::new(imds::Message::answer(rest)?)));
    }
    let request = head.request()?;
    Some(if imds::is_service(view.dst.addr) {
        Decoded::Imds(Box::new(imds::Message::request(
            head,
            &request,
            view.dst.addr,
        )))
    } else {
        Decoded::Http(Box::new(request))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::*;

    /// Method, host and path of each request; another message by its kind.
    #[track_caller]
    fn check(parts: &[&[u8]], expected: &[&str]) {
        let lines: Vec<String> = over_tcp(parts)
            .iter()
            .map(|message| match message {
                Decoded::Http(request) => {
                    let host = request.host.as_deref().unwrap_or("-");
                    format!("{} {host} {}", request.method, request.path)
                }
                Decoded::ClientHello(hello) => hello.sni.clone().unwrap_or_default(),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn requests_however_they_come() {
        let get = b"GET /a?b=c HTTP/1.1\r\nUser-Agent: curl/8.5.0 (x)\r\nhost: a.example\r\n\r\n";
        check(&[get], &["GET a.example /a?b=c"]);
        let Decoded::Http(request) = &over_tcp(&[get])[0] else {
            panic!("no request");
        };
        assert_eq!(request.user_agent.as_deref(), Some("curl/8.5.0 (x)"));
        assert_eq!((request.path_alone(), request.cut), ("/a", false));
        let bytes: Vec<&[u8]> = get.chunks(1).collect();
        check(&bytes, &["GET a.example /a?b=c"]);
        let twice = [&get[..], get].concat();
        check(&[&twice], &["GET a.example /a?b=c"; 2]);
        check(&[b"OPTIONS * HTTP/1.0\n\n"], &["OPTIONS - *"]);
        let dashed = b"VERSION-CONTROL /v HTTP/1.1\r\nHost: a\r\n\r\n";
        check(&[&dashed[..9], &dashed[9..]], &["VERSION-CONTROL a /v"]);
        check(
            &[b"GET http://u:p@b.example:80/x HTTP/1.1\r\nHost: a\r\n\r\n"],
            &["GET b.example:80 /x"],
        );
        check(&[b"GET    /a  HTTP/1.1\r\n\r\n"], &["GET - /a"]);
        check(&[b"GET /a b HTTP/1.1\r\n\r\n"], &[r"GET - /a\032b"]);
        check(&[b"GET  HTTP/1.1\r\n\r\n"], &[]);
        let rest = b" / HTTP/1.1\r\n\r\n";
        check(&[&[b'A'; 20], rest], &["AAAAAAAAAAAAAAAAAAAA - /"]);
        check(&[&[b'A'; 21], rest], &[]);
    }

    #[test]
    fn bodies_are_passed_over() {
        let post = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 24\r\n\r\n";
        let body = b"GET /x HTTP/1.1\r\nHost: b";
        let next = b"GET /n HTTP/1.1\r\nHost: c\r\n\r\n";
        check(&[post, body, next], &["POST a /p", "GET c /n"]);
        let together = [&post[..], body, next].concat();
        check(&[&together], &["POST a /p", "GET c /n"]);
        let chunked = b"POST /p HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        check(
            &[chunked, b"5\r\nGET /\r\n0\r\n\r\n", next],
            &["POST - /p", "GET c /n"],
        );
    }

    #[test]
    fn what_a_proxy_carries_is_read() {
        let connect =
            b"CONNECT pool.example:443 HTTP/1.1\r\nProxy-Authorization: Basic eDp5\r\n\r\n";
        let hello = tls_record(&client_hello("a.example"));
        check(
            &[connect, &hello],
            &["CONNECT pool.example:443 ", "a.example"],
        );
        let shown = format!("{:?}", over_tcp(&[connect]));
        assert!(!shown.contains("eDp5"), "{shown}");
    }

    #[test]
    fn what_is_no_request() {
        check(&[b"get / HTTP/1.1\r\n\r\n"], &[]);
        check(&[b"GET /\r\n\r\n"], &[]);
        check(&[b"GET / HTTP/2\r\n\r\n"], &[]);
        check(
            &[b"NOTIFY the reader that GET / HTTP/1.1 is a request\r\n\r\n"],
            &[],
        );
        check(&[b"HTTP/1.1 200 OK\r\n\r\nGET / HTTP/1.1\r\n\r\n"], &[]);
        check(&[b"GET / HTTP/1.1\r\nHost: a"], &[]);
    }

    #[test]
    fn a_head_without_end_is_told_and_left() {
        let long = [
            &b"GET / HTTP/1.1\r\nHost: a\r\nX: "[..],
            &[b'x'; HTTP_HEAD_BYTES_MAX],
        ]
        .concat();
        let parts: Vec<&[u8]> = long.chunks(1_400).collect();
        check(&parts, &["GET a /"]);
    }

    #[test]
    fn texts_are_bounded_and_safe() {
        let long = "\u{1b}".repeat(3_000);
        let get = format!("GET /{long} HTTP/1.1\r\n\r\n");
        let Decoded::Http(request) = &over_tcp(&[get.as_bytes()])[0] else {
            panic!("no request");
        };
        assert!(request.path.starts_with("/\\027\\027"));
        assert_eq!(request.path.len(), CONTENT_CHARS_MAX);
    }
}
