//! Response policy zones: a DNS zone whose owner names are what is blocked
//! (draft-vixie-dnsop-dns-rpz). `name CNAME .` and its like list a name, `*.name` all below it, and
//! `24.0.2.0.192.rpz-ip` the net 192.0.2.0/24, its parts backwards. Names let through
//! (`rpz-passthru.`) are no indicators; triggers on clients and name servers are none of ours.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::lines::each_line;
use super::{Format, Head};
use crate::clue::{self, Clue};
use crate::indicator::IndicatorError;
use crate::set::SetError;
use crate::sink::Sink;

pub(super) const FORMAT: Format = Format {
    name: "rpz",
    usual: None,
    recognise,
    read,
};

/// Types of records that the zone has for itself.
const OF_ZONE: [&str; 7] = [
    "SOA",
    "NS",
    "DNSKEY",
    "RRSIG",
    "NSEC",
    "NSEC3",
    "NSEC3PARAM",
];

fn recognise(head: &Head<'_>) -> bool {
    let soa = head
        .lines()
        .any(|line| line.split_whitespace().any(|word| word == "SOA"));
    soa && head.has("CNAME")
}

fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), SetError> {
    let mut origin = String::new();
    let mut open = false;
    each_line(bytes, sink, |sink, at, line| {
        let text = line.split(';').next().unwrap_or_default();
        // Only the zone's own SOA goes over several lines.
        if open {
            open = !text.contains(')');
            return Ok(());
        }
        let mut words = text.split_whitespace();
        let Some(owner) = words.next() else {
            return Ok(());
        };
        match owner {
            "$ORIGIN" => {
                origin = words
                    .next()
                    .unwrap_or_default()
                    .trim_end_matches('.')
                    .to_owned();
                return Ok(());
            }
            "$TTL" => return Ok(()),
            _ => {}
        }
        let is_ttl = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
        let mut data = words.skip_while(|word| is_ttl(word) || *word == "IN");
        let (sort, target) = (data.next().unwrap_or_default(), data.next());
        // A record without an owner of its own belongs to the zone's: the owner stands first.
        if OF_ZONE.contains(&sort) || OF_ZONE.contains(&owner) {
            open = text.contains('(') && !text.contains(')');
            if origin.is_empty() && sort == "SOA" && owner != "@" {
                origin = owner.trim_end_matches('.').to_owned();
            }
            return Ok(());
        }
        let Some(target) = target.filter(|_| matches!(sort, "CNAME" | "A" | "AAAA" | "TXT")) else {
            sink.refuse(at, format!("{line:?} is no record of a policy"));
            return Ok(());
        };
        if sort == "CNAME" && target.starts_with("rpz-passthru") {
            sink.pass_over(at, || format!("{owner} is let through"));
            return Ok(());
        }
        sink.put(at, trigger(owner, &origin))
    })
}

/// What an owner name stands for.
fn trigger(owner: &str, origin: &str) -> Clue {
    let name = match owner.strip_suffix('.') {
        Some(full) => full
            .strip_suffix(origin)
            .unwrap_or(full)
            .trim_end_matches('.'),
        None => owner,
    };
    if let Some(parts) = name.strip_suffix(".rpz-ip") {
        return net(parts).unwrap_or_else(|| Err(IndicatorError::NotAnAddress(owner.to_owned())));
    }
    if [".rpz-client-ip", ".rpz-nsip", ".rpz-nsdname"]
        .iter()
        .any(|end| name.ends_with(end))
    {
        return Err(IndicatorError::OfNoUse(owner.to_owned()));
    }
    clue::domain(name)
}

/// `24.0.2.0.192` is 192.0.2.0/24; `48.zz.2.db8.2001` is 2001:db8:2::/48.
fn net(parts: &str) -> Option<Clue> {
    let (prefix, backwards) = parts.split_once('.')?;
    let mut words: Vec<&str> = backwards.split('.').collect();
    words.reverse();
    let address = words.join(".");
    let address = match address.parse::<Ipv4Addr>() {
        Ok(v4) => v4.to_string(),
        Err(_) => {
            let v6 = words.join(":").replace(":zz:", "::");
            let v6 = v6
                .strip_suffix(":zz")
                .map_or(v6.clone(), |v6| format!("{v6}::"));
            let v6 = v6
                .strip_prefix("zz:")
                .map_or(v6.clone(), |v6| format!("::{v6}"));
            v6.parse::<Ipv6Addr>().ok()?.to_string()
        }
    };
    Some(clue::addresses(&format!("{address}/{prefix}")))
}

#[cfg(test)]
mod tests {
    use crate::format::testing::{check, recognised};
    use crate::report::Reason;

    #[test]
    fn triggers_of_a_zone() {
        let text = "$TTL 300\n$ORIGIN rpz.example.\n@ SOA ns.rpz.example. hostmaster.rpz.example. (\n  1 ; serial\n  3600 )\n\
                    @ IN NS localhost.\n\
                    evil.example CNAME .\n*.evil.example CNAME .\nbad.example 60 IN CNAME *.\n\
                    full.example.rpz.example. CNAME rpz-drop.\nwalled.example A 192.0.2.80\n\
                    32.1.2.0.192.rpz-ip CNAME .\n24.0.100.51.198.rpz-ip CNAME .\n48.zz.2.db8.2001.rpz-ip CNAME .\n\
                    good.example CNAME rpz-passthru.\n32.1.0.0.127.rpz-client-ip CNAME .\n\
                    nonsense.example\n999.1.rpz-ip CNAME .\nno_tld CNAME .\n";
        assert_eq!(recognised(text), Some("rpz"));
        let expected = "192.0.2.1 198.51.100.0/24 2001:db8:2::/48 bad.example evil.example full.example walled.example";
        check(
            "rpz",
            text,
            expected,
            &[(Reason::OfNoUse, 2), (Reason::Refused, 3)],
        );
    }
}
