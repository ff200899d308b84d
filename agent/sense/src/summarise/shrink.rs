//! Makes a summary smaller that would not fit its envelope: hostile traffic can fill each field
//! with what compresses least. What goes is counted in the summary's `cut`.

use picket_wire::Summary;

/// Takes away about half of what a summary holds: answers first, then the rarer half of its
/// questions, conversations and hits. Returns whether there was anything to take.
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
    let sizes = [
        summary.questions.len(),
        summary.conversations.len(),
        summary.hits.len(),
    ];
    if sizes.iter().all(|size| *size == 0) {
        return false;
    }
    let [questions, conversations, hits] = sizes.map(|size| size / 2);
    summary.cut.questions += (summary.questions.len() - questions) as u64;
    keep_most(&mut summary.questions, questions, |q| {
        u64::from(q.asked) + u64::from(q.answered)
    });
    let packets = |c: &picket_wire::Conversation| c.packets_out + c.packets_in;
    let bytes = |c: &picket_wire::Conversation| c.bytes_out + c.bytes_in;
    let all = |summary: &Summary| -> (u64, u64) {
        let told = summary.conversations.iter();
        told.fold((0, 0), |sum, one| {
            (sum.0 + packets(one), sum.1 + bytes(one))
        })
    };
    let before = all(summary);
    summary.cut.conversations += (summary.conversations.len() - conversations) as u64;
    keep_most(&mut summary.conversations, conversations, packets);
    let after = all(summary);
    summary.cut.packets += before.0 - after.0;
    summary.cut.bytes += before.1 - after.1;
    summary.cut.hits += (summary.hits.len() - hits) as u64;
    summary.hits.truncate(hits);
    true
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
