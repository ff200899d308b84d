//! What is usual for one principal, one group of peers or one account: which calls, services, regions,
//! networks and programs were met on how many days, at which hours, with how many denials.

use std::collections::BTreeMap;

use hashbrown::HashTable;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::compared::{DIMENSIONS, Dimension, Value, hash};
use crate::limits::BASELINE_VALUES_MAX;
use crate::logs::cloudtrail::ApiCall;

const DAY_NS: u64 = 24 * 3_600 * 1_000_000_000;
const HOUR_NS: u64 = 3_600 * 1_000_000_000;

/// Days after which a value that was not met again is forgotten: a quarter, so that what is done once a
/// quarter is still known. GuardDuty calls rare what is met less than once a month.
pub(crate) const FORGET_DAYS: u32 = 100;

/// Days on which a value must have been met to be usual: the second day shows that it was no accident.
const USUAL_DAYS: u16 = 2;

/// Hours that are told apart: 24 of working days and 24 of week-ends.
const HOURS: usize = 48;

/// How often a value is met, in GuardDuty's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Frequency {
    /// Not before, or on one day only.
    Unknown,
    /// Less than once a month.
    Rare,
    /// A few times a month.
    Infrequent,
    /// Daily to weekly.
    Frequent,
}

/// How a value was met. Days count from the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Met {
    /// First day.
    pub first_day: u32,
    /// Last day.
    pub last_day: u32,
    /// Different days.
    pub days: u16,
    /// Calls, as far as it counts.
    pub calls: u32,
}

/// Values met, by dimension.
#[derive(Debug, Clone, Default)]
pub struct Values([HashTable<(Box<str>, Met)>; 5]);

/// What is usual for somebody.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Baseline {
    /// First call, nanoseconds since the epoch.
    pub first_ns: u64,
    /// Last call.
    pub last_ns: u64,
    /// Calls so far.
    pub calls: u64,
    /// Calls that were denied.
    pub denied: u64,
    /// Values met, by dimension.
    pub values: Values,
    /// Calls by hour, UTC: 24 of working days, then 24 of week-ends. Short where none were made.
    pub hours: Vec<u32>,
    /// The hour that is being counted, since the epoch, and the calls in it.
    pub hour: (u64, u32),
    /// The most calls in one hour before it.
    pub hour_most: u32,
    /// Whether something was learned since it was last written out.
    #[serde(skip)]
    pub(super) is_changed: bool,
}

/// Whether it was written out makes no difference.
impl PartialEq for Baseline {
    fn eq(&self, other: &Self) -> bool {
        (self.first_ns, self.last_ns, self.calls, self.denied)
            == (other.first_ns, other.last_ns, other.calls, other.denied)
            && self.values == other.values
            && (&self.hours, self.hour, self.hour_most)
                == (&other.hours, other.hour, other.hour_most)
    }
}

impl Values {
    /// How a value was met, if it was.
    pub fn get(&self, dimension: Dimension, value: &str) -> Option<&Met> {
        self.find(dimension, hash(value), value)
    }

    /// The values of a dimension, in no order.
    pub fn of(&self, dimension: Dimension) -> impl Iterator<Item = (&str, &Met)> {
        self.0[dimension as usize]
            .iter()
            .map(|(value, met)| (&**value, met))
    }

    /// How many values of a dimension were met.
    pub fn count(&self, dimension: Dimension) -> usize {
        self.0[dimension as usize].len()
    }

    fn find(&self, dimension: Dimension, hash: u64, value: &str) -> Option<&Met> {
        self.0[dimension as usize]
            .find(hash, |(known, _)| &**known == value)
            .map(|(_, met)| met)
    }

    fn insert(&mut self, dimension: Dimension, value: Box<str>, met: Met) {
        let table = &mut self.0[dimension as usize];
        let at = hash(&value);
        match table.find_mut(at, |(known, _)| *known == value) {
            Some((_, known)) => *known = met,
            None => {
                table.insert_unique(at, (value, met), |(known, _)| hash(known));
            }
        }
    }

    /// Notes that a value was met; false if it found no room.
    fn meet(&mut self, value: &Value<'_>, today: u32) -> bool {
        let table = &mut self.0[value.dimension as usize];
        if let Some((_, met)) = table.find_mut(value.hash, |(known, _)| **known == *value.text) {
            met.meet(today);
            return true;
        }
        if table.len() >= BASELINE_VALUES_MAX {
            table.retain(|(_, met)| met.last_day.saturating_add(FORGET_DAYS) >= today);
        }
        if table.len() >= BASELINE_VALUES_MAX {
            return false;
        }
        let met = Met {
            first_day: today,
            last_day: today,
            days: 1,
            calls: 1,
        };
        table.insert_unique(value.hash, ((*value.text).into(), met), |(known, _)| {
            hash(known)
        });
        true
    }
}

impl PartialEq for Values {
    fn eq(&self, other: &Self) -> bool {
        DIMENSIONS.into_iter().all(|dimension| {
            self.count(dimension) == other.count(dimension)
                && (self.of(dimension)).all(|(value, met)| other.get(dimension, value) == Some(met))
        })
    }
}

/// Sorted by name, so that the same values are the same text.
impl Serialize for Values {
    fn serialize<S: Serializer>(&self, into: S) -> Result<S::Ok, S::Error> {
        let all: BTreeMap<Dimension, BTreeMap<&str, &Met>> = DIMENSIONS
            .into_iter()
            .filter(|dimension| self.count(*dimension) > 0)
            .map(|dimension| (dimension, self.of(dimension).collect()))
            .collect();
        all.serialize(into)
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let all = BTreeMap::<Dimension, BTreeMap<Box<str>, Met>>::deserialize(from)?;
        let mut values = Self::default();
        for (dimension, known) in all {
            for (value, met) in known {
                values.insert(dimension, value, met);
            }
        }
        Ok(values)
    }
}

impl Baseline {
    /// Takes a call in; says how many of its values found no room.
    pub(super) fn learn(&mut self, call: &ApiCall, values: &[Option<Value<'_>>]) -> u64 {
        let now_ns = call.event_time_ns;
        if self.calls == 0 {
            self.first_ns = now_ns;
        }
        self.first_ns = self.first_ns.min(now_ns);
        self.last_ns = self.last_ns.max(now_ns);
        self.is_changed = true;
        self.calls += 1;
        self.denied += u64::from(is_denied(call));
        let slot = slot(now_ns);
        if self.hours.len() <= slot {
            self.hours.resize(slot + 1, 0);
        }
        self.hours[slot] = self.hours[slot].saturating_add(1);
        let hour = now_ns / HOUR_NS;
        if hour > self.hour.0 {
            self.hour_most = self.hour_most.max(self.hour.1);
            self.hour = (hour, 0);
        }
        self.hour.1 = self.hour.1.saturating_add(1);
        let today = day(now_ns);
        let mut left_out = 0;
        for value in values.iter().flatten() {
            left_out += u64::from(!self.values.meet(value, today));
        }
        left_out
    }

    /// Makes what was read from elsewhere one that could have been learned by `self.last_ns`; says how many
    /// values found no room. A day that has not come yet would keep a value usual for ever.
    pub(super) fn settle(&mut self) -> u64 {
        let mut left_out = 0;
        let today = day(self.last_ns);
        for table in &mut self.values.0 {
            for (_, met) in table.iter_mut() {
                met.last_day = met.last_day.min(today);
                met.first_day = met.first_day.min(met.last_day);
                let span = met.last_day - met.first_day + 1;
                met.days = met.days.min(u16::try_from(span).unwrap_or(u16::MAX));
            }
            let over = table.len().saturating_sub(BASELINE_VALUES_MAX);
            if over > 0 {
                // Those that were met last stay.
                let mut ages: Vec<(u32, Box<str>)> = table
                    .iter()
                    .map(|(value, met)| (met.last_day, value.clone()))
                    .collect();
                ages.sort_unstable();
                ages.truncate(over);
                for (_, value) in &ages {
                    if let Ok(found) = table.find_entry(hash(value), |(known, _)| known == value) {
                        found.remove();
                    }
                }
                left_out += over as u64;
            }
        }
        self.hours.truncate(HOURS);
        self.first_ns = self.first_ns.min(self.last_ns);
        self.hour.0 = self.hour.0.min(self.last_ns / HOUR_NS);
        left_out
    }

    /// Days between the first call and `now_ns`.
    pub(crate) fn age_days(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.first_ns) / DAY_NS
    }

    /// How often a value is met, seen from `now_ns`.
    pub(crate) fn frequency(&self, value: &Value<'_>, now_ns: u64) -> Frequency {
        let met = self.values.find(value.dimension, value.hash, &value.text);
        met.map_or(Frequency::Unknown, |met| met.frequency(day(now_ns)))
    }

    /// The values that are met that often, the most met first, `many` at most.
    pub(crate) fn usual(
        &self,
        dimension: Dimension,
        frequency: Frequency,
        now_ns: u64,
        many: usize,
    ) -> Vec<&str> {
        let today = day(now_ns);
        let mut fitting: Vec<(u16, &str)> = self
            .values
            .of(dimension)
            .filter(|(_, met)| met.frequency(today) == frequency)
            .map(|(value, met)| (met.days, value))
            .collect();
        fitting.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        fitting
            .into_iter()
            .take(many)
            .map(|(_, value)| value)
            .collect()
    }

    /// Says whether no call was ever made about that hour of the day, among enough to tell.
    pub(crate) fn is_odd_hour(&self, now_ns: u64) -> bool {
        /// Calls from which hours tell something: twenty an hour if they were spread. Chosen by hand.
        const CALLS_MIN: u64 = 1_000;
        let slot = slot(now_ns);
        let base = slot / 24 * 24;
        let calls = |hour: usize| self.hours.get(base + hour % 24).copied().unwrap_or(0);
        let hour = slot % 24;
        self.calls >= CALLS_MIN && (hour + 23..=hour + 25).all(|near| calls(near) == 0)
    }

    /// Says whether this hour holds several times as many calls as any before it.
    pub(crate) fn is_loud(&self, now_ns: u64) -> bool {
        /// Calls below which an hour is not loud, and how many times the loudest before. By hand.
        const CALLS_MIN: u32 = 200;
        const TIMES: u32 = 3;
        let now = if self.hour.0 == now_ns / HOUR_NS {
            self.hour.1
        } else {
            0
        };
        now >= CALLS_MIN && now > self.hour_most.saturating_mul(TIMES)
    }

    /// Says whether hardly any call was denied so far, among enough to tell.
    pub(crate) fn is_seldom_denied(&self) -> bool {
        self.calls >= 200 && self.denied * 100 <= self.calls
    }
}

impl Met {
    fn meet(&mut self, today: u32) {
        self.calls = self.calls.saturating_add(1);
        if today > self.last_day {
            self.last_day = today;
            self.days = self.days.saturating_add(1);
        }
    }

    pub(super) fn frequency(&self, today: u32) -> Frequency {
        if self.days < USUAL_DAYS || self.last_day.saturating_add(FORGET_DAYS) < today {
            return Frequency::Unknown;
        }
        let span = today.saturating_sub(self.first_day).max(1);
        let by_month = f64::from(self.days) * 30.0 / f64::from(span);
        if by_month < 1.0 {
            Frequency::Rare
        } else if by_month < 4.0 {
            Frequency::Infrequent
        } else {
            Frequency::Frequent
        }
    }
}

fn is_denied(call: &ApiCall) -> bool {
    let code = call.error_code.as_deref().unwrap_or_default();
    code.contains("Denied") || code.contains("Unauthorized")
}

fn day(now_ns: u64) -> u32 {
    u32::try_from(now_ns / DAY_NS).unwrap_or(u32::MAX)
}

/// The hour, of a working day or of a week-end.
fn slot(now_ns: u64) -> usize {
    let hour = usize::try_from(now_ns / HOUR_NS % 24).unwrap_or(0);
    // The first of January 1970 was a Thursday.
    let is_weekend = matches!((now_ns / DAY_NS + 3) % 7, 5 | 6);
    hour + if is_weekend { 24 } else { 0 }
}
