//! Where a format puts what it read: between the feed's words and the set stand its confidence,
//! its dates, what no list may name and what the operator allows.

use crate::allow::Left;
use crate::clue::Clue;
use crate::date::DAY_MS;
use crate::exclude::{self, Author};
use crate::format::Feed;
use crate::indicator::{Indicator, IndicatorError};
use crate::range::Range;
use crate::report::{ListReport, Place, Reason};
use crate::set::{SetBuilder, SetError};

/// One entry of a feed.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) clue: Clue,
    /// How sure the feed is of it, 0 to 100, where it says.
    pub(crate) confidence: Option<u8>,
    /// Milliseconds since the epoch at which it ends, where the feed says.
    pub(crate) expires_ms: Option<u64>,
    /// When it was last seen, where the feed says; `expires_days` counts from here.
    pub(crate) seen_ms: Option<u64>,
}

impl From<Clue> for Entry {
    fn from(clue: Clue) -> Self {
        Self {
            clue,
            confidence: None,
            expires_ms: None,
            seen_ms: None,
        }
    }
}

impl Entry {
    pub(crate) fn seen(self, seen_ms: Option<u64>) -> Self {
        Self { seen_ms, ..self }
    }

    pub(crate) fn sure(self, confidence: Option<u8>) -> Self {
        Self { confidence, ..self }
    }

    pub(crate) fn until(self, expires_ms: Option<u64>) -> Self {
        Self { expires_ms, ..self }
    }
}

/// Takes what one file holds.
pub struct Sink<'a> {
    builder: &'a mut SetBuilder,
    feed: &'a Feed,
    list: u16,
    report: ListReport,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(
        builder: &'a mut SetBuilder,
        feed: &'a Feed,
        file: &str,
    ) -> Result<Self, SetError> {
        let list = builder.list(feed.list.clone())?;
        builder.allowed.seal();
        let report = ListReport::new(feed.list.clone(), file, feed.format.name);
        Ok(Self {
            builder,
            feed,
            list,
            report,
        })
    }

    /// The list that the entries come to stand on.
    pub(crate) fn list(&self) -> u16 {
        self.list
    }

    pub(crate) fn end(self) -> ListReport {
        self.report
    }

    /// The feed that is read.
    pub(crate) fn feed(&self) -> &'a Feed {
        self.feed
    }

    /// Takes one entry, which stands `at` this place.
    ///
    /// # Errors
    /// [`SetError::Full`].
    pub(crate) fn put(&mut self, at: Place, entry: impl Into<Entry>) -> Result<(), SetError> {
        let entry = entry.into();
        let indicators = match entry.clue {
            Ok(indicators) => indicators,
            Err(error) => {
                let reason = match error {
                    IndicatorError::NotAHost(_) => Reason::NotAHost,
                    IndicatorError::OfNoUse(_) => Reason::OfNoUse,
                    _ => Reason::Refused,
                };
                self.report.leave_out(at, reason, || error.to_string());
                return Ok(());
            }
        };
        let said = || {
            indicators
                .first()
                .map(ToString::to_string)
                .unwrap_or_default()
        };
        if let Some(sure) = entry
            .confidence
            .filter(|sure| *sure < self.feed.confidence_min)
        {
            let why = || format!("{} has confidence {sure}", said());
            self.report.leave_out(at, Reason::BelowConfidence, why);
            return Ok(());
        }
        let days = self.feed.expires_days.map(|days| u64::from(days) * DAY_MS);
        let grown_old = entry.seen_ms.zip(days).map(|(seen, days)| seen + days);
        let ends = [entry.expires_ms, grown_old].into_iter().flatten().min();
        if ends.is_some_and(|ends| ends <= self.builder.now_ms) {
            self.report.leave_out(at, Reason::Expired, said);
            return Ok(());
        }
        for indicator in indicators {
            self.judge(at, indicator, ends)?;
        }
        Ok(())
    }

    fn judge(
        &mut self,
        at: Place,
        indicator: Indicator,
        ends: Option<u64>,
    ) -> Result<(), SetError> {
        let author = Author {
            category: self.feed.list.category,
            own: self.feed.private,
        };
        if let Some(why) = exclude::why(&indicator, author, self.builder.suffixes) {
            let why = || format!("{indicator} {why}");
            self.report.leave_out(at, Reason::Excluded, why);
            return Ok(());
        }
        match self.builder.allowed.left_of(&indicator) {
            Left::Whole => self.take(indicator, ends)?,
            Left::Nothing => {
                let why = || format!("{indicator} stands on an allow-list");
                self.report.leave_out(at, Reason::Allowed, why);
            }
            Left::Nets(nets) => {
                let why = || format!("part of {indicator} stands on an allow-list");
                self.report.leave_out(at, Reason::Allowed, why);
                for net in nets {
                    self.take(net, ends)?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, indicator: Indicator, ends: Option<u64>) -> Result<(), SetError> {
        let range = Range::of(&indicator);
        if self.builder.add(self.list, indicator)? {
            self.report.taken += 1;
            let share = self.builder.shares.get_mut(usize::from(self.list));
            if let (Some(share), Some(range)) = (share, range) {
                share.add(range);
            }
        } else {
            self.report.repeated += 1;
        }
        if let Some(ends) = ends {
            self.builder.ends_at(ends);
        }
        Ok(())
    }

    /// Says that what stands there cannot be read.
    pub(crate) fn refuse(&mut self, at: Place, why: impl Into<String>) {
        self.report.leave_out(at, Reason::Refused, || why.into());
    }

    /// Says that what stands there is of no use, for which there is a reason in words.
    pub(crate) fn pass_over(&mut self, at: Place, why: impl FnOnce() -> String) {
        self.report.leave_out(at, Reason::OfNoUse, why);
    }

    /// Says that an entry is over, as the feed itself says.
    pub(crate) fn over(&mut self, at: Place, why: impl FnOnce() -> String) {
        self.report.leave_out(at, Reason::Expired, why);
    }

    /// Says that nothing behind this place can be read.
    pub(crate) fn broke_off(&mut self, at: Place, why: impl Into<String>) {
        self.report.broken = Some((at, why.into()));
    }
}
