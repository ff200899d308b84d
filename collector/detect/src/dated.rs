//! Times of packets, held to the window of the summary that tells of them.
//!
//! A summary happens when its window ends, and what is remembered is forgotten by that. A packet that is
//! dated years ahead would outlive every window in the tables, one dated 1970 would make the fleet look
//! half a century old: both take one sensor whose clock is off, or one that lies.

use picket_wire::{Summary, Window};

/// How far outside its window something may be dated: a record of a flow log covers up to ten minutes
/// (VPC user guide, "Maximum aggregation interval") and is told in the minute that it began in.
const SLACK_NS: u64 = 15 * 60 * 1_000_000_000;

/// The longest window believed: twice what an agent may be set to.
const WINDOW_NS_MAX: u64 = 20 * 60 * 1_000_000_000;

/// The times that may stand in a summary.
#[derive(Debug, Clone, Copy)]
struct Span {
    first_ns: u64,
    last_ns: u64,
    moved: u64,
}

impl Span {
    /// Of a window, whichever of its ends is the later.
    fn of(window: Window) -> Self {
        let end_ns = window.end_ns;
        let start_ns = window
            .start_ns
            .clamp(end_ns.saturating_sub(WINDOW_NS_MAX), end_ns);
        Self {
            first_ns: start_ns.saturating_sub(SLACK_NS),
            last_ns: end_ns.saturating_add(SLACK_NS),
            moved: 0,
        }
    }

    fn hold(&mut self, time_ns: &mut u64) {
        let held_ns = (*time_ns).clamp(self.first_ns, self.last_ns);
        self.moved += u64::from(held_ns != *time_ns);
        *time_ns = held_ns;
    }
}

/// Moves what is dated far outside the window of its summary to the nearest time that may be; says how many
/// times were moved. Starts of flows that would lie after it are dropped, each counted too.
///
/// The window of an immediate summary spans its hits, and may be empty where it has none.
pub(crate) fn hold_to_window(summary: &mut Summary) -> u64 {
    let mut span = Span::of(summary.window);
    for c in &mut summary.conversations {
        span.hold(&mut c.first_ns);
        span.hold(&mut c.last_ns);
        let room_ms = (span.last_ns - c.first_ns) / 1_000_000;
        let starts = c.starts_ms.len();
        c.starts_ms.retain(|after| u64::from(*after) <= room_ms);
        span.moved += (starts - c.starts_ms.len()) as u64;
    }
    for q in &mut summary.questions {
        span.hold(&mut q.first_ns);
        span.hold(&mut q.last_ns);
    }
    for hit in &mut summary.hits {
        span.hold(&mut hit.time_ns);
    }
    for request in &mut summary.imds {
        span.hold(&mut request.time_ns);
    }
    for block in &mut summary.blocks {
        span.hold(&mut block.time_ns);
    }
    span.moved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SECOND, START, address_hit, conversation, question, speaker, summary};

    fn dated(time_ns: u64) -> Summary {
        let mut told = summary(speaker());
        let mut c = conversation("10.0.0.1", "192.0.2.1", 443);
        (c.first_ns, c.last_ns) = (time_ns, time_ns);
        let mut q = question("10.0.0.1", "example.org");
        (q.first_ns, q.last_ns) = (time_ns, time_ns);
        let mut hit = address_hit("10.0.0.1", "192.0.2.1", 443, "192.0.2.1", "c2");
        hit.time_ns = time_ns;
        (told.conversations, told.questions, told.hits) = (vec![c], vec![q], vec![hit]);
        told
    }

    #[track_caller]
    fn check(time_ns: u64, expected_ns: u64) {
        let mut told = dated(time_ns);
        let moved = hold_to_window(&mut told);
        assert_eq!(moved, if time_ns == expected_ns { 0 } else { 5 });
        let (c, q) = (&told.conversations[0], &told.questions[0]);
        assert_eq!([c.first_ns, c.last_ns], [expected_ns; 2]);
        assert_eq!([q.first_ns, q.last_ns], [expected_ns; 2]);
        assert_eq!(told.hits[0].time_ns, expected_ns);
    }

    #[test]
    fn times_stay_within_a_quarter_of_an_hour_of_their_window() {
        let end = START + 10 * SECOND;
        check(START, START);
        check(end, end);
        check(end + SLACK_NS, end + SLACK_NS);
        check(START - SLACK_NS, START - SLACK_NS);
        check(end + SLACK_NS + 1, end + SLACK_NS);
        check(u64::MAX, end + SLACK_NS);
        check(0, START - SLACK_NS);
    }

    #[test]
    fn a_window_that_is_none_still_holds_its_times() {
        let last_after = |start_ns, end_ns| {
            let mut told = dated(START + 400 * 86_400 * SECOND);
            told.window = Window { start_ns, end_ns };
            hold_to_window(&mut told);
            (told.hits[0].time_ns, told.conversations[0].first_ns)
        };
        let held = START + SLACK_NS;
        assert_eq!(last_after(START, START), (held, held));
        assert_eq!(last_after(u64::MAX, START), (held, held));
        assert_eq!(last_after(0, START), (held, held));
        assert_eq!(last_after(0, 0), (SLACK_NS, SLACK_NS));
        let mut old = dated(0);
        (old.window.start_ns, old.window.end_ns) = (0, START);
        hold_to_window(&mut old);
        let first_ns = START - WINDOW_NS_MAX - SLACK_NS;
        assert_eq!(old.questions[0].first_ns, first_ns);
    }

    #[test]
    fn starts_of_flows_end_with_the_window_too() {
        let mut told = dated(START);
        told.conversations[0].starts_ms = vec![0, 9_000, 909_000, 920_000, u32::MAX];
        assert_eq!(hold_to_window(&mut told), 2);
        assert_eq!(told.conversations[0].starts_ms, [0, 9_000, 909_000]);
    }
}
