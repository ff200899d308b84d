//! Allow-lists: plain ones, and MISP warninglists, which say what is harmless.
//!
//! Of a warninglist's types `cidr`, `string` (that name or address alone), `hostname` (with all
//! below it) and `substring` are taken; `regex` is not, and lists for other things than hosts
//! (hashes of files) are of no use: both are counted.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{FormatError, Head};
use crate::clue;
use crate::indicator::{Indicator, IndicatorError};
use crate::limits::{FILE_BYTES_MAX, REFUSALS_KEPT};
use crate::range::Range;
use crate::report::Place;
use crate::set::SetBuilder;

/// How an allow-list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AllowFormat {
    /// One address, net, range or domain (with all below it) a line.
    Plain,
    /// A MISP warninglist.
    Warninglist,
}

/// What came of reading an allow-list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowReport {
    /// Its name.
    pub name: String,
    /// The file, as its folder names it.
    pub file: String,
    /// Entries taken in.
    pub taken: usize,
    /// Entries that could not be read.
    pub refused: usize,
    /// Entries of a type that is not supported or that name no host.
    pub unsupported: usize,
    /// The first [`REFUSALS_KEPT`] entries refused, each with its place; then what else went wrong.
    pub complaints: Vec<String>,
}

pub(super) fn recognise(head: &Head<'_>) -> bool {
    head.is_json() && head.has("\"description\"") && head.has("\"list\"")
}

#[derive(Deserialize)]
struct Warninglist<'a> {
    #[serde(rename = "type", default, borrow)]
    sort: Option<Cow<'a, str>>,
    #[serde(borrow)]
    list: Vec<&'a RawValue>,
    #[serde(default, borrow)]
    matching_attributes: Vec<Cow<'a, str>>,
}

/// What of a warninglist's attributes shows on the network.
const OF_HOSTS: [&str; 9] = [
    "domain",
    "hostname",
    "domain|ip",
    "ip-src",
    "ip-dst",
    "ip-src|port",
    "ip-dst|port",
    "url",
    "uri",
];

impl SetBuilder {
    /// Reads an allow-list. It counts for the lists read from then on. Without a format it is told
    /// by the content.
    ///
    /// # Errors
    /// [`FormatError::TooLarge`].
    pub fn read_allow(
        &mut self,
        name: &str,
        format: Option<AllowFormat>,
        file: &str,
        bytes: &[u8],
    ) -> Result<AllowReport, FormatError> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(FormatError::TooLarge { bytes: bytes.len() });
        }
        let report = AllowReport {
            name: name.to_owned(),
            file: file.to_owned(),
            taken: 0,
            refused: 0,
            unsupported: 0,
            complaints: Vec::new(),
        };
        let mut allow = Allow {
            builder: self,
            report,
        };
        let told = || match Head::of(bytes).is_json() {
            true => AllowFormat::Warninglist,
            false => AllowFormat::Plain,
        };
        match format.unwrap_or_else(told) {
            AllowFormat::Plain => allow.plain(bytes),
            AllowFormat::Warninglist => allow.warninglist(bytes),
        }
        if allow.report.unsupported > 0 {
            let count = allow.report.unsupported;
            let why = format!("{count} entries not supported: no hosts, or regular expressions");
            allow.report.complaints.push(why);
        }
        Ok(allow.report)
    }
}

struct Allow<'a> {
    builder: &'a mut SetBuilder,
    report: AllowReport,
}

impl Allow<'_> {
    fn plain(&mut self, bytes: &[u8]) {
        for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = String::from_utf8_lossy(line);
            let text = line.split(['#', ';']).next().unwrap_or_default().trim();
            let text = text.trim_start_matches('\u{feff}');
            if !text.is_empty() {
                self.hosts(Place::Line(at + 1), text);
            }
        }
    }

    fn warninglist(&mut self, bytes: &[u8]) {
        let list: Warninglist<'_> = match serde_json::from_slice(bytes) {
            Ok(list) => list,
            Err(error) => return self.refuse(Place::Line(error.line()), &error.to_string()),
        };
        let of_hosts = |sort: &Cow<'_, str>| OF_HOSTS.contains(&&**sort);
        let attributes = &list.matching_attributes;
        if !attributes.is_empty() && !attributes.iter().any(of_hosts) {
            self.report.unsupported += list.list.len();
            return;
        }
        let begin = bytes.as_ptr().addr();
        for raw in &list.list {
            let at = Place::Byte(raw.get().as_ptr().addr().saturating_sub(begin));
            let Ok(text) = serde_json::from_str::<Cow<'_, str>>(raw.get()) else {
                self.refuse(at, "an entry that is no text");
                continue;
            };
            let text = text.trim().to_ascii_lowercase();
            match list.sort.as_deref().unwrap_or("string") {
                "cidr" | "hostname" => self.hosts(at, text.trim_start_matches('.')),
                "string" => self.exact(at, &text),
                "substring" if text.len() >= PART_BYTES_MIN => {
                    let room = self.builder.allowed.add_part(&text);
                    self.took(at, room);
                }
                _ => self.report.unsupported += 1,
            }
        }
    }

    fn hosts(&mut self, at: Place, text: &str) {
        match clue::any(text) {
            Ok(found) => {
                let allowed = &mut self.builder.allowed;
                let room = found.iter().all(|one| allowed.add(one));
                self.took(at, room);
            }
            // What is allowed may be wide: all of multicast, say.
            Err(IndicatorError::TooWide(_)) if Range::of_cidr(text).is_some() => {
                let range = Range::of_cidr(text);
                let room = range.is_some_and(|range| self.builder.allowed.add_range(range));
                self.took(at, room);
            }
            Err(error) => self.refuse(at, &error.to_string()),
        }
    }

    /// One name alone, or an address.
    fn exact(&mut self, at: Place, text: &str) {
        match clue::any(text).as_deref() {
            Ok([Indicator::Domain(name)]) => {
                let room = self.builder.allowed.add_exact(name);
                self.took(at, room);
            }
            // A text of another sort, such as a bare top-level domain, is harmless here.
            Err(_) if !text.contains('.') => self.report.unsupported += 1,
            _ => self.hosts(at, text),
        }
    }

    fn took(&mut self, at: Place, room: bool) {
        if room {
            self.report.taken += 1;
        } else {
            self.refuse(at, "the allow-lists are full");
        }
    }

    fn refuse(&mut self, at: Place, why: &str) {
        self.report.refused += 1;
        if self.report.refused <= REFUSALS_KEPT {
            self.report.complaints.push(format!("{at}: {why}"));
        }
    }
}

/// Shortest text that may allow every name it occurs in; a shorter one would allow half of them.
/// Chosen by hand.
const PART_BYTES_MIN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::testing::{held, read};

    /// What is left of a list of these, given this allow-list.
    #[track_caller]
    fn check(allow: &str, counts: (usize, usize, usize), listed: &str, expected: &str) {
        let mut builder = SetBuilder::default();
        let report = builder
            .read_allow("allow", None, "allow.json", allow.as_bytes())
            .unwrap();
        let got = (report.taken, report.refused, report.unsupported);
        assert_eq!(got, counts, "{:?}", report.complaints);
        let listed = listed.replace(' ', "\n");
        let feed = super::super::testing::feed("plain");
        builder
            .read_feed(&feed, "listed", listed.as_bytes())
            .unwrap();
        assert_eq!(held(&builder.build()), expected);
    }

    const LISTED: &str =
        "192.0.2.1 192.0.2.200 a.good.example good.example cdn-7.example evil.example";

    #[test]
    fn each_type_of_warninglist() {
        let list = |sort: &str, entries: &str| {
            format!(
                r#"{{"description":"x","list":[{entries}],"matching_attributes":["ip-dst","domain"],"name":"x","type":"{sort}","version":1}}"#
            )
        };
        let cidr = list(
            "cidr",
            r#""192.0.2.0/25","fe80::/10","0.0.0.0/0","nonsense",7"#,
        );
        check(
            &cidr,
            (2, 3, 0),
            LISTED,
            "192.0.2.200 a.good.example cdn-7.example evil.example good.example",
        );
        let string = list("string", r#""good.example","192.0.2.1","tld""#);
        check(
            &string,
            (2, 0, 1),
            LISTED,
            "192.0.2.200 a.good.example cdn-7.example evil.example",
        );
        let hostname = list("hostname", r#"".Good.example""#);
        check(
            &hostname,
            (1, 0, 0),
            LISTED,
            "192.0.2.1 192.0.2.200 cdn-7.example evil.example",
        );
        let substring = list("substring", r#""cdn-","x""#);
        check(
            &substring,
            (1, 0, 1),
            LISTED,
            "192.0.2.1 192.0.2.200 a.good.example evil.example good.example",
        );
        let regex = list("regex", r#""/.*/""#);
        let all = "192.0.2.1 192.0.2.200 a.good.example cdn-7.example evil.example good.example";
        check(&regex, (0, 0, 1), LISTED, all);
        let hashes = string.replace(r#""ip-dst","domain""#, r#""md5""#);
        check(&hashes, (0, 0, 3), LISTED, all);
        check("{\"list\":", (0, 1, 0), LISTED, all);
    }

    #[test]
    fn a_plain_one() {
        let allow = "# ours\n192.0.2.0/25\ngood.example ; partner\nnot a host\n";
        check(
            allow,
            (2, 1, 0),
            LISTED,
            "192.0.2.200 cdn-7.example evil.example",
        );
    }

    #[test]
    fn what_is_harmless_is_not_taken_for_bad() {
        let list = r#"{"description":"x","list":["192.0.2.1"],"matching_attributes":["ip-dst"],"type":"cidr"}"#;
        assert_eq!(
            read("list.json", list.as_bytes()),
            Err(FormatError::AllowList)
        );
    }
}
