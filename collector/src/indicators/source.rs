//! One place that indicators come from, ready to be sent: its lists, their entries in order, and the
//! chunks they are packed into. What has not changed is not packed again.

use std::collections::BTreeMap;

use axum::body::Bytes;
use picket_intel::{
    Category, Direction, Indicator, IndicatorSet, List, Listed, SetBuilder, SetError,
};
use picket_wire::Digest;
use picket_wire::bundle::{Act, ChunkHead, KEY_BYTES_MAX, Kind, ListHead, Packer, Value, Way};

use super::keys::Keys;
use super::room::Room;
use super::standing::{Aside, Standing, Told};

/// A chunk, shared with every answer it is part of.
pub(super) type Packed = (ChunkHead, Bytes);

/// A place that indicators come from.
#[derive(Debug, Clone, Default)]
pub(super) struct Source {
    /// Its lists, by number.
    pub(super) lists: Vec<(ListHead, List)>,
    keys: BTreeMap<(u32, Kind), Keys>,
    /// Its lists for which there is no room, by number.
    aside: BTreeMap<u32, Spare>,
    /// All lists, by number, in the order in which they were read.
    order: Vec<u32>,
    /// What each list takes, published or not, by number: counted once, since it takes a walk.
    sizes: BTreeMap<u32, Room>,
    /// What came of reading it.
    pub(super) told: Told,
    /// All its entries.
    pub(super) chunks: Vec<Packed>,
    /// When it was read, milliseconds since the epoch.
    pub(super) read_ms: u64,
    /// What it was read from is over or changes by itself at this time.
    pub(super) next_ms: Option<u64>,
}

/// A list for which there is no room.
#[derive(Debug, Clone)]
struct Spare {
    head: ListHead,
    list: List,
    keys: BTreeMap<Kind, Keys>,
    why: String,
}

impl Source {
    /// Everything of a set; `place` keeps apart what comes from different places under one name.
    pub(super) fn of(place: &str, set: &IndicatorSet, read_ms: u64) -> Self {
        let mut ids: Vec<u32> = Vec::new();
        for (at, list) in set.lists().iter().enumerate() {
            let alike = |other: &&List| other.name == list.name && other.category == list.category;
            let nth = set.lists()[..at].iter().filter(alike).count();
            ids.push(number(place, list, nth));
        }
        let mut keys: BTreeMap<(u32, Kind), Keys> = BTreeMap::new();
        let mut key = Vec::new();
        set.each(|list, value| {
            let kind = value_of(value).key(&mut key);
            let id = ids[usize::from(list)];
            keys.entry((id, kind)).or_default().push(&key);
        });
        keys.values_mut().for_each(Keys::sort);
        let used = (0u16..).zip(set.lists().iter().zip(&ids));
        let used = used.filter(|(at, _)| !set.is_left_out(*at));
        let mut lists: Vec<(ListHead, List)> = used
            .map(|(_, (list, id))| (head(*id, list, &keys), list.clone()))
            .collect();
        lists.sort_by_key(|(head, _)| head.id);
        let mut sizes = BTreeMap::new();
        for (head, _) in &lists {
            let own = keys.range((head.id, Kind::Ipv4)..=(head.id, Kind::Domain));
            let size = Room::of_list(head, own.map(|((_, kind), keys)| (kind, keys)));
            sizes.insert(head.id, size);
        }
        Self {
            lists,
            keys,
            order: ids,
            sizes,
            read_ms,
            ..Self::default()
        }
    }

    /// What all its published lists take.
    pub(super) fn size(&self) -> Room {
        let sizes = self.lists.iter().map(|(head, _)| self.size_of(head));
        sizes.fold(Room::default(), Room::and)
    }

    fn size_of(&self, head: &ListHead) -> Room {
        self.sizes.get(&head.id).copied().unwrap_or_default()
    }

    /// Which lists fit into `room`, in the order in which they were read, and takes it; by number, why
    /// the others do not.
    pub(super) fn plan(&self, room: &mut Room) -> BTreeMap<u32, String> {
        let mut out = BTreeMap::new();
        for id in &self.order {
            // One that was too much already has none.
            let Some(size) = self.sizes.get(id) else {
                continue;
            };
            match room.without(*size) {
                Ok(left) => *room = left,
                Err(why) => drop(out.insert(*id, why)),
            }
        }
        out
    }

    /// Whether these are the lists that are not published.
    pub(super) fn is_planned(&self, out: &BTreeMap<u32, String>) -> bool {
        self.aside.len() == out.len() && self.aside.keys().eq(out.keys())
    }

    /// Publishes every list but these, and packs them.
    pub(super) fn arrange(&mut self, out: BTreeMap<u32, String>) {
        for (id, spare) in std::mem::take(&mut self.aside) {
            self.lists.push((spare.head, spare.list));
            let keys = spare.keys.into_iter();
            self.keys
                .extend(keys.map(|(kind, keys)| ((id, kind), keys)));
        }
        self.lists.sort_by_key(|(head, _)| head.id);
        for (id, why) in out {
            let Some(at) = self.lists.iter().position(|(head, _)| head.id == id) else {
                continue;
            };
            let (head, list) = self.lists.remove(at);
            let mut keys = BTreeMap::new();
            for kind in Kind::ALL {
                keys.extend(self.keys.remove(&(id, kind)).map(|keys| (kind, keys)));
            }
            let spare = Spare {
                head,
                list,
                keys,
                why,
            };
            self.aside.insert(id, spare);
        }
        let mut packer = Packer::default();
        for ((list, kind), keys) in &self.keys {
            packer.section(*list, *kind, Act::Add, keys.iter());
        }
        self.chunks = packed(packer);
    }

    /// How it stands.
    pub(super) fn standing(&self, place: &'static str) -> Standing {
        let spare = self.aside.values().map(|spare| Aside {
            name: spare.list.name.clone(),
            category: spare.list.category.name(),
            why: format!("no room: {}", spare.why),
        });
        let sizes = self.lists.iter();
        Standing {
            place,
            told: self.told.clone(),
            aside: self.told.aside.iter().cloned().chain(spare).collect(),
            sizes: sizes
                .map(|(head, _)| (head.name.clone(), self.size_of(head)))
                .collect(),
        }
    }

    /// How many entries it has.
    pub(super) fn entries(&self) -> usize {
        self.keys.values().map(Keys::len).sum()
    }

    /// Adds everything to a set.
    pub(super) fn add_to(&self, builder: &mut SetBuilder) -> Result<(), SetError> {
        let mut name = [0; KEY_BYTES_MAX];
        for (head, list) in &self.lists {
            let number = builder.list(list.clone())?;
            let of_list = (head.id, Kind::Ipv4)..=(head.id, Kind::Domain);
            for ((_, kind), keys) in self.keys.range(of_list) {
                for key in keys.iter() {
                    // They were made of values.
                    if let Ok(value) = Value::of_key(*kind, key, &mut name) {
                        builder.add(number, indicator(value))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Packs what has changed since `before`, and says how many entries that are.
    pub(super) fn pack_changes(&self, before: &Self, packer: &mut Packer) -> usize {
        let mut changed = 0;
        let nothing = Keys::default();
        for ((list, kind), keys) in &self.keys {
            let before = before.keys.get(&(*list, *kind)).unwrap_or(&nothing);
            let (come, gone) = keys.changes(before);
            packer.section(*list, *kind, Act::Remove, gone.iter().copied());
            packer.section(*list, *kind, Act::Add, come.iter().copied());
            changed += come.len() + gone.len();
        }
        // Of lists that are gone nothing needs to be said; of kinds that are, everything.
        for ((list, kind), gone) in &before.keys {
            let stays = self.lists.iter().any(|(head, _)| head.id == *list);
            if stays && !self.keys.contains_key(&(*list, *kind)) {
                packer.section(*list, *kind, Act::Remove, gone.iter());
                changed += gone.len();
            }
        }
        changed
    }
}

/// What a packer has packed.
pub(super) fn packed(packer: Packer) -> Vec<Packed> {
    let chunks = packer.finish().into_iter();
    chunks
        .map(|chunk| (chunk.head, chunk.frame.into()))
        .collect()
}

/// The number of a list: the same on every day, made of what it is called. Should two lists ever get
/// the same, the bundle is not made, which is told.
fn number(place: &str, list: &List, nth: usize) -> u32 {
    let text = format!("{place}\n{}\n{}\n{nth}", list.category, list.name);
    let [a, b, c, d, ..] = Digest::of(text.as_bytes()).0;
    u32::from_be_bytes([a, b, c, d])
}

fn head(id: u32, list: &List, keys: &BTreeMap<(u32, Kind), Keys>) -> ListHead {
    let of_list = keys.range((id, Kind::Ipv4)..=(id, Kind::Domain));
    ListHead {
        id,
        name: list.name.clone(),
        category: list.category.name().to_owned(),
        direction: match list.direction {
            Direction::Both => Way::Both,
            Direction::Outbound => Way::Outbound,
            Direction::Inbound => Way::Inbound,
        },
        confidence: list.confidence,
        entries: of_list.map(|(_, keys)| keys.len() as u64).sum(),
    }
}

fn value_of(listed: Listed<'_>) -> Value<'_> {
    match listed {
        Listed::Address(address) => Value::Address(address),
        Listed::Net(address, prefix) => Value::Net(address, prefix),
        Listed::Endpoint(endpoint) => Value::Endpoint(endpoint),
        Listed::Domain(name) => Value::Domain(name),
    }
}

fn indicator(value: Value<'_>) -> Indicator {
    match value {
        Value::Address(address) => Indicator::Address(address),
        Value::Net(address, prefix) => Indicator::Net(address, prefix),
        Value::Endpoint(endpoint) => Indicator::Endpoint(endpoint),
        Value::Domain(name) => Indicator::Domain(name.into()),
    }
}

/// The operator's list of a category.
pub(super) fn operators_list(category: Category) -> List {
    List {
        confidence: 100,
        ..List::new(format!("operator-{category}"), category)
    }
}
