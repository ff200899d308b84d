//! Plain lists: `<category>-domains.txt` and `<category>-ips.txt`, one indicator a line, `#` begins
//! a comment. An `ips` line is an address, a CIDR or address:port; a domain covers all names below.

use super::{Format, Header, Kind, Sink, category_of};
use crate::indicator::Indicator;
use crate::limits::LINE_BYTES_MAX;
use crate::list::List;
use crate::set::SetError;

pub(super) const FORMAT: Format = Format {
    name: "plain",
    recognise,
    read,
};

fn recognise(file: &str) -> Option<Header> {
    let header = |category, kind| {
        let name = file.trim_end_matches(".txt").to_owned();
        Header {
            list: List::new(name, category),
            kind,
        }
    };
    if let Some(category) = category_of(file, "-domains.txt") {
        return Some(header(category, Kind::Domains));
    }
    category_of(file, "-ips.txt").map(|category| header(category, Kind::Addresses))
}

fn read(header: &Header, bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    for (at, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let number = at + 1;
        if line.len() > LINE_BYTES_MAX {
            sink.refuse(
                number,
                format!("{} bytes, {LINE_BYTES_MAX} allowed", line.len()),
            );
            continue;
        }
        let Ok(line) = std::str::from_utf8(line) else {
            sink.refuse(number, "not UTF-8".to_owned());
            continue;
        };
        let line = if at == 0 {
            line.trim_start_matches('\u{feff}')
        } else {
            line
        };
        let text = line.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        sink.put(
            number,
            match header.kind {
                Kind::Domains => Indicator::domain(text),
                Kind::Addresses => Indicator::address(text),
            },
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::format::FormatError;
    use crate::set::SetBuilder;

    #[test]
    fn reads_what_is_sound_and_names_the_rest() {
        let mut builder = SetBuilder::default();
        let text =
            b"\xef\xbb\xbf# pools\r\nPool.Example. # why\r\n\r\npool.example\nnot a domain\n\xff\n";
        let report = builder.read_file("mining-domains.txt", text).unwrap();
        assert_eq!((report.taken, report.repeated, report.refused), (1, 1, 2));
        assert_eq!(report.refusals[0].line, 5);
        assert_eq!(report.refusals[0].why, "\"not a domain\" is no domain");
        assert_eq!(report.refusals[1].why, "not UTF-8");
        let set = builder.build();
        assert_eq!(
            set.match_domain("x.pool.example")[0].list.name,
            "mining-domains"
        );
    }

    #[test]
    fn addresses_nets_and_endpoints() {
        let mut builder = SetBuilder::default();
        let report = builder.read_file("c2-ips.txt", b"192.0.2.1\n2001:db8::/32\n192.0.2.2:4444");
        assert_eq!(report.unwrap().taken, 3);
        let set = builder.build();
        assert_eq!(
            set.match_address("192.0.2.2".parse().unwrap(), 4444).len(),
            1
        );
        assert!(
            set.match_address("192.0.2.2".parse().unwrap(), 80)
                .is_empty()
        );
    }

    #[test]
    fn other_files_are_refused_by_name() {
        let mut builder = SetBuilder::default();
        assert_eq!(
            builder.read_file("README.md", b""),
            Err(FormatError::Unknown)
        );
        let wrong = builder.read_file("bad-domains.txt", b"");
        assert_eq!(
            wrong,
            Err(FormatError::Category {
                file: "bad-domains.txt".into()
            })
        );
    }
}
