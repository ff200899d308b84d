//! A bucket's past, read once, in the order of time, from where it was left.
//!
//! ```text
//! prefix → folders with days (…/<account>/CloudTrail/<region>/) → days → objects of a day, of all
//! folders, by the time in their names → read, one after the other
//! ```
//!
//! So accounts and regions come side by side, as they would have come live, and windows meet what
//! belongs into them. Objects that lie in no folder of a day come before all days; where a first or a last
//! day is asked for, those whose keys say that they are of one between. The mark behind which to go on is stored with what came of each
//! object; after it, a listing is made anew and what is not behind the mark is left out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use jiff::civil::Date;
use tokio::task::JoinHandle;

use super::key::{self, Log};
use super::limits::{
    DAYS_MAX, FOLDER_DEPTH_MAX, FOLDERS_MAX, OBJECTS_AHEAD, OBJECTS_PER_DAY_MAX, PAUSE_FIRST,
    PAUSE_MAX, TOLD_EVERY,
};
use super::object::{End, Object, Objects, Opened};
use super::settings::{BucketSettings, Kind};
use super::{Means, open, region};
use crate::aws::s3::{Listed, Place};
use crate::aws::{self, AwsError};
use crate::clock;
use crate::config::BadValue;
use crate::stop::Stop;
use crate::store::backfill::{self, Mark, Progress};

/// Reads the past of one bucket.
pub(crate) struct Backfill {
    settings: BucketSettings,
    place: Place,
    objects: std::sync::Arc<Objects>,
    name: String,
}

/// Where objects of a day lie: the prefixes of that day in every folder that has it.
type Days = BTreeMap<Date, Vec<String>>;

impl Backfill {
    /// Prepares it; nothing is asked yet.
    ///
    /// # Errors
    /// A key of its table, which `table` names, is missing or cannot be used.
    pub(crate) fn open(
        aws: &aws::Settings,
        settings: BucketSettings,
        table: &str,
        means: Means,
    ) -> Result<Self, BadValue> {
        let objects = open(aws, &settings.name(), means)
            .map_err(|error| BadValue::new(table, error.to_string()))?;
        Ok(Self {
            place: Place {
                region: region(settings.region.as_ref(), &objects.aws, table)?,
                bucket: settings.bucket.clone(),
            },
            name: settings.id(),
            settings,
            objects: std::sync::Arc::new(objects),
        })
    }

    /// Reads to the end, then waits to be told to stop. What fails is tried again.
    pub(crate) async fn run(self, mut stop: Stop) -> anyhow::Result<()> {
        let mut pause = PAUSE_FIRST;
        loop {
            let before = self.objects.means.metrics.log_bytes_read.value();
            let round = tokio::select! {
                round = self.round() => round,
                () = stop.told() => return Ok(()),
            };
            match round {
                Ok(()) => {
                    stop.told().await;
                    return Ok(());
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(
                        backfill = self.name,
                        error,
                        "back-fill broke off; trying again"
                    );
                }
            }
            if self.objects.means.metrics.log_bytes_read.value() > before {
                pause = PAUSE_FIRST;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.told() => return Ok(()),
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn round(&self) -> anyhow::Result<()> {
        let name = self.name.clone();
        let store = &self.objects.means.store;
        let known = store.read_async(move |connection| backfill::get(connection, &name));
        let mut progress = known.await?.unwrap_or_else(|| Progress {
            started_ms: clock::now_ms(),
            ..Progress::default()
        });
        if progress.is_done {
            return Ok(());
        }
        let (days, loose) = self.days().await.context("list the folders")?;
        tracing::info!(
            backfill = self.name,
            days = days.len(),
            done = progress.objects,
            "back-fill begins"
        );
        let mut told = Instant::now();
        self.day(String::new(), loose, &mut progress, &mut told)
            .await?;
        for (day, prefixes) in &days {
            let name = day.strftime("%Y%m%d").to_string();
            if name < progress.mark.day {
                continue;
            }
            let mut listed = Vec::new();
            for prefix in prefixes {
                self.list(prefix, &mut listed)
                    .await
                    .with_context(|| format!("list {prefix}"))?;
            }
            self.day(name, listed, &mut progress, &mut told).await?;
        }
        progress.is_done = true;
        let (name, done) = (self.name.clone(), progress.clone());
        let now_ms = clock::now_ms();
        let put = store.write(move |transaction| backfill::put(transaction, &name, &done, now_ms));
        put.await?;
        self.tell(&progress, "back-fill is done");
        Ok(())
    }

    fn tell(&self, progress: &Progress, what: &'static str) {
        tracing::info!(
            backfill = self.name,
            day = progress.mark.day,
            objects = progress.objects,
            bytes = progress.bytes,
            events = progress.events,
            damaged = progress.damaged,
            "{what}"
        );
    }

    /// All objects behind a prefix.
    async fn list(&self, prefix: &str, listed: &mut Vec<Listed>) -> anyhow::Result<()> {
        let (aws, place) = (&self.objects.aws, &self.place);
        let mut next: Option<String> = None;
        loop {
            let page = aws.list(place, prefix, false, next.as_deref()).await?;
            let logs = page.objects.into_iter().filter(|one| self.is_log(one));
            listed.extend(logs);
            ensure!(
                listed.len() <= OBJECTS_PER_DAY_MAX,
                "more than {OBJECTS_PER_DAY_MAX} objects in one day; give a longer prefix"
            );
            match page.next {
                Some(token) => next = Some(token),
                None => return Ok(()),
            }
        }
    }

    /// The folders right below a prefix, and the objects in it.
    async fn folders(&self, prefix: &str) -> anyhow::Result<(Vec<String>, Vec<Listed>)> {
        let (mut folders, mut objects, mut next) = (Vec::new(), Vec::new(), None::<String>);
        loop {
            let page = self
                .objects
                .aws
                .list(&self.place, prefix, true, next.as_deref())
                .await?;
            folders.extend(page.folders);
            objects.extend(page.objects.into_iter().filter(|one| self.is_log(one)));
            ensure!(
                folders.len() <= FOLDERS_MAX && objects.len() <= OBJECTS_PER_DAY_MAX,
                "more than {FOLDERS_MAX} folders or {OBJECTS_PER_DAY_MAX} objects in one; give a \
                 longer prefix"
            );
            match page.next {
                Some(token) => next = Some(token),
                None => return Ok((folders, objects)),
            }
        }
    }

    /// The days that there are, and the objects that lie in none.
    async fn days(&self) -> anyhow::Result<(Days, Vec<Listed>)> {
        let (mut days, mut loose) = (Days::new(), Vec::new());
        let mut count = 0;
        let mut open = VecDeque::from([(self.settings.prefix.clone(), 0)]);
        let mut seen = 0;
        while let Some((prefix, depth)) = open.pop_front() {
            seen += 1;
            ensure!(
                seen <= FOLDERS_MAX,
                "more than {FOLDERS_MAX} folders; give a longer prefix"
            );
            let (folders, objects) = self.folders(&prefix).await?;
            loose.extend(objects);
            for folder in folders {
                if let Some(year) = key::number(&folder, "year", 4) {
                    let stray = self.year(&folder, year, &mut days, &mut count).await?;
                    loose.extend(stray);
                } else if self.settings.holds != Kind::ByKey || is_of_interest(&folder) {
                    ensure!(
                        depth < FOLDER_DEPTH_MAX,
                        "more than {FOLDER_DEPTH_MAX} folders within each other; give a longer prefix"
                    );
                    open.push_back((folder, depth + 1));
                }
            }
            ensure!(
                loose.len() <= OBJECTS_PER_DAY_MAX,
                "more than {OBJECTS_PER_DAY_MAX} objects in no folder of a day; give a longer prefix"
            );
        }
        Ok((days, self.wanted(loose)))
    }

    /// Those of the loose objects that lie between the first and the last day by what their keys say.
    fn wanted(&self, mut loose: Vec<Listed>) -> Vec<Listed> {
        let BucketSettings { from, to, .. } = &self.settings;
        if from.is_none() && to.is_none() {
            return loose;
        }
        let mut dateless = 0_usize;
        loose.retain(|one| {
            let Some(day) = key::day(&one.key) else {
                dateless += 1;
                return false;
            };
            from.is_none_or(|from| from <= day) && to.is_none_or(|to| day <= to)
        });
        if dateless > 0 {
            tracing::warn!(
                backfill = self.name,
                objects = dateless,
                "keys say no day, and from or to is asked for; left out"
            );
        }
        loose
    }

    fn is_log(&self, listed: &Listed) -> bool {
        Log::of(&listed.key, self.settings.holds).is_some()
    }

    /// The days of a year that are wanted; gives the objects that lie in none of them.
    async fn year(
        &self,
        folder: &str,
        year: u32,
        days: &mut Days,
        count: &mut usize,
    ) -> anyhow::Result<Vec<Listed>> {
        let BucketSettings { from, to, .. } = &self.settings;
        let year = i16::try_from(year).unwrap_or_default();
        let is_wanted =
            from.is_none_or(|from| from.year() <= year) && to.is_none_or(|to| to.year() >= year);
        if !is_wanted {
            return Ok(Vec::new());
        }
        let (months, mut stray) = self.folders(folder).await?;
        for folder in months {
            let Some(month) = key::number(&folder, "month", 2) else {
                self.list(&folder, &mut stray).await?;
                continue;
            };
            let (folders, objects) = self.folders(&folder).await?;
            stray.extend(objects);
            for folder in folders {
                // Numbers of two digits.
                let date = key::number(&folder, "day", 2)
                    .and_then(|day| Date::new(year, month as i8, day as i8).ok());
                let Some(date) = date else {
                    self.list(&folder, &mut stray).await?;
                    continue;
                };
                if from.is_none_or(|from| from <= date) && to.is_none_or(|to| date <= to) {
                    *count += 1;
                    ensure!(
                        *count <= DAYS_MAX,
                        "more than {DAYS_MAX} days; give a longer prefix"
                    );
                    days.entry(date).or_default().push(folder);
                }
            }
        }
        Ok(stray)
    }

    /// Reads the objects of a day that lie behind the mark.
    async fn day(
        &self,
        day: String,
        listed: Vec<Listed>,
        progress: &mut Progress,
        told: &mut Instant,
    ) -> anyhow::Result<()> {
        let mut marked: Vec<(Mark, Log)> = listed
            .into_iter()
            .filter_map(|listed| {
                let log = Log::of(&listed.key, self.settings.holds)?;
                let mark = Mark {
                    day: day.clone(),
                    stamp: key::stamp(&listed.key).to_owned(),
                    key: listed.key,
                };
                (mark > progress.mark).then_some((mark, log))
            })
            .collect();
        marked.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut rest = marked.into_iter();
        let mut ahead: VecDeque<(Mark, Ahead)> = VecDeque::new();
        loop {
            while ahead.len() < OBJECTS_AHEAD
                && let Some((mark, log)) = rest.next()
            {
                let object = Object {
                    place: self.place.clone(),
                    key: mark.key.clone(),
                    log,
                };
                ahead.push_back((mark, Ahead::of(self.objects.clone(), object)));
            }
            let Some((mark, opened)) = ahead.pop_front() else {
                return Ok(());
            };
            let key = mark.key.clone();
            let opened = opened.wait().await.with_context(|| format!("get {key}"))?;
            let next = Progress {
                mark,
                objects: progress.objects + 1,
                ..progress.clone()
            };
            let backfill = Some((self.name.clone(), next));
            if self.objects.read(opened, backfill).await? == End::Stopped {
                // The process ends; the run is told so as well.
                std::future::pending::<()>().await;
            }
            *progress = self.stored().await?;
            if told.elapsed() >= TOLD_EVERY {
                *told = Instant::now();
                self.tell(progress, "back-fill goes on");
            }
        }
    }

    /// What is stored of it.
    async fn stored(&self) -> anyhow::Result<Progress> {
        let name = self.name.clone();
        let store = &self.objects.means.store;
        let stored = store.read_async(move |connection| backfill::get(connection, &name));
        Ok(stored.await?.unwrap_or_default())
    }
}

/// Whether there may be logs that are read behind a folder.
fn is_of_interest(folder: &str) -> bool {
    let name = folder.trim_end_matches('/').rsplit('/').next();
    // Other services write beside CloudTrail, and more.
    !matches!(
        name,
        Some("Config" | "elasticloadbalancing" | "redshift" | "WAFLogs")
    )
}

/// An object that is asked for while others are read; given up with this.
struct Ahead(JoinHandle<Result<Opened, AwsError>>);

impl Ahead {
    fn of(objects: std::sync::Arc<Objects>, object: Object) -> Self {
        Self(tokio::spawn(async move {
            match objects.open(object.clone()).await {
                Err(error) if error.is_final() => Ok(objects.left_out(object, &error)),
                opened => opened,
            }
        }))
    }

    async fn wait(mut self) -> anyhow::Result<Opened> {
        Ok((&mut self.0).await.context("asking broke off")??)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.abort();
    }
}
