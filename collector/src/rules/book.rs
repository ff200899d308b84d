//! The rules in force and which of them may page.
//!
//! A rule is on trial until somebody has replayed it over logs or enabled it: its findings are
//! stored and shown, and nobody is told. Another text under the same id is another rule, on trial
//! again.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use anyhow::Context as _;
use picket_detect::analyzer::catalogue;
use picket_detect::sigma::{Fault, Rule, RuleSet, Why};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::clock;
use crate::source::Report;
use crate::store::rules::{self, Fired};
use crate::store::{Store, StoreError};

/// What `picket.rule` of a rule's finding begins with.
const PREFIX: &str = "sigma/";

/// Everything there is to ask about rules.
pub(crate) struct Book {
    store: Store,
    settings: Settings,
    /// Built-in detections: id, types and settings.
    detections: Vec<(String, String, String)>,
    shelf: RwLock<Shelf>,
    /// How often the shelf has changed.
    changes: AtomicU64,
}

/// What the folder held when it was last read.
struct Shelf {
    set: Arc<RuleSet>,
    faults: Vec<Fault>,
    /// Ids of rules that may page, by the text they have now.
    live: HashSet<String>,
}

/// A rule or detection as it is listed, or a rule that is not in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RuleLine {
    /// `rule`, `detection` or `fault`.
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) title: String,
    /// `live`, `trial`, `silent` (there for correlations alone) or `refused`.
    pub(crate) state: String,
    /// Type of its findings.
    #[serde(rename = "type")]
    pub(crate) type_name: String,
    /// A rule's level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) level: Option<String>,
    /// What it takes for a finding.
    pub(crate) threshold: String,
    /// Findings stored.
    pub(crate) findings: u64,
    /// Their occurrences.
    pub(crate) occurrences: u64,
    /// When it last fired, in event time; milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_fired_ms: Option<u64>,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u64>,
    /// SHA-256 of what it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
}

impl Shelf {
    /// Reads the rules as configured.
    fn read(settings: &Settings, store: &Store) -> anyhow::Result<Self> {
        let mut sink = std::io::sink();
        let mut report = Report::new(&mut sink);
        let folders: Vec<_> = settings.folder.iter().cloned().collect();
        let loaded = super::read(&folders, &settings.placeholders(), &mut report);
        let kept = store
            .read(rules::live)
            .context("read which rules may page")?;
        let is_live = |rule: &&Rule| kept.get(&rule.id) == Some(&rule.digest);
        let live = loaded.rules.rules().iter().filter(is_live);
        Ok(Self {
            live: live.map(|rule| rule.id.clone()).collect(),
            set: Arc::new(loaded.rules),
            faults: loaded.faults,
        })
    }

    fn may_page(&self, settings: &Settings, id: &str) -> bool {
        !settings.trial || self.live.contains(id)
    }

    /// What is wrong with the rules, but for those of other products.
    fn wrong(&self) -> impl Iterator<Item = &Fault> {
        let faults = self.faults.iter();
        faults.filter(|fault| !matches!(fault.why, Why::Foreign(_)))
    }
}

impl Book {
    /// Reads the rules as configured. A rule that cannot be in force is logged and listed; the
    /// collector runs without it.
    pub(crate) fn open(
        settings: &Settings,
        detect: &picket_detect::Settings,
        store: Store,
    ) -> anyhow::Result<Self> {
        let shelf = Shelf::read(settings, &store)?;
        for fault in shelf.wrong() {
            tracing::warn!(%fault, "rule not in force");
        }
        let book = Self {
            store,
            settings: settings.clone(),
            detections: detections(detect),
            shelf: RwLock::new(shelf),
            changes: AtomicU64::new(0),
        };
        book.say("rules in force");
        Ok(book)
    }

    fn say(&self, message: &'static str) {
        if self.settings.folder.is_none() {
            return;
        }
        let shelf = self.shelf();
        let all = shelf.set.rules();
        let live = all
            .iter()
            .filter(|rule| shelf.may_page(&self.settings, &rule.id));
        let (rules, live, faults) = (all.len(), live.count(), shelf.faults.len());
        tracing::info!(rules, live, faults, "{message}");
    }

    /// Reads the folder again, all of it or nothing: where something is wrong that was not wrong before,
    /// what was in force stays in force. Returns what is in force from now on.
    pub(crate) fn reload(&self) -> anyhow::Result<Arc<RuleSet>> {
        if let Some(folder) = &self.settings.folder {
            std::fs::read_dir(folder)
                .with_context(|| format!("read the folder of rules {}", folder.display()))?;
        }
        let shelf = Shelf::read(&self.settings, &self.store)?;
        let known: HashSet<String> = self.shelf().wrong().map(ToString::to_string).collect();
        let faults = shelf.wrong().map(ToString::to_string);
        let new: Vec<String> = faults.filter(|fault| !known.contains(fault)).collect();
        if let Some((first, others)) = new.split_first() {
            let more = others.len();
            anyhow::bail!("{first} (and {more} more rules that cannot be in force)");
        }
        let set = shelf.set.clone();
        self.change(|old| *old = shelf);
        self.say("rules read again");
        Ok(set)
    }

    /// The rules in force.
    pub(crate) fn set(&self) -> Arc<RuleSet> {
        self.shelf().set.clone()
    }

    /// A number that is another whenever rules, or which of them may page, have changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The rules on trial, as findings name them.
    pub(crate) fn on_trial(&self) -> HashSet<String> {
        let shelf = self.shelf();
        let all = shelf.set.rules().iter();
        all.filter(|rule| !shelf.may_page(&self.settings, &rule.id))
            .map(|rule| format!("{PREFIX}{}", rule.id))
            .collect()
    }

    /// Says whether others may be told of findings of `rule`, as a finding names it. Built-in
    /// detections are never on trial.
    pub(crate) fn may_page(&self, rule: &str) -> bool {
        match rule.strip_prefix(PREFIX) {
            None => true,
            Some(id) => self.shelf().may_page(&self.settings, id),
        }
    }

    /// Lets a rule page, as it is now; `None` if there is no such rule, false if it says something
    /// else by now than `digest`.
    pub(crate) async fn enable(
        &self,
        id: &str,
        digest: Option<&str>,
        how: String,
    ) -> Result<Option<bool>, StoreError> {
        let set = self.set();
        let Some(rule) = set.rules().iter().find(|rule| rule.id == id) else {
            return Ok(None);
        };
        if digest.is_some_and(|digest| digest != rule.digest) {
            return Ok(Some(false));
        }
        let (id, digest) = (rule.id.clone(), rule.digest.clone());
        let now_ms = clock::now_ms();
        let kept = id.clone();
        self.store
            .write(move |transaction| rules::put_live(transaction, &kept, &digest, &how, now_ms))
            .await?;
        self.change(|shelf| {
            shelf.live.insert(id);
        });
        Ok(Some(true))
    }

    /// Puts a rule on trial; says whether there is such a rule.
    pub(crate) async fn try_out(&self, id: &str) -> Result<bool, StoreError> {
        if !self.set().rules().iter().any(|rule| rule.id == id) {
            return Ok(false);
        }
        let (id, kept) = (id.to_owned(), id.to_owned());
        self.store
            .write(move |transaction| rules::remove_live(transaction, &kept))
            .await?;
        self.change(|shelf| {
            shelf.live.remove(&id);
        });
        Ok(true)
    }

    /// Every rule, every detection, and what is not in force.
    pub(crate) fn list(&self) -> Result<Vec<RuleLine>, StoreError> {
        let fired = self.store.read(rules::fired)?;
        let shelf = self.shelf();
        let rules = shelf.set.rules().iter();
        let rules = rules.map(|rule| {
            let is_live = shelf.may_page(&self.settings, &rule.id);
            rule_line(rule, is_live, &fired)
        });
        let detections = self.detections.iter().map(|(id, types, settings)| {
            let line = RuleLine {
                kind: "detection".to_owned(),
                id: id.clone(),
                title: String::new(),
                state: "live".to_owned(),
                type_name: types.clone(),
                level: None,
                threshold: settings.clone(),
                findings: 0,
                occurrences: 0,
                last_fired_ms: None,
                file: None,
                line: None,
                digest: None,
            };
            line.with(fired.get(id))
        });
        let faults = shelf.faults.iter().map(|fault| RuleLine {
            kind: "fault".to_owned(),
            id: fault.rule.clone().unwrap_or_default(),
            title: fault.why.to_string(),
            state: "refused".to_owned(),
            type_name: String::new(),
            level: None,
            threshold: String::new(),
            findings: 0,
            occurrences: 0,
            last_fired_ms: None,
            file: Some(fault.file.clone()),
            line: Some(fault.line as u64),
            digest: None,
        });
        Ok(rules.chain(detections).chain(faults).collect())
    }

    fn shelf(&self) -> std::sync::RwLockReadGuard<'_, Shelf> {
        // Whoever broke off while holding it left a shelf that is whole.
        self.shelf
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Shelf)) {
        let shelf = self.shelf.write();
        change(&mut shelf.unwrap_or_else(std::sync::PoisonError::into_inner));
        self.changes.fetch_add(1, Ordering::Release);
    }
}

impl RuleLine {
    fn with(self, fired: Option<&Fired>) -> Self {
        match fired {
            None => self,
            Some(fired) => Self {
                findings: fired.findings,
                occurrences: fired.occurrences,
                last_fired_ms: Some(fired.last_ms),
                ..self
            },
        }
    }
}

/// A rule as it is listed.
fn rule_line(rule: &Rule, is_live: bool, fired: &BTreeMap<String, Fired>) -> RuleLine {
    let name = format!("{PREFIX}{}", rule.id);
    let state = if rule.is_silent {
        "silent"
    } else if is_live {
        "live"
    } else {
        "trial"
    };
    let line = RuleLine {
        kind: "rule".to_owned(),
        id: rule.id.clone(),
        title: rule.title.clone(),
        state: state.to_owned(),
        type_name: rule.finding_type().name.to_owned(),
        level: Some(rule.level.name().to_owned()),
        threshold: rule.threshold.clone(),
        findings: 0,
        occurrences: 0,
        last_fired_ms: None,
        file: Some(rule.file.clone()),
        line: Some(rule.line as u64),
        digest: Some(rule.digest.clone()),
    };
    line.with(fired.get(&name))
}

/// Built-in detections with their types and what is set.
fn detections(settings: &picket_detect::Settings) -> Vec<(String, String, String)> {
    let tables = serde_json::to_value(&settings.detections).unwrap_or_default();
    let each = catalogue().map(|(id, types)| {
        let types: Vec<&str> = types.iter().map(|kind| kind.name).collect();
        let table = tables.get(id).map(ToString::to_string).unwrap_or_default();
        (id.to_owned(), types.join(" "), table)
    });
    each.collect()
}
