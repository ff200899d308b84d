//! Odd logins, one row each, with what is nearly one.

use picket_intel::IndicatorSet;

use super::*;
use crate::testing::{analyze, brief, login};

const DAY_S: u64 = 86_400;
const FAILED: &str = "CredentialAccess:RDS/AnomalousBehavior.FailedLogin";
const BREAK_IN: &str = "CredentialAccess:RDS/AnomalousBehavior.SuccessfulBruteForce";
const NEW: &str = "CredentialAccess:RDS/AnomalousBehavior.SuccessfulLogin";
const OUTSIDE: &str = "203.0.113.9";

fn ok(user: &str, from: &str, second: u64) -> Login {
    login(LoginOutcome::Succeeded, user, from, second)
}

/// So many refusals, ten seconds apart, of so many users in turn.
fn refused(times: u64, users: u64, from: &str, second: u64) -> Vec<Login> {
    let user = |n| {
        if users == 1 {
            "app".to_owned()
        } else {
            format!("user{}", n % users)
        }
    };
    let one = |n| login(LoginOutcome::Failed, &user(n), from, second + 10 * n);
    (0..times).map(one).collect()
}

/// Twenty logins a day of `app` from 10.0.0.5 and of `boss` from 198.51.100.7.
fn habit(days: u64) -> Vec<Login> {
    let day = |day| {
        let app = (0..20).map(move |n| ok("app", "10.0.0.5", day * DAY_S + n * 600));
        app.chain([ok("boss", "198.51.100.7", day * DAY_S + 700)])
    };
    (0..days).flat_map(day).collect()
}

#[track_caller]
fn check(logins: &[&[Login]], expected: &[(&str, f64, u64)]) {
    let mut all: Vec<Login> = logins.concat();
    all.sort_by_key(|one| one.time_ns);
    let events = all.into_iter().map(|one| Event::Login(Box::new(one)));
    let (findings, _) = analyze(IndicatorSet::default(), events);
    assert_eq!(brief(&findings), expected);
}

#[test]
fn refusals_are_told_from_a_number_on() {
    check(&[&refused(10, 1, OUTSIDE, 0)], &[(FAILED, 2.0, 10)]);
    check(&[&refused(25, 1, OUTSIDE, 0)], &[(FAILED, 2.0, 25)]);
    check(&[&refused(9, 1, OUTSIDE, 0)], &[]);
    let slow: Vec<Login> = (0..20)
        .map(|n| login(LoginOutcome::Failed, "app", OUTSIDE, n * 100))
        .collect();
    check(&[&slow], &[]);
    // As many as make it one at any time, and each of them counts once.
    let steady: Vec<Login> = (0..20)
        .map(|n| login(LoginOutcome::Failed, "app", OUTSIDE, n * 62))
        .collect();
    check(&[&steady], &[(FAILED, 2.0, 20)]);
}

#[test]
fn an_old_password_is_no_guessing() {
    check(&[&refused(50, 1, "10.0.0.6", 0)], &[]);
    check(&[&refused(50, 3, "10.0.0.6", 0)], &[]);
    check(&[&refused(12, 4, "10.0.0.6", 0)], &[(FAILED, 2.0, 12)]);
    let boss: Vec<Login> = (0..30)
        .map(|n| login(LoginOutcome::Failed, "boss", "198.51.100.8", 8 * DAY_S + n))
        .collect();
    check(&[&habit(8), &boss], &[]);
    check(
        &[&habit(8), &refused(30, 1, "198.51.100.8", 8 * DAY_S)],
        &[(FAILED, 2.0, 30)],
    );
}

#[test]
fn a_host_inside_that_guesses_one_user_is_told_where_habits_are_known() {
    let at = 8 * DAY_S;
    let from = |times, address: &str| refused(times, 1, address, at);
    check(&[&habit(8), &from(30, "10.0.0.6")], &[(FAILED, 2.0, 30)]);
    check(
        &[
            &habit(8),
            &from(30, "10.0.0.6"),
            &[ok("app", "10.0.0.6", at + 400)],
        ],
        &[(FAILED, 2.0, 30), (BREAK_IN, 2.0, 1)],
    );
    check(
        &[
            &habit(8),
            &from(29, "10.0.0.6"),
            &[ok("app", "10.0.0.6", at + 400)],
        ],
        &[],
    );
    // Where the user always is, it is an old password.
    check(&[&habit(8), &from(50, "10.0.0.5")], &[]);
    check(&[&habit(6), &refused(50, 1, "10.0.0.6", 6 * DAY_S)], &[]);
}

#[test]
fn addresses_of_one_ipv6_network_are_one() {
    let from = |network: &str| -> Vec<Login> {
        let one = |n| login(LoginOutcome::Failed, "app", &format!("{network}::{n:x}"), n);
        (1..=10).map(one).collect()
    };
    check(&[&from("2001:db8:1:2")], &[(FAILED, 2.0, 10)]);
    let spread: Vec<Login> = (1..=10)
        .map(|n| {
            login(
                LoginOutcome::Failed,
                "app",
                &format!("2001:db8:1:{n:x}::1"),
                n,
            )
        })
        .collect();
    check(&[&spread], &[]);
}

#[test]
fn who_comes_by_a_name_is_known_by_the_user() {
    let at = 8 * DAY_S;
    let named = |user: &str, outcome| {
        let mut one = login(outcome, user, OUTSIDE, at);
        one.address = None;
        one
    };
    let eve = [named("eve", LoginOutcome::Succeeded)];
    check(&[&habit(8), &eve], &[(NEW, 2.0, 1)]);
    check(&[&habit(8), &[named("app", LoginOutcome::Succeeded)]], &[]);
    check(&[&eve], &[]);
    let refused = vec![named("eve", LoginOutcome::Failed); 50];
    check(&[&habit(8), &refused], &[]);
}

#[test]
fn fewer_are_told_where_the_network_is_new_to_a_known_database() {
    check(
        &[&habit(8), &refused(3, 1, OUTSIDE, 8 * DAY_S)],
        &[(FAILED, 2.0, 3)],
    );
    check(&[&habit(8), &refused(2, 1, OUTSIDE, 8 * DAY_S)], &[]);
    check(&[&habit(6), &refused(3, 1, OUTSIDE, 6 * DAY_S)], &[]);
    check(&[&refused(3, 1, OUTSIDE, 0)], &[]);
}

#[test]
fn a_login_after_refusals_is_a_break_in() {
    let refusals = |times| refused(times, 1, OUTSIDE, 0);
    check(
        &[&refusals(10), &[ok("app", OUTSIDE, 200)]],
        &[(FAILED, 2.0, 10), (BREAK_IN, 8.0, 1)],
    );
    check(&[&refusals(9), &[ok("app", OUTSIDE, 200)]], &[]);
    check(
        &[&refusals(10), &[ok("app", "203.0.113.10", 200)]],
        &[(FAILED, 2.0, 10)],
    );
    // Slowly, over hours.
    let slow: Vec<Login> = (0..20)
        .map(|n| login(LoginOutcome::Failed, "app", OUTSIDE, n * 3_600))
        .collect();
    check(
        &[&slow, &[ok("app", OUTSIDE, 20 * 3_600)]],
        &[(BREAK_IN, 8.0, 1)],
    );
    check(&[&slow, &[ok("app", OUTSIDE, 40 * 3_600)]], &[]);
}

#[test]
fn from_inside_it_takes_several_users() {
    let inside = "10.0.0.6";
    check(
        &[&refused(12, 4, inside, 0), &[ok("user1", inside, 200)]],
        &[(FAILED, 2.0, 12), (BREAK_IN, 5.0, 1)],
    );
    check(
        &[&refused(12, 1, inside, 0), &[ok("app", inside, 200)]],
        &[],
    );
}

#[test]
fn a_person_who_mistypes_where_they_always_are_is_none() {
    let at = 8 * DAY_S;
    let boss: Vec<Login> = (0..12)
        .map(|n| login(LoginOutcome::Failed, "boss", "198.51.100.7", at + n))
        .collect();
    check(
        &[&habit(8), &boss, &[ok("boss", "198.51.100.7", at + 60)]],
        &[],
    );
    let other: Vec<Login> = (0..12)
        .map(|n| login(LoginOutcome::Failed, "root", "198.51.100.7", at + n))
        .collect();
    check(
        &[&habit(8), &other, &[ok("boss", "198.51.100.7", at + 60)]],
        &[(FAILED, 2.0, 12)],
    );
    // Of whom others are tried as well, and then it is them.
    let sprayed: Vec<Login> = (0..12)
        .map(|n| {
            let user = if n % 2 == 0 { "boss" } else { "root" };
            login(LoginOutcome::Failed, user, "198.51.100.7", at + n)
        })
        .collect();
    check(
        &[&habit(8), &sprayed, &[ok("boss", "198.51.100.7", at + 60)]],
        &[(FAILED, 2.0, 12), (BREAK_IN, 8.0, 1)],
    );
}

#[test]
fn who_never_logged_in_is_told_where_habits_are_known() {
    let at = 8 * DAY_S;
    check(&[&habit(8), &[ok("eve", OUTSIDE, at)]], &[(NEW, 5.0, 1)]);
    check(&[&habit(8), &[ok("app", OUTSIDE, at)]], &[(NEW, 5.0, 1)]);
    check(&[&habit(8), &[ok("eve", "10.0.0.5", at)]], &[(NEW, 2.0, 1)]);
    let others = refused(10, 2, "192.0.2.77", at - 2_000);
    check(
        &[&habit(8), &others, &[ok("eve", OUTSIDE, at)]],
        &[(FAILED, 2.0, 10), (NEW, 8.0, 1)],
    );
    // It is told once, and learned then.
    check(
        &[
            &habit(8),
            &[ok("eve", OUTSIDE, at), ok("eve", OUTSIDE, at + 60)],
        ],
        &[(NEW, 5.0, 1)],
    );
}

#[test]
fn new_is_little_where_habits_are_not_known() {
    check(&[&[ok("eve", OUTSIDE, 0)]], &[]);
    check(&[&habit(6), &[ok("eve", OUTSIDE, 6 * DAY_S)]], &[]);
    let seldom: Vec<Login> = (0..90)
        .map(|n| ok("app", "10.0.0.5", n * DAY_S / 9))
        .collect();
    check(&[&seldom, &[ok("eve", OUTSIDE, 11 * DAY_S)]], &[]);
    check(&[&habit(8), &[ok("app", "10.9.0.5", 8 * DAY_S)]], &[]);
    check(&[&habit(8), &[ok("boss", "198.51.3.4", 8 * DAY_S)]], &[]);
}

#[test]
fn guardduty_would_say_so_too() {
    let mut all = refused(10, 2, OUTSIDE, 0);
    all.push(ok("user1", OUTSIDE, 200));
    let events = all.into_iter().map(|one| Event::Login(Box::new(one)));
    let (findings, _) = analyze(IndicatorSet::default(), events);
    let told = serde_json::to_value(&findings[1]).unwrap();
    assert_eq!(
        told["resource"],
        serde_json::json!({
            "resourceType": "RDSDBInstance",
            "rdsDbInstanceDetails": {
                "dbInstanceIdentifier": "shop",
                "engine": "postgres",
                "dbInstanceArn": "arn:aws:rds:eu-west-1:111122223333:db:shop",
            },
            "rdsDbUserDetails": { "user": "user1", "database": "orders", "ssl": "true" },
        })
    );
    assert_eq!(
        told["service"]["action"],
        serde_json::json!({
            "actionType": "RDS_LOGIN_ATTEMPT",
            "rdsLoginAttemptAction": {
                "remoteIpDetails": { "ipAddressV4": OUTSIDE },
                "LoginAttributes": [
                    { "user": "user1", "failedLoginAttempts": 5, "successfulLoginAttempts": 1 },
                    { "user": "user0", "failedLoginAttempts": 5, "successfulLoginAttempts": 0 },
                ],
            },
        })
    );
    assert_eq!(told["picket"]["evidence"].as_array().unwrap().len(), 11);
}
