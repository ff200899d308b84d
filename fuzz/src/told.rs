//! What holds of every message that a decoder tells, whatever bytes it was made of.

use picket_sense::decode::dns::{AnswerData, Message, Name};
use picket_sense::decode::{Decoded, http, tls};
use picket_sense::limits::{
    CONTENT_CHARS_MAX, DNS_ANSWERS_MAX, DNS_DATA_CHARS_MAX, TLS_NAME_BYTES_MAX,
};

/// A byte that is shown takes as many characters at most: `\DDD`.
const ESCAPED_CHARS: usize = 4;

/// Texts can be shown on a terminal and are bounded; names read back.
pub fn check(message: &Decoded) {
    match message {
        Decoded::Dns(message) => dns(message),
        Decoded::ClientHello(hello) => client_hello(hello),
        Decoded::Http(request) => {
            [&request.method, &request.path].into_iter().for_each(text);
            text_of(&request.host);
            text_of(&request.user_agent);
        }
        Decoded::Imds(message) => {
            if let http::imds::Message::Request(asked) = &**message {
                [&asked.method, &asked.path].into_iter().for_each(text);
                [&asked.role, &asked.host, &asked.user_agent]
                    .into_iter()
                    .for_each(text_of);
            }
        }
        Decoded::Ssh(banner) => {
            text(&banner.protocol);
            text(&banner.software);
            text_of(&banner.comments);
        }
        Decoded::Stratum(call) => {
            text(&call.method);
            text_of(&call.login);
            text_of(&call.agent);
        }
        Decoded::Smtp(command) => text_of(&command.argument),
        Decoded::Socks(request) => text(&request.target),
        // Of a closed set.
        Decoded::Login(_) => {}
    }
}

fn text(text: &String) {
    bounded(text, CONTENT_CHARS_MAX * ESCAPED_CHARS);
}

fn text_of(said: &Option<String>) {
    said.iter().for_each(text);
}

fn bounded(text: &str, chars_max: usize) {
    assert!(text.len() <= chars_max, "{} characters", text.len());
    let shown = |byte: u8| (0x20..=0x7e).contains(&byte);
    assert!(text.bytes().all(shown), "{text:?}");
}

/// Checks a ClientHello.
pub fn client_hello(hello: &tls::ClientHello) {
    let bound = TLS_NAME_BYTES_MAX * ESCAPED_CHARS;
    hello.sni.iter().for_each(|name| bounded(name, bound));
    hello.alpn.iter().for_each(|name| bounded(name, bound));
    for print in [&hello.ja3, &hello.ja4].into_iter().flatten() {
        bounded(print, 64);
    }
}

/// Checks a DNS message.
pub fn dns(message: &Message) {
    if let Some(question) = &message.question {
        name(&question.name);
    }
    assert!(message.answers.len() <= DNS_ANSWERS_MAX);
    for answer in &message.answers {
        name(&answer.name);
        match &answer.data {
            AnswerData::Name(target) => name(target),
            AnswerData::Text(text) => bounded(text, DNS_DATA_CHARS_MAX),
            AnswerData::A(_) | AnswerData::Aaaa(_) => {}
        }
    }
}

/// A name is shown so that it can be read back, and nothing else is shown like it.
pub fn name(name: &Name) {
    let shown = name.to_string();
    bounded(&shown, 255 * ESCAPED_CHARS);
    let labels: Vec<Vec<u8>> = name.labels().map(<[u8]>::to_vec).collect();
    assert_eq!(read_back(&shown), labels, "{shown}");
    assert!(labels.iter().all(|label| (1..=63).contains(&label.len())));
    assert!(name.wire().len() < 255);
    assert!(!name.wire().iter().any(u8::is_ascii_uppercase));
}

/// The labels of a name in presentation form (RFC 1035 5.1).
fn read_back(shown: &str) -> Vec<Vec<u8>> {
    let mut labels = Vec::new();
    let mut label = Vec::new();
    let mut bytes = shown.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'.' => labels.push(std::mem::take(&mut label)),
            b'\\' => {
                let digit = |byte: u8| u32::from(byte) - u32::from(b'0');
                let value = bytes
                    .by_ref()
                    .take(3)
                    .fold(0, |sum, byte| sum * 10 + digit(byte));
                label.push(u8::try_from(value).expect("three digits of a byte"));
            }
            _ => label.push(byte),
        }
    }
    if !shown.is_empty() {
        labels.push(label);
    }
    labels
}
