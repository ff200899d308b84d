//! What is fetched, from where and how often: the tables `[fetch]` and `[[feed]]`.
//!
//! Nothing is fetched that the configuration does not ask for: a collector that calls strangers by
//! itself breaks somebody's rules for what may leave the network, and every feed has terms of its
//! own. `fetch.defaults` asks for the few whose terms allow everybody to use them.

use std::net::IpAddr;
use std::path::PathBuf;

use picket_intel::feeds_file::{FeedEntry, FormatName};
use picket_intel::format::Csv;
use picket_intel::{Category, Direction, FeedsFile, Kind};
use reqwest::Url;
use serde::Deserialize;

use super::limits::{FEEDS_MAX, NAME_BYTES_MAX};
use crate::config::BadValue;

/// Shortest pause between two looks at a feed, in seconds: what abuse.ch asks for, the most patient
/// of those that allow frequent looks.
const EVERY_S_MIN: u64 = 300;

/// Who asks for longer pauses, by domain, in seconds.
const FAIR_USE: &[(&str, u64)] = &[
    // "Once a day is enough"; more than once an hour gets the address blocked (its FAQ).
    ("spamhaus.org", 3_600),
    ("torproject.org", 3_600),
    // Unauthenticated raw files of GitHub are limited by address.
    ("githubusercontent.com", 3_600),
];

/// The feeds of `fetch.defaults`: usable by everybody without a key, taken from their makers.
const DEFAULTS: &str = include_str!("defaults.toml");

/// What holds for all feeds: `[fetch]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether the feeds that everybody may use are fetched beside those configured.
    pub defaults: bool,
    /// Feeds fetched at once, at most. Each may take twice its `bytes_max` of memory.
    pub at_once_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // See the module's words.
            defaults: false,
            // Feeds take seconds an hour; two never wait long for each other.
            at_once_max: 2,
        }
    }
}

/// How a feed is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// One file.
    #[default]
    File,
    /// A folder with a `manifest.json` and a file for each event, as MISP publishes them.
    Misp,
    /// TAXII 2.1: a server's root, whose readable collections are read, or one collection.
    Taxii,
}

impl Via {
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Misp => "misp",
            Self::Taxii => "taxii",
        }
    }
}

/// One `[[feed]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    /// Its name: of its list, its file and in every finding. Lower-case letters, digits, `-`, `_`.
    pub name: String,
    /// Where it is, `https`; `http` only on this machine.
    pub url: String,
    /// How it is asked for.
    #[serde(default)]
    pub via: Via,
    /// The format of its file, if it is not to be recognised by its content.
    #[serde(default)]
    pub format: Option<FormatName>,
    /// What its entries are.
    pub category: Category,
    /// Which way of meeting an entry counts; without it, what is usual in the category.
    #[serde(default)]
    pub direction: Option<Direction>,
    /// How sure its maker is, 0 to 100; without it, what is usual in the category.
    #[serde(default)]
    pub confidence: Option<u8>,
    /// Entries of which it is less sure are left out, 0 to 100.
    #[serde(default)]
    pub confidence_min: u8,
    /// Days after which an entry counts no more, where its format tells its age.
    #[serde(default)]
    pub expires_days: Option<u16>,
    /// What a plain list or a table names.
    #[serde(default)]
    pub kind: Kind,
    /// Whether private addresses may stand on it.
    #[serde(default)]
    pub private: bool,
    /// Of MISP events: whether only attributes marked for detection count.
    #[serde(default = "yes")]
    pub to_ids: bool,
    /// How to read a table of the format `csv`.
    #[serde(default)]
    pub csv: Csv,
    /// Seconds between two looks.
    #[serde(default = "default_every_s")]
    pub every_s: u64,
    /// Seconds without an answer after which that is a finding; without it three times `every_s`,
    /// a day at least.
    #[serde(default)]
    pub stale_s: Option<u64>,
    /// Of TAXII: seconds after which all is asked for again and not only what is new, so that what was
    /// deleted goes.
    #[serde(default = "default_whole_s")]
    pub whole_s: u64,
    /// Bytes of the whole feed, packed and unpacked, at most.
    #[serde(default = "default_bytes_max")]
    pub bytes_max: u64,
    /// Seconds that fetching it may take.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
    /// File with a key; white space round it is not part of it.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Header that carries the key.
    #[serde(default)]
    pub key_header: Option<String>,
    /// Parameter of the query that carries the key.
    #[serde(default)]
    pub key_parameter: Option<String>,
    /// User whose password the key is (HTTP Basic).
    #[serde(default)]
    pub user: Option<String>,
    /// Proxy to go through.
    #[serde(default)]
    pub proxy: Option<String>,
    /// The only authorities trusted for the server, in PEM. Without it: those of the system.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

fn yes() -> bool {
    true
}

fn default_every_s() -> u64 {
    // Makers of lists publish daily, some hourly; six hours is a compromise that offends nobody.
    6 * 3_600
}

fn default_whole_s() -> u64 {
    // Makers delete rarely, and what is revoked is told as new.
    86_400
}

fn default_bytes_max() -> u64 {
    // What a list file may have.
    picket_intel::limits::FILE_BYTES_MAX as u64
}

fn default_timeout_s() -> u64 {
    // 64 MiB over a line of 2 Mbit/s.
    300
}

/// The feeds to fetch: those configured, and the defaults if they are asked for, but for those of
/// which one with the same name is configured.
pub(crate) fn feeds(settings: &Settings, configured: &[Feed]) -> Result<Vec<Feed>, BadValue> {
    #[derive(Deserialize)]
    struct Defaults {
        feed: Vec<Feed>,
    }
    let mut feeds = configured.to_vec();
    if settings.defaults {
        let defaults: Defaults = toml::from_str(DEFAULTS)
            .map_err(|error| BadValue::new("fetch.defaults", error.to_string()))?;
        for feed in defaults.feed {
            if configured.iter().all(|one| one.name != feed.name) {
                feeds.push(feed);
            }
        }
    }
    Ok(feeds)
}

/// Refuses what cannot be fetched, or may not.
pub(crate) fn check(settings: &Settings, feeds: &[Feed]) -> Result<(), BadValue> {
    if settings.at_once_max == 0 {
        return Err(BadValue::new("fetch.at_once_max", "must not be 0"));
    }
    if feeds.len() > FEEDS_MAX {
        let why = format!("{} feeds, {FEEDS_MAX} allowed", feeds.len());
        return Err(BadValue::new("feed", why));
    }
    for (at, feed) in feeds.iter().enumerate() {
        feed.check(&format!("feed[{at}]"), &feeds[..at])?;
    }
    Ok(())
}

impl Feed {
    fn check(&self, table: &str, before: &[Self]) -> Result<(), BadValue> {
        let bad = |key: &str, why: String| Err(BadValue::new(format!("{table}.{key}"), why));
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_name = self.name.bytes().all(|b| is_plain(b) || b"-_".contains(&b))
            && self.name.bytes().next().is_some_and(is_plain);
        if !is_name || self.name.len() > NAME_BYTES_MAX {
            return bad(
                "name",
                format!(
                    "must be up to {NAME_BYTES_MAX} of a-z, 0-9, - and _, a letter or digit first"
                ),
            );
        }
        if before.iter().any(|other| other.name == self.name) {
            return bad("name", format!("{} is the name of another feed", self.name));
        }
        let url = match self.url() {
            Ok(url) => url,
            Err(why) => return bad("url", why),
        };
        let floor_s = floor_s(&url);
        if self.every_s < floor_s {
            return bad(
                "every_s",
                format!("must not be below {floor_s} for this feed"),
            );
        }
        let bytes_max = default_bytes_max();
        if self.bytes_max == 0 || self.bytes_max > bytes_max {
            return bad("bytes_max", format!("must be from 1 to {bytes_max}"));
        }
        if self.timeout_s == 0 {
            return bad("timeout_s", "must not be 0".to_owned());
        }
        if let Err(error) = self.check_entry() {
            return bad("name", error);
        }
        let places = [&self.key_header, &self.key_parameter, &self.user];
        let is_placed = places.iter().any(|place| place.is_some());
        match (&self.key_file, is_placed) {
            (Some(_), false) => bad(
                "key_file",
                "needs key_header, key_parameter or user".to_owned(),
            ),
            (None, true) => bad("key_file", "is needed for the key".to_owned()),
            _ => Ok(()),
        }?;
        if let Some(header) = &self.key_header
            && let Err(error) = header.parse::<reqwest::header::HeaderName>()
        {
            return bad("key_header", error.to_string());
        }
        if let Some(proxy) = &self.proxy
            && let Err(error) = reqwest::Proxy::all(proxy)
        {
            return bad("proxy", error.to_string());
        }
        Ok(())
    }

    /// What `feeds.toml` says of it, with its content in `file`.
    pub(super) fn entry(&self, file: &str) -> FeedEntry {
        FeedEntry {
            name: Some(self.name.clone()),
            format: self.format,
            category: Some(self.category),
            direction: self.direction,
            confidence: self.confidence,
            confidence_min: self.confidence_min,
            expires_days: self.expires_days,
            kind: self.kind,
            private: self.private,
            to_ids: self.to_ids,
            csv: self.csv.clone(),
            ..FeedEntry::of(file)
        }
    }

    /// Makes sure that what `feeds.toml` will say can be read back.
    fn check_entry(&self) -> Result<(), String> {
        let file = FeedsFile {
            feed: vec![self.entry("x.txt")],
            ..FeedsFile::default()
        };
        let text = toml::to_string(&file).map_err(|error| error.to_string())?;
        FeedsFile::parse(&text)
            .map(drop)
            .map_err(|error| error.to_string())
    }

    /// Where it is.
    pub(super) fn url(&self) -> Result<Url, String> {
        let url = Url::parse(&self.url).map_err(|error| error.to_string())?;
        if let Some(host) = forbidden(&url) {
            return Err(format!("nothing is fetched from {host}"));
        }
        if may_ask(&url) {
            Ok(url)
        } else {
            Err(
                "must be https (http only to this machine: anybody on the way could list anybody)"
                    .to_owned(),
            )
        }
    }

    /// Seconds without an answer after which that is a finding.
    pub(super) fn stale_s(&self) -> u64 {
        self.stale_s
            .unwrap_or_else(|| self.every_s.saturating_mul(3).max(86_400))
    }

    /// What names the content that is fetched: with another, what was kept of the old is of no use.
    pub(super) fn origin(&self) -> String {
        let format = self.format.map_or("", |format| format.0.name);
        format!("{} {} {format}", self.via.name(), self.url)
    }
}

/// Whether a question may go there: over TLS, or not off this machine.
pub(super) fn may_ask(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.has_host(),
        "http" => is_loopback(url),
        _ => false,
    }
}

/// Whether an address is this machine's own.
pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let name = host.strip_suffix('.').unwrap_or(host);
    address(url).is_some_and(|address| address.is_loopback())
        || name == "localhost"
        || name.ends_with(".localhost")
}

/// The address that stands in place of a server's name.
fn address(url: &Url) -> Option<IpAddr> {
    let host = url.host_str().unwrap_or_default();
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    address.map(|address| address.to_canonical())
}

/// The address of a question's server, if no feed is there.
pub(super) fn forbidden(url: &Url) -> Option<IpAddr> {
    address(url).filter(is_no_server)
}

/// Whether no feed is at an address: link-local ones, where the metadata service is and which tell who
/// asks from this machine its secrets, that service in IPv6, and what is no single machine.
pub(super) fn is_no_server(address: &IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [first, ..] = v4.octets();
            v4.is_link_local() || v4.is_multicast() || first == 0 || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            // fd00:ec2::/32 is AWS' (EC2 user guide, "Instance metadata"); what translates or tunnels
            // IPv4 stands for the address inside (RFC 6052, RFC 3056).
            let [a, b, c, d, e, f, g, h] = v6.segments();
            let inside = match (a, b) {
                (0x64, 0xff9b) => Some((g, h)),
                (0x2002, _) => Some((b, c)),
                (0, 0) if (c, d, e, f) == (0, 0, 0, 0) && !v6.is_loopback() => Some((g, h)),
                _ => None,
            };
            let inner = inside.map(|(high, low)| {
                let bits = u32::from(high) << 16 | u32::from(low);
                IpAddr::V4(bits.into())
            });
            v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
                || (a, b) == (0xfd00, 0xec2)
                || inner.is_some_and(|inner| inner.is_loopback() || is_no_server(&inner))
        }
    }
}

/// The shortest pause that is fair to whoever serves the feed. This machine is its own affair.
fn floor_s(url: &Url) -> u64 {
    if is_loopback(url) {
        return 1;
    }
    let host = url.host_str().unwrap_or_default();
    let asks = |domain: &str| {
        host.strip_suffix(domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    FAIR_USE
        .iter()
        .find(|(domain, _)| asks(domain))
        .map_or(EVERY_S_MIN, |(_, floor_s)| *floor_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(more: &str) -> Result<Feed, String> {
        let text = format!("name = 'a'\ncategory = 'c2'\n{more}");
        toml::from_str(&text).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check_one(more: &str, named: Option<&str>) {
        let outcome = feed(more).and_then(|feed| {
            check(&Settings::default(), &[feed]).map_err(|error| error.to_string())
        });
        match named {
            None => outcome.unwrap(),
            Some(named) => {
                let told = outcome.unwrap_err();
                assert!(told.contains(named), "{told} does not name {named}");
            }
        }
    }

    #[test]
    fn what_may_be_fetched_and_how_often() {
        for (url, every_s, named) in [
            ("https://feeds.example/a", 300, None),
            ("https://feeds.example/a", 299, Some("feed[0].every_s")),
            ("https://www.spamhaus.org/a", 3_599, Some("feed[0].every_s")),
            ("https://www.spamhaus.org/a", 3_600, None),
            ("https://notspamhaus.org/a", 300, None),
            ("http://127.0.0.1:1/a", 1, None),
            ("http://[::1]:1/a", 1, None),
            ("https://localhost/a", 0, Some("feed[0].every_s")),
            ("http://feeds.example/a", 300, Some("feed[0].url")),
            ("http://127.0.0.1.feeds.example/a", 300, Some("feed[0].url")),
            ("file:///etc/passwd", 300, Some("feed[0].url")),
            ("nowhere", 300, Some("feed[0].url")),
            (
                "https://169.254.169.254/a",
                300,
                Some("nothing is fetched from 169.254.169.254"),
            ),
            ("https://[fd00:ec2::254]/a", 300, Some("feed[0].url")),
            (
                "https://[::ffff:169.254.169.254]/a",
                300,
                Some("feed[0].url"),
            ),
            ("https://[64:ff9b::a9fe:a9fe]/a", 300, Some("feed[0].url")),
            ("https://[2002:a9fe:a9fe::1]/a", 300, Some("feed[0].url")),
            ("https://10.0.0.1/a", 300, None),
            ("https://[2001:db8::1]/a", 300, None),
        ] {
            check_one(&format!("url = '{url}'\nevery_s = {every_s}"), named);
        }
    }

    #[test]
    fn a_key_needs_a_place_and_a_place_a_key() {
        let url = "url = 'https://feeds.example/'\n";
        for (more, named) in [
            ("key_file = '/k'", Some("feed[0].key_file")),
            ("key_header = 'Auth-Key'", Some("feed[0].key_file")),
            ("key_file = '/k'\nkey_header = 'Auth-Key'", None),
            (
                "key_file = '/k'\nkey_header = 'Auth Key'",
                Some("feed[0].key_header"),
            ),
            ("key_file = '/k'\nkey_parameter = 'auth-key'", None),
            ("key_file = '/k'\nuser = 'u'", None),
            ("proxy = 'http://proxy.example:3128'", None),
            ("proxy = ''", Some("feed[0].proxy")),
            ("confidence = 101", Some("confidence")),
            ("confidence_min = 101", Some("confidence_min")),
            ("expires_days = 0", Some("expires_days")),
            ("format = 'nothing'", Some("unknown format")),
            ("format = 'csv'\ncsv = { column = 2 }", None),
            ("direction = 'sideways'", Some("sideways")),
            ("bytes_max = 0", Some("feed[0].bytes_max")),
            ("timeout_s = 0", Some("feed[0].timeout_s")),
            ("keyfile = 'x'", Some("keyfile")),
        ] {
            check_one(&format!("{url}{more}"), named);
        }
    }

    #[test]
    fn a_name_is_a_files_name_and_nobody_elses() {
        for (name, is_good) in [
            ("spamhaus-drop_v4", true),
            ("a", true),
            ("", false),
            ("../a", false),
            (".a", false),
            ("-a", false),
            ("A", false),
            ("a b", false),
        ] {
            let one = Feed {
                name: name.to_owned(),
                ..feed("url = 'https://feeds.example/'").unwrap()
            };
            let outcome = check(&Settings::default(), std::slice::from_ref(&one));
            assert_eq!(outcome.is_ok(), is_good, "{name:?}");
            let twice = check(&Settings::default(), &[one.clone(), one]);
            assert!(twice.is_err(), "{name:?} twice");
        }
    }

    #[test]
    fn what_a_feed_says_is_passed_on() {
        let url = "url = 'https://feeds.example/'\n";
        let entry = |more: &str| feed(&format!("{url}{more}")).unwrap().entry("x");
        assert!(entry("").to_ids);
        assert!(!entry("to_ids = false").to_ids);
        assert!(entry("private = true").private);
        assert_eq!(entry("expires_days = 3").expires_days, Some(3));
    }

    #[test]
    fn the_defaults_are_asked_for_and_sound() {
        let mut settings = Settings::default();
        assert!(feeds(&settings, &[]).unwrap().is_empty());
        settings.defaults = true;
        let all = feeds(&settings, &[]).unwrap();
        assert!(all.len() >= 4);
        check(&settings, &all).unwrap();
        // One of the operator's own takes the place of a default with its name.
        let own = Feed {
            every_s: 86_400,
            ..all[0].clone()
        };
        let with_own = feeds(&settings, std::slice::from_ref(&own)).unwrap();
        assert_eq!(with_own.len(), all.len());
        assert_eq!(with_own[0], own);
        assert!(all.iter().all(|feed| feed.key_file.is_none()));
    }
}
