//! Which interfaces are watched, and why the others are not.
//!
//! A packet that crosses an interface which lies on another crosses both: a VLAN and the card it
//! runs on, a macvlan and its parent, a bond and its members, a bridge and its ports. Watching both
//! would count it twice. By default what lies below is watched, where all that carries the upper
//! one is; a member of a bond that is watched for want of its other members is left to the bond. If
//! one that lies below cannot be watched after all, the upper one is.
//! A tunnel's device (VXLAN, GRE, WireGuard) shows other packets than the card that carries them,
//! and so stands for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::{Deserialize, Serialize};

use super::ebpf::interfaces::{link_header, with_default_route};
use super::ebpf::{CaptureError, Options};
use super::links::{self, Link};

/// Devices on devices on devices: deeper than anybody builds them. Chosen by hand.
const DEPTH_MAX: usize = 8;

/// What is done with interfaces that lie on one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stacked {
    /// One of them is watched, so that a packet counts once.
    #[default]
    Once,
    /// Both are, and a packet counts on each.
    Both,
}

/// What becomes of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// Its name.
    pub name: String,
    /// Whether it is to be watched.
    #[serde(default)]
    pub watch: bool,
    /// Why, or why not.
    pub why: String,
}

/// Interfaces that are wanted and not watched, as they were last found.
#[derive(Debug, Default)]
pub(super) struct Skipped(Vec<Choice>);

impl Skipped {
    /// Takes the place of what was found before, and warns of what is new.
    pub(super) fn note(&mut self, choices: Vec<Choice>) {
        let skipped = choices.into_iter().filter(|choice| !choice.watch);
        let skipped: Vec<Choice> = skipped.collect();
        for Choice { name, why, .. } in skipped.iter().filter(|choice| !self.0.contains(choice)) {
            tracing::warn!(interface = name, why, "interface not watched");
        }
        self.0 = skipped;
    }

    /// What they are.
    pub(super) fn choices(&self) -> &[Choice] {
        &self.0
    }

    /// Why a capture cannot start that has nothing to watch.
    pub(super) fn none_is_left(&self) -> CaptureError {
        match self.0.first() {
            None => CaptureError::NoInterface,
            Some(choice) => CaptureError::Interface {
                name: choice.name.clone(),
                reason: choice.why.clone(),
            },
        }
    }
}

/// Chooses among the interfaces of the calling thread's network namespace. `watched` are watched
/// already and stay candidates.
///
/// # Errors
/// The system does not tell which there are.
pub fn choose<'a>(
    options: &Options,
    watched: impl Iterator<Item = &'a str>,
) -> io::Result<Vec<Choice>> {
    let links = links::all()?;
    let candidates = candidates(options, &links, watched)?;
    Ok(judge(&candidates, &links, options, readable))
}

/// Chooses as [`choose`] does and has `start` watch what is not watched yet. One that it refuses
/// stands for no other: what lies on it is watched in its place. What is not to be watched any more
/// the caller lets go of afterwards, so that nothing goes unseen in between.
///
/// # Errors
/// The system does not tell which there are.
pub(super) fn watch(
    options: &Options,
    watched: BTreeSet<String>,
    start: impl FnMut(&str) -> Result<(), CaptureError>,
) -> io::Result<Vec<Choice>> {
    let links = links::all()?;
    let candidates = candidates(options, &links, watched.iter().map(String::as_str))?;
    Ok(settle(
        watched,
        &candidates,
        &links,
        options,
        readable,
        start,
    ))
}

/// What may be watched, each with why.
fn candidates<'a>(
    options: &Options,
    links: &BTreeMap<u32, Link>,
    watched: impl Iterator<Item = &'a str>,
) -> io::Result<BTreeMap<String, String>> {
    let mut candidates = BTreeMap::new();
    for name in watched {
        candidates.insert(name.to_owned(), "watched before".to_owned());
    }
    if options.default_route {
        for name in with_default_route()? {
            candidates.insert(name, "has a default route".to_owned());
        }
    }
    for pattern in &options.interfaces {
        let named = links.values().filter(|link| matches(pattern, &link.name));
        for link in named {
            candidates.insert(link.name.clone(), "named".to_owned());
        }
        if !pattern.contains('*') {
            candidates.insert(pattern.clone(), "named".to_owned());
        }
    }
    Ok(candidates)
}

/// Whether we can read what an interface of this name carries, else why not.
fn readable(name: &str) -> Result<(), String> {
    link_header(name).map(drop)
}

/// Whether a name is meant by a pattern, in which `*` stands for any characters.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((begin, rest)) => name.strip_prefix(begin).is_some_and(|left| {
            let mut ends = left.char_indices().map(|(at, _)| at).chain([left.len()]);
            ends.any(|at| left.get(at..).is_some_and(|left| matches(rest, left)))
        }),
    }
}

/// Judges and starts until nothing more is refused: with each round there is one candidate less.
fn settle(
    mut watched: BTreeSet<String>,
    candidates: &BTreeMap<String, String>,
    links: &BTreeMap<u32, Link>,
    options: &Options,
    readable: impl Fn(&str) -> Result<(), String>,
    mut start: impl FnMut(&str) -> Result<(), CaptureError>,
) -> Vec<Choice> {
    let mut refused: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let choices = judge(candidates, links, options, |name| {
            refused
                .get(name)
                .map_or_else(|| readable(name), |why| Err(why.clone()))
        });
        let before = refused.len();
        for Choice { name, .. } in choices.iter().filter(|choice| choice.watch) {
            if watched.contains(name) {
                continue;
            }
            match start(name) {
                Ok(()) => watched.insert(name.clone()),
                Err(error) => refused.insert(name.clone(), reason(&error)).is_none(),
            };
        }
        if refused.len() == before {
            return choices;
        }
    }
}

/// Why an interface cannot be watched, without its name.
fn reason(error: &CaptureError) -> String {
    match error {
        CaptureError::Interface { reason, .. } => reason.clone(),
        other => other.to_string(),
    }
}

/// Judges candidates, each given with why it is one.
fn judge(
    candidates: &BTreeMap<String, String>,
    links: &BTreeMap<u32, Link>,
    options: &Options,
    readable: impl Fn(&str) -> Result<(), String>,
) -> Vec<Choice> {
    let mut choices = Vec::new();
    let mut left = BTreeSet::new();
    for (name, why) in candidates {
        let (name, why) = (name.clone(), why.clone());
        let excluded = options
            .excluded
            .iter()
            .find(|pattern| matches(pattern, &name));
        let refused = if !links.values().any(|link| link.name == name) {
            Some("there is none of this name".to_owned())
        } else if let Some(pattern) = excluded {
            Some(format!("filter.interfaces leaves out {pattern}"))
        } else {
            readable(&name).err()
        };
        if refused.is_none() {
            left.insert(name.clone());
        }
        choices.push(Choice {
            name,
            watch: refused.is_none(),
            why: refused.unwrap_or(why),
        });
    }
    if options.stacked == Stacked::Once {
        let stack = Stack { links, watch: left };
        for choice in choices.iter_mut().filter(|choice| choice.watch) {
            if let Some(other) = stack.told_by(&choice.name) {
                choice.watch = false;
                choice.why = format!("its packets are seen on {other} (capture.stacked)");
            }
        }
    }
    choices
}

/// How candidates lie on one another.
struct Stack<'a> {
    links: &'a BTreeMap<u32, Link>,
    watch: BTreeSet<String>,
}

impl Stack<'_> {
    /// The interfaces on which all packets of this one are seen, if they are watched in its place.
    fn told_by(&self, name: &str) -> Option<String> {
        let (index, link) = self.find(name)?;
        let below = self.below(index, link);
        if !below.is_empty() && below.iter().all(|one| self.covers(one, DEPTH_MAX)) {
            return Some(below.join(", "));
        }
        // A member of a bond that stands for all of them.
        let master = self.links.get(&link.master?)?;
        let bonded = matches!(master.kind.as_str(), "bond" | "team");
        let in_place = bonded
            && self.watch.contains(&master.name)
            && self.told_by_members(link.master?, master).is_none();
        in_place.then(|| master.name.clone())
    }

    fn told_by_members(&self, index: u32, link: &Link) -> Option<()> {
        let below = self.below(index, link);
        let all = !below.is_empty() && below.iter().all(|one| self.covers(one, DEPTH_MAX));
        all.then_some(())
    }

    /// Whether an interface is watched, or all that carries it is.
    fn covers(&self, name: &str, depth: usize) -> bool {
        if self.watch.contains(name) {
            return true;
        }
        let Some((index, link)) = self.find(name).filter(|_| depth > 0) else {
            return false;
        };
        let below = self.below(index, link);
        !below.is_empty() && below.iter().all(|one| self.covers(one, depth - 1))
    }

    /// Names of the interfaces that carry all packets of this one.
    fn below(&self, index: u32, link: &Link) -> Vec<String> {
        let lies_on = match link.kind.as_str() {
            "vlan" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap" | "macsec" => link.below,
            _ => None,
        };
        let members = self
            .links
            .values()
            .filter(|other| other.master == Some(index));
        let below = lies_on.and_then(|below| self.links.get(&below));
        members
            .chain(below)
            .map(|other| other.name.clone())
            .collect()
    }

    fn find(&self, name: &str) -> Option<(u32, &Link)> {
        let found = self.links.iter().find(|(_, link)| link.name == name)?;
        Some((*found.0, found.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interfaces as `name`, `name:kind@below` or `name>master`, numbered from 1.
    fn links(told: &str) -> BTreeMap<u32, Link> {
        let names: Vec<&str> = told
            .split(' ')
            .map(|one| one.split([':', '>', '@']).next().unwrap())
            .collect();
        let index = |name: &str| names.iter().position(|one| *one == name).unwrap() as u32 + 1;
        let links = told.split(' ').enumerate().map(|(at, one)| {
            let (rest, master) = one
                .split_once('>')
                .map_or((one, None), |(rest, master)| (rest, Some(index(master))));
            let (rest, below) = rest
                .split_once('@')
                .map_or((rest, None), |(rest, below)| (rest, Some(index(below))));
            let (name, kind) = rest.split_once(':').unwrap_or((rest, ""));
            let link = Link {
                name: name.to_owned(),
                kind: kind.to_owned(),
                below,
                master,
            };
            (at as u32 + 1, link)
        });
        links.collect()
    }

    fn check(there: &str, named: &str, stacked: Stacked, watched: &str) {
        let options = Options {
            excluded: vec!["docker*".into()],
            stacked,
            ..Options::default()
        };
        let candidates = named
            .split(' ')
            .map(|name| (name.to_owned(), "named".to_owned()));
        let readable = |name: &str| match name {
            "ib0" => Err("its link type".to_owned()),
            _ => Ok(()),
        };
        let choices = judge(&candidates.collect(), &links(there), &options, readable);
        let got = choices.iter().filter(|choice| choice.watch);
        let got: Vec<&str> = got.map(|choice| choice.name.as_str()).collect();
        assert_eq!(got.join(" "), watched, "{there}, {named}: {choices:?}");
    }

    #[test]
    fn a_packet_is_seen_once() {
        use Stacked::{Both, Once};
        check("eth0 eth0.5:vlan@eth0", "eth0 eth0.5", Once, "eth0");
        check("eth0 eth0.5:vlan@eth0", "eth0 eth0.5", Both, "eth0 eth0.5");
        check("eth0 eth0.5:vlan@eth0", "eth0.5", Once, "eth0.5");
        check("eth0 mac0:macvlan@eth0", "eth0 mac0", Once, "eth0");
        check("eth0 ip0:ipvlan@eth0", "eth0 ip0", Once, "eth0");
        // Another VLAN of the same card is another's packets.
        let two = "eth0 eth0.5:vlan@eth0 eth0.6:vlan@eth0";
        check(two, "eth0.5 eth0.6", Once, "eth0.5 eth0.6");
        // A VLAN of a VLAN whose parent nobody named.
        let deep = "eth0 eth0.5:vlan@eth0 q:vlan@eth0.5";
        check(deep, "eth0 q", Once, "eth0");
        // A tunnel's packets are others than those of the card, and an end of a veth is itself.
        check("eth0 vx:vxlan@eth0", "eth0 vx", Once, "eth0 vx");
        check("a:veth@b b:veth@a", "a b", Once, "a b");
    }

    #[test]
    fn bonds_and_bridges_and_their_members() {
        use Stacked::Once;
        let bond = "eth0>bond0 eth1>bond0 bond0:bond";
        check(bond, "bond0 eth0 eth1", Once, "eth0 eth1");
        check(bond, "bond0 eth0", Once, "bond0");
        check(bond, "bond0", Once, "bond0");
        check(bond, "eth0", Once, "eth0");
        let bridge = "eth0>br0 vnet0>br0 br0:bridge";
        check(bridge, "br0 eth0 vnet0", Once, "eth0 vnet0");
        // What goes from the host to vnet0 is seen on br0 alone, what vnet0 sends out on eth0.
        check(bridge, "br0 eth0", Once, "br0 eth0");
        // A VLAN of a bond whose members are watched.
        let vlan = "eth0>bond0 eth1>bond0 bond0:bond bond0.7:vlan@bond0";
        check(vlan, "bond0.7 eth0 eth1", Once, "eth0 eth1");
        check(vlan, "bond0 bond0.7", Once, "bond0");
    }

    /// Chooses where `refusing` cannot be watched and `watched` are; says what is watched then and what
    /// was tried.
    fn check_refused(there: &str, watched: &str, refusing: &str, left: &str, tried: &str) {
        let set = |names: &str| -> BTreeSet<String> {
            names.split_whitespace().map(str::to_owned).collect()
        };
        let links = links(there);
        let candidates = links
            .values()
            .map(|link| (link.name.clone(), "named".to_owned()));
        let refusing = set(refusing);
        let mut asked = Vec::new();
        let choices = settle(
            set(watched),
            &candidates.collect(),
            &links,
            &Options::default(),
            |_| Ok(()),
            |name| {
                asked.push(name.to_owned());
                match refusing.contains(name) {
                    false => Ok(()),
                    true => Err(CaptureError::Interface {
                        name: name.to_owned(),
                        reason: "full".to_owned(),
                    }),
                }
            },
        );
        let got = choices.iter().filter(|choice| choice.watch);
        let got: Vec<&str> = got.map(|choice| choice.name.as_str()).collect();
        assert_eq!(got.join(" "), left, "{there}: {choices:?}");
        assert_eq!(asked.join(" "), tried, "{there}: tried");
        for choice in &choices {
            let refused = refusing.contains(&choice.name) && asked.contains(&choice.name);
            assert_eq!(choice.why == "full", refused, "{choice:?}");
        }
    }

    #[test]
    fn one_that_cannot_be_watched_stands_for_no_other() {
        let vlan = "eth0 eth0.5:vlan@eth0";
        check_refused(vlan, "", "", "eth0", "eth0");
        check_refused(vlan, "", "eth0", "eth0.5", "eth0 eth0.5");
        check_refused(vlan, "", "eth0 eth0.5", "", "eth0 eth0.5");
        // Each time it is looked for again, the upper one stays as it is meanwhile.
        check_refused(vlan, "eth0.5", "eth0", "eth0.5", "eth0");
        check_refused(vlan, "eth0.5", "", "eth0", "eth0");
        let deep = "eth0 eth0.5:vlan@eth0 q:vlan@eth0.5";
        check_refused(deep, "", "eth0 eth0.5", "q", "eth0 eth0.5 q");
        // A bond tells of the member that cannot be watched, and so of them all.
        let bond = "bond0:bond eth0>bond0 eth1>bond0";
        check_refused(bond, "", "eth0", "bond0", "eth0 eth1 bond0");
        check_refused(bond, "", "eth0 bond0", "eth1", "eth0 eth1 bond0");
        check_refused(bond, "", "bond0", "eth0 eth1", "eth0 eth1");
        // Nothing lies on the one that is refused.
        check_refused("eth0 eth1", "", "eth0", "eth1", "eth0 eth1");
    }

    #[test]
    fn what_is_not_wanted_or_not_there_is_said() {
        use Stacked::Once;
        check("eth0 docker0:bridge", "docker0 eth0", Once, "eth0");
        check("eth0", "eth0 gone", Once, "eth0");
        check("eth0 ib0", "eth0 ib0", Once, "eth0");
        // What is left out tells nobody's packets.
        check(
            "docker0 docker0.5:vlan@docker0 x:vlan@docker0",
            "docker0 x",
            Once,
            "x",
        );
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, expected) in [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth*", "eth0", true),
            ("eth*", "eth", true),
            ("eth*", "xeth0", false),
            ("*", "", true),
            ("*0", "eth0", true),
            ("*0", "eth1", false),
            ("e*h*0", "ethhh0", true),
            ("e*h*0", "e0", false),
            ("é*", "éa", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
