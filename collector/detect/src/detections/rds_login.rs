//! Odd logins: somebody is refused at a database again and again, gets in after that, or gets in who never
//! did before.
//! Reads: connections that the logs of databases tell of; who logged in so far and from which networks (/16,
//! /32 of IPv6). An IPv6 address is counted as its /64. Fires: from `failures_min` refusals of one address within
//! `failures_window_s`; from `unusual_failures_min` where the network is new to a database that is known; from
//! `inside_failures_min` of one user from inside, where the database is known and the user never logged in from that host; on
//! a login after `break_in_failures_min` refusals of its address within `break_in_window_s`; on a login of a user, or from a
//! public network, that is new to a database known for `learning_days` and `logins_min` logins. Of a client that the log
//! names without its address the user alone is looked at.
//! Evidence: the refusals and the login; what is unusual and usual side by side in `additionalInfo`. Severity:
//! low for refusals; for a new user low from inside, medium from a public address, high where public addresses were refused
//! that day; high for a login after refusals, medium from inside.
//! Innocent look-alikes: a service with an old password (one user, from inside or from where it always logs in,
//! does not count), a person who mistypes, a new service. ATT&CK T1110, T1078.
//! First look: whether the user's owner knows of it; why the database can be reached from there.
//! Actor key: the address; for a new user its name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::evidence_of::{self, quote};
use super::{Context, Detection, Occurrence};
use crate::event::{Event, SourceKind};
use crate::finding::{Evidence, FindingType, LoginAttribute, Role};
use crate::history::{KnownLogins, Logins, Refusal, network, spot};
use crate::logs::{Login, LoginOutcome};

/// Settings of `rds_login`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Days for which a database is only learned from: 7, so that every day of a week was seen once.
    pub learning_days: u64,
    /// Logins below which it is only learned from: 100, since less tells no habit.
    pub logins_min: u64,
    /// Refusals of one address that are told: 10, more than a person makes, whatever is known.
    pub failures_min: usize,
    /// Seconds within which they lie: 600.
    pub failures_window_s: u64,
    /// Refusals of an address in a network that is new to a known database: 3, one being a slip.
    pub unusual_failures_min: usize,
    /// Refusals of one user from one host inside that are told, at a known database to which the user never logged in from
    /// there: 30, one in twenty seconds; who mistypes makes fewer.
    pub inside_failures_min: usize,
    /// Different users refused to one address from which it is no service with an old password: 4.
    pub users_min: usize,
    /// Refusals after which a login is a break-in: 10, more than a person makes before giving up.
    pub break_in_failures_min: usize,
    /// Seconds before the login within which they lie, a day at most: 86,400, since the patient guess slowly.
    pub break_in_window_s: u64,
    /// Severity of refusals: 2.0, GuardDuty's.
    pub failed_severity: f64,
    /// Severity of a login of a new user from inside: 2.0, GuardDuty's.
    pub inside_severity: f64,
    /// The same from a public address: 5.0, GuardDuty's.
    pub outside_severity: f64,
    /// The same where `break_in_failures_min` refusals of public addresses went before: 8.0, GuardDuty's.
    pub after_failures_severity: f64,
    /// Severity of a login from a public address after refusals: 8.0, GuardDuty's.
    pub break_in_severity: f64,
    /// The same from inside, where several users were tried: 5.0; GuardDuty does not tell it.
    pub inside_break_in_severity: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            learning_days: 7,
            logins_min: 100,
            failures_min: 10,
            failures_window_s: 600,
            unusual_failures_min: 3,
            inside_failures_min: 30,
            users_min: 4,
            break_in_failures_min: 10,
            break_in_window_s: 86_400,
            failed_severity: 2.0,
            inside_severity: 2.0,
            outside_severity: 5.0,
            after_failures_severity: 8.0,
            break_in_severity: 8.0,
            inside_break_in_severity: 5.0,
        }
    }
}

const FAILED: FindingType =
    FindingType::guardduty("CredentialAccess:RDS/AnomalousBehavior.FailedLogin", 2.0);
const BREAK_IN: FindingType = FindingType::guardduty(
    "CredentialAccess:RDS/AnomalousBehavior.SuccessfulBruteForce",
    8.0,
);
const NEW: FindingType = FindingType::guardduty(
    "CredentialAccess:RDS/AnomalousBehavior.SuccessfulLogin",
    5.0,
);

/// Odd logins.
pub(crate) struct RdsLogin;

impl Detection for RdsLogin {
    fn id(&self) -> &'static str {
        "rds_login"
    }

    fn types(&self) -> &'static [&'static FindingType] {
        &[&FAILED, &BREAK_IN, &NEW]
    }

    fn reads(&self) -> SourceKind {
        SourceKind::Rds
    }

    fn evaluate(&self, event: &Event, context: &mut Context<'_>, out: &mut Vec<Occurrence>) {
        let Event::Login(login) = event else {
            return;
        };
        let settings = &context.settings.detections.rds_login;
        let logins = &mut context.history.logins;
        match (login.outcome, login.address) {
            (LoginOutcome::Failed, Some(address)) => {
                if !logins.refused(login, address) {
                    return;
                }
                let look = Look {
                    login,
                    logins,
                    settings,
                };
                let begin_ns = look.begin_ns(settings.failures_window_s);
                if let Some(one) = look.failed(address) {
                    logins.told(login, address, begin_ns);
                    out.push(one);
                }
            }
            (LoginOutcome::Succeeded, address) => {
                let look = Look {
                    login,
                    logins,
                    settings,
                };
                let break_in = address.and_then(|address| look.break_in(address));
                out.extend(break_in.or_else(|| look.newcomer()));
            }
            // Refusals are counted by the address.
            (LoginOutcome::Failed, None) | (LoginOutcome::Probed, _) => {}
        }
    }
}

const SECOND_NS: u64 = 1_000_000_000;

/// A login, and what may be consulted about it.
struct Look<'a> {
    login: &'a Login,
    logins: &'a Logins,
    settings: &'a Settings,
}

impl Look<'_> {
    fn failed(&self, address: IpAddr) -> Option<Occurrence> {
        let refusals = self.refusals(address, self.settings.failures_window_s);
        if !self.is_worth_telling(address, &refusals) {
            return None;
        }
        let from = origin(address);
        // What led here is told with the first; then each once.
        let new: Vec<&Refusal> = refusals
            .iter()
            .copied()
            .filter(|one| !one.is_told)
            .collect();
        let users = users(&refusals);
        let why = format!(
            "{} refusals of {from} within {} s as {} ({})",
            refusals.len(),
            self.settings.failures_window_s,
            count(users.len(), "user"),
            quote(&self.login.why)
        );
        let title = format!("{from} is refused at {} again and again", self.database());
        Some(Occurrence {
            count: new.len() as u64,
            first_ns: new.first().map_or(self.login.time_ns, |one| one.time_ns),
            evidence: new.into_iter().map(|one| self.evidence(one)).collect(),
            mitre: &["T1110"],
            ..self.occurrence(
                &FAILED,
                self.settings.failed_severity,
                0.6,
                &title,
                why,
                &refusals,
            )
        })
    }

    /// Says whether so many refusals of one address are worth telling.
    fn is_worth_telling(&self, address: IpAddr, refusals: &[&Refusal]) -> bool {
        let settings = self.settings;
        let is_spray = users(refusals).len() >= settings.users_min;
        let is_outside = !is_private(address);
        let known = self.logins.known(self.login);
        let is_usual = |user: &str| known.is_some_and(|known| known.has_pair(user, address));
        // A service with an old password, and a person where they always are.
        let is_habit = refusals.iter().all(|one| is_usual(&one.user));
        if !is_spray && !is_outside {
            return self.is_stranger_inside(address, refusals);
        }
        if !is_spray && is_habit {
            return false;
        }
        let is_new = self
            .learned()
            .is_some_and(|known| !known.has_network(address));
        refusals.len() >= settings.failures_min
            || is_new && refusals.len() >= settings.unusual_failures_min
    }

    /// Says whether a host inside is refused more often than a person is, at a known database to which none of
    /// the users that it tries ever logged in from there.
    fn is_stranger_inside(&self, address: IpAddr, refusals: &[&Refusal]) -> bool {
        let is_strange = |known: &KnownLogins| {
            let mut all = refusals.iter();
            !all.any(|one| known.has_spot(&one.user, address))
        };
        refusals.len() >= self.settings.inside_failures_min
            && self.learned().is_some_and(is_strange)
    }

    /// A login after many refusals of its address.
    fn break_in(&self, address: IpAddr) -> Option<Occurrence> {
        let settings = self.settings;
        let refusals = self.refusals(address, settings.break_in_window_s);
        let users = users(&refusals);
        let known = self.logins.known(self.login);
        let is_usual = known.is_some_and(|known| known.has_pair(&self.login.user, address));
        // Somebody who logs in from there as ever, whoever else of the same network is refused.
        let is_guessed_user = users.contains(&*self.login.user);
        let is_own = users.iter().all(|user| *user == self.login.user);
        let is_guessed = !is_private(address) || users.len() >= settings.users_min;
        let is_harmless = refusals.len() < settings.break_in_failures_min
            || !is_guessed
            || is_usual && (is_own || !is_guessed_user);
        // The network inside is everybody's: there the host counts.
        let is_insider =
            is_private(address) && is_guessed_user && self.is_stranger_inside(address, &refusals);
        if is_harmless && !is_insider {
            return None;
        }
        let severity = match (is_private(address), is_harmless) {
            // A password that was wrong is set right, too.
            (true, true) => settings.inside_severity,
            (true, false) => settings.inside_break_in_severity,
            (false, _) => settings.break_in_severity,
        };
        let user = quote(&self.login.user);
        let title = format!(
            "{user} logged in to {} after its address was refused",
            self.database()
        );
        let why = format!(
            "{user} logged in from {} after {} refusals of it within {} s, as {}",
            origin(address),
            refusals.len(),
            settings.break_in_window_s,
            count(users.len(), "user")
        );
        let before = refusals.iter().map(|one| self.evidence(one));
        Some(Occurrence {
            first_ns: refusals
                .first()
                .map_or(self.login.time_ns, |one| one.time_ns),
            evidence: before.chain([self.now()]).collect(),
            mitre: &["T1110", "T1078"],
            ..self.occurrence(&BREAK_IN, severity, 0.8, &title, why, &refusals)
        })
    }

    /// A login of somebody who never logged in before, or from a public network that nobody did.
    fn newcomer(&self) -> Option<Occurrence> {
        let settings = self.settings;
        let known = self.learned()?;
        let address = self.login.address;
        let is_outside = address.is_some_and(|address| !is_private(address));
        let is_new_user = !known.has_user(&self.login.user);
        let is_new_network = address.is_some_and(|address| !known.has_network(address));
        if !(is_new_user || is_outside && is_new_network) {
            return None;
        }
        let begin_ns = self.begin_ns(settings.break_in_window_s);
        let refused = self
            .logins
            .refusals(self.login, begin_ns, |address| !is_private(address));
        let (severity, confidence) = match is_outside {
            true if refused >= settings.break_in_failures_min => {
                (settings.after_failures_severity, 0.6)
            }
            true => (settings.outside_severity, 0.5),
            false => (settings.inside_severity, 0.3),
        };
        let user = quote(&self.login.user);
        let new = match (is_new_user, is_new_network) {
            (true, true) => "The user and the network are new",
            (true, false) => "The user is new",
            (false, _) => "The network is new",
        };
        let (from, network) = match address {
            Some(address) => (address.to_string(), network(address)),
            None => (
                "a client whose address the log does not tell".to_owned(),
                String::new(),
            ),
        };
        let title = format!("{user} logged in to {} as never before", self.database());
        let why = format!(
            "{new} to {} logins of {} days; it came from {from}, and public addresses were refused {refused} times within {} s",
            known.logins,
            known.age_days(self.login.time_ns),
            settings.break_in_window_s,
        );
        let mut one = self.occurrence(&NEW, severity, confidence, &title, why, &[]);
        one.actor = format!("{} {network}", self.login.user);
        let told = |is_new: bool, value: &str| {
            if is_new {
                value.to_owned()
            } else {
                String::new()
            }
        };
        let value = serde_json::json!({
            "unusualBehavior": {
                "unusualUsers": told(is_new_user, &self.login.user),
                "unusualNetworks": told(is_new_network, &network),
            },
            "profiledBehavior": {
                "frequentUsers": known.users(USUAL_SHOWN).join(", "),
                "frequentNetworks": known.networks(USUAL_SHOWN).join(", "),
            },
        });
        one.additional_info
            .insert("type".to_owned(), "default".to_owned());
        one.additional_info
            .insert("value".to_owned(), value.to_string());
        Some(one)
    }

    /// What is usual at the database, if enough is known to say that something is unusual.
    fn learned(&self) -> Option<&KnownLogins> {
        let known = self.logins.known(self.login)?;
        let is_learned = known.logins >= self.settings.logins_min
            && known.age_days(self.login.time_ns) >= self.settings.learning_days;
        is_learned.then_some(known)
    }

    fn begin_ns(&self, window_s: u64) -> u64 {
        self.login
            .time_ns
            .saturating_sub(window_s.saturating_mul(SECOND_NS))
    }

    /// Refusals of the address in a window that ends now.
    fn refusals(&self, address: IpAddr, window_s: u64) -> Vec<&Refusal> {
        let attempts = self.logins.attempts(self.login, address);
        let begin_ns = self.begin_ns(window_s);
        attempts
            .into_iter()
            .flat_map(|all| all.since(begin_ns))
            .collect()
    }

    fn database(&self) -> String {
        quote(&self.login.database.instance)
    }

    fn now(&self) -> Evidence {
        evidence_of::login(self.login)
    }

    /// A refusal as evidence.
    fn evidence(&self, refusal: &Refusal) -> Evidence {
        evidence_of::login(&Login {
            time_ns: refusal.time_ns,
            outcome: LoginOutcome::Failed,
            user: refusal.user.clone(),
            schema: String::new(),
            program: refusal.program.clone(),
            port: 0,
            encrypted: None,
            why: String::new(),
            ..self.login.clone()
        })
    }

    fn occurrence(
        &self,
        kind: &'static FindingType,
        severity: f64,
        confidence: f64,
        title: &str,
        why: String,
        refusals: &[&Refusal],
    ) -> Occurrence {
        let login = self.login;
        Occurrence {
            kind,
            rule: RdsLogin.id(),
            severity,
            confidence,
            account: login.database.account.clone(),
            region: login.database.region.clone(),
            subject: login.database.instance.clone(),
            actor: login.address.map(origin).unwrap_or_default(),
            resource: evidence_of::database(login),
            role: Role::Target,
            count: 1,
            first_ns: login.time_ns,
            last_ns: login.time_ns,
            action: evidence_of::login_attempt(login.address, attributes(login, refusals)),
            additional_info: BTreeMap::new(),
            evidence: vec![self.now()],
            mitre: &["T1078"],
            description: format!(
                "{title}. Innocent look-alikes: a service with an old password, a person who mistypes, a new service."
            ),
            why,
            title: title.to_owned(),
            first_look: &[
                "Whether the user's owner knows of it.",
                "Why the database can be reached from there: security groups, `publicly accessible`.",
                "What the user did in the database afterwards.",
            ],
        }
    }
}

/// What refusals are counted by, as text.
fn origin(address: IpAddr) -> String {
    let spot = spot(address);
    match spot {
        IpAddr::V4(_) => spot.to_string(),
        IpAddr::V6(_) => format!("{spot}/64"),
    }
}

/// Users and networks shown as usual. Chosen by hand.
const USUAL_SHOWN: usize = 10;

/// Users told in an action. Chosen by hand: those tried most.
const ATTRIBUTES_MAX: usize = 20;

/// Who was tried how often: those tried most first.
fn attributes(login: &Login, refusals: &[&Refusal]) -> Vec<LoginAttribute> {
    let mut all: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
    for one in refusals {
        all.entry((&one.user, &one.program)).or_default().0 += 1;
    }
    if login.outcome == LoginOutcome::Succeeded {
        all.entry((&login.user, &login.program)).or_default().1 += 1;
    }
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by_key(|(_, (failed, succeeded))| std::cmp::Reverse((*succeeded, *failed)));
    all.truncate(ATTRIBUTES_MAX);
    let one = |((user, program), (failed, succeeded)): ((&str, &str), (u64, u64))| LoginAttribute {
        failed_login_attempts: failed,
        successful_login_attempts: succeeded,
        ..evidence_of::login_attribute(user, program)
    };
    all.into_iter().map(one).collect()
}

fn users<'a>(refusals: &[&'a Refusal]) -> BTreeSet<&'a str> {
    refusals.iter().map(|one| &*one.user).collect()
}

fn count(number: usize, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {what}{s}")
}

/// Says whether an address is one of a private network: RFC 1918, shared (RFC 6598, which container networks use), unique local.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || a == 100 && b & 0xc0 == 64
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
