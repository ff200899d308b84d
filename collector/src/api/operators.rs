//! Operators' tokens: made, listed, revoked.

use axum::extract::{Path as Segment, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};

use super::guard::Detail;
use super::limits::{ACCOUNTS_MAX, LIFE_S_MAX, NAME_BYTES_MAX};
use super::route::{Route, route};
use super::tokens::NotAdded;
use super::{Caller, Desk, Role, done, failed, lines, token};
use crate::clock;
use crate::store::operators;

/// What can be asked of operators' tokens.
pub(super) const ROUTES: &[Route] = &[
    route!(GET "/v1/operators", Admin, Whole, list),
    route!(POST "/v1/operators", Admin, Whole, add),
    route!(POST "/v1/operators/{name}/revoke", Admin, Whole, revoke),
];

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantedOperator {
    /// Whose it will be: letters, digits, `-`, `_`, `.` and `@`, `.` not first.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) role: Role,
    /// The accounts it is bound to; to none if empty.
    #[serde(default)]
    pub(crate) accounts: Vec<String>,
    /// Seconds it is good for.
    pub(crate) expires_s: u64,
}

/// A token that was made. It is shown this once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MadeOperator {
    /// Whose it is.
    pub(crate) name: String,
    /// The token.
    pub(crate) token: String,
    /// When it ends, RFC 3339.
    pub(crate) expires: String,
}

/// A token as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OperatorLine {
    /// Always `operator`.
    pub(crate) kind: String,
    /// Whose it is.
    pub(crate) name: String,
    /// Its id, as the record of calls names it.
    pub(crate) id: String,
    /// What it may do.
    pub(crate) role: String,
    /// The accounts it is bound to; `null` if to none.
    pub(crate) accounts: Option<Vec<String>>,
    /// `in force`, `expired` or `revoked`.
    pub(crate) state: String,
    /// When it was made, RFC 3339.
    pub(crate) created: String,
    /// By whom.
    pub(crate) created_by: String,
    /// When it ends.
    pub(crate) expires: String,
    /// When it was last used, to five minutes.
    pub(crate) last_used: Option<String>,
}

impl WantedOperator {
    fn check(&self) -> Result<(), String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
        // The name stands in a path, where a first `.` may mean a folder.
        let is_name = !self.name.is_empty() && !self.name.starts_with('.');
        let is_name = is_name && self.name.bytes().all(is_plain);
        if !is_name || self.name.len() > NAME_BYTES_MAX {
            return Err(format!(
                "a name takes up to {NAME_BYTES_MAX} letters, digits, -, _, . and @, and does not begin with ."
            ));
        }
        if self.accounts.len() > ACCOUNTS_MAX {
            return Err(format!("more than {ACCOUNTS_MAX} accounts"));
        }
        let is_account =
            |text: &String| text.len() == 12 && text.bytes().all(|digit| digit.is_ascii_digit());
        if let Some(wrong) = self.accounts.iter().find(|text| !is_account(text)) {
            return Err(format!("account {wrong:?} is not twelve digits"));
        }
        if self.expires_s == 0 || self.expires_s > LIFE_S_MAX {
            return Err(format!("it may be good for 1 to {LIFE_S_MAX} seconds"));
        }
        Ok(())
    }
}

async fn list(State(desk): State<Desk>) -> Response {
    let rows = match desk.store.read_async(operators::list).await {
        Ok(rows) => rows,
        Err(error) => return failed(&error),
    };
    let now_ms = clock::now_ms();
    let all = rows.into_iter().map(|row| OperatorLine {
        kind: "operator".to_owned(),
        state: if row.revoked_ms.is_some() {
            "revoked"
        } else if now_ms >= row.expires_ms {
            "expired"
        } else {
            "in force"
        }
        .to_owned(),
        name: row.name,
        id: row.id,
        role: row.role,
        accounts: row.accounts,
        created: clock::rfc3339(row.created_ms),
        created_by: row.created_by,
        expires: clock::rfc3339(row.expires_ms),
        last_used: row.used_ms.map(clock::rfc3339),
    });
    lines(all.filter_map(|line| serde_json::to_string(&line).ok()))
}

async fn add(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    Json(wanted): Json<WantedOperator>,
) -> Response {
    let told = |status: StatusCode, why: String| {
        (status, Json(serde_json::json!({"error": why}))).into_response()
    };
    if let Err(why) = wanted.check() {
        return told(StatusCode::UNPROCESSABLE_ENTITY, why);
    }
    let made = match token::make() {
        Ok(made) => made,
        Err(error) => return told(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")),
    };
    let now_ms = clock::now_ms();
    let expires_ms = now_ms.saturating_add(wanted.expires_s.saturating_mul(1_000));
    let WantedOperator {
        name,
        role,
        accounts,
        ..
    } = wanted;
    let bound = if accounts.is_empty() {
        "all accounts".to_owned()
    } else {
        format!("accounts {}", accounts.join(" "))
    };
    let detail = Detail(format!("{name}, {role}, {bound}"));
    let accounts = (!accounts.is_empty()).then_some(accounts);
    let times = (caller.who, now_ms, expires_ms);
    let added = desk.tokens.add(name.clone(), role, accounts, times, made);
    let mut response = match added.await {
        Ok(token) => Json(MadeOperator {
            name,
            token,
            expires: clock::rfc3339(expires_ms),
        })
        .into_response(),
        Err(NotAdded::Store(error)) => failed(&error),
        Err(error) => told(StatusCode::CONFLICT, error.to_string()),
    };
    response.extensions_mut().insert(detail);
    response
}

async fn revoke(State(desk): State<Desk>, Segment(name): Segment<String>) -> Response {
    done(desk.tokens.revoke(name, clock::now_ms()).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_asked_for() {
        let good = WantedOperator {
            name: "ann@example.com".into(),
            role: Role::Viewer,
            accounts: vec!["111122223333".into()],
            expires_s: 60,
        };
        assert_eq!(good.check(), Ok(()));
        let with = |change: fn(&mut WantedOperator)| {
            let mut wanted = good.clone();
            change(&mut wanted);
            wanted.check().is_err()
        };
        assert!(with(|wanted| wanted.name.clear()));
        assert!(with(|wanted| wanted.name = "a b".into()));
        assert!(with(|wanted| wanted.name = "a/../b".into()));
        assert!(with(|wanted| wanted.name = "a".repeat(65)));
        assert!(with(|wanted| wanted.accounts.push("1".into())));
        assert!(with(|wanted| wanted.expires_s = 0));
        assert!(with(|wanted| wanted.expires_s = u64::MAX));
        assert!(!with(|wanted| wanted.accounts.clear()));
    }
}
