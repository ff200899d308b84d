//! Filter: what an operator does not want told. Interfaces are left out before capture; networks and
//! names are taken out of each summary, and counted there, so that the loss equation still holds.
//!
//! Hits are always told: a filter must be no place to hide in. For the same reason a name leaves out
//! questions alone: the name in a ClientHello is whatever the client likes to write there.

use std::collections::BTreeSet;
use std::net::IpAddr;

use picket_wire::{Conversation, Filtered, Net, Side, Summary};
use serde::Deserialize;

use crate::command::BadConfig;
use crate::config::bad;
use crate::net;

/// Networks left out, at most: each conversation is compared with all. Chosen by hand.
const RANGES_MAX: usize = 256;

/// Names and patterns of interfaces left out, at most. Chosen by hand.
const NAMES_MAX: usize = 4_096;

/// Table `[filter]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FilterConfig {
    /// Interfaces never to watch; `*` stands for any characters.
    pub interfaces: Vec<String>,
    /// Networks whose conversations with this host are not told.
    pub ranges: Vec<String>,
    /// Domains whose questions are not told, nor those of names below them.
    pub names: Vec<String>,
}

impl FilterConfig {
    /// Checks the table.
    ///
    /// # Errors
    /// The key that is wrong.
    pub fn check(&self) -> Result<(), BadConfig> {
        if self.interfaces.len() > NAMES_MAX {
            return Err(bad("filter.interfaces", "more than 4096 patterns"));
        }
        self.filter().map(drop)
    }

    /// The filter that it describes.
    ///
    /// # Errors
    /// The key that is wrong.
    pub fn filter(&self) -> Result<Filter, BadConfig> {
        const RANGES: &str = "filter.ranges";
        const NAMES: &str = "filter.names";
        if self.ranges.len() > RANGES_MAX {
            return Err(bad(RANGES, "more than 256 networks"));
        }
        if self.names.len() > NAMES_MAX {
            return Err(bad(NAMES, "more than 4096 names"));
        }
        let ranges = self.ranges.iter().map(|text| net::parse(text));
        let ranges = ranges.collect::<Result<_, _>>();
        let names = self.names.iter().map(|name| domain(name));
        let names = names.collect::<Result<_, _>>();
        Ok(Filter {
            ranges: ranges.map_err(|error| bad(RANGES, &error.to_string()))?,
            names: names.map_err(|error| bad(NAMES, &error))?,
        })
    }
}

/// Takes out of summaries what is not to be told.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    ranges: Vec<Net>,
    names: BTreeSet<String>,
}

impl Filter {
    /// Takes it out of one, and counts it there.
    pub fn apply(&self, summary: &mut Summary) {
        let mut filtered = Filtered::default();
        if !self.ranges.is_empty() {
            summary.conversations.retain(|one| {
                let left_out = self.leaves_out(one);
                if left_out {
                    filtered.note(one);
                }
                !left_out
            });
        }
        if !self.names.is_empty() {
            let before = summary.questions.len();
            summary
                .questions
                .retain(|question| !self.lists(&question.name));
            filtered.questions = (before - summary.questions.len()) as u64;
        }
        if filtered != Filtered::default() {
            summary.filtered = Some(filtered);
        }
    }

    /// Whether the other end is in a network that is left out; of two strangers, either.
    fn leaves_out(&self, one: &Conversation) -> bool {
        match one.local {
            Side::Client => self.covers(one.server),
            Side::Server => self.covers(one.client),
            Side::Neither | Side::Both => self.covers(one.client) || self.covers(one.server),
        }
    }

    fn covers(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|net| {
            address.is_ipv4() == net.address.is_ipv4()
                && net::masked(address, net.prefix).address == net.address
        })
    }

    /// Whether a name is listed, or below one that is.
    fn lists(&self, name: &str) -> bool {
        let starts = name.match_indices('.').map(|(at, _)| at + 1);
        [0].into_iter()
            .chain(starts)
            .filter_map(|start| name.get(start..))
            .any(|suffix| self.names.contains(suffix))
    }
}

/// A domain as questions are written: in lower case, without the final dot. A lone label is one, such
/// as `internal`.
fn domain(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let sound = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match name.len() <= 253 && name.split('.').all(sound) {
        true => Ok(name.to_ascii_lowercase()),
        false => Err(format!("{text:?} is no domain")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use picket_wire::{Opened, Question, Transport};

    use super::*;

    /// A conversation opened by the host.
    pub(crate) fn conversation(client: &str, server: &str) -> Conversation {
        Conversation {
            client: client.parse().unwrap(),
            server: server.parse().unwrap(),
            server_port: 443,
            client_port: 0,
            protocol: 6,
            opened: Opened::Seen,
            local: Side::Client,
            flows: 1,
            attempts: 1,
            accepted: 1,
            refused: 0,
            packets_out: 0,
            packets_in: 0,
            bytes_out: 0,
            bytes_in: 0,
            flags_out: 0,
            flags_in: 0,
            first_ns: 0,
            last_ns: 0,
            tls_name: None,
            ja4: None,
            dns_name: None,
            process: None,
            content: None,
            tunnel: None,
            tunnel_id: None,
            processes: None,
            starts_ms: vec![],
        }
    }

    /// A question for a name.
    pub(crate) fn question(name: &str) -> Question {
        Question {
            client: [192, 0, 2, 1].into(),
            resolver: [192, 0, 2, 53].into(),
            transport: Transport::Udp,
            name: name.to_owned(),
            qtype: 1,
            asked: 1,
            answered: 1,
            nxdomain: 0,
            rcode: Some(0),
            answers: Vec::new(),
            first_ns: 0,
            last_ns: 0,
            bytes: 0,
            process: None,
            also: Vec::new(),
            asked_by_others: 0,
            unanswered: 0,
            failed: 0,
            truncated: 0,
            edns_bytes: None,
            latency: None,
            tunnel: None,
            tunnel_id: None,
        }
    }

    fn filter() -> Filter {
        let config = FilterConfig {
            interfaces: Vec::new(),
            ranges: vec!["10.0.0.0/8".into(), "2001:db8::/32".into()],
            names: vec!["Corp.example.".into()],
        };
        config.filter().unwrap()
    }

    #[test]
    fn the_other_end_decides() {
        let check = |client: &str, server: &str, local: Side, expected: bool| {
            let one = Conversation {
                local,
                ..conversation(client, server)
            };
            assert_eq!(
                filter().leaves_out(&one),
                expected,
                "{client} {server} {local:?}"
            );
        };
        check("10.0.0.1", "192.0.2.1", Side::Client, false);
        check("10.0.0.1", "10.9.9.9", Side::Client, true);
        check("10.0.0.1", "192.0.2.1", Side::Server, true);
        check("192.0.2.1", "10.0.0.1", Side::Server, false);
        check("192.0.2.1", "10.0.0.1", Side::Neither, true);
        check("192.0.2.1", "198.51.100.1", Side::Neither, false);
        check("2001:db8::1", "2001:db9::1", Side::Client, false);
        check("2001:db9::1", "2001:db8::1", Side::Client, true);
    }

    #[test]
    fn names_are_left_out_on_label_boundaries() {
        for (name, expected) in [
            ("corp.example", true),
            ("a.b.corp.example", true),
            ("notcorp.example", false),
            ("corp.example.org", false),
            ("example", false),
            ("", false),
        ] {
            assert_eq!(filter().lists(name), expected, "{name}");
        }
    }

    #[test]
    fn what_is_left_out_is_counted_and_hits_stay() {
        let mut summary = Summary {
            conversations: vec![
                Conversation {
                    packets_out: 3,
                    packets_in: 2,
                    bytes_out: 300,
                    bytes_in: 200,
                    ..conversation("192.0.2.1", "10.0.0.1")
                },
                conversation("192.0.2.1", "198.51.100.1"),
            ],
            questions: vec![question("a.corp.example"), question("example.org")],
            ..Summary::default()
        };
        filter().apply(&mut summary);
        assert_eq!(summary.conversations.len(), 1);
        assert_eq!(summary.questions[0].name, "example.org");
        let filtered = Filtered {
            conversations: 1,
            packets: 5,
            bytes: 500,
            questions: 1,
            inner_packets: 0,
        };
        assert_eq!(summary.filtered, Some(filtered));
        assert_eq!(summary.balance().unwrap().cut, 5);
        Filter::default().apply(&mut summary);
        assert_eq!(summary.filtered, Some(filtered), "nothing more");
    }
}
