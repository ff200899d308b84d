//! URLhaus of abuse.ch: pages that serve malware, as CSV (whose header stands in a comment) or as a
//! file for `/etc/hosts`. Most URLs name a page on somebody's host, and those are counted, not
//! taken; the hosts file names the hosts that serve nothing else.

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
    let table = head.has("url_status") && head.has("dateadded");
    table || (head.has("URLhaus") && (hosts::is_hosts(head) || head.first().starts_with("http")))
}

fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
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
