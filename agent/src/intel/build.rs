//! From a whole bundle and the changes after it to a set, if it becomes what was signed.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, bail};
use picket_intel::{Category, Direction, Indicator, IndicatorSet, List, Listed, SetBuilder};
use picket_wire::bundle::{Act, ListHead, Manifest, Value, Way};

use super::reader::Bundle;

/// What a chain of bundles changes of the first of them.
#[derive(Default)]
struct Changes {
    /// Where each list begins anew: in the bundle of this number.
    since: HashMap<u32, usize>,
    /// The last word about an entry.
    last: HashMap<(u32, Indicator), Act>,
}

/// The set that a whole bundle and the changes after it lead to, with the host's `own` lists.
///
/// # Errors
/// A chunk is not what was signed, an entry or a list's attribute is none, or what results is not what
/// was signed.
pub(super) fn set(chain: &[Bundle], own: &IndicatorSet) -> anyhow::Result<IndicatorSet> {
    let (Some(whole), Some(last)) = (chain.first(), chain.last()) else {
        bail!("no bundle");
    };
    let mut builder = SetBuilder::default();
    let mut numbers = HashMap::new();
    for head in &last.manifest.lists {
        numbers.insert(head.id, builder.list(list(head)?)?);
    }
    let changes = Changes::of(chain)?;
    whole.sections(|mut section| {
        if section.act != Act::Add {
            bail!("a whole bundle takes entries off a list");
        }
        let is_kept = changes
            .since
            .get(&section.list)
            .is_none_or(|since| *since == 0);
        let Some(number) = numbers.get(&section.list).filter(|_| is_kept) else {
            return known(&whole.manifest, section.list);
        };
        while let Some(value) = section.entries.read()? {
            let indicator = indicator(value)?;
            // Looked up only where something has changed: most sets are one whole bundle.
            let key = (section.list, indicator);
            if changes.last.is_empty() || !changes.last.contains_key(&key) {
                builder.add(*number, key.1)?;
            }
        }
        Ok(())
    })?;
    for ((list, indicator), act) in changes.last {
        if let (Some(number), Act::Add) = (numbers.get(&list), act) {
            builder.add(*number, indicator)?;
        }
    }
    let (signed, built) = (last.manifest.set, builder.version());
    if built != signed {
        bail!("what results is content {built}, content {signed} was signed");
    }
    add(&mut builder, own).context("with the host's own lists")?;
    Ok(builder.build())
}

impl Changes {
    fn of(chain: &[Bundle]) -> anyhow::Result<Self> {
        let mut changes = Self::default();
        let mut before: HashSet<u32> = HashSet::new();
        for (at, bundle) in chain.iter().enumerate() {
            let lists: HashSet<u32> = bundle.manifest.lists.iter().map(|list| list.id).collect();
            for new in lists.difference(&before) {
                changes.since.insert(*new, at);
            }
            let gone: HashSet<u32> = before.difference(&lists).copied().collect();
            if !gone.is_empty() {
                changes.last.retain(|(list, _), _| !gone.contains(list));
            }
            before = lists;
            if at == 0 {
                continue;
            }
            bundle.sections(|mut section| {
                known(&bundle.manifest, section.list)?;
                while let Some(value) = section.entries.read()? {
                    let key = (section.list, indicator(value)?);
                    changes.last.insert(key, section.act);
                }
                Ok(())
            })?;
        }
        Ok(changes)
    }
}

/// Refuses a section of a list that the manifest does not name.
fn known(manifest: &Manifest, list: u32) -> anyhow::Result<()> {
    if manifest.lists.iter().any(|head| head.id == list) {
        return Ok(());
    }
    bail!("entries of list {list}, which is not named")
}

/// Adds the lists of a set. One that does not fit beside what the collector gave is left out whole,
/// and told: it must not cost what the collector gave.
fn add(builder: &mut SetBuilder, own: &IndicatorSet) -> anyhow::Result<()> {
    let mut entries = vec![0; own.lists().len()];
    own.each(|list, _| {
        if let Some(count) = entries.get_mut(usize::from(list)) {
            *count += 1;
        }
    });
    let mut room = builder.room();
    let mut numbers = Vec::new();
    for (list, entries) in own.lists().iter().zip(entries) {
        if entries > room {
            tracing::error!(
                list = list.name,
                entries,
                room,
                "list of this host left out whole: no room beside what the collector gave"
            );
            numbers.push(None);
            continue;
        }
        room -= entries;
        numbers.push(Some(builder.list(list.clone())?));
    }
    let mut outcome = Ok(());
    own.each(|list, value| {
        let indicator = match value {
            Listed::Address(address) => Indicator::Address(address),
            Listed::Net(address, prefix) => Indicator::Net(address, prefix),
            Listed::Endpoint(endpoint) => Indicator::Endpoint(endpoint),
            Listed::Domain(name) => Indicator::Domain(name.into()),
        };
        if let (Ok(()), Some(Some(number))) = (&outcome, numbers.get(usize::from(list))) {
            outcome = builder.add(*number, indicator).map(drop);
        }
    });
    Ok(outcome?)
}

fn list(head: &ListHead) -> anyhow::Result<List> {
    let category: Category = head
        .category
        .parse()
        .with_context(|| format!("list {:?}", head.name))?;
    Ok(List {
        name: head.name.clone(),
        category,
        direction: match head.direction {
            Way::Both => Direction::Both,
            Way::Outbound => Direction::Outbound,
            Way::Inbound => Direction::Inbound,
        },
        confidence: head.confidence,
    })
}

/// The indicator that an entry is: what a line of a list could not name, a bundle cannot either.
fn indicator(value: Value<'_>) -> anyhow::Result<Indicator> {
    let (indicator, read) = match value {
        Value::Address(address) => return Ok(Indicator::Address(address.to_canonical())),
        Value::Endpoint(endpoint) => return Ok(Indicator::Endpoint(endpoint)),
        Value::Net(address, prefix) => (
            Indicator::Net(address, prefix),
            Indicator::address(&format!("{address}/{prefix}"))?,
        ),
        Value::Domain(name) => (Indicator::Domain(name.into()), Indicator::domain(name)?),
    };
    if indicator != read {
        bail!("entry {indicator} is written {read}");
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_lists_never_cost_what_the_collector_gave() {
        let mut own = SetBuilder::default();
        for (name, count) in [("big", 9), ("small", 2)] {
            let list = own.list(List::new(name, Category::C2)).unwrap();
            for n in 0..count {
                let value = Indicator::address(&format!("192.0.2.{n}")).unwrap();
                own.add(list, value).unwrap();
            }
        }
        let mut given = SetBuilder::default().holding(10);
        let list = given.list(List::new("given", Category::Mining)).unwrap();
        for n in 0..8 {
            let value = Indicator::address(&format!("198.51.100.{n}")).unwrap();
            given.add(list, value).unwrap();
        }
        add(&mut given, &own.build()).unwrap();
        let set = given.build();
        assert_eq!(set.len(), 10);
        let on = |address: &str| set.match_address(address.parse().unwrap(), 1).len();
        assert_eq!(
            (on("198.51.100.7"), on("192.0.2.1"), on("192.0.2.8")),
            (1, 1, 0)
        );
    }
}
