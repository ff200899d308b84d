//! What the key of an object says: which log it holds, of which day, written when.
//!
//! ```text
//! …AWSLogs/[o-…/]<account>/CloudTrail/<region>/2026/01/31/…_20260131T1205Z_….json.gz
//! …AWSLogs/[o-…/]<account>/CloudTrail-Digest/<region>/2026/01/31/…_20260131T120500Z.json.gz
//! …AWSLogs/[o-…/]<account>/CloudTrail-Insight/…   …/CloudTrail-NetworkActivity/…
//! …AWSLogs/<account>/vpcflowlogs/<region>/…        …/aws-service=vpcflowlogs/…/year=2026/month=01/…
//! …AWSLogs/<account>/vpcdnsquerylogs/<vpc>/2026/01/31/…
//! …AWSLogs/<account>/GuardDuty/<region>/2026/01/31/….jsonl.gz
//! …aws/rds/instance/<instance>/…                   …aws/rds/cluster/<cluster>/…
//! ```

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use super::settings::Kind;
use crate::source::hosts;

/// What an object holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Log {
    /// Events of CloudTrail.
    Cloudtrail,
    /// Insight events of CloudTrail: what it finds unusual by itself.
    Insight,
    /// What CloudTrail signs: which files it delivered in an hour, and their hashes.
    Digest,
    /// About hosts.
    Hosts(hosts::Log),
    /// Of databases.
    Rds,
    /// GuardDuty's findings.
    Guardduty,
}

impl Log {
    /// What an object is, by what is configured and what its key says; `None` for what is no log that is
    /// read, folders among them.
    pub(super) fn of(key: &str, holds: Kind) -> Option<Self> {
        if key.ends_with('/') || key.is_empty() {
            return None;
        }
        let named = key.rsplit('/').skip(1).find_map(|folder| match folder {
            "CloudTrail" | "CloudTrail-NetworkActivity" => Some(Self::Cloudtrail),
            "CloudTrail-Insight" => Some(Self::Insight),
            "CloudTrail-Digest" => Some(Self::Digest),
            "vpcflowlogs" | "aws-service=vpcflowlogs" => Some(Self::Hosts(hosts::Log::VpcFlow)),
            "vpcdnsquerylogs" => Some(Self::Hosts(hosts::Log::ResolverQuery)),
            "GuardDuty" => Some(Self::Guardduty),
            _ => None,
        });
        let named = named.or_else(|| is_of_database(key).then_some(Self::Rds));
        match (holds, named) {
            (_, named @ Some(_)) => named,
            (Kind::ByKey, None) => None,
            (Kind::Cloudtrail, None) => Some(Self::Cloudtrail),
            (Kind::VpcFlow, None) => Some(Self::Hosts(hosts::Log::VpcFlow)),
            (Kind::Resolver, None) => Some(Self::Hosts(hosts::Log::ResolverQuery)),
            (Kind::Rds, None) => Some(Self::Rds),
            (Kind::Guardduty, None) => Some(Self::Guardduty),
        }
    }

    /// The name in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cloudtrail => "cloudtrail",
            Self::Insight => "insight",
            Self::Digest => "digest",
            Self::Hosts(hosts::Log::VpcFlow) => "vpc_flow",
            Self::Hosts(hosts::Log::ResolverQuery) => "resolver",
            Self::Rds => "rds",
            Self::Guardduty => "guardduty",
        }
    }
}

/// Says whether folders are named after the log group of a database: `aws/rds/instance/<id>/…`.
fn is_of_database(key: &str) -> bool {
    let folders: Vec<&str> = key.split('/').collect();
    folders.windows(4).any(|some| {
        let is_kind = matches!(some[2], "instance" | "cluster");
        some[0] == "aws" && some[1] == "rds" && is_kind && !some[3].is_empty()
    })
}

/// The time in the name of a file, as it stands there: `20260131T1205Z`; empty if there is none.
pub(super) fn stamp(key: &str) -> &str {
    let name = key.rsplit('/').next().unwrap_or_default();
    let is_stamp = |part: &&str| {
        let bytes = part.as_bytes();
        let digits = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_digit);
        matches!(bytes.len(), 14 | 16)
            && bytes[8] == b'T'
            && bytes.ends_with(b"Z")
            && digits(&bytes[..8])
            && digits(&bytes[9..bytes.len() - 1])
    };
    name.split(['_', '.']).find(is_stamp).unwrap_or_default()
}

/// The same, nanoseconds since the epoch, if there is one that is a time.
pub(super) fn stamp_ns(key: &str) -> Option<u64> {
    let stamp = stamp(key);
    let number = |from: usize, to: usize| stamp.get(from..to)?.parse::<i8>().ok();
    let time = Time::new(
        number(9, 11)?,
        number(11, 13)?,
        number(13, 15).unwrap_or(0),
        0,
    );
    let at = day(key)?.to_datetime(time.ok()?).to_zoned(TimeZone::UTC);
    u64::try_from(at.ok()?.timestamp().as_nanosecond()).ok()
}

/// The day that a key says: by the time in the name of the file, else by its folders.
pub(super) fn day(key: &str) -> Option<Date> {
    let stamp = stamp(key);
    let of = |year: &str, month: &str, day: &str| {
        Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()
    };
    if !stamp.is_empty() {
        return of(stamp.get(..4)?, stamp.get(4..6)?, stamp.get(6..8)?);
    }
    let folders: Vec<&str> = key.split('/').collect();
    folders.windows(4).find_map(|some| match some {
        [year, month, day, _] if (year.len(), month.len(), day.len()) == (4, 2, 2) => {
            of(year, month, day)
        }
        _ => None,
    })
}

/// The number that the last folder of a prefix stands for: `2026` in `…/2026/`, as in `…/year=2026/`.
pub(super) fn number(folder: &str, part: &str, digits: usize) -> Option<u32> {
    let last = folder.strip_suffix('/')?.rsplit('/').next()?;
    let text = last
        .strip_prefix(part)
        .and_then(|rest| rest.strip_prefix('='))
        .unwrap_or(last);
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: &str = "AWSLogs/111122223333/CloudTrail/eu-central-1/2026/01/31/";

    #[test]
    fn a_key_says_its_day_by_its_file_or_else_by_its_folders() {
        let file = "111122223333_CloudTrail_eu-central-1_20260130T1205Z_a1.json.gz";
        let told = |key: &str| day(key).map(|day| day.to_string());
        assert_eq!(told(&format!("{DAY}{file}")).as_deref(), Some("2026-01-30"));
        assert_eq!(told(&format!("{DAY}a.json")).as_deref(), Some("2026-01-31"));
        for dateless in ["2026/1/31/a", "a/2026/02/31/a", "b/a.json", ""] {
            assert_eq!(told(dateless), None, "{dateless}");
        }
    }

    #[test]
    fn a_key_says_when_its_file_was_written() {
        let at = |name: &str| stamp_ns(&format!("{DAY}{name}")).map(|ns| ns / 1_000_000_000);
        let log = "111122223333_CloudTrail_eu-central-1_20260130T1205Z_a1.json.gz";
        assert_eq!(at(log), Some(1_769_774_700));
        assert_eq!(at("1_20260130T120507Z.json.gz"), Some(1_769_774_707));
        assert_eq!(at("1_20260130T2505Z.json.gz"), None);
        assert_eq!(at("1_20261330T1205Z.json.gz"), None);
        assert_eq!(at("a.json"), None);
    }

    #[test]
    fn a_key_says_what_it_is() {
        let of = |key: &str| Log::of(key, Kind::ByKey);
        let file = "111122223333_CloudTrail_eu-central-1_20260131T1205Z_a1.json.gz";
        assert_eq!(of(&format!("{DAY}{file}")), Some(Log::Cloudtrail));
        let other = |name: &str| of(&format!("x/{}{file}", DAY.replace("CloudTrail", name)));
        assert_eq!(other("CloudTrail-Digest"), Some(Log::Digest));
        assert_eq!(other("CloudTrail-Insight"), Some(Log::Insight));
        assert_eq!(other("CloudTrail-NetworkActivity"), Some(Log::Cloudtrail));
        assert_eq!(other("Config"), None);
        let flow = Some(Log::Hosts(hosts::Log::VpcFlow));
        assert_eq!(other("vpcflowlogs"), flow);
        assert_eq!(of("a/aws-service=vpcflowlogs/year=2026/x.log.gz"), flow);
        assert_eq!(
            other("vpcdnsquerylogs"),
            Some(Log::Hosts(hosts::Log::ResolverQuery))
        );
        assert_eq!(other("GuardDuty"), Some(Log::Guardduty));
        assert_eq!(
            of("x/aws/rds/instance/shop/postgresql/1/000000.gz"),
            Some(Log::Rds)
        );
        assert_eq!(of("x/rds/instance/shop/postgresql/1/000000.gz"), None);
        assert_eq!(Log::of("a/x.log", Kind::Rds), Some(Log::Rds));
        assert_eq!(Log::of("a/x.log", Kind::Guardduty), Some(Log::Guardduty));
        assert_eq!(Log::of("a/x.log", Kind::VpcFlow), flow);
        assert_eq!(of(DAY), None);
        assert_eq!(of("logs/CloudTrail"), None);
        assert_eq!(
            Log::of("logs/a.json", Kind::Cloudtrail),
            Some(Log::Cloudtrail)
        );
        assert_eq!(Log::of("logs/", Kind::Cloudtrail), None);
        let digest = format!(
            "{}a.json.gz",
            DAY.replace("CloudTrail", "CloudTrail-Digest")
        );
        assert_eq!(Log::of(&digest, Kind::Cloudtrail), Some(Log::Digest));
    }

    #[test]
    fn a_name_says_when_it_was_written() {
        for (key, expected) in [
            (
                "a/1_CloudTrail_r_20260131T1205Z_x.json.gz",
                "20260131T1205Z",
            ),
            (
                "a/1_CloudTrail-Digest_r_t_r_20260131T120500Z.json.gz",
                "20260131T120500Z",
            ),
            ("a/20260131T1205Z/b.json", ""),
            ("a/20260131T1205.json", ""),
            ("", ""),
            ("a/_ü2026013T1205Z_", ""),
        ] {
            assert_eq!(stamp(key), expected, "{key}");
        }
    }

    #[test]
    fn folders_of_days_are_known() {
        assert_eq!(number("a/2026/", "year", 4), Some(2026));
        assert_eq!(number("a/year=2026/", "year", 4), Some(2026));
        assert_eq!(number("01/", "month", 2), Some(1));
        for folder in ["a/2026", "a/20x6/", "a/month=2026/", "/"] {
            assert_eq!(number(folder, "year", 4), None, "{folder}");
        }
    }
}
