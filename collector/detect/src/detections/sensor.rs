//! The sensor itself: it was blind, it contradicts itself, it is silent, its clock is off, or someone
//! else speaks in its name or asks to. A sensor that can be blinded unnoticed proves nothing.
//! Reads: what admission noticed, which `serve` alone has. Fires: at once.
//! Evidence: what was noticed. Severity: by what it is, see the settings.
//! Innocent look-alikes: an agent that was stopped in order (low), envelopes that come late (they
//! fill the gap), envelopes sent twice. ATT&CK T1562.001.
//! First look: what else the host did before the gap; who stopped the agent; whether its key is
//! elsewhere.
//! Actor key: what was noticed; of missing summaries, their run. A gap is put away by itself when the
//! last of them has come, silence when the agent speaks, a wrong clock when it is right.

use std::collections::BTreeMap;

use picket_wire::BootId;
use serde::{Deserialize, Serialize};

use super::{Context, Detection, Issue, Occurrence};
use crate::event::{Event, SensorEvent, SensorWord, SourceKind};
use crate::finding::{Action, Evidence, FindingType, Resource, Role, SensorEvidence};
use crate::time::Time;

/// Settings of `sensor`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Severity of a gap whose cause is not known to be innocent: 5.0, medium, as an intruder with
    /// root begins with it, and so does an out-of-memory kill.
    pub gap_severity: f64,
    /// Severity of a gap after an orderly stop: 2.0, low: an update, or somebody with root.
    pub stopped_severity: f64,
    /// Severity of silence: 5.0, medium: the host is off, or the sensor is.
    pub silent_severity: f64,
    /// Severity of a clock that is off by more than admission allows: 3.0, low: a host without NTP or
    /// one woken up mostly, but also a way to hold back what it says.
    pub clock_severity: f64,
    /// Severity of a forked chain: 8.0, high: two hold the same key, or the host lies.
    pub forked_severity: f64,
    /// Severity of a key that two hosts speak with: 8.0, high: an image was made of an enrolled host, or
    /// the key was copied; whatever one says may be the other's.
    pub cloned_severity: f64,
    /// Severity of words for another host under this key: 8.0, high: the key was copied.
    pub impersonated_severity: f64,
    /// Severity of a second key for one instance: 8.0, high: whoever holds it could prove to be the
    /// host. An agent whose key was lost does the same.
    pub second_key_severity: f64,
    /// Severity of words that this key did not sign: 2.0, low: anybody who reaches the collector and
    /// knows the agent's id can say them.
    pub tampered_severity: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            gap_severity: 5.0,
            stopped_severity: 2.0,
            silent_severity: 5.0,
            clock_severity: 3.0,
            forked_severity: 8.0,
            cloned_severity: 8.0,
            impersonated_severity: 8.0,
            second_key_severity: 8.0,
            tampered_severity: 2.0,
        }
    }
}

const GAP: FindingType = FindingType::picket("DefenseEvasion:EC2/SensorGap", 5.0);
/// What an agent that says nothing is told as.
pub const SILENT: FindingType = FindingType::picket("DefenseEvasion:EC2/SensorSilent", 5.0);
/// What an agent whose clock is off is told as.
pub const CLOCK: FindingType = FindingType::picket("DefenseEvasion:EC2/SensorClock", 3.0);
const CLONED: FindingType = FindingType::picket("DefenseEvasion:EC2/SensorCloned", 8.0);
const FORKED: FindingType = FindingType::picket("DefenseEvasion:EC2/SensorForked", 8.0);
const SECOND_KEY: FindingType = FindingType::picket("DefenseEvasion:EC2/SensorSecondKey", 8.0);
const IMPERSONATED: FindingType = FindingType::picket("DefenseEvasion:EC2/SensorImpersonated", 8.0);

/// The sensor itself.
pub(crate) struct Sensor;

impl Detection for Sensor {
    fn id(&self) -> &'static str {
        "sensor"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[
            &CLOCK,
            &CLONED,
            &FORKED,
            &GAP,
            &IMPERSONATED,
            &SECOND_KEY,
            &SILENT,
        ]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Sensor
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        if let Event::Sensor(event) = event {
            let judged = judge(&event.word, &context.settings.detections.sensor);
            out.extend(judged.map(|judged| occurrence(event, judged)));
        }
    }

    fn settles(&self, event: &Event) -> Option<Issue> {
        let Event::Sensor(event) = event else {
            return None;
        };
        let (kind, actor) = match event.word {
            SensorWord::Filled { boot, missing: 0 } => (&GAP, missing_of(boot)),
            SensorWord::Heard => (&SILENT, "silent".to_owned()),
            SensorWord::Timely => (&CLOCK, "clock".to_owned()),
            _ => return None,
        };
        Some(Issue {
            kind,
            account: event.host.account.clone(),
            region: event.host.region.clone(),
            subject: event.host.instance.clone(),
            actor,
        })
    }
}

/// Actor key of what is missing of a run.
fn missing_of(boot: BootId) -> String {
    format!("missing {boot}")
}

struct Judged {
    kind: &'static FindingType,
    severity: f64,
    actor: String,
    /// 0 for what only adds to what was told before.
    count: u64,
    what: String,
}

fn judge(word: &SensorWord, settings: &Settings) -> Option<Judged> {
    Some(match word {
        // `sensor_state` and `sensor_indicators` look at windows; the others put away what was told.
        SensorWord::Window(_) | SensorWord::Listing(_) | SensorWord::Heard | SensorWord::Timely => {
            return None;
        }
        SensorWord::Missing { boot, envelopes } => Judged {
            kind: &GAP,
            severity: settings.gap_severity,
            actor: missing_of(*boot),
            count: 1,
            what: format!("{envelopes} summaries of run {boot} are missing"),
        },
        SensorWord::Filled { boot, missing } => Judged {
            kind: &GAP,
            severity: settings.stopped_severity,
            actor: missing_of(*boot),
            count: 0,
            what: format!("a missing summary of run {boot} came late, {missing} are still missing"),
        },
        SensorWord::Blind {
            from_ns,
            to_ns,
            why,
        } => {
            let in_order = why == "stopped";
            let how = if in_order { "stopped" } else { "killed" };
            let since = if *from_ns == 0 {
                "an unknown time".to_owned()
            } else {
                Time(*from_ns).to_string()
            };
            Judged {
                kind: &GAP,
                severity: if in_order {
                    settings.stopped_severity
                } else {
                    settings.gap_severity
                },
                actor: how.to_owned(),
                count: 1,
                what: format!(
                    "the agent was {how} and saw nothing from {since} to {}",
                    Time(*to_ns)
                ),
            }
        }
        SensorWord::Silent { since_ns } => Judged {
            kind: &SILENT,
            severity: settings.silent_severity,
            actor: "silent".to_owned(),
            count: 1,
            what: format!("nothing was heard since {}", Time(*since_ns)),
        },
        SensorWord::Misdated { off_ms } => Judged {
            kind: &CLOCK,
            severity: settings.clock_severity,
            actor: "clock".to_owned(),
            count: 1,
            what: format!(
                "its summaries are signed {} s {} of now, and not taken",
                off_ms.unsigned_abs() / 1_000,
                if *off_ms < 0 { "behind" } else { "ahead" }
            ),
        },
        SensorWord::Forked { boot, sequence } => Judged {
            kind: &FORKED,
            severity: settings.forked_severity,
            actor: "forked".to_owned(),
            count: 1,
            what: format!("summary {sequence} of run {boot} contradicts one admitted before"),
        },
        SensorWord::Cloned {
            runs: [(first, here), (second, there)],
            together_ms,
        } => Judged {
            kind: &CLONED,
            severity: settings.cloned_severity,
            actor: "cloned".to_owned(),
            count: 1,
            what: format!(
                "its key is on two hosts: run {first} on {here} and run {second} on {there} were both \
                 heard for {} s",
                together_ms / 1_000
            ),
        },
        SensorWord::SecondKey { other } => Judged {
            kind: &SECOND_KEY,
            severity: settings.second_key_severity,
            actor: format!("key {other}"),
            count: 1,
            what: format!("another key, of agent {other}, asked to be believed for its host"),
        },
        SensorWord::Refused { reason } => Judged {
            kind: &IMPERSONATED,
            severity: match *reason {
                "tampered" | "wrong_key" | "development_key" => settings.tampered_severity,
                _ => settings.impersonated_severity,
            },
            actor: (*reason).to_owned(),
            count: 1,
            what: format!("a summary in its name was refused: {reason}"),
        },
    })
}

fn occurrence(event: &SensorEvent, judged: Judged) -> Occurrence {
    let instance = &event.host.instance;
    let Judged {
        kind,
        severity,
        actor,
        count,
        what,
    } = judged;
    let title = format!("Sensor of {instance}: {what}");
    Occurrence {
        kind,
        rule: Sensor.id(),
        severity,
        confidence: 0.8,
        account: event.host.account.clone(),
        region: event.host.region.clone(),
        subject: instance.clone(),
        actor,
        resource: Resource::instance(instance.clone(), None),
        role: Role::Target,
        count,
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
        description: format!("{title}. What the host did meanwhile was not seen."),
        title,
        why: format!("agent {} of {instance}: {what}", event.agent),
        first_look: &[
            "What the host did in the minutes before.",
            "Who stopped the agent, or whether the kernel did (out of memory).",
            "Whether the agent's key could be on another host.",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Finding, Host};
    use crate::testing::{START, analyze, brief};
    use picket_intel::IndicatorSet;
    use picket_wire::AgentId;

    fn told(words: Vec<SensorWord>) -> Vec<Finding> {
        let events = words.into_iter().map(|word| {
            Event::Sensor(SensorEvent {
                agent: AgentId([1; 16]),
                host: Host {
                    account: "111122223333".into(),
                    region: "eu-west-1".into(),
                    instance: "i-1".into(),
                },
                time_ns: START,
                word,
            })
        });
        analyze(IndicatorSet::default(), events).0
    }

    #[track_caller]
    fn check(words: Vec<SensorWord>, expected: &[(&str, f64, u64)]) {
        assert_eq!(brief(&told(words)), expected);
    }

    fn blind(why: &str) -> SensorWord {
        SensorWord::Blind {
            from_ns: START,
            to_ns: START + 1,
            why: why.into(),
        }
    }

    const BOOT: BootId = BootId([2; 16]);
    const GAP: &str = "DefenseEvasion:EC2/SensorGap";

    #[test]
    fn what_is_noticed_about_a_sensor() {
        check(vec![blind("killed")], &[(GAP, 5.0, 1)]);
        check(vec![blind("stopped")], &[(GAP, 2.0, 1)]);
        // An unknown word is no excuse.
        check(vec![blind("vacation")], &[(GAP, 5.0, 1)]);
        let forked = SensorWord::Forked {
            boot: BOOT,
            sequence: 4,
        };
        check(vec![forked], &[("DefenseEvasion:EC2/SensorForked", 8.0, 1)]);
        let cloned = SensorWord::Cloned {
            runs: [(BOOT, "web-1".into()), (BootId([3; 16]), "web-2".into())],
            together_ms: 180_000,
        };
        check(
            vec![cloned.clone()],
            &[("DefenseEvasion:EC2/SensorCloned", 8.0, 1)],
        );
        let found = told(vec![cloned]).remove(0);
        assert!(found.title.contains("web-1") && found.title.contains("web-2"));
        let silent = SensorWord::Silent { since_ns: START };
        check(vec![silent], &[("DefenseEvasion:EC2/SensorSilent", 5.0, 1)]);
        let second = SensorWord::SecondKey {
            other: AgentId([9; 16]),
        };
        let name = "DefenseEvasion:EC2/SensorSecondKey";
        check(vec![second.clone(), second], &[(name, 8.0, 2)]);
        let misdated = SensorWord::Misdated { off_ms: -5_000 };
        check(
            vec![misdated],
            &[("DefenseEvasion:EC2/SensorClock", 3.0, 1)],
        );
        let refused = |reason| vec![SensorWord::Refused { reason }];
        let name = "DefenseEvasion:EC2/SensorImpersonated";
        check(refused("wrong_host"), &[(name, 8.0, 1)]);
        for not_signed in ["tampered", "wrong_key", "development_key"] {
            check(refused(not_signed), &[(name, 2.0, 1)]);
        }
    }

    #[test]
    fn a_summary_that_comes_late_adds_to_its_gap_and_opens_none() {
        let missing = || SensorWord::Missing {
            boot: BOOT,
            envelopes: 2,
        };
        let filled = || SensorWord::Filled {
            boot: BOOT,
            missing: 1,
        };
        check(vec![missing()], &[(GAP, 5.0, 1)]);
        check(vec![missing(), filled()], &[(GAP, 5.0, 1)]);
        check(vec![filled()], &[]);
    }

    #[test]
    fn silence_and_a_wrong_clock_are_put_away_when_they_are_over() {
        let silent = || SensorWord::Silent { since_ns: START };
        let misdated = || SensorWord::Misdated { off_ms: 3_600_000 };
        let still_open = |words: &[SensorWord]| {
            let findings = told([&[silent(), misdated()], words].concat());
            let open = findings.into_iter().filter(Finding::is_open);
            open.map(|one| one.type_name).collect::<Vec<_>>()
        };
        assert_eq!(still_open(&[SensorWord::Heard]), [CLOCK.name]);
        assert_eq!(still_open(&[SensorWord::Timely]), [SILENT.name]);
        assert_eq!(still_open(&[SensorWord::Heard, silent()]).len(), 2);
        assert!(still_open(&[SensorWord::Timely, SensorWord::Heard]).is_empty());
    }

    #[test]
    fn a_gap_is_put_away_when_the_last_of_it_has_come() {
        let missing = |boot| SensorWord::Missing { boot, envelopes: 2 };
        let filled = |boot, missing| SensorWord::Filled { boot, missing };
        let other = BootId([3; 16]);
        let still_open = |words| {
            let findings = told(words);
            findings.iter().filter(|one| one.is_open()).count()
        };
        let both = || vec![missing(BOOT), missing(other)];
        let then = |more: &[SensorWord]| still_open([both(), more.to_vec()].concat());
        assert_eq!(then(&[]), 2);
        assert_eq!(then(&[filled(BOOT, 1)]), 2);
        assert_eq!(
            then(&[filled(BOOT, 1), filled(BOOT, 0)]),
            1,
            "of one run alone"
        );
        assert_eq!(then(&[filled(BOOT, 0), filled(other, 0)]), 0);
        assert_eq!(
            then(&[filled(BOOT, 0), missing(BOOT)]),
            2,
            "another one opens"
        );
    }
}
