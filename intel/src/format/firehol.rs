//! FireHOL's `.ipset` and `.netset`: addresses and nets behind a header of comments. Which sort
//! they are of differs from list to list and has to be said.

use super::lines::each_line;
use super::{Format, Head};
use crate::clue;
use crate::set::SetError;
use crate::sink::Sink;

pub(super) const FORMAT: Format = Format {
    name: "firehol",
    usual: None,
    recognise,
    read,
};

fn recognise(head: &Head<'_>) -> bool {
    head.has("# Maintainer") && head.has("# Category") && head.has("# Entries")
}

fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    each_line(bytes, sink, |sink, at, line| {
        match line.split('#').next().unwrap_or_default().trim() {
            "" => Ok(()),
            net => sink.put(at, clue::addresses(net)),
        }
    })
}

#[cfg(test)]
mod tests {
    use crate::format::FormatError;
    use crate::format::testing::{check, read, recognised};
    use crate::report::Reason;

    const TEXT: &str = "#\n# firehol_x\n#\n# Maintainer      : Somebody\n# Category        : attacks\n\
                        # Entries         : 2 unique IPs\n#\n192.0.2.1\n198.51.100.0/24\n10.0.0.0/8\nevil.example\n";

    #[test]
    fn addresses_and_nets() {
        assert_eq!(recognised(TEXT), Some("firehol"));
        let left_out = [(Reason::Excluded, 1), (Reason::Refused, 1)];
        check("firehol", TEXT, "192.0.2.1 198.51.100.0/24", &left_out);
    }

    #[test]
    fn its_category_has_to_be_said() {
        let untold = read("level1.netset", TEXT.as_bytes());
        assert!(matches!(
            untold,
            Err(FormatError::NoCategory {
                format: "firehol",
                ..
            })
        ));
        let told = read("scanner-level1.netset", TEXT.as_bytes()).unwrap();
        assert_eq!(told.list.category.name(), "scanner");
    }
}
