//! Usage: how much of each source was analysed, by account and day, and what GuardDuty would charge for the
//! same ([`prices`]).

pub(crate) mod prices;

use std::collections::BTreeMap;

use picket_detect::logs::ApiCall;
use picket_detect::{Event, Time};
use serde::{Deserialize, Serialize};

/// Rows kept at once, about 100 bytes each. In `analyze` ten thousand accounts for a year would be more; what finds no
/// room is counted. Chosen by hand.
const ROWS_MAX: usize = 100_000;

const DAY_NS: u64 = 86_400 * 1_000_000_000;

/// What is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    /// Envelopes of agents.
    Agent,
    /// CloudTrail's data events of other services than S3, and its network activity and Insights events.
    CloudtrailData,
    /// CloudTrail's management events.
    CloudtrailManagement,
    /// CloudTrail's data events of S3.
    CloudtrailS3,
    /// Connections to databases that their logs tell of.
    Rds,
    /// Records of VPC flow logs.
    VpcFlow,
    /// Questions in Route 53 Resolver query logs.
    Resolver,
}

impl Source {
    /// Every source.
    const ALL: [Self; 7] = [
        Self::Agent,
        Self::CloudtrailData,
        Self::CloudtrailManagement,
        Self::CloudtrailS3,
        Self::Rds,
        Self::VpcFlow,
        Self::Resolver,
    ];

    /// Its name, in tables of prices and in the store.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::CloudtrailData => "cloudtrail_data",
            Self::CloudtrailManagement => "cloudtrail_management",
            Self::CloudtrailS3 => "cloudtrail_s3",
            Self::Rds => "rds",
            Self::VpcFlow => "vpc_flow",
            Self::Resolver => "resolver",
        }
    }

    /// The source of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.name() == name)
    }

    /// What kind of event a call is, by its category (versions of CloudTrail before 1.07 have none: all were management
    /// events but those that say otherwise).
    fn of_call(call: &ApiCall) -> Self {
        match (call.category.as_deref(), call.management) {
            (Some("Data") | None, Some(false)) | (Some("Data"), None) => {
                if &*call.event_source == "s3.amazonaws.com" {
                    Self::CloudtrailS3
                } else {
                    Self::CloudtrailData
                }
            }
            (Some("Management") | None, _) | (Some("Data"), Some(true)) => {
                Self::CloudtrailManagement
            }
            _ => Self::CloudtrailData,
        }
    }
}

/// How much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Amount {
    events: u64,
    bytes: u64,
}

/// Whose events they are, and of where. GuardDuty charges each region of an account by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner<'a> {
    /// The account; empty if not known.
    pub(crate) account: &'a str,
    /// The region; empty if not known.
    pub(crate) region: &'a str,
}

/// How much of one source there was of one region of an account on one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// `YYYY-MM-DD`, by the time of the events, UTC.
    pub(crate) day: String,
    /// Which source.
    pub(crate) source: Source,
    /// Whose; empty if not known.
    pub(crate) account: String,
    /// Of where; empty if not known.
    #[serde(default)]
    pub(crate) region: String,
    /// Events.
    pub(crate) events: u64,
    /// Their bytes, as they stood in the log, inflated; of agents, of their envelopes.
    pub(crate) bytes: u64,
}

/// Counts.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// By day and source, account, and region.
    rows: BTreeMap<(u32, Source), BTreeMap<String, BTreeMap<String, Amount>>>,
    count: usize,
    /// Events for whose rows there was no room.
    pub(crate) left_out: u64,
}

impl Usage {
    /// Notes one event of so many bytes.
    pub(crate) fn note(&mut self, source: Source, of: Owner<'_>, time_ns: u64, bytes: usize) {
        let amount = Amount {
            events: 1,
            bytes: bytes as u64,
        };
        let day = u32::try_from(time_ns / DAY_NS).unwrap_or(u32::MAX);
        self.add(day, source, of, amount);
    }

    /// Notes an event, which stood in `bytes` bytes. Summaries that were made of logs, and logins, are not counted: the lines
    /// they were made of were.
    pub(crate) fn note_event(&mut self, event: &Event, bytes: usize) {
        let time_ns = event.time_ns();
        match event {
            Event::Summary(summary) if !summary.host.capture.ends_with("-log") => {
                let host = &summary.host;
                let of = Owner {
                    account: &host.account,
                    region: &host.region,
                };
                self.note(Source::Agent, of, time_ns, bytes);
            }
            Event::Api(call) => {
                let of = Owner {
                    account: call.account().unwrap_or_default(),
                    region: call.region.as_deref().unwrap_or_default(),
                };
                self.note(Source::of_call(call), of, time_ns, bytes);
            }
            Event::Summary(_)
            | Event::Login(_)
            | Event::Reported(_)
            | Event::Sensor(_)
            | Event::Feed(_)
            | Event::Trail(_) => {}
        }
    }

    /// Adds what another counted.
    pub(crate) fn merge(&mut self, other: Self) {
        self.left_out += other.left_out;
        for ((day, source), accounts) in other.rows {
            for (account, regions) in accounts {
                for (region, amount) in regions {
                    let of = Owner {
                        account: &account,
                        region: &region,
                    };
                    self.add(day, source, of, amount);
                }
            }
        }
    }

    /// What was counted, by day, source, account and region.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let each = self.rows.iter().flat_map(|(&(day, source), accounts)| {
            let day = Time(u64::from(day) * DAY_NS).day().to_string();
            accounts.iter().flat_map(move |(account, regions)| {
                let day = day.clone();
                regions.iter().map(move |(region, amount)| Row {
                    day: day.clone(),
                    source,
                    account: account.clone(),
                    region: region.clone(),
                    events: amount.events,
                    bytes: amount.bytes,
                })
            })
        });
        each.collect()
    }

    /// The same, and begins anew.
    pub(crate) fn take(&mut self) -> Vec<Row> {
        let rows = self.rows();
        self.rows.clear();
        self.count = 0;
        rows
    }

    fn add(&mut self, day: u32, source: Source, of: Owner<'_>, amount: Amount) {
        let accounts = self.rows.entry((day, source)).or_default();
        let known = accounts.get_mut(of.account);
        let row = if let Some(row) = known.and_then(|regions| regions.get_mut(of.region)) {
            row
        } else if self.count < ROWS_MAX {
            self.count += 1;
            let regions = accounts.entry(of.account.to_owned()).or_default();
            regions.entry(of.region.to_owned()).or_default()
        } else {
            self.left_out += amount.events;
            return;
        };
        row.events = row.events.saturating_add(amount.events);
        row.bytes = row.bytes.saturating_add(amount.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(account: &str) -> Owner<'_> {
        Owner {
            account,
            region: "r",
        }
    }

    #[test]
    fn regions_are_counted_apart() {
        let mut usage = Usage::default();
        for region in ["a", "b", "a"] {
            let of = Owner { region, ..of("1") };
            usage.note(Source::Agent, of, 5, 10);
        }
        let rows = usage.rows();
        let told: Vec<(&str, u64)> = rows.iter().map(|row| (&*row.region, row.bytes)).collect();
        assert_eq!(told, [("a", 20), ("b", 10)]);
    }

    #[test]
    fn counts_by_day_source_and_account() {
        let mut usage = Usage::default();
        for (source, account, day, bytes) in [
            (Source::VpcFlow, "1", 2, 10),
            (Source::VpcFlow, "1", 2, 20),
            (Source::VpcFlow, "2", 2, 5),
            (Source::Resolver, "1", 2, 7),
            (Source::VpcFlow, "1", 1, 1),
        ] {
            usage.note(source, of(account), day * DAY_NS + 5, bytes);
        }
        let mut both = Usage::default();
        both.note(Source::VpcFlow, of("1"), DAY_NS, 1);
        both.merge(usage);
        let rows = both.take();
        let told: Vec<(&str, Source, &str, u64, u64)> = rows
            .iter()
            .map(|row| (&*row.day, row.source, &*row.account, row.events, row.bytes))
            .collect();
        let expected = [
            ("1970-01-02", Source::VpcFlow, "1", 2, 2),
            ("1970-01-03", Source::VpcFlow, "1", 2, 30),
            ("1970-01-03", Source::VpcFlow, "2", 1, 5),
            ("1970-01-03", Source::Resolver, "1", 1, 7),
        ];
        assert_eq!(told, expected);
        assert!(both.take().is_empty());
    }

    #[test]
    fn is_bounded_and_says_so() {
        let mut usage = Usage::default();
        for account in 0..ROWS_MAX + 5 {
            usage.note(Source::Agent, of(&account.to_string()), 0, 1);
        }
        usage.note(Source::Agent, of("0"), 0, 1);
        assert_eq!((usage.rows().len(), usage.left_out), (ROWS_MAX, 5));
    }

    #[test]
    fn calls_are_told_apart() {
        let check = |json: &str, expected| {
            let call = ApiCall::parse(json.as_bytes(), 1).unwrap();
            assert_eq!(Source::of_call(&call), expected, "{json}");
        };
        let s3 = r#""eventName":"GetObject","eventSource":"s3.amazonaws.com""#;
        check(
            &format!(r#"{{{s3},"eventCategory":"Data","managementEvent":false}}"#),
            Source::CloudtrailS3,
        );
        check(
            &format!(r#"{{{s3},"managementEvent":false}}"#),
            Source::CloudtrailS3,
        );
        check(
            &format!(r#"{{{s3},"eventCategory":"Management","managementEvent":true}}"#),
            Source::CloudtrailManagement,
        );
        check(&format!("{{{s3}}}"), Source::CloudtrailManagement);
        let lambda = r#""eventName":"Invoke","eventSource":"lambda.amazonaws.com""#;
        check(
            &format!(r#"{{{lambda},"eventCategory":"Data","managementEvent":false}}"#),
            Source::CloudtrailData,
        );
        check(
            &format!(r#"{{{lambda},"eventCategory":"Insight"}}"#),
            Source::CloudtrailData,
        );
    }

    #[test]
    fn sources_have_their_names() {
        for source in Source::ALL {
            assert_eq!(Source::named(source.name()), Some(source));
            assert_eq!(serde_json::to_value(source).unwrap(), source.name());
        }
    }
}
