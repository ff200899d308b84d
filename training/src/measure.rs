//! What the model is worth on families that it was not trained on, against a popularity list that it was
//! not trained on either.

use picket_detect::dga::features::Features;
use picket_detect::dga::{ALARM, Model};

use crate::costs::Table;
use crate::fit::{KEPT_OUT, Trained};
use crate::lists::Lists;
use crate::random::Random;
use crate::synthetic;

/// Letters of a popularity list cost what the other parts of it say, so that no label vouches for itself.
const PARTS: usize = 4;
/// Families whose names are words, or alterations of names that people chose: told by behaviour.
const WORDS: &[&str] = &["banjori", "charbot", "fosniw", "matsnu", "rovnix"];
/// Names in a group.
const GROUP: usize = 10;
/// Groups of names that people chose, and of each family.
const GROUPS: (usize, usize) = (100_000, 2_000);

/// The lists as the model sees them.
pub(crate) struct Read {
    pub(crate) open: Vec<Features>,
    pub(crate) families: Vec<Family>,
    pub(crate) synthetic: Vec<Features>,
    pub(crate) costs: Table,
    elsewhere: Vec<String>,
}

/// A family.
pub(crate) struct Family {
    name: String,
    pub(crate) is_words: bool,
    pub(crate) labels: Vec<Features>,
}

/// Reads every label once.
pub(crate) fn read(lists: &Lists) -> Read {
    let open = || lists.open.iter().map(String::as_str).enumerate();
    let tables: Vec<Table> = (0..PARTS)
        .map(|part| {
            Table::of(
                open()
                    .filter(|(at, _)| at % PARTS != part)
                    .map(|(_, label)| label),
            )
        })
        .collect();
    let costs = Table::of(open().map(|(_, label)| label));
    let features = |label: &String| Features::of(label, &costs.costs());
    Read {
        open: open()
            .map(|(at, label)| Features::of(label, &tables[at % PARTS].costs()))
            .collect(),
        families: lists
            .families
            .iter()
            .map(|(name, labels)| Family {
                name: name.clone(),
                is_words: WORDS.contains(&name.as_str()),
                labels: labels.iter().map(features).collect(),
            })
            .collect(),
        synthetic: synthetic::names().iter().map(features).collect(),
        elsewhere: lists.elsewhere.clone(),
        costs,
    }
}

/// The part of `parts` that a family is judged in. A family and its offspring are judged together.
pub(crate) fn part_of(read: &Read, at: usize, parts: usize) -> usize {
    let named = |name: &str| read.families.iter().position(|family| family.name == name);
    let at = match &*read.families[at].name {
        "newgoz" => named("gameover_p2p").unwrap_or(at),
        _ => at,
    };
    (at * 5 + at / 6) % parts
}

/// How one family came out.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) family: String,
    pub(crate) is_words: bool,
    pub(crate) labels: usize,
    /// Area under the curve.
    pub(crate) auc: f64,
    /// Recall where one in 100, and one in 1,000, of the list from elsewhere alarm.
    pub(crate) one_percent: f64,
    pub(crate) one_in_1000: f64,
    /// Recall where one in 1,000 of the kept-out names of the open lists alarm.
    pub(crate) open_one_in_1000: f64,
    /// Recall of groups where one in 1,000 groups from elsewhere alarms.
    pub(crate) groups: f64,
}

/// What came of every part.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) rows: Vec<Row>,
}

/// Scores in falling order.
fn falling(scores: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut scores: Vec<f32> = scores.collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    scores
}

/// The share of scores above a threshold.
fn share_above(scores: &[f32], threshold: f32) -> f64 {
    let above = scores.iter().filter(|score| **score > threshold).count();
    above as f64 / scores.len().max(1) as f64
}

fn logistic(odds: f32) -> f32 {
    1.0 / (1.0 + (-odds).exp())
}

/// A trained model as it would be shipped: with its tables rounded.
fn as_shipped(read: &Read, trained: &Trained) -> Model {
    let bytes = trained.bytes(&read.costs).leak();
    Model::read(bytes).expect("it has the layout it was just written in")
}

/// Log odds of the open names that were kept out of training.
fn kept_out(read: &Read, model: &Model) -> Vec<f32> {
    let kept = read.open.iter().skip(3).step_by(KEPT_OUT);
    falling(kept.map(|features| model.log_odds(features)))
}

/// What to multiply log odds by, so that one in a thousand kept-out names reaches the alarm. Adding would
/// do as well for single names, but press those that are only suspect to 0, and so spoil groups.
pub(crate) fn stretch(read: &Read, trained: &Trained) -> f32 {
    let scores = kept_out(read, &as_shipped(read, trained));
    let alarm = (ALARM / (1.0 - ALARM)).ln() as f32;
    alarm / scores[scores.len() / 1_000].max(0.1)
}

impl Held {
    /// Judges the families of a part by a model that did not see them.
    pub(crate) fn add(&mut self, read: &Read, trained: &Trained, part: usize, parts: usize) {
        let mut trained = trained.clone();
        trained.stretch(stretch(read, &trained));
        let model = as_shipped(read, &trained);
        let open = kept_out(read, &model);
        let mixed: Vec<f32> = {
            let elsewhere = read.elsewhere.iter();
            elsewhere
                .map(|label| model.log_odds(&Features::of(label, &read.costs.costs())))
                .collect()
        };
        let sorted = falling(mixed.iter().copied());
        let mut random = Random(part as u64);
        let mut group = |of: &[f32]| -> f32 { (0..GROUP).map(|_| logistic(random.one(of))).sum() };
        let groups = falling((0..GROUPS.0).map(|_| group(&mixed)));
        for (at, family) in read.families.iter().enumerate() {
            if part_of(read, at, parts) != part {
                continue;
            }
            let scores: Vec<f32> = family
                .labels
                .iter()
                .map(|label| model.log_odds(label))
                .collect();
            let above = |score: &f32| sorted.partition_point(|other| other > score) as f64;
            let below: f64 = scores
                .iter()
                .map(|score| 1.0 - above(score) / sorted.len() as f64)
                .sum();
            let limit = groups[GROUPS.0 / 1_000];
            let found = (0..GROUPS.1).filter(|_| group(&scores) > limit).count();
            self.rows.push(Row {
                family: family.name.clone(),
                is_words: family.is_words,
                labels: scores.len(),
                auc: below / scores.len() as f64,
                one_percent: share_above(&scores, sorted[sorted.len() / 100]),
                one_in_1000: share_above(&scores, sorted[sorted.len() / 1_000]),
                open_one_in_1000: share_above(&scores, open[open.len() / 1_000]),
                groups: found as f64 / GROUPS.1 as f64,
            });
        }
        self.rows.sort_by(|a, b| a.family.cmp(&b.family));
    }
}
