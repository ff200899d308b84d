//! Instance story: what a host did on the network, who launched it, and what its role did.
//! Joins: findings about a host with the RunInstances call that made it and with the calls of role
//! sessions named after it; by instance id, else by account and private address between launch and
//! termination. Whichever comes first: CloudTrail may be a quarter of an hour behind the packets.
//! Begins: when a host has a network finding and at least one such call is known.
//! Severity: the highest of its findings, one band more when the role was used from outside the host
//! after the first network finding.
//! Outside: from an address that is neither the host's (its sensor's word, its launch) nor the one
//! its role was first used from before anything was found (a NAT gateway, an elastic address).

mod story;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use hashbrown::Equivalent;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Correlation, IncidentLink};
use crate::event::Event;
use crate::finding::Finding;
use crate::history::Table;
use crate::incident::{Incident, Part};
use crate::limits::{INCIDENT_FINDINGS_MAX, INSTANCES_MAX};
use crate::logs::cloudtrail::ApiCall;
use crate::logs::{IdentityKind, Reported};
use story::{CallFact, FindingFact, Story, is_network};

/// Settings of `instance_story`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Hours before the first finding in which the role's calls belong to the story: 24, over which
    /// GuardDuty looks for its attack sequences too. The launch belongs to it however old.
    pub lookback_h: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { lookback_h: 24 }
    }
}

/// Account and instance.
type Key = (String, String);

/// What a [`Key`] is looked up by.
#[derive(Clone, Copy, Hash)]
struct KeyRef<'a>(&'a str, &'a str);

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.0 == key.0 && self.1 == key.1
    }
}

impl From<&KeyRef<'_>> for Key {
    fn from(key: &KeyRef<'_>) -> Self {
        (key.0.to_owned(), key.1.to_owned())
    }
}

/// A private address is an instance's from launch to termination.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lease {
    instance: String,
    from_ns: u64,
    to_ns: u64,
}

/// What is known about an address of an account.
#[derive(Debug, Default)]
struct Tenancy {
    leases: Vec<Lease>,
    /// Findings about the address that no lease explains yet.
    waiting: BTreeMap<String, FindingFact>,
}

/// Leases remembered for one address: hosts that followed each other there.
const LEASES_MAX: usize = 16;

/// How much earlier than its launch a host may be seen: CloudTrail's clock has whole seconds, and
/// the call is noted when it returns (chosen by hand).
const LAUNCH_SLACK_NS: u64 = 60_000_000_000;

/// Stories of instances.
pub(crate) struct InstanceStory {
    settings: Settings,
    stories: Table<Key, Story>,
    tenancies: Table<(String, IpAddr), Tenancy>,
    news: News,
    findings_left_out: u64,
}

/// What others have to be told of the stories.
#[derive(Debug, Default)]
struct News {
    links: Vec<IncidentLink>,
    changed: VecDeque<Key>,
    is_changed: BTreeSet<Key>,
    begun: u64,
}

impl InstanceStory {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            stories: Table::new(INSTANCES_MAX),
            tenancies: Table::new(INSTANCES_MAX),
            news: News::default(),
            findings_left_out: 0,
        }
    }
}

impl Correlation for InstanceStory {
    fn id(&self) -> &'static str {
        "instance_story"
    }

    fn observe(&mut self, event: &Event) {
        match event {
            Event::Summary(summary) if !summary.host.local.is_empty() => {
                let host = &summary.host;
                let key = (host.account.clone(), host.instance.clone());
                let story = self.stories.write(key, event.time_ns());
                story.set_local(&host.region, &host.local);
            }
            Event::Api(call) => self.on_call(call),
            Event::Reported(finding) => self.on_reported(finding),
            Event::Summary(_)
            | Event::Login(_)
            | Event::Sensor(_)
            | Event::Feed(_)
            | Event::Trail(_) => {}
        }
    }

    fn finding(&mut self, finding: &Finding) {
        if let Some(session) = finding.resource.session_name() {
            if is_instance(session) {
                self.add_or_refresh(KeyRef(&finding.account_id, session), finding);
            }
            return;
        }
        let account = finding.account_id.clone();
        let fact = FindingFact::of(finding);
        let id = finding.id.clone();
        let Some(subject) = finding.resource.instance_id() else {
            return;
        };
        match subject.parse::<IpAddr>() {
            Ok(address) => self.add_by_address(account, address, id, fact),
            Err(_) => self.add_finding(&(account, subject.to_owned()), id, fact),
        }
    }

    fn restore(&mut self, incident: &Incident) {
        if incident.rule != self.id() {
            return;
        }
        let entities = &incident.entities;
        let key = (entities.account.clone(), entities.instance.clone());
        let story = self.stories.write(key, incident.updated_at.0);
        story.restore(incident);
    }

    fn links(&mut self) -> Vec<IncidentLink> {
        std::mem::take(&mut self.news.links)
    }

    fn poll(&mut self) -> Option<Incident> {
        while let Some(key) = self.news.changed.pop_front() {
            self.news.is_changed.remove(&key);
            if let Some(story) = self.stories.get(&key) {
                return Some(story.incident(&key.0, &key.1, self.id(), &self.settings));
            }
        }
        None
    }

    fn begun(&self) -> u64 {
        self.news.begun
    }

    fn turned_away(&self) -> BTreeMap<&'static str, u64> {
        let calls: u64 = self
            .stories
            .values()
            .map(|story| story.calls_left_out)
            .sum();
        BTreeMap::from([
            ("instances_evicted", self.stories.evicted()),
            ("instance_addresses_evicted", self.tenancies.evicted()),
            ("instance_calls_left_out", calls),
            ("incident_findings_left_out", self.findings_left_out),
        ])
    }
}

impl InstanceStory {
    fn on_call(&mut self, call: &ApiCall) {
        match (&*call.event_source, &*call.event_name) {
            ("ec2.amazonaws.com", "RunInstances") if call.succeeded() => self.on_launch(call),
            ("ec2.amazonaws.com", "TerminateInstances") if call.succeeded() => {
                self.on_termination(call);
            }
            _ => {}
        }
        if call.identity.kind != IdentityKind::AssumedRole {
            return;
        }
        let Some(session) = call
            .identity
            .session_name()
            .filter(|name| is_instance(name))
        else {
            return;
        };
        let account = call.identity.account.as_deref().or(call.account());
        let key = KeyRef(account.unwrap_or_default(), session);
        let story = self.stories.write_by(&key, call.event_time_ns);
        story.add_role_call(call);
        self.news.settle(story, key);
    }

    /// A finding of GuardDuty's stands in the story of its host beside ours, and is never one of ours.
    fn on_reported(&mut self, finding: &Reported) {
        let named = finding.session.iter().filter(|name| is_instance(name));
        if let Some(instance) = finding.instance.iter().chain(named).next() {
            let key = (finding.account.clone(), instance.clone());
            let id = format!("guardduty/{}", finding.id);
            self.add_finding(&key, id, FindingFact::reported(finding));
        }
    }

    fn on_launch(&mut self, call: &ApiCall) {
        let account = call.account().unwrap_or_default().to_owned();
        for item in items(&call.response_elements) {
            let Some(instance) = item["instanceId"].as_str() else {
                continue;
            };
            let addresses = addresses(item);
            let key = (account.clone(), instance.to_owned());
            let story = self.stories.write(key.clone(), call.event_time_ns);
            let profile = profile(item).or_else(|| profile(&call.request_parameters));
            let region = call.region.as_deref().unwrap_or_default();
            story.set_launch(
                CallFact::of(call, Part::Launch),
                region,
                profile,
                &addresses,
            );
            self.news.settle(story, KeyRef(&key.0, &key.1));
            for address in addresses {
                self.lease(&account, address, instance, call.event_time_ns);
            }
        }
    }

    fn on_termination(&mut self, call: &ApiCall) {
        let account = call.account().unwrap_or_default().to_owned();
        for item in items(&call.response_elements) {
            let Some(instance) = item["instanceId"].as_str() else {
                continue;
            };
            let key = (account.clone(), instance.to_owned());
            let Some(story) = self.stories.get(&key) else {
                continue;
            };
            let addresses: Vec<IpAddr> = story.addresses.iter().copied().collect();
            for address in addresses {
                if let Some(tenancy) = self.tenancies.get_mut(&(account.clone(), address)) {
                    for lease in &mut tenancy.leases {
                        if lease.instance == instance && lease.to_ns > call.event_time_ns {
                            lease.to_ns = call.event_time_ns;
                        }
                    }
                }
            }
        }
    }

    /// Notes that an address is an instance's from now on, and hands over findings that waited for
    /// that.
    fn lease(&mut self, account: &str, address: IpAddr, instance: &str, launched_ns: u64) {
        let place = (account.to_owned(), address);
        let tenancy = self.tenancies.write(place, launched_ns);
        if tenancy.leases.len() >= LEASES_MAX {
            tenancy.leases.remove(0);
        }
        let lease = Lease {
            instance: instance.to_owned(),
            from_ns: launched_ns.saturating_sub(LAUNCH_SLACK_NS),
            to_ns: u64::MAX,
        };
        if tenancy.leases.contains(&lease) {
            return;
        }
        tenancy.leases.push(lease);
        let Tenancy { leases, waiting } = tenancy;
        let explained: Vec<(String, FindingFact)> = waiting
            .extract_if(.., |_, fact| {
                tenant(leases, fact.first_ns).is_some_and(|found| found == instance)
            })
            .collect();
        for (id, fact) in explained {
            self.add_finding(&(account.to_owned(), instance.to_owned()), id, fact);
        }
    }

    fn add_by_address(&mut self, account: String, address: IpAddr, id: String, fact: FindingFact) {
        let place = (account.clone(), address.to_canonical());
        let tenancy = self.tenancies.write(place, fact.last_ns);
        if let Some(instance) = tenant(&tenancy.leases, fact.first_ns) {
            let key = (account, instance.to_owned());
            self.add_finding(&key, id, fact);
        } else if tenancy.waiting.len() < INCIDENT_FINDINGS_MAX || tenancy.waiting.contains_key(&id)
        {
            tenancy.waiting.insert(id, fact);
        } else {
            self.findings_left_out += 1;
        }
    }

    fn add_or_refresh(&mut self, key: KeyRef<'_>, finding: &Finding) {
        let story = self
            .stories
            .rewrite(&key, finding.service.event_last_seen.0);
        if let Some(story) = story
            && let Some(fact) = story.findings.get_mut(&finding.id)
        {
            if fact.refresh(finding) {
                self.news.settle(story, key);
            }
            return;
        }
        self.add_finding(&(&key).into(), finding.id.clone(), FindingFact::of(finding));
    }

    fn add_finding(&mut self, key: &Key, id: String, fact: FindingFact) {
        let story = self.stories.write(key.clone(), fact.last_ns);
        if story.findings.get(&id) == Some(&fact) {
            return;
        }
        if story.findings.len() >= INCIDENT_FINDINGS_MAX && !story.findings.contains_key(&id) {
            self.findings_left_out += 1;
            return;
        }
        story.region.clone_from(&fact.region);
        story.findings.insert(id, fact);
        self.news.settle(story, KeyRef(&key.0, &key.1));
    }
}

impl News {
    /// Begins or changes the incident of a story that something was added to.
    fn settle(&mut self, story: &mut Story, key: KeyRef<'_>) {
        let is_told = story
            .findings
            .values()
            .any(|fact| is_network(&fact.type_name))
            && (story.launch.is_some() || !story.calls.is_empty());
        if !is_told {
            return;
        }
        if !story.has_begun {
            story.has_begun = true;
            self.begun += 1;
        }
        for id in story.findings.keys() {
            if !story.linked.contains(id) {
                story.linked.insert(id.clone());
                self.links.push(IncidentLink {
                    finding: id.clone(),
                    incident: Story::incident_id(key.0, key.1),
                });
            }
        }
        let key = Key::from(&key);
        if self.is_changed.insert(key.clone()) {
            self.changed.push_back(key);
        }
    }
}

/// Says whether a session is named like an instance, as EC2 names the sessions of an instance's own
/// role. Whether there is such a host shows in the join.
fn is_instance(session: &str) -> bool {
    let rest = session.strip_prefix("i-").unwrap_or_default();
    !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// The only instance that had the address at `time_ns`. Two at once are in two VPCs, and nothing
/// tells which is meant.
fn tenant(leases: &[Lease], time_ns: u64) -> Option<&str> {
    let mut at_the_time = leases
        .iter()
        .filter(|lease| (lease.from_ns..=lease.to_ns).contains(&time_ns));
    let only = at_the_time.next()?;
    match at_the_time.next() {
        None => Some(&only.instance),
        Some(_) => None,
    }
}

/// `instancesSet.items` of a response.
fn items(response: &Value) -> impl Iterator<Item = &Value> {
    let items = response["instancesSet"]["items"].as_array();
    items.into_iter().flatten()
}

/// Every private address of a launched instance.
fn addresses(item: &Value) -> BTreeSet<IpAddr> {
    let interfaces = item["networkInterfaceSet"]["items"].as_array();
    let of_interfaces = interfaces.into_iter().flatten().flat_map(|interface| {
        let v4 = interface["privateIpAddressesSet"]["item"].as_array();
        let v6 = interface["ipv6AddressesSet"]["item"].as_array();
        let v4 = v4.into_iter().flatten().map(|one| &one["privateIpAddress"]);
        let v6 = v6.into_iter().flatten().map(|one| &one["ipv6Address"]);
        v4.chain(v6)
    });
    std::iter::once(&item["privateIpAddress"])
        .chain(of_interfaces)
        .filter_map(|address| address.as_str()?.parse().ok())
        .collect()
}

/// Name of the instance profile.
fn profile(item: &Value) -> Option<String> {
    let profile = item.get("iamInstanceProfile")?;
    let text = profile["arn"].as_str().or(profile["name"].as_str())?;
    let name = text.rsplit_once('/').map_or(text, |(_, name)| name);
    Some(name.to_owned())
}

#[cfg(test)]
mod tests;
