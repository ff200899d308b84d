//! Who asks in a summary for others: resolvers of ours, whose questions are not their own.
//!
//! A host that a sensor runs on is known by its addresses. Behind a mirror, and among the containers of a host,
//! any address may be a resolver; it is known by being asked, and by answering. Whoever can make two hosts talk
//! DNS to each other can pose as one, so what a single name decides goes by that name alone.

use std::collections::BTreeSet;
use std::net::IpAddr;

use picket_wire::{Host as Speaker, Summary};

use crate::conversation::is_own;

/// Questions that were asked of somebody who asks, too.
#[derive(Debug)]
pub(crate) struct Forwarding<'a> {
    speaker: &'a Speaker,
    /// Names that others ask of the speaker, at whichever of its addresses.
    own: BTreeSet<&'a str>,
    /// Who else is asked by another, for which names.
    others: BTreeSet<(IpAddr, &'a str)>,
    /// Who else answers another.
    answering: BTreeSet<IpAddr>,
}

impl<'a> Forwarding<'a> {
    pub(crate) fn of(summary: &'a Summary) -> Self {
        let speaker = &summary.host;
        let mut all = Self {
            speaker,
            own: BTreeSet::new(),
            others: BTreeSet::new(),
            answering: BTreeSet::new(),
        };
        let clients: BTreeSet<IpAddr> = summary.questions.iter().map(|q| q.client).collect();
        for question in &summary.questions {
            let (client, resolver) = (question.client, question.resolver);
            if is_own(speaker, resolver) {
                if !is_own(speaker, client) {
                    all.own.insert(&question.name);
                }
            } else if client != resolver && clients.contains(&resolver) {
                all.others.insert((resolver, &question.name));
                if question.answered > 0 {
                    all.answering.insert(resolver);
                }
            }
        }
        all
    }

    /// Says whether another host asked `client` for this very name: the question is passed on.
    pub(crate) fn is_passed_on(&self, client: IpAddr, name: &str) -> bool {
        if is_own(self.speaker, client) {
            self.own.contains(name)
        } else {
            self.others.contains(&(client, name))
        }
    }

    /// The same; and of a host without a sensor, whatever it asks while it answers others: what it was asked
    /// may lie in another window or out of sight.
    pub(crate) fn is_of_resolver(&self, client: IpAddr, name: &str) -> bool {
        self.answering.contains(&client) || self.is_passed_on(client, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ip, mirror, question, speaker, summary};

    /// A client asks `resolver` for `a.example`, which asks outside for it and for `b.example`.
    fn behind(host: Speaker, resolver: &str, answered: u32) -> Summary {
        let mut one = summary(host);
        let outside = ip("192.0.2.53");
        for (client, to, name) in [
            (ip("10.0.0.77"), ip(resolver), "a.example"),
            (ip(resolver), outside, "a.example"),
            (ip(resolver), outside, "b.example"),
        ] {
            one.questions.push(picket_wire::Question {
                client,
                resolver: to,
                answered,
                ..question("10.0.0.1", name)
            });
        }
        one
    }

    #[track_caller]
    fn check(window: &Summary, client: &str, passed_on: [bool; 2], of_resolver: [bool; 2]) {
        let all = Forwarding::of(window);
        let client = ip(client);
        let names = ["a.example", "b.example"];
        assert_eq!(names.map(|name| all.is_passed_on(client, name)), passed_on);
        assert_eq!(
            names.map(|name| all.is_of_resolver(client, name)),
            of_resolver
        );
    }

    #[test]
    fn resolvers_are_told_from_their_clients() {
        let mirrored = behind(mirror(), "10.0.0.53", 1);
        check(&mirrored, "10.0.0.53", [true, false], [true, true]);
        check(&mirrored, "10.0.0.77", [false, false], [false, false]);
        let silent = behind(mirror(), "10.0.0.53", 0);
        check(&silent, "10.0.0.53", [true, false], [true, false]);
        // The host of a sensor goes by the names that it was asked for.
        let own = behind(speaker(), "10.0.0.1", 1);
        check(&own, "10.0.0.1", [true, false], [true, false]);
    }

    #[test]
    fn who_asks_itself_is_no_resolver() {
        let mut window = behind(mirror(), "10.0.0.53", 1);
        window.questions[0].client = ip("10.0.0.53");
        check(&window, "10.0.0.53", [false, false], [false, false]);
    }
}
