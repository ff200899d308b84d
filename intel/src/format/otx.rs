//! AlienVault OTX's CSV, one of GuardDuty's six: `Indicator type, Indicator, Description`.

use super::lines::{each_row, field, fields};
use super::{Format, Head, Usual};
use crate::category::Category;
use crate::clue;
use crate::indicator::IndicatorError;
use crate::set::SetError;
use crate::sink::Sink;

pub(super) const FORMAT: Format = Format {
    name: "otx",
    usual: Usual::of(Category::Custom),
    recognise,
    read,
};

fn recognise(head: &Head<'_>) -> bool {
    let first = head.first().to_ascii_lowercase().replace(['"', ' '], "");
    first.starts_with("indicatortype,indicator")
}

fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    each_row(bytes, sink, |sink, at, line| {
        let row = fields(line, ',').unwrap_or_default();
        let (Some(sort), Some(text)) = (field(&row, Some(0)), field(&row, Some(1))) else {
            sink.refuse(at, format!("{line:?} has no type and indicator"));
            return Ok(());
        };
        let clue = match &*sort.to_ascii_lowercase() {
            "indicator type" => return Ok(()),
            "ipv4" | "ipv6" | "cidr" => clue::addresses(text),
            "domain" | "domain name" | "hostname" => clue::domain(text),
            "url" | "uri" => clue::any(text),
            _ => Err(IndicatorError::OfNoUse(text.to_owned())),
        };
        sink.put(at, clue)
    })
}

#[cfg(test)]
mod tests {
    use crate::format::testing::{check, recognised};
    use crate::report::Reason;

    #[test]
    fn rows_by_their_type() {
        let text = "Indicator type, Indicator, Description\nCIDR, 192.0.2.0/24, example\n\
                    IPv4, 198.51.100.1, \"a, b\"\nDomain name, evil.example, x\nURL, http://bad.example/, x\n\
                    IPv6, 2001:db8::1, x\nURL, http://shared.example/x, x\nFileHash-MD5, 00ff, x\n\
                    IPv4, evil.example, x\nDomain name\nCIDR, 192.0.2.0/99, x\n";
        assert_eq!(recognised(text), Some("otx"));
        let expected = "192.0.2.0/24 198.51.100.1 2001:db8::1 bad.example evil.example";
        let left_out = [
            (Reason::NotAHost, 1),
            (Reason::OfNoUse, 1),
            (Reason::Refused, 3),
        ];
        check("otx", text, expected, &left_out);
    }
}
