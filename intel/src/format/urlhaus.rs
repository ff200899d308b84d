//! URLhaus of abuse.ch: pages that serve malware, as CSV (whose header stands in a comment), as JSON (an
//! object of arrays by id, or the API's answer with `urls`), or as a file for `/etc/hosts`. Most URLs name a page on somebody's host, and those are counted, not
//! taken; the hosts file names the hosts that serve nothing else.

use std::borrow::Cow;

use serde::Deserialize;

use super::json::{self, Shape};
use super::lines::{Columns, each_row, field, fields};
use super::{Format, Head, Usual, hosts};
use crate::category::Category;
use crate::set::SetError;
use crate::sink::{Entry, Sink};
use crate::{clue, date};

pub(super) const FORMAT: Format = Format {
    name: "urlhaus",
    usual: Usual::of(Category::Driveby),
    recognise,
    read,
};

fn recognise(head: &Head<'_>) -> bool {
    let is_dated = head.has("dateadded") || head.has("\"date_added\"");
    let table = head.has("url_status") && is_dated;
    table || (head.has("URLhaus") && (hosts::is_hosts(head) || head.first().starts_with("http")))
}

#[derive(Deserialize)]
struct Record<'a> {
    url: Cow<'a, str>,
    #[serde(default)]
    url_status: Option<&'a str>,
    /// The name in the export, and in the API's answers.
    #[serde(default, alias = "date_added")]
    dateadded: Option<&'a str>,
    #[serde(default)]
    last_online: Option<&'a str>,
}

fn read_json(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    let shape = Shape {
        inside: &[],
        records: &["*"],
        bare: true,
    };
    json::each_record(bytes, &shape, sink, &mut |sink, at, text| {
        let Some(record) = json::record::<Record<'_>>(sink, at, text) else {
            return Ok(());
        };
        if record.url_status == Some("offline") {
            sink.over(at, || format!("{} is offline", record.url));
            return Ok(());
        }
        let seen = record.last_online.or(record.dateadded);
        let entry = Entry::from(clue::url(&record.url));
        sink.put(at, entry.seen(seen.and_then(date::read_ms)))
    })
}

fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    if Head::of(bytes).is_json() {
        return read_json(bytes, sink);
    }
    let mut header: Option<Columns> = None;
    each_row(bytes, sink, |sink, at, line| {
        if line.contains("url_status") {
            header = Columns::of(line.trim_start_matches(['#', ' ']), ',');
            return Ok(());
        }
        if line.starts_with('#') {
            return Ok(());
        }
        let Some(columns) = &header else {
            return match line.contains("://") {
                true => sink.put(at, clue::url(line)),
                false => hosts::entry(sink, at, line),
            };
        };
        let row = fields(line, ',').unwrap_or_default();
        let find = |name: &str| field(&row, columns.find(&[name]));
        let Some(url) = find("url") else {
            sink.refuse(at, "no url");
            return Ok(());
        };
        if find("url_status") == Some("offline") {
            sink.over(at, || format!("{url} is offline"));
            return Ok(());
        }
        let seen = find("last_online").or(find("dateadded"));
        let entry = Entry::from(clue::url(url));
        sink.put(at, entry.seen(seen.and_then(date::read_ms)))
    })
}

#[cfg(test)]
mod tests {
    use crate::format::testing::{check, recognised};
    use crate::report::Reason;

    #[test]
    fn the_table() {
        let text = "# URLhaus\n# id,dateadded,url,url_status,last_online,threat,tags,urlhaus_link,reporter\n\
            \"1\",\"2025-12-30 00:00:00\",\"http://192.0.2.1:8080/bin.sh\",\"online\",\"2025-12-30\",\"malware_download\",\"a,b\",\"x\",\"y\"\n\
            \"2\",\"2025-12-30 00:00:00\",\"http://evil.example/\",\"online\",\"\",\"x\",\"\",\"x\",\"y\"\n\
            \"3\",\"2025-12-30 00:00:00\",\"http://shared.example/x.exe\",\"online\",\"\",\"x\",\"\",\"x\",\"y\"\n\
            \"4\",\"2025-12-30 00:00:00\",\"http://192.0.2.2/x\",\"offline\",\"\",\"x\",\"\",\"x\",\"y\"\n\
            \"5\"\n\"6\",\"\n";
        assert_eq!(recognised(text), Some("urlhaus"));
        let left_out = [
            (Reason::NotAHost, 1),
            (Reason::Expired, 1),
            (Reason::Refused, 2),
        ];
        check("urlhaus", text, "192.0.2.1:8080 evil.example", &left_out);
    }

    #[test]
    fn the_export_and_the_answer_of_the_api() {
        let export = r#"{
            "1": [{"dateadded":"2025-12-30 00:00:00 UTC","url":"http://192.0.2.1:8080/bin.sh",
                   "url_status":"online","last_online":"2025-12-30 01:00:00 UTC","tags":["a"]}],
            "2": [{"dateadded":"2025-12-30 00:00:00 UTC","url":"http:\/\/evil.example\/","url_status":"online"}],
            "3": [{"dateadded":"2025-12-30 00:00:00 UTC","url":"http://shared.example/x","url_status":"online"}],
            "4": [{"dateadded":"2025-12-30 00:00:00 UTC","url":"http://192.0.2.2/x","url_status":"offline"}],
            "5": [{"dateadded":"2025-12-30 00:00:00 UTC","url_status":"online"}]
        }"#;
        assert_eq!(recognised(export), Some("urlhaus"));
        let left_out = [
            (Reason::NotAHost, 1),
            (Reason::Expired, 1),
            (Reason::Refused, 1),
        ];
        check("urlhaus", export, "192.0.2.1:8080 evil.example", &left_out);
        let answer = r#"{"query_status":"ok","urls":[{"id":"1","url":"http://192.0.2.3:81/x",
            "url_status":"online","date_added":"2025-12-30 00:00:00 UTC"}]}"#;
        assert_eq!(recognised(answer), Some("urlhaus"));
        check("urlhaus", answer, "192.0.2.3:81", &[]);
    }

    #[test]
    fn the_hosts_file() {
        let text = "# URLhaus Hostfile\n#\n127.0.0.1\tevil.example\n127.0.0.1\tbad.example\nnonsense\n127.0.0.1\tx\n";
        assert_eq!(recognised(text), Some("urlhaus"));
        check(
            "urlhaus",
            text,
            "bad.example evil.example",
            &[(Reason::Refused, 2)],
        );
    }
}
