//! Makes a summary smaller that would not fit its envelope: hostile traffic can fill each field
//! with what compresses least. What goes is counted in the summary's `cut`.

use picket_wire::{Conversation, Counter, Summary};

use super::counters::{INNER, Tally};

/// Takes away about half of what a summary holds: answers first, then what conversations said, then the rarer half of its
/// questions, conversations, hits and requests. Returns whether there was anything to take.
pub fn shrink(summary: &mut Summary) -> bool {
    let mut with_answers = summary
        .questions
        .iter_mut()
        .filter(|q| !q.answers.is_empty());
    if let Some(first) = with_answers.next() {
        first.answers.clear();
        with_answers.for_each(|question| question.answers.clear());
        return true;
    }
    let mut with_content = summary
        .conversations
        .iter_mut()
        .filter(|one| one.content.is_some());
    if let Some(first) = with_content.next() {
        first.content = None;
        with_content.for_each(|one| one.content = None);
        return true;
    }
    let sizes = [
        summary.questions.len(),
        summary.conversations.len(),
        summary.hits.len(),
        summary.imds.len(),
    ];
    if sizes.iter().all(|size| *size == 0) {
        return false;
    }
    let [questions, conversations, hits, imds] = sizes.map(|size| size / 2);
    summary.cut.questions += (summary.questions.len() - questions) as u64;
    keep_most(&mut summary.questions, questions, |q| {
        u64::from(q.asked) + u64::from(q.answered)
    });
    let before = told(summary);
    summary.cut.conversations += (summary.conversations.len() - conversations) as u64;
    keep_most(&mut summary.conversations, conversations, packets);
    let after = told(summary);
    summary.cut.packets += before.outer.count - after.outer.count;
    summary.cut.bytes += before.outer.bytes - after.outer.bytes;
    cut_inner(summary, before.inner.less(after.inner));
    summary.cut.hits += (summary.hits.len() - hits) as u64;
    summary.hits.truncate(hits);
    summary.imds.truncate(imds);
    true
}

/// What the conversations of a summary tell of, those inside tunnels apart.
#[derive(Default)]
struct Told {
    outer: Tally,
    inner: Tally,
}

fn told(summary: &Summary) -> Told {
    let mut told = Told::default();
    for one in &summary.conversations {
        let side = if one.tunnel.is_some() {
            &mut told.inner
        } else {
            &mut told.outer
        };
        side.add(packets(one), one.bytes_out + one.bytes_in);
    }
    told
}

const fn packets(one: &Conversation) -> u64 {
    one.packets_out + one.packets_in
}

/// Counts packets inside tunnels that are told no more.
fn cut_inner(summary: &mut Summary, cut: Tally) {
    if cut == Tally::default() {
        return;
    }
    let counters = &mut summary.counters;
    let known = counters
        .iter_mut()
        .find(|counter| counter.stage == INNER && counter.reason == "cut");
    if let Some(counter) = known {
        counter.count += cut.count;
        counter.bytes += cut.bytes;
        return;
    }
    counters.push(Counter {
        stage: INNER.to_owned(),
        reason: "cut".to_owned(),
        count: cut.count,
        bytes: cut.bytes,
    });
}

/// Keeps the `count` items of most weight, in the order they had.
fn keep_most<T>(items: &mut Vec<T>, count: usize, weight: impl Fn(&T) -> u64) {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|&at| items.get(at).map(|item| std::cmp::Reverse(weight(item))));
    let mut keep = vec![false; items.len()];
    for &at in order.iter().take(count) {
        if let Some(kept) = keep.get_mut(at) {
            *kept = true;
        }
    }
    let mut keep = keep.into_iter();
    items.retain(|_| keep.next().unwrap_or(false));
}
