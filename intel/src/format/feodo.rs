//! Feodo Tracker of abuse.ch: servers of banking trojans, as CSV behind a comment or as an array of
//! JSON records.

use serde::Deserialize;

use super::json::{self, Shape};
use super::lines::{Columns, each_row, field, fields};
use super::{Format, Head, Usual};
use crate::category::Category;
use crate::set::SetError;
use crate::sink::{Entry, Sink};
use crate::{clue, date};

pub(super) const FORMAT: Format = Format {
    name: "feodo",
    usual: Usual::of(Category::C2),
    recognise,
    read,
};

fn recognise(head: &Head<'_>) -> bool {
    let table = head.has("dst_ip") && head.has("dst_port");
    table || (head.is_json() && head.has("\"ip_address\"") && head.has("\"malware\""))
}

#[derive(Deserialize)]
struct Record<'a> {
    ip_address: &'a str,
    port: u16,
    #[serde(default)]
    first_seen: Option<&'a str>,
    #[serde(default)]
    last_online: Option<&'a str>,
}

fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    if Head::of(bytes).is_json() {
        let shape = Shape {
            inside: &[],
            records: &["*"],
            bare: true,
        };
        return json::each_record(bytes, &shape, sink, &mut |sink, at, text| {
            let Some(record) = json::record::<Record<'_>>(sink, at, text) else {
                return Ok(());
            };
            let seen = record.last_online.or(record.first_seen);
            let entry = Entry::from(clue::host_port(record.ip_address, record.port));
            sink.put(at, entry.seen(seen.and_then(date::read_ms)))
        });
    }
    let mut columns = None;
    each_row(bytes, sink, |sink, at, line| {
        // The header may stand in a comment.
        if line.contains("dst_ip") {
            columns = Columns::of(line.trim_start_matches(['#', ' ']), ',');
            return Ok(());
        }
        if line.starts_with('#') {
            return Ok(());
        }
        let row = fields(line, ',').unwrap_or_default();
        let find = |names: &[&str], usual| match &columns {
            Some(columns) => field(&row, columns.find(names)),
            None => field(&row, Some(usual)),
        };
        let port = find(&["dst_port"], 2).and_then(|port| port.parse().ok());
        let (Some(host), Some(port)) = (find(&["dst_ip"], 1), port) else {
            sink.refuse(at, format!("{line:?} has no address and port"));
            return Ok(());
        };
        let seen = find(&["last_online"], 4).or(find(&["first_seen_utc"], 0));
        let entry = Entry::from(clue::host_port(host, port));
        sink.put(at, entry.seen(seen.and_then(date::read_ms)))
    })
}

#[cfg(test)]
mod tests {
    use crate::format::Feed;
    use crate::format::testing::{check, check_feed, feed, recognised};
    use crate::report::Reason;

    const TABLE: &str = "################\n# Feodo Tracker\n#\n\
        # \"first_seen_utc\",\"dst_ip\",\"dst_port\",\"c2_status\",\"last_online\",\"malware\"\n\
        \"2025-10-01 01:02:03\",\"192.0.2.1\",\"443\",\"online\",\"2025-12-30\",\"Emotet\"\n\
        2021-01-17 07:30:05,192.0.2.2,8080,offline,2021-01-18,Dridex\n\
        \"2025-10-01 01:02:03\",\"192.0.2.3\",\"port\",\"online\",\"2025-12-30\",\"Emotet\"\n\
        # END\n";

    #[test]
    fn a_table() {
        assert_eq!(recognised(TABLE), Some("feodo"));
        let expected = "192.0.2.1:443 192.0.2.2:8080";
        check("feodo", TABLE, expected, &[(Reason::Refused, 1)]);
        let fresh = Feed {
            expires_days: Some(90),
            ..feed("feodo")
        };
        let left_out = [(Reason::Refused, 1), (Reason::Expired, 1)];
        check_feed(&fresh, TABLE, "192.0.2.1:443", &left_out);
    }

    #[test]
    fn an_array() {
        let text = r#"[
            {"ip_address":"192.0.2.1","port":443,"status":"online","hostname":null,"as_number":64496,
             "as_name":"X","country":"XA","first_seen":"2025-01-02 03:04:05","last_online":"2025-12-30","malware":"Emotet"},
            {"ip_address":"192.0.2.2","port":"no port"},
            {"port":1},
            {"ip_address":"2001:db8::1","port":8443,"malware":"QakBot"}
        ]"#;
        assert_eq!(recognised(text), Some("feodo"));
        let expected = "192.0.2.1:443 [2001:db8::1]:8443";
        check("feodo", text, expected, &[(Reason::Refused, 2)]);
    }
}
