//! AdBlock filters: `||host^` blocks a host with all below it, which is what an entry here means. A
//! filter for a part of a page, one that holds for some pages only, and an exception (`@@`) name no
//! host.

use super::lines::each_line;
use super::{Format, Head};
use crate::clue;
use crate::indicator::IndicatorError;
use crate::set::SetError;
use crate::sink::Sink;

pub(super) const FORMAT: Format = Format {
    name: "adblock",
    usual: None,
    recognise,
    read,
};

/// Options that leave a filter a block of the whole host.
const OF_WHOLE_HOST: [&str; 8] = [
    "all",
    "important",
    "document",
    "doc",
    "popup",
    "third-party",
    "3p",
    "network",
];

fn recognise(head: &Head<'_>) -> bool {
    let adblock = |line: &str| line.to_ascii_lowercase().starts_with("[adblock");
    head.lines().next().is_some_and(adblock) || head.first().starts_with("||")
}

fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    each_line(bytes, sink, |sink, at, line| {
        if line.starts_with(['!', '[', '#']) {
            return Ok(());
        }
        let cosmetic = ["##", "#@#", "#?#", "#$#"]
            .iter()
            .any(|mark| line.contains(mark));
        if line.starts_with("@@") || cosmetic {
            sink.pass_over(at, || format!("{line:?} blocks no host"));
            return Ok(());
        }
        let (filter, options) = line.rsplit_once('$').unwrap_or((line, ""));
        let whole = |option: &str| option.is_empty() || OF_WHOLE_HOST.contains(&option);
        if !options.split(',').all(whole) {
            let some = IndicatorError::NotAHost(line.to_owned());
            return sink.put(at, Err(some));
        }
        let host = filter
            .strip_prefix("||")
            .unwrap_or(filter.trim_start_matches('|'));
        let host = host.trim_end_matches(['^', '|']);
        sink.put(at, clue::any(host))
    })
}

#[cfg(test)]
mod tests {
    use crate::format::testing::{check, recognised};
    use crate::report::Reason;

    #[test]
    fn filters_for_whole_hosts() {
        let text = "[Adblock Plus 2.0]\n! Title: bad hosts\n||Evil.example^\n||*.worse.example^$important\n\
                    ||bad.example^$third-party,document\n|http://192.0.2.1/|\nplain.example\n\
                    ||shared.example/ads^\n||some.example^$domain=x.example\n@@||good.example^\n\
                    example.com##.banner\n||not a host^\n";
        assert_eq!(recognised(text), Some("adblock"));
        let expected = "192.0.2.1 bad.example evil.example plain.example worse.example";
        let left_out = [
            (Reason::NotAHost, 2),
            (Reason::OfNoUse, 2),
            (Reason::Refused, 1),
        ];
        check("adblock", text, expected, &left_out);
    }
}
