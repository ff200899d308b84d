//! What is known of one instance, and how it reads as an incident.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use picket_wire::Net;

use super::Settings;
use crate::call_tactic::call_tactic;
use crate::finding::{Band, Finding, id_of, tactic};
use crate::incident::{Entities, Incident, IncidentKind, Part, Stage, StageEvent};
use crate::limits::{INSTANCE_ADDRESSES_MAX, INSTANCE_CALLS_MAX, QUOTED_BYTES_MAX};
use crate::logs::Reported;
use crate::logs::cloudtrail::ApiCall;
use crate::time::Time;

/// What is known of one instance.
#[derive(Debug, Default)]
pub(super) struct Story {
    pub(super) region: String,
    pub(super) addresses: BTreeSet<IpAddr>,
    /// What its own sensor calls its addresses.
    local: Vec<Net>,
    pub(super) launch: Option<CallFact>,
    profile: Option<String>,
    role: Option<String>,
    /// Calls of its role, sorted by API and source.
    pub(super) calls: Vec<CallFact>,
    pub(super) calls_left_out: u64,
    pub(super) findings: BTreeMap<String, FindingFact>,
    /// Findings that have been told of their incident.
    pub(super) linked: BTreeSet<String>,
    pub(super) has_begun: bool,
}

/// A call, or several alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallFact {
    part: Part,
    event_id: String,
    event_source: String,
    event_name: String,
    source_ip: String,
    /// The source, if it is an address and no service acted on it.
    source: Option<IpAddr>,
    principal: String,
    error_code: Option<String>,
    first_ns: u64,
    last_ns: u64,
    count: u64,
}

/// A finding.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FindingFact {
    pub(super) type_name: String,
    pub(super) region: String,
    title: String,
    severity: f64,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    count: u64,
}

/// Says whether a finding is about what a host did on the network.
pub(super) fn is_network(type_name: &str) -> bool {
    type_name.contains(":EC2/") && !type_name.contains(":EC2/Sensor")
}

impl CallFact {
    pub(super) fn of(call: &ApiCall, part: Part) -> Self {
        let owned = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let by_service = call.identity.invoked_by.is_some();
        Self {
            part,
            event_id: owned(call.event_id.as_deref()),
            event_source: call.event_source.to_string(),
            event_name: call.event_name.to_string(),
            source_ip: owned(call.source_ip.as_deref()),
            source: call.source_address.filter(|_| !by_service),
            principal: owned(call.identity.arn.as_deref().or(call.identity.actor())),
            error_code: call.error_code.as_deref().map(str::to_owned),
            first_ns: call.event_time_ns,
            last_ns: call.event_time_ns,
            count: 1,
        }
    }

    /// What calls alike have in common: API and source.
    fn key(&self) -> [&str; 3] {
        [&self.event_source, &self.event_name, &self.source_ip]
    }

    /// Adds a later call, as [`CallFact::add`] does.
    fn again(&mut self, call: &ApiCall) {
        self.last_ns = self.last_ns.max(call.event_time_ns);
        self.count += 1;
        if call.succeeded() {
            self.error_code = None;
        }
    }

    /// Adds another call of the same API from the same source. One that worked speaks for those that
    /// did not.
    fn add(&mut self, other: &Self) {
        if other.first_ns < self.first_ns {
            self.first_ns = other.first_ns;
            self.event_id.clone_from(&other.event_id);
        }
        self.last_ns = self.last_ns.max(other.last_ns);
        self.count += other.count;
        if other.error_code.is_none() {
            self.error_code = None;
        }
    }

    fn stage(&self, outside_host: bool) -> Stage {
        let (api, from) = (&self.event_name, &self.source_ip);
        let tactic = match self.part {
            // A host that was launched is a resource somebody got.
            Part::Launch => "Resource Development",
            Part::RoleCall => call_tactic(api),
        };
        let title = match self.part {
            Part::Launch => format!("launched by {} from {from}", self.principal),
            Part::RoleCall if outside_host => {
                format!("its role called {api} from {from}, outside the host")
            }
            Part::RoleCall => format!("its role called {api} from {from}"),
        };
        Stage {
            tactic: tactic.to_owned(),
            time: Time(self.first_ns),
            last: Time(self.last_ns),
            count: self.count,
            title,
            finding: None,
            finding_type: None,
            severity: None,
            event: Some(StageEvent {
                event_id: self.event_id.clone(),
                event_source: self.event_source.clone(),
                event_name: api.clone(),
                source_ip: from.clone(),
                principal: self.principal.clone(),
                error_code: self.error_code.clone(),
                part: self.part,
                outside_host,
            }),
        }
    }
}

impl FindingFact {
    /// Takes in what has changed of the finding it was made of; says whether anything has.
    pub(super) fn refresh(&mut self, finding: &Finding) -> bool {
        let is_same = self.severity == finding.severity
            && self.first_ns == finding.service.event_first_seen.0
            && self.last_ns == finding.service.event_last_seen.0
            && self.count == finding.service.count
            && self.title == finding.title;
        self.severity = finding.severity;
        self.first_ns = finding.service.event_first_seen.0;
        self.last_ns = finding.service.event_last_seen.0;
        self.count = finding.service.count;
        if self.title != finding.title {
            self.title.clone_from(&finding.title);
        }
        !is_same
    }

    pub(super) fn of(finding: &Finding) -> Self {
        Self {
            type_name: finding.type_name.clone(),
            region: finding.region.clone(),
            title: finding.title.clone(),
            severity: finding.severity,
            first_ns: finding.service.event_first_seen.0,
            last_ns: finding.service.event_last_seen.0,
            count: finding.service.count,
        }
    }

    /// One of GuardDuty's.
    pub(super) fn reported(finding: &Reported) -> Self {
        let cut = finding.title.floor_char_boundary(QUOTED_BYTES_MAX);
        Self {
            type_name: finding.type_name.clone(),
            region: finding.region.clone(),
            title: format!("GuardDuty: {}", &finding.title[..cut]),
            severity: finding.severity,
            first_ns: finding.first_ns,
            last_ns: finding.last_ns,
            count: finding.count,
        }
    }

    fn stage(&self, id: &str) -> Stage {
        Stage {
            tactic: tactic(&self.type_name).to_owned(),
            time: Time(self.first_ns),
            last: Time(self.last_ns),
            count: self.count,
            title: self.title.clone(),
            finding: Some(id.to_owned()),
            finding_type: Some(self.type_name.clone()),
            severity: Some(self.severity),
            event: None,
        }
    }
}

impl Story {
    /// Names the incident of an instance.
    pub(super) fn incident_id(account: &str, instance: &str) -> String {
        id_of(&["incident", "instance_story", account, instance])
    }

    pub(super) fn set_local(&mut self, region: &str, local: &[Net]) {
        if self.local != local {
            self.local = local.iter().take(INSTANCE_ADDRESSES_MAX).copied().collect();
        }
        if self.region.is_empty() {
            region.clone_into(&mut self.region);
        }
    }

    pub(super) fn set_launch(
        &mut self,
        call: CallFact,
        region: &str,
        profile: Option<String>,
        addresses: &BTreeSet<IpAddr>,
    ) {
        region.clone_into(&mut self.region);
        self.launch = Some(call);
        self.profile = profile.or(self.profile.take());
        let room = INSTANCE_ADDRESSES_MAX.saturating_sub(self.addresses.len());
        self.addresses.extend(addresses.iter().take(room));
    }

    pub(super) fn add_role_call(&mut self, call: &ApiCall) {
        let role = call.identity.role_name();
        if role.is_some() && role != self.role.as_deref() {
            self.role = role.map(str::to_owned);
        }
        if self.region.is_empty() {
            call.region
                .as_deref()
                .unwrap_or_default()
                .clone_into(&mut self.region);
        }
        let source_ip = call.source_ip.as_deref().unwrap_or_default();
        match self.find_call([&call.event_source, &call.event_name, source_ip]) {
            Ok(at) if call.event_time_ns >= self.calls[at].first_ns => self.calls[at].again(call),
            _ => self.put_call(CallFact::of(call, Part::RoleCall)),
        }
    }

    /// Where the calls of a key are, or would be.
    fn find_call(&self, key: [&str; 3]) -> Result<usize, usize> {
        self.calls.binary_search_by(|call| call.key().cmp(&key))
    }

    fn put_call(&mut self, fact: CallFact) {
        match self.find_call(fact.key()) {
            Ok(at) => self.calls[at].add(&fact),
            Err(at) if self.calls.len() < INSTANCE_CALLS_MAX => self.calls.insert(at, fact),
            Err(_) => self.calls_left_out += 1,
        }
    }

    /// When the first network finding was first seen.
    fn found_ns(&self) -> Option<u64> {
        let network = self
            .findings
            .values()
            .filter(|fact| is_network(&fact.type_name));
        network.map(|fact| fact.first_ns).min()
    }

    /// The source its role was first used from, if that was before anything was found.
    fn home(&self) -> Option<IpAddr> {
        let first = self
            .calls
            .iter()
            .filter(|call| call.source.is_some())
            .min_by_key(|call| (call.first_ns, call.source))?;
        (first.first_ns < self.found_ns()?)
            .then_some(first.source)
            .flatten()
    }

    /// Says whether an address is neither the host's nor its home.
    fn is_outside(&self, source: IpAddr) -> bool {
        !self.addresses.contains(&source)
            && !self.local.iter().any(|net| net.contains(source))
            && self.home() != Some(source)
    }

    /// Says whether a call of its role came from outside after the first network finding.
    fn is_theft(&self, call: &CallFact) -> bool {
        call.source.is_some_and(|source| self.is_outside(source))
            && self.found_ns().is_some_and(|found| call.last_ns >= found)
    }

    pub(super) fn incident(
        &self,
        account: &str,
        instance: &str,
        rule: &str,
        settings: &Settings,
    ) -> Incident {
        let found_ns = self.found_ns().unwrap_or(0);
        let lookback_ns = settings.lookback_h.saturating_mul(3_600 * 1_000_000_000);
        let since_ns = found_ns.saturating_sub(lookback_ns);
        let calls: Vec<&CallFact> = self
            .calls
            .iter()
            .filter(|call| call.last_ns >= since_ns)
            .collect();
        let thefts: BTreeSet<&str> = calls
            .iter()
            .filter(|call| self.is_theft(call))
            .map(|call| &*call.source_ip)
            .collect();
        let worst = self.findings.values().map(|fact| fact.severity);
        let worst = worst.fold(1.0, f64::max);
        let severity = if thefts.is_empty() {
            worst
        } else {
            worst.max(Band::of(worst).raised())
        };
        let stages = self.stages(&calls);
        let used_from: BTreeSet<String> = calls.iter().map(|call| call.source_ip.clone()).collect();
        let findings = stages.iter().filter_map(|stage| stage.finding.clone());
        let time = |pick: fn(&Stage) -> Time| stages.iter().map(pick);
        Incident {
            kind: IncidentKind::Incident,
            id: Self::incident_id(account, instance),
            rule: rule.to_owned(),
            title: self.title(instance, &thefts),
            severity,
            why: self.why(instance, &calls, &thefts),
            created_at: time(|stage| stage.time).min().unwrap_or_default(),
            updated_at: time(|stage| stage.last).max().unwrap_or_default(),
            findings: findings.collect(),
            entities: Entities {
                account: account.to_owned(),
                region: self.region.clone(),
                instance: instance.to_owned(),
                addresses: self.addresses.iter().map(IpAddr::to_string).collect(),
                instance_profile: self.profile.clone(),
                role: self.role.clone(),
                launched_by: self.launch.as_ref().map(|call| call.principal.clone()),
                launched_from: self.launch.as_ref().map(|call| call.source_ip.clone()),
                role_used_from: used_from.into_iter().collect(),
            },
            stages,
        }
    }

    fn stages(&self, calls: &[&CallFact]) -> Vec<Stage> {
        let launch = self.launch.iter().map(|call| call.stage(false));
        let calls = calls.iter().map(|call| call.stage(self.is_theft(call)));
        let findings = self.findings.iter().map(|(id, fact)| fact.stage(id));
        let mut stages: Vec<Stage> = launch.chain(calls).chain(findings).collect();
        stages.sort_by(|a, b| (a.time, &a.title, &a.finding).cmp(&(b.time, &b.title, &b.finding)));
        stages
    }

    fn title(&self, instance: &str, thefts: &BTreeSet<&str>) -> String {
        let worst = self
            .findings
            .iter()
            .filter(|(_, fact)| is_network(&fact.type_name))
            .max_by(|(a_id, a), (b_id, b)| {
                let by_severity = a.severity.total_cmp(&b.severity);
                by_severity.then_with(|| b_id.cmp(a_id))
            });
        let what = worst.map_or(instance, |(_, fact)| &*fact.title);
        match (thefts.first(), &self.launch) {
            (Some(from), _) => format!("{what}; its role was used from {from}"),
            (None, Some(launch)) => format!("{what}; launched by {}", launch.principal),
            (None, None) => format!("{what}; its role made calls"),
        }
    }

    fn why(&self, instance: &str, calls: &[&CallFact], thefts: &BTreeSet<&str>) -> String {
        let mut parts = vec![format!(
            "{} findings joined by instance {instance}",
            self.findings.len()
        )];
        if let Some(launch) = &self.launch {
            parts.push(format!(
                "launched by {} from {} at {}",
                launch.principal,
                launch.source_ip,
                Time(launch.first_ns)
            ));
        }
        let made: u64 = calls.iter().map(|call| call.count).sum();
        if made > 0 {
            let role = self.role.as_deref().unwrap_or("its role");
            parts.push(format!("role {role} made {made} calls"));
        }
        if !thefts.is_empty() {
            let from: Vec<&str> = thefts.iter().copied().collect();
            parts.push(format!(
                "severity raised one band: used from {} after the first finding, which is not the host",
                from.join(", ")
            ));
        }
        parts.join("; ")
    }

    /// Takes back what an incident tells, in place of what was remembered of it.
    pub(super) fn restore(&mut self, incident: &Incident) {
        let entities = &incident.entities;
        entities.region.clone_into(&mut self.region);
        self.profile.clone_from(&entities.instance_profile);
        self.role.clone_from(&entities.role);
        let addresses = entities.addresses.iter();
        self.addresses
            .extend(addresses.filter_map(|address| address.parse::<IpAddr>().ok()));
        self.has_begun = true;
        for stage in &incident.stages {
            let (first_ns, last_ns, count) = (stage.time.0, stage.last.0, stage.count);
            if let Some(id) = &stage.finding {
                self.linked.insert(id.clone());
                let fact = FindingFact {
                    type_name: stage.finding_type.clone().unwrap_or_default(),
                    region: entities.region.clone(),
                    title: stage.title.clone(),
                    severity: stage.severity.unwrap_or(1.0),
                    first_ns,
                    last_ns,
                    count,
                };
                self.findings.insert(id.clone(), fact);
            }
            if let Some(event) = &stage.event {
                let fact = CallFact {
                    part: event.part,
                    event_id: event.event_id.clone(),
                    event_source: event.event_source.clone(),
                    event_name: event.event_name.clone(),
                    source_ip: event.source_ip.clone(),
                    source: event.source_ip.parse().ok(),
                    principal: event.principal.clone(),
                    error_code: event.error_code.clone(),
                    first_ns,
                    last_ns,
                    count,
                };
                match event.part {
                    Part::Launch => self.launch = Some(fact),
                    Part::RoleCall => match self.find_call(fact.key()) {
                        Ok(at) => self.calls[at] = fact,
                        Err(_) => self.put_call(fact),
                    },
                }
            }
        }
    }
}
