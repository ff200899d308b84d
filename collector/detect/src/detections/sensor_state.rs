//! The state of the sensor: its packets do not add up, it cannot prove that it reports, it is
//! flooded, or somebody took it off an interface. It speaks, and yet sees nothing, or less.
//! Reads: what each window says about its sensor, and how many windows in a row it has said so.
//! Fires: in each window from the one on in which a state has lasted as long as the settings say;
//! detaching and a broken equation at once.
//! Evidence: the numbers of the window. Severity: by what it is, see the settings.
//! Innocent look-alikes: an idle host (packets are few, not none: its own reports are packets), a
//! burst that is over with the next window, a canary whose record is late by one window, another
//! program beside ours on an interface, an interface that was removed. ATT&CK T1562.001.
//! First look: who is root on the host; what was attached or detached; where the flood came from.
//! Actor key: what failed, or the interface.

use std::collections::BTreeMap;

use picket_wire::Detached;
use serde::{Deserialize, Serialize};

use super::{Context, Detection, Occurrence};
use crate::event::{Event, SensorEvent, SensorWindow, SensorWord, SourceKind};
use crate::finding::{Action, Evidence, FindingType, Resource, Role, SensorEvidence};
use crate::history::Spells;
use crate::time::Time;

/// Settings of `sensor_state`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Severity of blindness: 7.0, high, as the sensor goes on speaking and nobody would look.
    pub blind_severity: f64,
    /// Windows in a row in which the canary failed, or no interface was watched: 2. One record may
    /// be late behind a burst.
    pub blind_windows: u32,
    /// Windows in a row without a packet, on a host that had some: 30, five minutes. The sensor's own
    /// reports are packets where they leave by a watched interface.
    pub quiet_windows: u32,
    /// Severity of a flood: 5.0, medium, as every lost packet is counted.
    pub flooded_severity: f64,
    /// Share of the packets lost, 0.0 to 1.0, from which a window counts as flooded: 0.01. Ours loses
    /// none up to the rates that an instance's network carries.
    pub loss_share: f64,
    /// Packets lost from which it does: 100. Of a few packets one is soon a hundredth.
    pub lost_min: u64,
    /// Such windows in a row: 3. A burst that is over in half a minute is told by its counters.
    pub flooded_windows: u32,
    /// Severity of being taken off an interface: 7.0, high, as it takes root and intent.
    pub detached_severity: f64,
    /// Severity of packets that do not add up: 7.0, high: the sensor was tampered with, or is wrong.
    pub unbalanced_severity: f64,
    /// Windows in a row with more packets waiting to be told than passed in two windows: 6. What
    /// waits is told with the next scan, unless it never will be.
    pub unsettled_windows: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            blind_severity: 7.0,
            blind_windows: 2,
            quiet_windows: 30,
            flooded_severity: 5.0,
            loss_share: 0.01,
            lost_min: 100,
            flooded_windows: 3,
            detached_severity: 7.0,
            unbalanced_severity: 7.0,
            unsettled_windows: 6,
        }
    }
}

const BLIND: FindingType = FindingType::picket("DefenseEvasion:EC2/SensorBlind", 7.0);
const DETACHED: FindingType = FindingType::picket("DefenseEvasion:EC2/SensorDetached", 7.0);
const FLOODED: FindingType = FindingType::picket("DefenseEvasion:EC2/SensorFlooded", 5.0);
const UNBALANCED: FindingType = FindingType::picket("DefenseEvasion:EC2/SensorUnbalanced", 7.0);

/// The state of the sensor.
pub(crate) struct SensorState;

impl Detection for SensorState {
    fn id(&self) -> &'static str {
        "sensor_state"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&BLIND, &DETACHED, &FLOODED, &UNBALANCED]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Sensor
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Sensor(event) = event else { return };
        let SensorWord::Window(window) = &event.word else {
            return;
        };
        let settings = &context.settings.detections.sensor_state;
        let spells = context
            .history
            .spells
            .note(event.agent, window, &|window| is_flooded(window, settings));
        for judged in judge(window, spells, settings) {
            out.push(occurrence(event, judged));
        }
    }
}

fn is_flooded(window: &SensorWindow, settings: &Settings) -> bool {
    window.balance.lost_in_all() >= u128::from(settings.lost_min)
        && window.balance.loss_share() >= settings.loss_share
}

struct Judged {
    kind: &'static FindingType,
    severity: f64,
    actor: String,
    what: String,
}

fn judge(window: &SensorWindow, spells: Spells, settings: &Settings) -> Vec<Judged> {
    let mut all = Vec::new();
    let blind = |actor: &str, what: String| Judged {
        kind: &BLIND,
        severity: settings.blind_severity,
        actor: actor.to_owned(),
        what,
    };
    if let Err(imbalance) = window.balance.check() {
        all.push(Judged {
            kind: &UNBALANCED,
            severity: settings.unbalanced_severity,
            actor: imbalance.part().to_owned(),
            what: format!("its packets do not add up: {imbalance}"),
        });
    }
    if spells.unsettled >= settings.unsettled_windows {
        all.push(Judged {
            kind: &UNBALANCED,
            severity: settings.unbalanced_severity,
            actor: "unsettled".to_owned(),
            what: format!(
                "{} packets were counted and not told for {} windows",
                window.balance.unsettled, spells.unsettled
            ),
        });
    }
    if spells.canary >= settings.blind_windows
        && let Some(failed) = window.canary_failed()
    {
        let windows = spells.canary;
        let what = match failed {
            "counted" => "its kernel programs do not count",
            "hit" => "its kernel programs do not match listed addresses",
            "copied" => "its kernel programs do not copy packets",
            "named" => "its kernel programs do not match listed names",
            _ => "its kernel programs cannot be run",
        };
        all.push(blind(failed, format!("{what}, {windows} windows in a row")));
    }
    if spells.unwatched >= settings.blind_windows {
        let what = format!(
            "it watches no interface, {} windows in a row",
            spells.unwatched
        );
        all.push(blind("no_interface", what));
    }
    if spells.quiet >= settings.quiet_windows {
        let what = format!(
            "it saw no packet, {} windows in a row, where it saw some before",
            spells.quiet
        );
        all.push(blind("no_packets", what));
    }
    if spells.flooded >= settings.flooded_windows {
        let balance = &window.balance;
        all.push(Judged {
            kind: &FLOODED,
            severity: settings.flooded_severity,
            actor: "flooded".to_owned(),
            what: format!(
                "it lost {} of {} packets ({:.1} %), {} windows in a row",
                balance.lost_in_all(),
                balance.seen,
                balance.loss_share() * 100.0,
                spells.flooded
            ),
        });
    }
    let detached = window.health.iter().flat_map(|health| &health.detached);
    all.extend(detached.map(|one| detachment(one, settings)));
    all
}

fn detachment(one: &Detached, settings: &Settings) -> Judged {
    let direction = if one.direction == "in" { "in" } else { "out" };
    let again = if one.again {
        "it attached itself again"
    } else {
        "it could not attach itself again"
    };
    // The name is the host's word: a few printable characters of it will do.
    let name: String = one
        .interface
        .chars()
        .filter(char::is_ascii_graphic)
        .take(15)
        .collect();
    Judged {
        kind: &DETACHED,
        severity: settings.detached_severity,
        actor: name.clone(),
        what: format!("somebody took its program off {name} ({direction}); {again}"),
    }
}

fn occurrence(event: &SensorEvent, judged: Judged) -> Occurrence {
    let instance = &event.host.instance;
    let Judged {
        kind,
        severity,
        actor,
        what,
    } = judged;
    let title = format!("Sensor of {instance}: {what}");
    Occurrence {
        kind,
        rule: SensorState.id(),
        severity,
        confidence: 0.8,
        account: event.host.account.clone(),
        region: event.host.region.clone(),
        subject: instance.clone(),
        actor,
        resource: Resource::instance(instance.clone(), None),
        role: Role::Target,
        count: 1,
        first_ns: event.time_ns,
        last_ns: event.time_ns,
        action: Action::Sensor {},
        additional_info: BTreeMap::from([("agent".to_owned(), event.agent.to_string())]),
        evidence: vec![Evidence::Sensor(SensorEvidence {
            time: Time(event.time_ns),
            agent: event.agent.to_string(),
            what: what.clone(),
        })],
        mitre: &["T1562.001"],
        description: format!("{title}. What the host did meanwhile may not have been seen."),
        title,
        why: format!("agent {} of {instance}: {what}", event.agent),
        first_look: &[
            "Who was root on the host, and what they ran just before.",
            "What is attached to its interfaces now, and by whom.",
            "Where a flood came from, and what went on behind it.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Host;
    use crate::testing::{SECOND, START, analyze, brief};
    use picket_intel::IndicatorSet;
    use picket_wire::{AgentId, Balance, BootId, Canary, Health, Watched};

    const BLIND: &str = "DefenseEvasion:EC2/SensorBlind";
    const FLOODED: &str = "DefenseEvasion:EC2/SensorFlooded";
    const DETACHED: &str = "DefenseEvasion:EC2/SensorDetached";
    const UNBALANCED: &str = "DefenseEvasion:EC2/SensorUnbalanced";

    /// A window in which all was well.
    fn well() -> SensorWindow {
        SensorWindow {
            boot: BootId([2; 16]),
            end_ns: 0,
            balance: seen(1_000, 0),
            health: Some(Health {
                interfaces: vec![Watched {
                    index: 2,
                    name: "ens5".into(),
                    attached: "tcx".into(),
                }],
                canary: Some(Canary {
                    sent: 2,
                    counted: 2,
                    hit: 2,
                    copied: 2,
                    last_ns: START,
                    refused: None,
                    named: None,
                }),
                detached: vec![],
            }),
        }
    }

    fn seen(packets: u128, lost: u128) -> Balance {
        Balance {
            seen: packets,
            flow: packets - lost,
            lost,
            offered: packets - lost,
            recorded: packets - lost,
            told: packets - lost,
            ..Balance::default()
        }
    }

    fn with(change: impl FnOnce(&mut SensorWindow)) -> SensorWindow {
        let mut window = well();
        change(&mut window);
        window
    }

    fn canary(counted: u64, hit: u64, copied: u64) -> SensorWindow {
        with(|window| {
            let health = window.health.as_mut().unwrap();
            let canary = health.canary.as_mut().unwrap();
            (canary.counted, canary.hit, canary.copied) = (counted, hit, copied);
        })
    }

    /// Windows one after the other, and what they give.
    #[track_caller]
    fn check(windows: Vec<SensorWindow>, expected: &[(&str, f64, u64)]) {
        let events = (1..).zip(windows).map(|(at, window)| {
            let end_ns = START + at * 10 * SECOND;
            Event::Sensor(SensorEvent {
                agent: AgentId([1; 16]),
                host: Host {
                    account: "111122223333".into(),
                    region: "eu-west-1".into(),
                    instance: "i-1".into(),
                },
                time_ns: end_ns,
                word: SensorWord::Window(Box::new(SensorWindow { end_ns, ..window })),
            })
        });
        let (findings, _) = analyze(IndicatorSet::default(), events);
        assert_eq!(brief(&findings), expected);
    }

    fn times(count: usize, window: &SensorWindow) -> Vec<SensorWindow> {
        vec![window.clone(); count]
    }

    #[test]
    fn a_canary_that_fails_twice_in_a_row_is_blindness() {
        check(times(9, &well()), &[]);
        check(times(2, &canary(2, 1, 2)), &[(BLIND, 7.0, 1)]);
        check(times(4, &canary(0, 2, 2)), &[(BLIND, 7.0, 3)]);
        check(times(2, &canary(2, 2, 0)), &[(BLIND, 7.0, 1)]);
        let refused = with(|window| {
            let canary = window.health.as_mut().unwrap().canary.as_mut().unwrap();
            *canary = Canary {
                refused: Some("not permitted".into()),
                ..Canary::default()
            };
        });
        check(times(2, &refused), &[(BLIND, 7.0, 1)]);
    }

    #[test]
    fn a_canary_that_fails_once_or_is_late_is_not() {
        check(vec![canary(2, 1, 2)], &[]);
        check(vec![canary(2, 1, 2), well(), canary(2, 1, 2)], &[]);
        // None was due: the failure before it stands, and is not counted again.
        let none_due = with(|window| {
            window.health.as_mut().unwrap().canary = Some(Canary::default());
        });
        check(times(9, &none_due), &[]);
        let no_canary = with(|window| window.health.as_mut().unwrap().canary = None);
        check(times(9, &no_canary), &[]);
        // Another run begins with a clean record.
        let other = SensorWindow {
            boot: BootId([3; 16]),
            ..canary(2, 1, 2)
        };
        check(vec![canary(2, 1, 2), other], &[]);
    }

    #[test]
    fn no_interface_and_no_packets_are_blindness() {
        let unwatched = with(|window| window.health.as_mut().unwrap().interfaces.clear());
        check(times(2, &unwatched), &[(BLIND, 7.0, 1)]);
        check(vec![unwatched, well()], &[]);
        let quiet = with(|window| window.balance = seen(0, 0));
        check(
            [vec![well()], times(30, &quiet)].concat(),
            &[(BLIND, 7.0, 1)],
        );
        check([vec![well()], times(29, &quiet)].concat(), &[]);
        // A host that never had any.
        check(times(40, &quiet), &[]);
    }

    #[test]
    fn a_flood_that_lasts_is_told() {
        let lost = |packets, lost| with(|window| window.balance = seen(packets, lost));
        check(times(3, &lost(100_000, 1_000)), &[(FLOODED, 5.0, 1)]);
        check(times(5, &lost(1_000, 500)), &[(FLOODED, 5.0, 3)]);
        check(times(2, &lost(100_000, 50_000)), &[]);
        check(times(9, &lost(100_000, 999)), &[]);
        check(times(9, &lost(100, 99)), &[]);
    }

    #[test]
    fn a_foreign_hand_is_told_at_once() {
        let taken = |interface: &str, again| {
            with(|window| {
                window.health.as_mut().unwrap().detached = vec![Detached {
                    time_ns: START,
                    interface: interface.into(),
                    direction: "in".into(),
                    again,
                }];
            })
        };
        check(vec![taken("ens5", true)], &[(DETACHED, 7.0, 1)]);
        check(
            vec![taken("ens5", true), well(), taken("ens5", false)],
            &[(DETACHED, 7.0, 2)],
        );
        check(
            vec![taken("ens5", true), taken("ens6", true)],
            &[(DETACHED, 7.0, 1), (DETACHED, 7.0, 1)],
        );
    }

    #[test]
    fn packets_that_do_not_add_up_are_told() {
        let missing = with(|window| window.balance.told -= 1);
        check(vec![missing], &[(UNBALANCED, 7.0, 1)]);
        let hole = with(|window| window.balance.unsettled = 5_000);
        check(times(6, &hole), &[(UNBALANCED, 7.0, 1)]);
        // At full rate some are always on their way.
        let busy = with(|window| window.balance.unsettled = 900);
        check(times(40, &busy), &[]);
        let once = with(|window| window.balance.unsettled = 5_000);
        check(
            [times(5, &once), vec![well()], times(5, &once)].concat(),
            &[],
        );
    }

    #[test]
    fn windows_out_of_order_and_without_health_say_nothing() {
        let replayed = with(|window| window.health = None);
        check(times(9, &replayed), &[]);
    }
}
