//! What a call is compared by: the service and call, the service, the region, the network and the program,
//! each as a text that families share.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::hash::BuildHasher as _;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::logs::agent_words::Says;
use crate::logs::cloudtrail::ApiCall;

/// What a call is compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Service and call.
    Api,
    /// Service.
    Service,
    /// Region.
    Region,
    /// The sixteen first bits of an IPv4 address, the thirty-two first of an IPv6 address.
    Network,
    /// The program, without its version.
    Agent,
}

/// All dimensions, in the order of their numbers.
pub(crate) const DIMENSIONS: [Dimension; 5] = [
    Dimension::Api,
    Dimension::Service,
    Dimension::Region,
    Dimension::Network,
    Dimension::Agent,
];

/// A value of one dimension.
#[derive(Debug, Clone)]
pub(crate) struct Value<'a> {
    pub(crate) dimension: Dimension,
    pub(crate) text: Cow<'a, str>,
    /// [`hash`] of the text, so that it is made once for everybody it is compared with.
    pub(super) hash: u64,
}

impl<'a> Value<'a> {
    fn new(dimension: Dimension, text: impl Into<Cow<'a, str>>) -> Self {
        let text = text.into();
        Self {
            dimension,
            hash: hash(&text),
            text,
        }
    }
}

/// The hash by which values are found. The same in every process: a table holds so few values that
/// names chosen to meet would cost little.
pub(super) fn hash(text: &str) -> u64 {
    foldhash::fast::FixedState::default().hash_one(text)
}

/// What `call` is compared by, as far as it tells.
pub(crate) fn compared_by(call: &ApiCall) -> [Option<Value<'_>>; 5] {
    let region = call.region.as_deref();
    let agent = call.user_agent.is_some().then(|| program(call));
    [
        Some(api_of(call)),
        Some(Value::new(Dimension::Service, call.service())),
        region.map(|region| Value::new(Dimension::Region, region)),
        network_of(call),
        agent.map(|agent| Value::new(Dimension::Agent, agent)),
    ]
}

/// Service and call alone.
pub(crate) fn api_of(call: &ApiCall) -> Value<'_> {
    let service = call.service();
    let mut api = String::with_capacity(service.len() + 1 + call.event_name.len());
    api.push_str(service);
    api.push(':');
    api.push_str(&call.event_name);
    Value::new(Dimension::Api, api)
}

/// The network alone, if the call came from an address.
pub(crate) fn network_of(call: &ApiCall) -> Option<Value<'_>> {
    (call.source_address).map(|address| Value::new(Dimension::Network, network(address)))
}

/// The network of an address, wide enough for a provider's customers to stay in it.
pub(crate) fn network(address: IpAddr) -> String {
    let mut text = String::with_capacity(18);
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            push_decimal(a, &mut text);
            text.push('.');
            push_decimal(b, &mut text);
            text.push_str(".0.0/16");
        }
        IpAddr::V6(v6) => {
            let [a, b, ..] = v6.segments();
            // Writing to a text cannot fail.
            let _ = write!(text, "{a:x}:{b:x}::/32");
        }
    }
    text
}

/// What `write!` does, at a third of the cost: nearly every call has a network.
fn push_decimal(number: u8, text: &mut String) {
    let digit = |number: u8| char::from(b'0' + number % 10);
    if number >= 100 {
        text.push(digit(number / 100));
    }
    if number >= 10 {
        text.push(digit(number / 10));
    }
    text.push(digit(number));
}

/// The program that a call says it was made by, without its version: what stands before the first slash.
/// Browsers and the console are one.
pub(crate) fn program(call: &ApiCall) -> &str {
    /// Bytes of a name that is kept: programs that put a number into theirs are many.
    const NAME_MAX: usize = 48;
    let agent = call.user_agent.as_deref().unwrap_or_default();
    let agent = agent.trim_start_matches('[');
    if agent.starts_with("Mozilla") || call.agent_words().has(Says::ConsoleProgram) {
        return "console";
    }
    let name = agent.split(['/', ' ']).next().unwrap_or_default();
    &name[..name.floor_char_boundary(NAME_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::api;

    #[test]
    fn networks_and_programs_are_families() {
        assert_eq!(network([192, 0, 2, 1].into()), "192.0.0.0/16");
        for number in 0..=255_u8 {
            let expected = format!("{number}.{number}.0.0/16");
            assert_eq!(network([number, number, 1, 1].into()), expected);
        }
        assert_eq!(network("2001:db8:1::1".parse().unwrap()), "2001:db8::/32");
        let check = |agent: &str, expected: &str| {
            let call = api(&format!(r#"{{"eventName":"A","userAgent":"{agent}"}}"#));
            assert_eq!(program(&call), expected, "{agent}");
        };
        check("aws-cli/2.1 Python/3", "aws-cli");
        check("[S3Console/0.4, aws-internal/3]", "console");
        check("Mozilla/5.0 (X11)", "console");
        check("", "");
    }
}
