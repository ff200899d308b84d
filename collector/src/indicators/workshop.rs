//! Where editions are made: reads the places, puts one set together, signs.

use std::collections::VecDeque;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use picket_intel::{IndicatorSet, SetBuilder};
use picket_wire::bundle::{Manifest, Packer};

use super::Settings;
use super::edition::{Edition, Origin, Step};
use super::limits::CHANGED_SHARE_MAX;
use super::place::Place;
use super::room::Room;
use super::source::{self, Source};
use super::standing::Standings;
use crate::clock;
use crate::signing::SigningKey;
use crate::source::intel::public_suffix;
use crate::store::Store;
use crate::store::intel::{self, Published};
use std::sync::Arc;

/// Where everything comes from, and what signs it.
pub(crate) struct Inputs {
    /// Folder of lists, if the configuration names one.
    pub(crate) intel_dir: Option<PathBuf>,
    /// Whether the built-in lists are among them.
    pub(crate) seed: bool,
    /// Folder of fetched feeds.
    pub(crate) feeds_dir: PathBuf,
    /// What signs.
    pub(crate) signing: Arc<SigningKey>,
    /// How it is published.
    pub(crate) settings: Settings,
}

/// Where editions are made.
pub(super) struct Workshop {
    places: Vec<Place>,
    store: Store,
    signing: Arc<SigningKey>,
    expires_ms: u64,
    entries_max: u64,
    last: Published,
}

/// What was opened, or what came of a round.
pub(super) struct Made {
    /// The edition to publish, if there is another.
    pub(super) edition: Option<Edition>,
    /// The set, if it is another.
    pub(super) set: Option<IndicatorSet>,
    /// How every place stands, if something was read.
    pub(super) standings: Option<Standings>,
}

/// What was read anew, by the number of its place.
type Fresh = Vec<(usize, Source)>;

impl Workshop {
    /// Reads every place. An edition whose content was published before keeps its version, so that
    /// agents need not be given it again.
    ///
    /// # Errors
    /// The folder of the configuration cannot be read ([`BadValue`](crate::config::BadValue)), or the
    /// store.
    pub(super) fn open(
        inputs: Inputs,
        store: Store,
    ) -> anyhow::Result<(Self, Edition, IndicatorSet, Standings)> {
        let last = store
            .read(intel::published)
            .context("read what was last published")?;
        let own = inputs.intel_dir;
        let seed = inputs.seed.then(|| Place::seed().allowing(own.clone()));
        let feeds = Place::feeds(inputs.feeds_dir).allowing(own.clone());
        // In the order in which they are given room: what operators want before what strangers say.
        let places = std::iter::once(Place::operators()).chain(own.map(Place::folder));
        let mut workshop = Self {
            places: places.chain(seed).chain([feeds]).collect(),
            store,
            signing: inputs.signing,
            expires_ms: inputs.settings.expires_s.saturating_mul(1_000),
            entries_max: inputs.settings.entries_max,
            last: last.unwrap_or_default(),
        };
        let now_ms = clock::now_ms();
        let mut fresh = workshop.look(true, now_ms, Failure::Ends)?;
        let for_feeds = workshop.fit(&mut fresh);
        let standings = workshop.standings(&fresh, for_feeds);
        let set = workshop.merge(&fresh)?;
        let is_known = last.is_some_and(|last| last.set == set.version());
        let published = if is_known && !workshop.is_old(now_ms) {
            workshop.last
        } else {
            workshop.next(set.version(), now_ms)
        };
        let edition = workshop.make(&fresh, published, VecDeque::new(), None)?;
        workshop.keep(fresh, published)?;
        Ok((workshop, edition, set, standings))
    }

    /// Makes the next edition, if there is cause for one. It is remembered on disk when this returns.
    /// One that is not above version `above` is cause enough.
    pub(super) fn work(&mut self, now: &Edition, asked: bool, above: u64) -> anyhow::Result<Made> {
        let now_ms = clock::now_ms();
        let mut fresh = self.look(asked, now_ms, Failure::IsTold)?;
        let is_superseded = now.version() <= above;
        let is_old = self.is_old(now_ms) || is_superseded;
        if fresh.is_empty() && !is_old {
            return Ok(Made {
                edition: None,
                set: None,
                standings: None,
            });
        }
        let for_feeds = self.fit(&mut fresh);
        let standings = Some(self.standings(&fresh, for_feeds));
        let set = match fresh.is_empty() {
            true => None,
            false => Some(self.merge(&fresh)?),
        };
        let content = set.as_ref().map_or(now.manifest.set, IndicatorSet::version);
        let is_same = content == now.manifest.set && self.heads(&fresh)? == now.manifest.lists;
        if is_same && !is_old {
            self.put(fresh);
            return Ok(Made {
                edition: None,
                set: None,
                standings,
            });
        }
        let mut published = self.next(content, now_ms);
        published.version = published.version.max(above.saturating_add(1));
        // Nobody is led from a version that was not published here.
        let change = match is_superseded {
            true => None,
            false => self.change(&fresh, published)?,
        };
        let edition = self.make(&fresh, published, now.steps(), change)?;
        self.keep(fresh, published)?;
        Ok(Made {
            edition: Some(edition),
            set: set.filter(|_| content != now.manifest.set),
            standings,
        })
    }

    /// Gives each list room, place after place, and puts aside those for which there is none left:
    /// nothing of them is published, and all else is. Returns what there was for fetched feeds.
    fn fit(&self, fresh: &mut Fresh) -> Room {
        let mut room = Room::ALL;
        let mut for_feeds = Room::default();
        for (at, place) in self.places.iter().enumerate() {
            if !place.is_operators() {
                room = room.of_files(self.entries_max);
            }
            if place.is_feeds() {
                for_feeds = room;
            }
            let new = fresh.iter_mut().find(|(of, _)| *of == at);
            match new {
                Some((_, source)) => {
                    let out = source.plan(&mut room);
                    source.arrange(out);
                }
                None => {
                    let out = place.source.plan(&mut room);
                    if !place.source.is_planned(&out) {
                        let mut source = place.source.clone();
                        source.arrange(out);
                        fresh.push((at, source));
                    }
                }
            }
        }
        for_feeds
    }

    fn standings(&self, fresh: &Fresh, for_feeds: Room) -> Standings {
        let places = self.sources(fresh);
        Standings {
            places: places
                .map(|(place, source)| source.standing(place))
                .collect(),
            for_feeds,
        }
    }

    fn look(&mut self, asked: bool, now_ms: u64, failure: Failure) -> anyhow::Result<Fresh> {
        let mut fresh = Fresh::new();
        for (at, place) in self.places.iter_mut().enumerate() {
            match place.look(&self.store, asked, now_ms) {
                Ok(source) => fresh.extend(source.map(|source| (at, source))),
                Err(error) if failure == Failure::Ends && !place.is_feeds() => {
                    return Err(place.blame(error));
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(
                        error,
                        place = place.name,
                        "indicators not read; those in use stay in use"
                    );
                }
            }
        }
        Ok(fresh)
    }

    /// The sources as they will be, with their places.
    fn sources<'a>(&'a self, fresh: &'a Fresh) -> impl Iterator<Item = (&'static str, &'a Source)> {
        self.places.iter().enumerate().map(move |(at, place)| {
            let new = fresh.iter().find(|(of, _)| *of == at);
            (place.name, new.map_or(&place.source, |(_, source)| source))
        })
    }

    fn merge(&self, fresh: &Fresh) -> anyhow::Result<IndicatorSet> {
        let mut builder = SetBuilder::default();
        builder.know_suffixes(public_suffix);
        for (name, source) in self.sources(fresh) {
            source
                .add_to(&mut builder)
                .with_context(|| format!("take in the indicators of {name}"))?;
        }
        Ok(builder.build())
    }

    fn heads(&self, fresh: &Fresh) -> anyhow::Result<Vec<picket_wire::bundle::ListHead>> {
        Ok(self.origins(fresh)?.0)
    }

    /// The heads of all lists by number, and where each comes from.
    fn origins(
        &self,
        fresh: &Fresh,
    ) -> anyhow::Result<(Vec<picket_wire::bundle::ListHead>, Vec<Origin>)> {
        let mut all = Vec::new();
        for (place, source) in self.sources(fresh) {
            let origin = Origin {
                place,
                read_ms: source.read_ms,
            };
            let heads = source.lists.iter();
            all.extend(heads.map(|(head, _)| (head.clone(), origin)));
        }
        all.sort_by_key(|(head, _)| head.id);
        if let Some(pair) = all.windows(2).find(|pair| pair[0].0.id == pair[1].0.id) {
            let [one, other] = [&pair[0].0.name, &pair[1].0.name];
            bail!("lists {one} and {other} have the same number: rename one");
        }
        Ok(all.into_iter().unzip())
    }

    fn manifest(
        &self,
        fresh: &Fresh,
        published: Published,
    ) -> anyhow::Result<(Manifest, Vec<Origin>)> {
        let (lists, origins) = self.origins(fresh)?;
        let manifest = Manifest {
            version: published.version,
            issued_ms: published.issued_ms,
            expires_ms: published.issued_ms.saturating_add(self.expires_ms),
            set: published.set,
            base: None,
            lists,
            chunks: Vec::new(),
        };
        Ok((manifest, origins))
    }

    /// The signed change from what is in use to what will be; `None` if it is not worth it.
    fn change(&self, fresh: &Fresh, published: Published) -> anyhow::Result<Option<Step>> {
        let mut packer = Packer::default();
        let (mut changed, mut all) = (0, 0);
        for (at, place) in self.places.iter().enumerate() {
            let new = fresh.iter().find(|(of, _)| *of == at);
            all += place.source.entries();
            if let Some((_, source)) = new {
                changed += source.pack_changes(&place.source, &mut packer);
            }
        }
        if changed > all / CHANGED_SHARE_MAX && changed > 10_000 {
            return Ok(None);
        }
        let chunks = source::packed(packer);
        let (mut manifest, _) = self.manifest(fresh, published)?;
        manifest.base = Some(self.last.version);
        manifest.chunks = chunks.iter().map(|(head, _)| *head).collect();
        Ok(Some(Step::new(&manifest, &chunks, self.signing.signer())?))
    }

    fn make(
        &self,
        fresh: &Fresh,
        published: Published,
        steps: VecDeque<Step>,
        change: Option<Step>,
    ) -> anyhow::Result<Edition> {
        let (mut manifest, origins) = self.manifest(fresh, published)?;
        let sources = self.sources(fresh);
        let chunks: Vec<_> = sources
            .flat_map(|(_, source)| source.chunks.iter().cloned())
            .collect();
        manifest.chunks = chunks.iter().map(|(head, _)| *head).collect();
        let signer = self.signing.signer();
        Edition::new(manifest, origins, chunks, signer, steps, change)
            .context("put the bundle together")
    }

    /// The next version: later than every one before. It is the time, in milliseconds, so that a store
    /// that was lost or set back leads to none that agents have had, however fast they came.
    fn next(&self, set: u64, now_ms: u64) -> Published {
        Published {
            version: (self.last.version + 1).max(now_ms),
            set,
            issued_ms: now_ms,
        }
    }

    /// Whether what was last published is to be signed anew.
    fn is_old(&self, now_ms: u64) -> bool {
        now_ms.abs_diff(self.last.issued_ms) > self.expires_ms / 4
    }

    /// Remembers what will be published, before anybody is given it.
    fn keep(&mut self, fresh: Fresh, published: Published) -> anyhow::Result<()> {
        if published != self.last {
            self.store
                .write_blocking(move |transaction| intel::publish(transaction, &published))
                .context("remember the version of the indicators")?;
            self.last = published;
        }
        self.put(fresh);
        Ok(())
    }

    fn put(&mut self, fresh: Fresh) {
        for (at, source) in fresh {
            if let Some(place) = self.places.get_mut(at) {
                place.source = source;
            }
        }
    }
}

/// What becomes of a place that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// The start fails.
    Ends,
    /// It is told, and what is in use of it stays.
    IsTold,
}
