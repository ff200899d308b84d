//! The summary: what one host saw in one window, or what it must tell at once.
//!
//! CBOR maps with integer keys in ascending order (deterministic, RFC 8949 section 4.2); absent
//! options are left out; unknown keys are skipped, so that an older collector reads a newer agent.
//! All times are nanoseconds since the Unix epoch, of the packets, not of the agent's clock.

mod balance;
mod block;
mod content;
mod conversation;
mod filtered;
mod health;
mod hit;
mod imds;
mod listing;
mod net;
mod question;
mod shared;
mod tunnel;

use minicbor::{CborLen, Decode, Encode};

use crate::limits;

pub use balance::{Balance, Imbalance};
pub use block::{BlockAct, BlockEvent, BlockedFlow};
pub use content::{App, Content, Http, Logins, Smtp, Socks, Ssh, Stratum};
pub use conversation::{Conversation, Opened, Parent, Process, Side, Via};
pub use filtered::Filtered;
pub use health::{Canary, Detached, Health, Watched};
pub use hit::{Hit, HitKind};
pub use imds::{ImdsClass, ImdsRequest};
pub use listing::Listing;
pub use net::Net;
pub use question::{Answer, Latency, Question, Transport};
pub use tunnel::TunnelKind;

/// The layout version that this crate writes.
pub const SUMMARY_VERSION: u16 = 1;

/// Why bytes are not a summary.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SummaryError {
    /// Not CBOR, or not of the types a summary has.
    #[error("not a summary at byte {at}: {why}")]
    Malformed {
        /// Where decoding stopped.
        at: usize,
        /// The decoder's words.
        why: String,
    },
    /// Bytes follow the summary.
    #[error("{extra} bytes follow the summary")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// A list or text longer than [`limits`] allow.
    #[error("{what}: {len}, {max} allowed")]
    TooMany {
        /// Which field.
        what: &'static str,
        /// Its length.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// A layout of a later major version.
    #[error("layout version {version}, {SUMMARY_VERSION} known")]
    Version {
        /// What it says.
        version: u16,
    },
    /// The window ends before it starts.
    #[error("window ends {end_ns} before it starts {start_ns}")]
    Window {
        /// Start, ns.
        start_ns: u64,
        /// End, ns.
        end_ns: u64,
    },
}

/// What a host saw in one window; or, with `immediate`, hits that do not wait for its end.
#[derive(Debug, Clone, PartialEq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Summary {
    /// Layout version, [`SUMMARY_VERSION`].
    #[n(0)]
    pub version: u16,
    /// True for a message that carries only hits, sent within a second of the packet; the window's
    /// own summary does not repeat them.
    #[n(1)]
    pub immediate: bool,
    /// Whose word this is.
    #[n(2)]
    pub host: Host,
    /// The time covered.
    #[n(3)]
    pub window: Window,
    /// Conversations with packets in the window, in a fixed order.
    #[n(4)]
    pub conversations: Vec<Conversation>,
    /// DNS questions of the window, grouped.
    #[n(5)]
    pub questions: Vec<Question>,
    /// Indicators met.
    #[n(6)]
    pub hits: Vec<Hit>,
    /// What every stage took in, passed on and lost in the window.
    #[n(7)]
    pub counters: Vec<Counter>,
    /// What did not fit into this summary.
    #[n(8)]
    pub cut: Cut,
    /// Time before this window in which the sensor was blind, if there was any.
    #[n(9)]
    pub gap: Option<Gap>,
    /// Requests to the instance metadata service, like ones counted together.
    #[n(10)]
    #[cbor(default)]
    pub imds: Vec<ImdsRequest>,
    /// What became of orders to block.
    #[n(12)]
    #[cbor(default, skip_if = "Vec::is_empty")]
    pub blocks: Vec<BlockEvent>,
    /// How the sensor itself was; `None` where nothing was watched live, and in immediate summaries.
    #[n(14)]
    pub health: Option<Health>,
    /// What the host's operator does not want told, counted; `None` where nothing was left out.
    #[n(16)]
    pub filtered: Option<Filtered>,
    /// What is hidden of names and paths, in words; `None` if nothing is.
    #[n(17)]
    pub privacy: Option<String>,
    /// The bundle of indicators in use; `None` where none is asked for, and in immediate summaries.
    #[n(18)]
    pub listing: Option<Listing>,
}

/// The host that speaks and the state of its sensor.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Host {
    /// EC2 instance id, or the name a capture is replayed under.
    #[n(0)]
    pub instance: String,
    /// AWS account, twelve digits.
    #[n(1)]
    pub account: String,
    /// AWS region, `local` where there is none.
    #[n(2)]
    pub region: String,
    /// The host's own name, if known.
    #[n(3)]
    pub hostname: Option<String>,
    /// Version of the agent.
    #[n(4)]
    pub agent_version: String,
    /// The rung of the capture ladder in use: `tcx`, `clsact`, `afpacket` or `replay`.
    #[n(5)]
    pub capture: String,
    /// The host's own addresses. Empty for a mirror: then any end may be the resource.
    #[n(6)]
    pub local: Vec<Net>,
    /// Version of the indicator set in use, 0 for none.
    #[n(7)]
    pub indicators: u64,
}

/// Half-open span of packet time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Window {
    /// First instant covered.
    #[n(0)]
    pub start_ns: u64,
    /// First instant not covered any more.
    #[n(1)]
    pub end_ns: u64,
}

/// One counter of one stage, as a difference since the summary before.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Counter {
    /// `kernel`, `decode`, `flow`, `spool`, …
    #[n(0)]
    pub stage: String,
    /// `seen`, `not_flow_arp`, `lost_ring_full`, …
    #[n(1)]
    pub reason: String,
    /// Packets, messages or records, as the reason says.
    #[n(2)]
    pub count: u64,
    /// Their bytes, where they have any.
    #[n(3)]
    pub bytes: u64,
}

/// What did not fit under the bounds of one summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Cut {
    /// Conversations left out.
    #[n(0)]
    pub conversations: u64,
    /// Their packets.
    #[n(1)]
    pub packets: u64,
    /// Their bytes.
    #[n(2)]
    pub bytes: u64,
    /// Grouped questions left out.
    #[n(3)]
    pub questions: u64,
    /// Hits left out.
    #[n(4)]
    pub hits: u64,
}

/// Time in which the sensor saw nothing, told by the run that came after.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(map)]
pub struct Gap {
    /// End of the last window that the run before finished; 0 if unknown.
    #[n(0)]
    pub from_ns: u64,
    /// When this run began to see.
    #[n(1)]
    pub to_ns: u64,
    /// `killed` when the run before did not end in order, `stopped` when it did.
    #[n(2)]
    pub why: String,
}

impl Default for Summary {
    /// A summary of nothing.
    fn default() -> Self {
        Self {
            version: SUMMARY_VERSION,
            immediate: false,
            host: Host::default(),
            window: Window::default(),
            conversations: Vec::new(),
            questions: Vec::new(),
            hits: Vec::new(),
            counters: Vec::new(),
            cut: Cut::default(),
            gap: None,
            imds: Vec::new(),
            blocks: Vec::new(),
            health: None,
            filtered: None,
            privacy: None,
            listing: None,
        }
    }
}

impl Summary {
    /// Encodes the summary.
    pub fn to_bytes(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("writing CBOR to memory cannot fail")
    }

    /// Decodes and checks a summary that fills `bytes`.
    ///
    /// # Errors
    /// Every [`SummaryError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SummaryError> {
        let mut decoder = minicbor::Decoder::new(bytes);
        let summary: Self = decoder.decode().map_err(|error| SummaryError::Malformed {
            at: error.position().unwrap_or_else(|| decoder.position()),
            why: error.to_string(),
        })?;
        let extra = bytes.len() - decoder.position();
        if extra > 0 {
            return Err(SummaryError::Trailing { extra });
        }
        summary.validate()?;
        Ok(summary)
    }

    fn validate(&self) -> Result<(), SummaryError> {
        if self.version > SUMMARY_VERSION {
            return Err(SummaryError::Version {
                version: self.version,
            });
        }
        let Window { start_ns, end_ns } = self.window;
        if end_ns < start_ns {
            return Err(SummaryError::Window { start_ns, end_ns });
        }
        bounded(
            "conversations",
            self.conversations.len(),
            limits::CONVERSATIONS_MAX,
        )?;
        bounded("questions", self.questions.len(), limits::QUESTIONS_MAX)?;
        bounded("hits", self.hits.len(), limits::HITS_MAX)?;
        bounded("blocks", self.blocks.len(), limits::BLOCK_EVENTS_MAX)?;
        bounded("counters", self.counters.len(), limits::COUNTERS_MAX)?;
        bounded("local nets", self.host.local.len(), limits::LOCAL_NETS_MAX)?;
        if let Some(health) = &self.health {
            health.validate()?;
        }
        if let Some(listing) = &self.listing {
            listing.validate()?;
        }
        if let Some(text) = &self.privacy {
            bounded("privacy", text.len(), limits::TEXT_BYTES_MAX)?;
        }
        for text in [&self.host.instance, &self.host.account, &self.host.region] {
            bounded("host text", text.len(), limits::TEXT_BYTES_MAX)?;
        }
        for one in &self.conversations {
            bounded("starts", one.starts_ms.len(), limits::STARTS_MAX)?;
        }
        for content in self
            .conversations
            .iter()
            .filter_map(|one| one.content.as_ref())
        {
            content.validate()?;
        }
        let acting = self.conversations.iter().map(|one| one.process.as_deref());
        let asking = self
            .questions
            .iter()
            .map(|question| question.process.as_deref());
        let also = self.questions.iter().flat_map(|question| &question.also);
        also.into_iter().try_for_each(Process::validate)?;
        let meeting = self.hits.iter().map(|hit| hit.process.as_ref());
        for process in acting.chain(asking).chain(meeting).flatten() {
            process.validate()?;
        }
        bounded("imds requests", self.imds.len(), limits::IMDS_REQUESTS_MAX)?;
        self.imds.iter().try_for_each(ImdsRequest::validate)?;
        for question in &self.questions {
            bounded("name", question.name.len(), limits::TEXT_BYTES_MAX)?;
            bounded("answers", question.answers.len(), limits::ANSWERS_MAX)?;
            bounded("askers", question.also.len(), limits::QUESTION_ALSO_MAX)?;
        }
        for hit in &self.hits {
            bounded("indicator", hit.indicator.len(), limits::TEXT_BYTES_MAX)?;
            bounded(
                "hit name",
                hit.name.as_ref().map_or(0, String::len),
                limits::TEXT_BYTES_MAX,
            )?;
        }
        Ok(())
    }
}

fn bounded(what: &'static str, len: usize, max: usize) -> Result<(), SummaryError> {
    if len > max {
        Err(SummaryError::TooMany { what, len, max })
    } else {
        Ok(())
    }
}
