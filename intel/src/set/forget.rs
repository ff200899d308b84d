//! Taking a list off a set again: of a list that is too much, none of it is used. A part of one
//! would look like the whole.

use super::{CHAINED, END, IndicatorSet, Place, SetBuilder};

impl SetBuilder {
    /// Takes off all that stands on a list, and takes no more for it. Costs a walk over the set.
    pub(crate) fn leave_out(&mut self, list: u16) {
        let set = &mut self.set;
        let before = set.count;
        set.left_out.push(list);
        let (places, count) = (&mut set.places, &mut set.count);
        let mut keep = |head: &mut u32| match without(*head, places, list) {
            Some((rest, gone)) => {
                *head = rest;
                *count -= usize::from(gone);
                true
            }
            None => {
                *count -= 1;
                false
            }
        };
        set.ipv4.retain(|_, head| keep(head));
        set.ipv6.retain(|_, head| keep(head));
        set.endpoints.retain(|_, head| keep(head));
        for (_, nets) in &mut set.nets {
            nets.retain(|_, head| keep(head));
        }
        set.nets.retain(|(_, nets)| !nets.is_empty());
        set.domains.retain(&mut keep);
        // What it had is free again, also of memory: a list that is too much had much.
        if set.count < before / 2 {
            set.ipv4.shrink_to_fit();
            set.ipv6.shrink_to_fit();
            set.endpoints.shrink_to_fit();
        }
    }
}

impl IndicatorSet {
    /// Whether a list, by its place in [`IndicatorSet::lists`], was too much and is not used.
    pub fn is_left_out(&self, list: u16) -> bool {
        self.left_out.contains(&list)
    }
}

/// What a value stands on without a list, and whether it stood there; `None` if on nothing else.
fn without(head: u32, places: &mut [Place], list: u16) -> Option<(u32, bool)> {
    if head & CHAINED == 0 {
        return (head != u32::from(list)).then_some((head, false));
    }
    let first = head & !CHAINED;
    let of = |places: &[Place], at: u32| places.get(at as usize).copied();
    let one = of(places, first)?;
    if one.list == list {
        return (one.next != END).then_some((one.next | CHAINED, true));
    }
    let mut before = first;
    let mut at = one.next;
    while let Some(place) = of(places, at) {
        if place.list == list {
            if let Some(place_before) = places.get_mut(before as usize) {
                place_before.next = place.next;
            }
            return Some((head, true));
        }
        (before, at) = (at, place.next);
    }
    Some((head, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Category, Indicator, List};

    const VALUES: [&str; 7] = [
        "192.0.2.1",
        "192.0.2.2",
        "198.51.100.0/24",
        "2001:db8::1",
        "192.0.2.2:443",
        "evil.example",
        "worse.example",
    ];

    fn indicator(value: &str) -> Indicator {
        let value = Indicator::address(value).or_else(|_| Indicator::domain(value));
        value.unwrap()
    }

    /// A set of the lists `on` with every value each, added value by value.
    fn builder(on: &[&str]) -> SetBuilder {
        let mut builder = SetBuilder::default();
        for value in VALUES {
            for name in on {
                let list = builder.list(List::new(*name, Category::C2)).unwrap();
                builder.add(list, indicator(value)).unwrap();
            }
        }
        builder
    }

    #[test]
    fn what_is_left_out_might_never_have_been_there() {
        let all = ["a", "b", "c"];
        for gone in 0..3u16 {
            let mut built = builder(&all);
            built.leave_out(gone);
            let rest: Vec<&str> = all
                .iter()
                .enumerate()
                .filter(|(at, _)| *at != usize::from(gone))
                .map(|(_, name)| *name)
                .collect();
            let (set, expected) = (built.build(), builder(&rest).build());
            assert_eq!((set.len(), set.version()), (14, expected.version()));
            assert!(set.is_left_out(gone) && !set.is_left_out((gone + 1) % 3));
            let names: Vec<&str> = set
                .match_domain("x.evil.example")
                .iter()
                .map(|found| &*found.list.name)
                .collect();
            assert_eq!(names.len(), 2);
            assert!(!names.contains(&all[usize::from(gone)]));
        }
    }

    #[test]
    fn all_of_them_leave_nothing() {
        let mut built = builder(&["a", "b"]);
        built.leave_out(1);
        built.leave_out(0);
        let set = built.build();
        assert_eq!((set.len(), set.version()), (0, 0));
        assert!(set.match_domain("evil.example").is_empty());
        assert_eq!(set.address_nets().count(), 0);
        assert_eq!(set.indicators().count(), 0);
    }
}
