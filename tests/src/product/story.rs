//! What envelopes tell: opened one by one, or put together and freed of what differs between two
//! runs over the same packets (time, process, who speaks).

use anyhow::{Context, Result};
use picket_wire::{Conversation, Header, Hit, PublicKey, Question, Sealed, Summary, item_bytes};

/// An envelope whose signature and content are sound.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Who spoke, and which envelope of the run it is.
    pub header: Header,
    /// What it says.
    pub summary: Summary,
    /// The envelope.
    pub bytes: Vec<u8>,
}

/// Cuts a stream of envelopes and opens each with `key`.
///
/// # Errors
/// Names the envelope that is cut, not signed by `key` or not sound.
pub fn open_all(stream: &[u8], key: &PublicKey) -> Result<Vec<Opened>> {
    let mut opened = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let number = opened.len();
        let length = item_bytes(rest)
            .with_context(|| format!("envelope {number}"))?
            .with_context(|| format!("envelope {number} is cut"))?;
        let (bytes, behind) = rest.split_at(length);
        opened.push(open(bytes, key).with_context(|| format!("envelope {number}"))?);
        rest = behind;
    }
    Ok(opened)
}

/// Opens one envelope with `key`.
///
/// # Errors
/// When it is not signed by `key` or not sound.
pub fn open(bytes: &[u8], key: &PublicKey) -> Result<Opened> {
    let verified = Sealed::parse(bytes)?.verify(key)?;
    Ok(Opened {
        header: *verified.header(),
        summary: verified.open()?,
        bytes: bytes.to_vec(),
    })
}

/// Everything that a run over some packets told, without what may differ from another run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Story {
    /// Conversations, in a fixed order.
    pub conversations: Vec<Conversation>,
    /// Questions, in a fixed order.
    pub questions: Vec<Question>,
    /// Hits, in a fixed order.
    pub hits: Vec<Hit>,
}

impl Story {
    /// Puts summaries together.
    pub fn of<'a>(summaries: impl IntoIterator<Item = &'a Summary>) -> Self {
        let mut story = Self::default();
        for summary in summaries {
            story.conversations.extend(summary.conversations.clone());
            story.questions.extend(summary.questions.clone());
            story.hits.extend(summary.hits.clone());
        }
        for conversation in &mut story.conversations {
            (conversation.first_ns, conversation.last_ns) = (0, 0);
            conversation.process = None;
            conversation.starts_ms.fill(0);
        }
        for question in &mut story.questions {
            (question.first_ns, question.last_ns) = (0, 0);
            if let Some(latency) = &mut question.latency {
                (latency.min_ns, latency.max_ns, latency.sum_ns) = (0, 0, 0);
            }
            question.process = None;
        }
        for hit in &mut story.hits {
            hit.time_ns = 0;
            hit.process = None;
        }
        story
            .conversations
            .sort_by_cached_key(|one| format!("{one:?}"));
        story.questions.sort_by_cached_key(|one| format!("{one:?}"));
        story.hits.sort_by_cached_key(|one| format!("{one:?}"));
        story
    }

    /// Packets of all conversations, both ways.
    pub fn packets(&self) -> u64 {
        let each = self.conversations.iter();
        each.map(|one| one.packets_out + one.packets_in).sum()
    }
}
