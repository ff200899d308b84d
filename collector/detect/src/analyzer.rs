//! The analyzer: events in, findings and incidents out.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use picket_intel::IndicatorSet;
use picket_wire::{Hit, HitKind};
use serde::{Deserialize, Serialize};

use crate::correlations::{self, Correlation};
use crate::dated;
use crate::detections::{self, Context, Occurrence};
use crate::event::{Event, SourceKind};
use crate::finding::{Finding, FindingType};
use crate::history::{History, Learned};
use crate::incident::Incident;
use crate::ledger::{Ledger, Taken};
use crate::logs::ApiCall;
use crate::settings::Settings;
use crate::sigma::{Rule, RuleSet, Ruled, Sigma};

/// Something the caller should store, print or send on.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// A finding that opened or changed, as it stands now.
    Finding(Box<Finding>),
    /// An incident that began or changed, as it stands now.
    Incident(Box<Incident>),
}

/// What went through, as the last line of an analysis.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename = "totals")]
pub struct Totals {
    /// Events taken in, by source.
    pub events: BTreeMap<String, u64>,
    /// Of these, events older than their source's watermark.
    pub late: BTreeMap<String, u64>,
    /// Findings opened, by type.
    pub findings: BTreeMap<String, u64>,
    /// Incidents begun.
    pub incidents: u64,
    /// Input that was refused, by reason. The analyzer refuses nothing: the caller adds what it did.
    pub refused: BTreeMap<String, u64>,
    /// What was turned away for want of room, by reason.
    pub counters: BTreeMap<String, u64>,
}

/// How far one source has come.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    events: u64,
    late: u64,
    watermark_ns: u64,
}

/// Events in, findings and incidents out; the same events in the same order give the same bytes.
///
/// Poll for output after each event or after many: changes of one finding in between come as one.
pub struct Analyzer {
    settings: Settings,
    intel: IndicatorSet,
    history: History,
    ledger: Ledger,
    correlations: Vec<Box<dyn Correlation>>,
    flows: BTreeMap<SourceKind, Flow>,
    archived: VecDeque<Finding>,
    totals: Totals,
    occurrences: Vec<Occurrence>,
    /// Rules of the operator's own, and what they matched.
    sigma: Sigma,
    ruled: Vec<Ruled>,
    /// Those of them that are on trial, as findings name them.
    on_trial: HashSet<String>,
    /// Hits that agents told of what no list may name.
    hits_excluded: u64,
    /// Times of packets that summaries dated outside their windows.
    times_moved: u64,
}

impl Analyzer {
    /// Begins with an empty memory.
    pub fn new(settings: Settings, intel: IndicatorSet) -> Self {
        Self {
            correlations: correlations::all(&settings.correlations),
            settings,
            intel,
            history: History::default(),
            ledger: Ledger::default(),
            flows: BTreeMap::new(),
            archived: VecDeque::new(),
            totals: Totals::default(),
            occurrences: Vec::new(),
            sigma: Sigma::default(),
            ruled: Vec::new(),
            on_trial: HashSet::new(),
            hits_excluded: 0,
            times_moved: 0,
        }
    }

    /// Says whether a call should be kept for [`Analyzer::remember`] for longer than its time: there
    /// are few such calls, and findings long after are explained by them.
    pub fn is_memorable(call: &ApiCall) -> bool {
        call.succeeded()
            && matches!(
                (&*call.event_source, &*call.event_name),
                ("ec2.amazonaws.com", "RunInstances" | "TerminateInstances")
                    | ("cloudtrail.amazonaws.com", "CreateTrail" | "UpdateTrail")
            )
    }

    /// Takes in, after a restart, an event that was analysed before: detections and correlations
    /// know what they knew, and nothing is reported or counted. Call it before
    /// [`Analyzer::restore`].
    pub fn remember(&mut self, event: &mut Event) {
        if let Event::Summary(summary) = event {
            dated::hold_to_window(summary);
        }
        let mut occurrences = std::mem::take(&mut self.occurrences);
        self.look(event, &mut occurrences);
        occurrences.clear();
        self.occurrences = occurrences;
        self.ruled.clear();
    }

    /// Takes back what was stored, after a restart: the same issues go on counting under the same
    /// ids, and incidents keep their stages. Call it before the first event.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "both are the caller's no more: this is where they live from now on"
    )]
    pub fn restore(&mut self, findings: Vec<Finding>, incidents: Vec<Incident>) {
        for incident in &incidents {
            for correlation in &mut self.correlations {
                correlation.restore(incident);
            }
        }
        for finding in findings {
            let is_on_trial = self.on_trial.contains(&finding.picket.rule);
            for correlation in self.correlations.iter_mut().filter(|_| !is_on_trial) {
                correlation.finding(&finding);
            }
            self.ledger.restore(finding);
        }
        self.link();
    }

    /// Replaces the indicators. What was matched stays matched.
    pub fn set_intel(&mut self, intel: IndicatorSet) {
        self.intel = intel;
    }

    /// Puts rules of the operator's own in force, in place of those before. Their correlations begin
    /// anew.
    pub fn set_rules(&mut self, rules: Arc<RuleSet>) {
        self.sigma.set_rules(rules);
    }

    /// Says which rules of the operator's own are on trial, as findings name them (`sigma/<id>`): theirs
    /// join no incident from now on. Call it before [`Analyzer::restore`] too.
    pub fn set_on_trial(&mut self, rules: HashSet<String>) {
        self.on_trial = rules;
    }

    /// The rules of the operator's own that are in force.
    pub fn rules(&self) -> &[Rule] {
        self.sigma.rules()
    }

    /// What was learned of who usually does what, and of what hosts usually do, to be kept, read or changed.
    pub fn learned(&self) -> Learned {
        let mut learned = self.history.baselines.export();
        self.history.traffics.export(&mut learned, |_, _| true);
        learned
    }

    /// The same of one name: a principal's ARN, an account, an account with a kind of principal, or
    /// account, region and host.
    pub fn learned_of(&self, name: &str) -> Learned {
        let mut learned = self.history.baselines.named(name);
        let is_named = |key: &str, _: &_| key == name;
        self.history.traffics.export(&mut learned, is_named);
        learned
    }

    /// What was learned since it was last polled.
    pub fn poll_learned(&mut self) -> Learned {
        let mut learned = self.history.baselines.poll();
        self.history.traffics.poll(&mut learned);
        learned
    }

    /// Takes back what was learned before, in place of what is known under the same names. Call it before
    /// the first event.
    pub fn set_learned(&mut self, mut learned: Learned) {
        self.history.traffics.import(&mut learned);
        self.history.baselines.import(learned);
    }

    /// Forgets what is usual for one principal, by its ARN, or for one host, by account, region and host: it is only learned from for a while. Returns
    /// whether anything was known.
    pub fn forget_principal(&mut self, arn: &str) -> bool {
        self.history.baselines.reset(arn) || self.history.traffics.reset(arn)
    }

    /// Puts a finding away for good; it comes out once more as archived. Its next occurrence opens
    /// another finding. Returns whether there was one of that id.
    pub fn archive(&mut self, id: &str) -> bool {
        let archived = self.ledger.archive(id);
        let found = archived.is_some();
        self.archived.extend(archived);
        found
    }

    /// Takes in one event.
    pub fn on_event(&mut self, mut event: Event) {
        self.on_event_mut(&mut event);
    }

    /// The same, for a caller that has use for what is left of the event.
    pub fn on_event_mut(&mut self, event: &mut Event) {
        if let Event::Summary(summary) = event {
            self.exclude(&mut summary.hits);
            self.times_moved += dated::hold_to_window(summary);
        }
        let source = event.source();
        let flow = self.flows.entry(source).or_default();
        flow.events += 1;
        if event.time_ns() < flow.watermark_ns {
            flow.late += 1;
        }
        let mut occurrences = std::mem::take(&mut self.occurrences);
        self.look(event, &mut occurrences);
        for occurrence in occurrences.drain(..) {
            let taken = self.ledger.take(occurrence);
            tell(taken, &mut self.totals, &mut self.correlations);
        }
        self.occurrences = occurrences;
        if let Event::Api(call) = event {
            self.take_ruled(call);
        }
        self.link();
        self.settle(event);
    }

    /// Takes in what rules of the operator's own matched of a call.
    fn take_ruled(&mut self, call: &ApiCall) {
        for ruled in self.ruled.drain(..) {
            let kind = ruled.kind();
            let taken = self.ledger.take_ruled(ruled, call);
            let Some((_, finding)) = &taken else {
                continue;
            };
            if let Some(kind) = kind {
                self.sigma.note_told(kind, &finding.id, call);
            }
            let joins = self.on_trial.is_empty() || !self.on_trial.contains(&finding.picket.rule);
            let correlations = if joins {
                &mut self.correlations[..]
            } else {
                &mut []
            };
            tell(taken, &mut self.totals, correlations);
        }
    }

    /// Drops hits on what no list may name: an agent's own lists are read without the public suffixes,
    /// and an older one knows fewer services.
    fn exclude(&mut self, hits: &mut Vec<Hit>) {
        let before = hits.len();
        hits.retain(|hit| {
            // What a miner speaks is listed nowhere.
            hit.kind == HitKind::Stratum
                || hit.category.parse().map_or(true, |category| {
                    self.intel.why_excluded(&hit.indicator, category).is_none()
                })
        });
        self.hits_excluded += (before - hits.len()) as u64;
    }

    /// Puts away the findings of issues that an event settles.
    fn settle(&mut self, event: &Event) {
        for detection in detections::ALL {
            let settled = (detection.reads() == event.source().alike())
                .then(|| detection.settles(event))
                .flatten();
            if let Some(id) = settled.and_then(|issue| self.ledger.open(&issue)) {
                self.archive(&id);
            }
        }
    }

    /// Shows an event to everyone.
    fn look(&mut self, event: &Event, occurrences: &mut Vec<Occurrence>) {
        let source = event.source();
        let watermark = self.flows.entry(source).or_default().watermark_ns;
        self.history.note(event, watermark, &self.settings);
        let mut context = Context {
            settings: &self.settings,
            intel: &self.intel,
            history: &mut self.history,
        };
        for detection in detections::ALL {
            if detection.reads() == source.alike() {
                detection.evaluate(event, &mut context, occurrences);
            }
        }
        if !occurrences.is_empty() {
            for detection in detections::ALL {
                if detection.reads() == source.alike() {
                    detection.conclude(event, &mut context, occurrences);
                }
            }
        }
        if let Event::Api(call) = event {
            let is_open = |finding: &str| self.ledger.is_open(finding);
            self.sigma.evaluate(call, is_open, &mut self.ruled);
        }
        self.history.learn(event);
        for correlation in &mut self.correlations {
            correlation.observe(event);
        }
    }

    /// Says that a source has nothing older than `watermark_ns` any more. What depends on older
    /// events only is forgotten.
    pub fn advance(&mut self, source: SourceKind, watermark_ns: u64) {
        let flow = self.flows.entry(source).or_default();
        if watermark_ns > flow.watermark_ns {
            flow.watermark_ns = watermark_ns;
            self.history.expire(source, watermark_ns);
            if source == SourceKind::Cloudtrail {
                self.sigma.expire(watermark_ns);
            }
        }
    }

    /// Says that no event will follow: closes every window.
    pub fn finish(&mut self) {
        for source in SourceKind::ALL {
            self.advance(source, u64::MAX);
        }
    }

    /// The next thing that changed. Findings come before the incidents they are part of.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(finding) = self.archived.pop_front().or_else(|| self.ledger.poll()) {
            return Some(Output::Finding(Box::new(finding)));
        }
        let mut all = self.correlations.iter_mut();
        let incident = all.find_map(|correlation| correlation.poll())?;
        Some(Output::Incident(Box::new(incident)))
    }

    /// What went through so far.
    pub fn totals(&self) -> Totals {
        let mut totals = self.totals.clone();
        for (source, flow) in &self.flows {
            let name = source.name().to_owned();
            totals.events.insert(name.clone(), flow.events);
            totals.late.insert(name, flow.late);
        }
        totals.incidents = self.correlations.iter().map(|c| c.begun()).sum();
        let ledger = self.ledger.counters;
        let mut counters = self.history.turned_away();
        for correlation in &self.correlations {
            counters.extend(correlation.turned_away());
        }
        counters.extend(self.sigma.turned_away());
        counters.insert("hits_excluded", self.hits_excluded);
        counters.insert("packet_times_moved", self.times_moved);
        counters.insert("findings_evicted", ledger.findings_evicted);
        counters.insert("evidence_left_out", ledger.evidence_left_out);
        counters.insert("finding_days_left_out", ledger.days_left_out);
        totals.counters = counters
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count))
            .collect();
        totals
    }

    /// Tells findings which incident they have become part of.
    fn link(&mut self) {
        for correlation in &mut self.correlations {
            for link in correlation.links() {
                self.ledger.set_incident(&link.finding, &link.incident);
            }
        }
    }
}

/// Counts what became of an occurrence, and shows its finding to the correlations.
fn tell(
    taken: Option<(Taken, &Finding)>,
    totals: &mut Totals,
    correlations: &mut [Box<dyn Correlation>],
) {
    let Some((taken, finding)) = taken else {
        return;
    };
    if taken == Taken::Opened {
        let type_name = finding.type_name.clone();
        *totals.findings.entry(type_name).or_default() += 1;
    }
    for correlation in correlations {
        correlation.finding(finding);
    }
}

/// Every type that findings of rules of the operator's own may have, as `docs/findings.md` lists them.
pub fn rule_types() -> impl Iterator<Item = &'static FindingType> {
    crate::sigma::types()
}

/// Every detection by id with the types it reports, as `docs/findings.md` lists them.
pub fn catalogue() -> impl Iterator<Item = (&'static str, &'static [&'static FindingType])> {
    detections::ALL
        .iter()
        .map(|detection| (detection.id(), detection.types()))
}

/// Every behaviour that a single CloudTrail call can be, with its type, its severity, and the severity where
/// infrastructure code did it, as `docs/cloudtrail.md` lists them.
pub fn behaviours() -> impl Iterator<Item = (&'static str, &'static str, f64, Option<f64>)> {
    detections::behaviours()
}

#[cfg(test)]
mod tests {
    use picket_intel::{SetBuilder, Suffix};

    use super::*;
    use crate::conversation::SpeakerKey;
    use crate::testing::{
        address_hit, brief, conversation, drain, ip, name_hit, question, speaker, summary,
    };

    /// Of what is dated ahead nothing is left once its window has gone, and nothing is as old as it says.
    #[test]
    fn packets_dated_ahead_or_long_ago_are_held_to_their_window_and_counted() {
        let mut analyzer = Analyzer::new(Settings::default(), SetBuilder::default().build());
        let mut told = summary(speaker());
        let mut mail = conversation("10.0.0.1", "192.0.2.1", 25);
        mail.last_ns = u64::MAX;
        let mut asked = question("10.0.0.1", "a.example");
        asked.first_ns = 0;
        (told.conversations, told.questions) = (vec![mail], vec![asked]);
        let end_ns = told.window.end_ns;
        analyzer.on_event(Event::Summary(Box::new(told)));
        assert_eq!(analyzer.totals().counters["packet_times_moved"], 2);
        let hour_ns = 3_600 * 1_000_000_000;
        assert!(analyzer.history.heard.learned_ns(end_ns) < hour_ns);
        let host = SpeakerKey::of(&speaker());
        assert!(analyzer.history.mailings.of(host, ip("10.0.0.1")).is_some());
        analyzer.advance(SourceKind::Agent, end_ns + 3 * hour_ns);
        assert!(analyzer.history.mailings.of(host, ip("10.0.0.1")).is_none());
    }

    /// An agent's own lists may name what ours never would.
    #[test]
    fn hits_on_what_no_list_may_name_are_dropped_and_counted() {
        let mut builder = SetBuilder::default();
        builder.know_suffixes(|name| (name == "co.uk").then_some(Suffix::Registry));
        let mut analyzer = Analyzer::new(Settings::default(), builder.build());
        let mut told = summary(speaker());
        told.hits = vec![
            name_hit("10.0.0.1", "shop.example.co.uk", "co.uk", "c2"),
            name_hit("10.0.0.1", "0.pool.ntp.org", "pool.ntp.org", "c2"),
            address_hit("10.0.0.1", "8.8.8.8", 53, "8.8.8.8", "c2"),
            name_hit("10.0.0.1", "a.evil.example", "evil.example", "c2"),
        ];
        analyzer.on_event(Event::Summary(Box::new(told)));
        let (findings, _) = drain(&mut analyzer);
        let expected = "Backdoor:EC2/C&CActivity.B!DNS";
        let kinds: Vec<&str> = brief(&findings).iter().map(|(kind, ..)| *kind).collect();
        assert_eq!(kinds, [expected]);
        assert_eq!(analyzer.hits_excluded, 3);
    }
}
