//! VPC flow logs: what passed one network interface one way, typed.
//!
//! Lines of fields with spaces between, as in the VPC user guide, "Flow log records" (versions 2 to 8):
//!
//! ```text
//! version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status
//! 2 111122223333 eni-0a1b2c3d 10.0.0.5 198.51.100.7 49152 443 6 10 840 1700000000 1700000060 ACCEPT OK
//! ```
//!
//! A file's first line names its fields, in an order of the operator's; without one it has those of
//! version 2, shown above. Exports of CloudWatch Logs put the time of the event before each line. `-`
//! stands for what does not apply. Fields that are not used here are passed over, known or not. Parquet has the
//! same fields as columns; whoever reads it hands them in as lines.

use std::net::IpAddr;

use super::event_time;

/// Fields of version 2, in their order.
const VERSION_2: &str = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end \
                         action log-status";

/// Why a line is no record.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FlowLogError {
    /// More or fewer fields than there are columns.
    #[error("{found} fields, {expected} expected")]
    Fields {
        /// Fields of the line.
        found: usize,
        /// Columns.
        expected: usize,
    },
    /// A field that is not what its column holds.
    #[error("{column}: {text:?}")]
    Bad {
        /// Name of the column.
        column: &'static str,
        /// What stands there, its beginning.
        text: Box<str>,
    },
    /// The file has no column without which a record says nothing.
    #[error("no column {column}")]
    Missing {
        /// Name of the column.
        column: &'static str,
    },
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Account,
    Interface,
    Instance,
    Region,
    Source,
    Destination,
    PacketSource,
    PacketDestination,
    SourcePort,
    DestinationPort,
    Protocol,
    Packets,
    Bytes,
    Start,
    End,
    Flags,
    Action,
    Direction,
    Status,
    /// Something else.
    Other,
}

/// Names of columns, and those without which nothing can be said.
const COLUMNS: &[(&str, Column)] = &[
    ("account-id", Column::Account),
    ("interface-id", Column::Interface),
    ("instance-id", Column::Instance),
    ("region", Column::Region),
    ("srcaddr", Column::Source),
    ("dstaddr", Column::Destination),
    ("pkt-srcaddr", Column::PacketSource),
    ("pkt-dstaddr", Column::PacketDestination),
    ("srcport", Column::SourcePort),
    ("dstport", Column::DestinationPort),
    ("protocol", Column::Protocol),
    ("packets", Column::Packets),
    ("bytes", Column::Bytes),
    ("start", Column::Start),
    ("end", Column::End),
    ("tcp-flags", Column::Flags),
    ("action", Column::Action),
    ("flow-direction", Column::Direction),
    ("log-status", Column::Status),
];

/// What passed one way in one interval of aggregation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowRecord {
    /// The account of the interface; empty if not told.
    pub account: Box<str>,
    /// The region; empty if not told.
    pub region: Box<str>,
    /// The interface, `eni-…`; empty if not told.
    pub interface: Box<str>,
    /// The instance it belongs to, if any is told.
    pub instance: Option<Box<str>>,
    /// Sender and its port (0 where the protocol has none), as the interface saw them.
    pub source: (IpAddr, u16),
    /// Receiver and its port.
    pub destination: (IpAddr, u16),
    /// Who sent the packet in the first place, where something stands between.
    pub packet_source: Option<IpAddr>,
    /// Whom it is for in the end, alike.
    pub packet_destination: Option<IpAddr>,
    /// IP protocol number.
    pub protocol: u8,
    /// Packets.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// First second, nanoseconds since the epoch.
    pub start_ns: u64,
    /// Last second, alike; not before the first.
    pub end_ns: u64,
    /// SYN, FIN and RST, OR-ed, and ACK with a SYN (the guide's `tcp-flags`); `None` if not told.
    pub flags: Option<u8>,
    /// Whether security groups and network ACLs let it pass.
    pub accepted: bool,
    /// Which way it went, where told.
    pub direction: Option<Direction>,
}

/// Which way a record's packets went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Into the interface.
    Ingress,
    /// Out of it.
    Egress,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlowLine {
    /// Something passed, or was turned away.
    Record(Box<FlowRecord>),
    /// Nothing did (`NODATA`).
    Nothing,
    /// Records are missing (`SKIPDATA`): AWS had no room for them.
    Skipped,
}

/// The order of a file's fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns(Vec<Column>);

impl Default for Columns {
    /// Those of version 2.
    fn default() -> Self {
        Self::of(VERSION_2)
    }
}

impl Columns {
    /// The columns that a line names, if it is one that names columns.
    ///
    /// # Errors
    /// It names some, and not enough of them.
    pub fn named(line: &str) -> Option<Result<Self, FlowLogError>> {
        let is_name = |word: &str| COLUMNS.iter().any(|(name, _)| *name == word);
        // A record has digits or a dash where a header has a name.
        let mut words = line.split_ascii_whitespace();
        if !words.clone().any(is_name) || words.any(|word| word.parse::<IpAddr>().is_ok()) {
            return None;
        }
        let columns = Self::of(line);
        let needed = ["srcaddr", "dstaddr", "start"];
        let lacks = needed.into_iter().find(|name| {
            let pair = COLUMNS.iter().find(|(known, _)| known == name);
            pair.is_some_and(|(_, column)| !columns.0.contains(column))
        });
        Some(lacks.map_or(Ok(columns), |column| Err(FlowLogError::Missing { column })))
    }

    /// Says whether a column of this name is used: all others are passed over.
    pub fn knows(name: &str) -> bool {
        COLUMNS.iter().any(|(known, _)| *known == name)
    }

    fn of(header: &str) -> Self {
        let column = |word: &str| {
            let known = COLUMNS.iter().find(|(name, _)| *name == word);
            known.map_or(Column::Other, |(_, column)| *column)
        };
        Self(header.split_ascii_whitespace().map(column).collect())
    }

    /// Reads a line.
    ///
    /// # Errors
    /// [`FlowLogError`], with the field at fault.
    pub fn read(&self, line: &str) -> Result<FlowLine, FlowLogError> {
        let mut fields = line.split_ascii_whitespace();
        let found = fields.clone().count();
        let expected = self.0.len();
        let is_stamped = || {
            let first = line.split_ascii_whitespace().next();
            // A bare number would be a time as well, and is the version.
            first.is_some_and(|first| first.contains('T') && event_time::parse(first).is_some())
        };
        if found == expected + 1 && is_stamped() {
            fields.next();
        } else if found != expected {
            return Err(FlowLogError::Fields { found, expected });
        }
        Draft::default().filled(&self.0, fields)
    }
}

/// A record in the making.
#[derive(Debug, Default)]
struct Draft<'a> {
    account: &'a str,
    region: &'a str,
    interface: &'a str,
    instance: Option<&'a str>,
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    packet_source: Option<IpAddr>,
    packet_destination: Option<IpAddr>,
    source_port: u16,
    destination_port: u16,
    protocol: u8,
    packets: u64,
    bytes: u64,
    start_s: Option<u64>,
    end_s: Option<u64>,
    flags: Option<u8>,
    rejected: bool,
    direction: Option<Direction>,
}

impl<'a> Draft<'a> {
    fn filled(
        mut self,
        columns: &[Column],
        fields: impl Iterator<Item = &'a str>,
    ) -> Result<FlowLine, FlowLogError> {
        for (column, text) in columns.iter().zip(fields) {
            if text == "-" {
                continue;
            }
            match column {
                Column::Account => self.account = text,
                Column::Region => self.region = text,
                Column::Interface => self.interface = text,
                Column::Instance => self.instance = Some(text),
                Column::Source => self.source = Some(number("srcaddr", text)?),
                Column::Destination => self.destination = Some(number("dstaddr", text)?),
                Column::PacketSource => self.packet_source = Some(number("pkt-srcaddr", text)?),
                Column::PacketDestination => {
                    self.packet_destination = Some(number("pkt-dstaddr", text)?);
                }
                Column::SourcePort => self.source_port = number("srcport", text)?,
                Column::DestinationPort => self.destination_port = number("dstport", text)?,
                Column::Protocol => self.protocol = number("protocol", text)?,
                Column::Packets => self.packets = number("packets", text)?,
                Column::Bytes => self.bytes = number("bytes", text)?,
                Column::Start => self.start_s = Some(number("start", text)?),
                Column::End => self.end_s = Some(number("end", text)?),
                Column::Flags => self.flags = Some(number::<u16>("tcp-flags", text)? as u8),
                Column::Action => self.rejected = one_of("action", text, "REJECT", "ACCEPT")?,
                Column::Direction => {
                    let is_in = one_of("flow-direction", text, "ingress", "egress")?;
                    self.direction = Some(if is_in {
                        Direction::Ingress
                    } else {
                        Direction::Egress
                    });
                }
                Column::Status if text == "NODATA" => return Ok(FlowLine::Nothing),
                Column::Status if text == "SKIPDATA" => return Ok(FlowLine::Skipped),
                Column::Status | Column::Other => {}
            }
        }
        self.finished()
    }

    fn finished(self) -> Result<FlowLine, FlowLogError> {
        let lacks = |column| FlowLogError::Missing { column };
        let source = self.source.ok_or_else(|| lacks("srcaddr"))?;
        let destination = self.destination.ok_or_else(|| lacks("dstaddr"))?;
        let start_s = self.start_s.ok_or_else(|| lacks("start"))?;
        let nanos = |seconds: u64| seconds.saturating_mul(1_000_000_000);
        Ok(FlowLine::Record(Box::new(FlowRecord {
            account: self.account.into(),
            region: self.region.into(),
            interface: self.interface.into(),
            instance: self.instance.map(Into::into),
            source: (source.to_canonical(), self.source_port),
            destination: (destination.to_canonical(), self.destination_port),
            packet_source: self.packet_source,
            packet_destination: self.packet_destination,
            protocol: self.protocol,
            packets: self.packets,
            bytes: self.bytes,
            start_ns: nanos(start_s),
            end_ns: nanos(self.end_s.unwrap_or(start_s).max(start_s)),
            flags: self.flags,
            accepted: !self.rejected,
            direction: self.direction,
        })))
    }
}

fn number<T: std::str::FromStr>(column: &'static str, text: &str) -> Result<T, FlowLogError> {
    text.parse().map_err(|_| bad(column, text))
}

/// Whether a word is the one or the other.
fn one_of(column: &'static str, text: &str, one: &str, other: &str) -> Result<bool, FlowLogError> {
    match text {
        text if text == one => Ok(true),
        text if text == other => Ok(false),
        _ => Err(bad(column, text)),
    }
}

fn bad(column: &'static str, text: &str) -> FlowLogError {
    /// Characters shown of what is wrong.
    const SHOWN: usize = 40;
    FlowLogError::Bad {
        column,
        text: text.chars().take(SHOWN).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "2 111122223333 eni-0a 10.0.0.5 198.51.100.7 49152 443 6 10 840 1700000000 1700000060 ACCEPT OK";

    fn record(columns: &Columns, line: &str) -> FlowRecord {
        match columns.read(line) {
            Ok(FlowLine::Record(record)) => *record,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn version_2_needs_no_header() {
        let one = record(&Columns::default(), LINE);
        assert_eq!((&*one.account, &*one.interface), ("111122223333", "eni-0a"));
        assert_eq!(one.source, ("10.0.0.5".parse().unwrap(), 49152));
        assert_eq!(one.destination, ("198.51.100.7".parse().unwrap(), 443));
        assert_eq!((one.protocol, one.packets, one.bytes), (6, 10, 840));
        assert_eq!(one.start_ns, 1_700_000_000_000_000_000);
        assert_eq!(one.end_ns - one.start_ns, 60_000_000_000);
        assert_eq!((one.flags, one.accepted, one.direction), (None, true, None));
        // With the time that CloudWatch Logs puts before it.
        let stamped = format!("2023-11-14T22:14:20.000Z {LINE}");
        assert_eq!(record(&Columns::default(), &stamped), one);
    }

    #[test]
    fn a_header_gives_the_order() {
        let header = "region start end instance-id pkt-srcaddr srcaddr dstaddr srcport dstport protocol tcp-flags \
                      flow-direction action traffic-path bytes packets";
        let columns = Columns::named(header).unwrap().unwrap();
        let line = "eu-west-1 5 4 i-0abc 2001:db8::9 ::ffff:10.0.0.5 2001:db8::7 1 2 17 - egress REJECT 8 99 1";
        let one = record(&columns, line);
        assert_eq!(
            (&*one.region, one.instance.as_deref()),
            ("eu-west-1", Some("i-0abc"))
        );
        assert_eq!(one.source.0.to_string(), "10.0.0.5");
        assert_eq!(one.packet_source.unwrap().to_string(), "2001:db8::9");
        assert_eq!((one.packets, one.bytes, one.accepted), (1, 99, false));
        assert_eq!((one.flags, one.direction), (None, Some(Direction::Egress)));
        assert_eq!(one.start_ns, one.end_ns);
    }

    #[test]
    fn a_record_is_no_header_and_a_header_no_record() {
        assert_eq!(Columns::named(LINE), None);
        assert_eq!(Columns::named("words of no log"), None);
        assert_eq!(
            Columns::named(VERSION_2).unwrap().unwrap(),
            Columns::default()
        );
        let error = Columns::named("srcaddr bytes start").unwrap().unwrap_err();
        assert_eq!(error, FlowLogError::Missing { column: "dstaddr" });
        assert!(Columns::default().read(VERSION_2).is_err());
    }

    #[test]
    fn silence_and_skipped_records_are_told_apart() {
        let line = |status| format!("2 1 eni-0a - - - - - - - 1700000000 1700000060 - {status}");
        let read = |status| Columns::default().read(&line(status)).unwrap();
        assert_eq!(read("NODATA"), FlowLine::Nothing);
        assert_eq!(read("SKIPDATA"), FlowLine::Skipped);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let columns = Columns::default();
        let check = |from: &str, to: &str, expected: &str| {
            let error = columns.read(&LINE.replacen(from, to, 1)).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check(" OK", "", "13 fields, 14 expected");
        check(" OK", " OK more", "15 fields, 14 expected");
        check("10.0.0.5", "10.0.0", "srcaddr: \"10.0.0\"");
        check("10.0.0.5", "-", "no column srcaddr");
        check(" 443 ", " 66000 ", "dstport: \"66000\"");
        check(" 840 ", " -840 ", "bytes: \"-840\"");
        check("ACCEPT", "accept", "action: \"accept\"");
        let long = "9".repeat(100);
        check(
            " 840 ",
            &format!(" {long} "),
            &format!("bytes: {:?}", &long[..40]),
        );
    }
}
