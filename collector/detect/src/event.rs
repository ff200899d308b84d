//! What the analyzer is fed: one thing that happened, with its own time.

use picket_wire::{AgentId, Balance, BootId, Health, Listing, Summary};

use crate::finding::Host;
use crate::logs::cloudtrail::ApiCall;
use crate::logs::{Login, Reported};

/// Where events come from. Each source has its own watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceKind {
    /// Summaries of agents, live or replayed.
    Agent,
    /// Summaries made of logs about hosts: VPC flow logs, resolver query logs.
    HostLog,
    /// CloudTrail.
    Cloudtrail,
    /// GuardDuty's own findings.
    Guardduty,
    /// Logs of RDS and Aurora databases.
    Rds,
    /// What the collector noticed about the sensors, about itself and about the logs it was given.
    Sensor,
}

impl SourceKind {
    /// Every source.
    pub const ALL: [Self; 6] = [
        Self::Agent,
        Self::HostLog,
        Self::Cloudtrail,
        Self::Guardduty,
        Self::Rds,
        Self::Sensor,
    ];

    /// The name used in totals and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::HostLog => "host_log",
            Self::Cloudtrail => "cloudtrail",
            Self::Guardduty => "guardduty",
            Self::Rds => "rds",
            Self::Sensor => "sensor",
        }
    }

    /// The source whose events say the same: who reads summaries reads them wherever they are from.
    pub(crate) fn alike(self) -> Self {
        match self {
            Self::HostLog => Self::Agent,
            other => other,
        }
    }

    /// How late an event of this source may come and still meet its windows, nanoseconds: agents
    /// ship within seconds; flow logs come within 5 to 10 minutes (VPC user guide, "Flow logs basics"),
    /// so 15; CloudTrail delivers within 15 minutes on average and no promise (its user guide, "How
    /// CloudTrail works"), so twice that; CloudWatch Logs has the lines of a database within minutes.
    pub fn lateness_ns(self) -> u64 {
        const SECOND: u64 = 1_000_000_000;
        match self {
            Self::Agent | Self::Sensor => 30 * SECOND,
            Self::HostLog => 15 * 60 * SECOND,
            Self::Cloudtrail => 30 * 60 * SECOND,
            Self::Guardduty | Self::Rds => 15 * 60 * SECOND,
        }
    }
}

/// One thing that happened.
#[derive(Debug)]
pub enum Event {
    /// An admitted summary.
    Summary(Box<Summary>),
    /// One call of the AWS API.
    Api(Box<ApiCall>),
    /// A connection to a database, and what came of it.
    Login(Box<Login>),
    /// A finding of GuardDuty's.
    Reported(Box<Reported>),
    /// A remark about a sensor.
    Sensor(SensorEvent),
    /// A remark about a feed of indicators.
    Feed(FeedEvent),
    /// A remark about CloudTrail's own record.
    Trail(TrailEvent),
}

impl Event {
    /// Its source.
    pub fn source(&self) -> SourceKind {
        match self {
            Self::Summary(summary) if is_of_log(summary) => SourceKind::HostLog,
            Self::Summary(_) => SourceKind::Agent,
            Self::Api(_) => SourceKind::Cloudtrail,
            Self::Login(_) => SourceKind::Rds,
            Self::Reported(_) => SourceKind::Guardduty,
            Self::Sensor(_) | Self::Feed(_) | Self::Trail(_) => SourceKind::Sensor,
        }
    }

    /// When it happened, nanoseconds since the epoch. A summary happens when its window ends.
    pub fn time_ns(&self) -> u64 {
        match self {
            Self::Summary(summary) => summary.window.end_ns,
            Self::Api(call) => call.event_time_ns,
            Self::Login(login) => login.time_ns,
            Self::Reported(finding) => finding.last_ns,
            Self::Sensor(event) => event.time_ns,
            Self::Feed(event) => event.time_ns,
            Self::Trail(event) => event.time_ns,
        }
    }
}

/// Whether a summary was made of a log and not by an agent.
fn is_of_log(summary: &Summary) -> bool {
    matches!(&*summary.host.capture, FLOW_LOG | QUERY_LOG)
}

/// What a summary made of VPC flow logs says of its capture.
pub(crate) const FLOW_LOG: &str = "vpc-flow-log";

/// What one made of resolver query logs says.
pub(crate) const QUERY_LOG: &str = "resolver-query-log";

/// A remark about one sensor: it was blind, it contradicts itself, someone speaks in its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SensorEvent {
    /// The sensor.
    pub agent: AgentId,
    /// The host it is registered for, not the one a message claims.
    pub host: Host,
    /// When it was noticed or, where that is known, when it happened.
    pub time_ns: u64,
    /// What.
    pub word: SensorWord,
}

/// What can be said about a sensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SensorWord {
    /// Envelopes are missing before the one that came.
    Missing {
        /// In which run.
        boot: BootId,
        /// How many.
        envelopes: u64,
    },
    /// Envelopes that were missing have come after all.
    Filled {
        /// In which run.
        boot: BootId,
        /// How many are still missing.
        missing: u64,
    },
    /// The agent itself says that it saw nothing for a while.
    Blind {
        /// Last instant seen before; 0 if unknown.
        from_ns: u64,
        /// First instant seen after.
        to_ns: u64,
        /// `killed` or `stopped`.
        why: String,
    },
    /// Nothing was heard of it although it is expected to speak.
    Silent {
        /// When it last spoke.
        since_ns: u64,
    },
    /// It speaks again after it was silent.
    Heard,
    /// Its envelopes are refused for when they were signed.
    Misdated {
        /// How far ahead of the collector's clock, milliseconds; negative for behind.
        off_ms: i64,
    },
    /// Its envelopes are signed in time again.
    Timely,
    /// Two envelopes carry the same number, or one does not follow the one before it.
    Forked {
        /// In which run.
        boot: BootId,
        /// At which number.
        sequence: u64,
    },
    /// Two runs of its key go on at the same time.
    Cloned {
        /// The runs, the older one first, and the host that each is on.
        runs: [(BootId, String); 2],
        /// For how long both were heard, milliseconds.
        together_ms: u64,
    },
    /// What a window says about its sensor.
    Window(Box<SensorWindow>),
    /// What a window says about the indicators that its sensor was given.
    Listing(Listing),
    /// Somebody who could prove to be its host asked that another key be believed for it.
    SecondKey {
        /// The agent that the other key names.
        other: AgentId,
    },
    /// Someone spoke in its name and was refused.
    Refused {
        /// The stable word of the refusal.
        reason: &'static str,
    },
}

/// A remark about CloudTrail's record: about a file that its digests speak of, or about its silence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrailEvent {
    /// The account that the file is of.
    pub account: String,
    /// The region.
    pub region: String,
    /// The bucket that it was written to.
    pub bucket: String,
    /// Its key.
    pub file: String,
    /// The end of the hour that it is of.
    pub time_ns: u64,
    /// What.
    pub word: TrailWord,
}

/// What can be said about a file of CloudTrail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrailWord {
    /// A log file has other content than CloudTrail wrote.
    Altered,
    /// A log file is not there.
    Missing,
    /// A digest does not hold.
    Chain {
        /// Why, in words.
        why: String,
    },
    /// Nothing comes of the account any more, of which much came before.
    Quiet {
        /// When the last came.
        since_ns: u64,
    },
    /// It is heard again.
    Heard,
}

/// A remark about one feed of indicators that the collector fetches, or about one of its lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedEvent {
    /// Account that the collector counts such findings to.
    pub account: String,
    /// The feed's name, as configured.
    pub feed: String,
    /// When it was noticed.
    pub time_ns: u64,
    /// What.
    pub word: FeedWord,
}

/// What can be said about a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedWord {
    /// What came cannot take the place of what is in use.
    Refused {
        /// Why, in words.
        why: String,
    },
    /// What is in use is good again.
    Good,
    /// Its server has not answered for too long.
    Stale {
        /// When it last did, or since when it is asked.
        since_ns: u64,
        /// Why not, in words.
        why: String,
    },
    /// It answers again.
    Fresh,
    /// One of the lists in use, fetched or not, is not looked for: there is no room for it, or it names
    /// more than a list can know of.
    LeftOut {
        /// Why, in words.
        why: String,
    },
    /// The list is looked for again, or is gone.
    Used,
}

/// What a window says about its sensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SensorWindow {
    /// In which run.
    pub boot: BootId,
    /// When it ended.
    pub end_ns: u64,
    /// Both sides of its loss equation.
    pub balance: Balance,
    /// How the sensor was at its end, if it says.
    pub health: Option<Health>,
}

impl SensorWindow {
    /// What the kernel side failed to show, in a word of a closed set.
    pub(crate) fn canary_failed(&self) -> Option<&'static str> {
        self.health.as_ref()?.canary.as_ref()?.failed()
    }
}
