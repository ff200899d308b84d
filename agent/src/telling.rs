//! Telling: the last that happens to a summary before it is kept. What the operator does not want
//! told is taken out, and what goes on is counted for `status` and shown to `top`.

use std::sync::Arc;

use picket_wire::Summary;
use serde::{Deserialize, Serialize};

use crate::filter::Filter;
use crate::intel;
use crate::privacy::Privacy;
use crate::top::{Board, Top};

/// Summaries passed on to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Passed {
    /// Of windows.
    pub windows: u64,
    /// Of hits that did not wait for a window's end.
    pub immediate: u64,
    /// Hits in them.
    pub hits: u64,
}

/// What the filter left out of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LeftOut {
    /// Conversations, each counted in every window it had packets in.
    pub conversations: u64,
    /// Their packets.
    pub packets: u64,
    /// Questions, like ones counted once a window.
    pub questions: u64,
}

/// Makes summaries what they may tell.
#[derive(Debug)]
pub(crate) struct Telling {
    filter: Filter,
    privacy: Privacy,
    intel: Option<Arc<intel::Shared>>,
    passed: Passed,
    left_out: LeftOut,
    board: Board,
}

impl Telling {
    /// Tells all but this.
    pub(crate) fn new(filter: Filter, privacy: Privacy, intel: Option<Arc<intel::Shared>>) -> Self {
        Self {
            filter,
            privacy,
            intel,
            passed: Passed::default(),
            left_out: LeftOut::default(),
            board: Board::default(),
        }
    }

    /// Takes a summary, and gives what of it is passed on.
    pub(crate) fn tell(&mut self, mut summary: Summary) -> Summary {
        self.filter.apply(&mut summary);
        self.privacy.apply(&mut summary);
        summary.privacy = self.privacy.told();
        let intel = self.intel.as_ref().filter(|_| !summary.immediate);
        summary.listing = intel.map(|intel| intel.listing());
        if let Some(filtered) = &summary.filtered {
            self.left_out.conversations += filtered.conversations;
            self.left_out.packets += filtered.packets + filtered.inner_packets;
            self.left_out.questions += filtered.questions;
        }
        self.passed.windows += u64::from(!summary.immediate);
        self.passed.immediate += u64::from(summary.immediate);
        self.passed.hits += summary.hits.len() as u64;
        self.board.take(&summary);
        summary
    }

    /// Who talks most.
    pub(crate) fn top(&self) -> Top {
        self.board.top()
    }

    /// What was passed on.
    pub(crate) fn passed(&self) -> Passed {
        self.passed
    }

    /// What was left out.
    pub(crate) fn left_out(&self) -> LeftOut {
        self.left_out
    }

    /// What is hidden, in words.
    pub(crate) fn privacy(&self) -> Option<String> {
        self.privacy.told()
    }
}
