//! The tokens in force, held in memory so that a stranger's guess costs no question to the disk.
//! A change is on disk before it holds, and holds at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::limits::{OPERATORS_MAX, USED_PAUSE_MS};
use super::token::{self, Made};
use super::{Caller, Role, Scope};
use crate::store::operators::{self, OperatorRow};
use crate::store::{Store, StoreError};

const MINUTE_MS: u64 = 60_000;

/// A token in force.
pub(super) struct Token {
    row: OperatorRow,
    role: Role,
    used: Mutex<Use>,
}

/// How a token is used.
#[derive(Default)]
struct Use {
    minute_began_ms: u64,
    requests: u64,
    noted_ms: u64,
}

/// Why nobody is taken for an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// None was shown.
    NoToken,
    /// What was shown is none, or none in force.
    BadToken,
    /// It has ended.
    Expired,
}

impl Unknown {
    /// Its word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::NoToken => "no token",
            Self::BadToken => "unknown token",
            Self::Expired => "expired token",
        }
    }
}

/// Whether a request of a token may be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// It may.
    Well,
    /// It is the first too many of its minute.
    First,
    /// It is a further one.
    Further,
}

/// All of them.
pub(crate) struct Tokens {
    store: Store,
    by_id: RwLock<HashMap<String, Arc<Token>>>,
    /// Held while something is changed, on disk and here.
    changing: tokio::sync::Mutex<()>,
}

/// Why a token was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAdded {
    /// The name has one.
    #[error("{0} has a token already: revoke it first")]
    Taken(String),
    /// There are as many as there may be.
    #[error("{OPERATORS_MAX} tokens are in force, as many as there may be")]
    Full,
    /// Nobody could be asked.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl Tokens {
    /// Reads those in force.
    pub(crate) fn open(store: Store) -> Result<Self, StoreError> {
        let rows = store.read(operators::list)?;
        let in_force = rows.into_iter().filter(|row| row.revoked_ms.is_none());
        let by_id = in_force.filter_map(|row| Some((row.id.clone(), Arc::new(Token::of(row)?))));
        Ok(Self {
            by_id: RwLock::new(by_id.collect()),
            store,
            changing: tokio::sync::Mutex::new(()),
        })
    }

    /// Who shows `text`, the value of an `Authorization` header.
    pub(super) fn find(&self, text: Option<&str>, now_ms: u64) -> Result<Arc<Token>, Unknown> {
        let text = text.ok_or(Unknown::NoToken)?;
        let shown = text
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .and_then(|(_, shown)| token::parts(shown.trim()));
        let (id, secret) = shown.ok_or(Unknown::BadToken)?;
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        let found = by_id.get(id).cloned().ok_or(Unknown::BadToken)?;
        drop(by_id);
        if !token::fits(secret, &found.row.hash) {
            return Err(Unknown::BadToken);
        }
        if now_ms >= found.row.expires_ms {
            return Err(Unknown::Expired);
        }
        Ok(found)
    }

    /// Keeps a new token; returns the text that is shown once.
    pub(super) async fn add(
        &self,
        name: String,
        role: Role,
        accounts: Option<Vec<String>>,
        (by, now_ms, expires_ms): (String, u64, u64),
        made: Made,
    ) -> Result<String, NotAdded> {
        let _changing = self.changing.lock().await;
        let row = OperatorRow {
            id: made.id,
            name,
            hash: made.hash,
            role: role.name().to_owned(),
            accounts,
            created_ms: now_ms,
            created_by: by,
            expires_ms,
            revoked_ms: None,
            used_ms: None,
        };
        if self.in_force(now_ms) >= OPERATORS_MAX {
            return Err(NotAdded::Full);
        }
        let kept = row.clone();
        let is_kept = self
            .store
            .write(move |transaction| operators::add(transaction, &kept))
            .await?;
        if !is_kept {
            return Err(NotAdded::Taken(row.name));
        }
        if let Some(token) = Token::of(row) {
            let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
            by_id.insert(token.row.id.clone(), Arc::new(token));
        }
        Ok(made.text)
    }

    /// Counts those in force, and forgets those that have ended.
    fn in_force(&self, now_ms: u64) -> usize {
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        by_id.retain(|_, token| now_ms < token.row.expires_ms);
        by_id.len()
    }

    /// Ends the token of a name; says whether there was one.
    pub(super) async fn revoke(&self, name: String, now_ms: u64) -> Result<bool, StoreError> {
        let _changing = self.changing.lock().await;
        let ended = name.clone();
        let revoked = self
            .store
            .write(move |transaction| operators::revoke(transaction, &ended, now_ms))
            .await?;
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        by_id.retain(|_, token| token.row.name != name);
        Ok(revoked > 0)
    }

    /// Notes in the store that a token was used, if that was long ago.
    pub(super) fn note_use(&self, token: &Token, now_ms: u64) {
        let mut used = token.used.lock().unwrap_or_else(PoisonError::into_inner);
        if now_ms.abs_diff(used.noted_ms) < USED_PAUSE_MS {
            return;
        }
        used.noted_ms = now_ms;
        let (store, id) = (self.store.clone(), token.row.id.clone());
        tokio::spawn(async move {
            let noted = store.write(move |t| operators::used(t, &id, now_ms)).await;
            if let Err(error) = noted {
                tracing::warn!(%error, "use of a token not noted");
            }
        });
    }
}

impl Token {
    /// One with a role that this version does not know is none.
    fn of(row: OperatorRow) -> Option<Self> {
        Some(Self {
            role: row.role.parse().ok()?,
            row,
            used: Mutex::default(),
        })
    }

    /// Who that is, coming from `from`.
    pub(super) fn caller(&self, from: String) -> Caller {
        Caller {
            who: format!("token {} {}", self.row.name, self.row.id),
            from,
            role: self.role,
            scope: match &self.row.accounts {
                None => Scope::Whole,
                Some(accounts) => Scope::Accounts(accounts.clone()),
            },
        }
    }

    /// Counts a request, of which `minute_max` a minute are answered.
    pub(super) fn pace(&self, minute_max: u64, now_ms: u64) -> Pace {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if now_ms.abs_diff(used.minute_began_ms) >= MINUTE_MS {
            used.minute_began_ms = now_ms;
            used.requests = 0;
        }
        used.requests = used.requests.saturating_add(1);
        match used.requests {
            requests if requests <= minute_max => Pace::Well,
            requests if requests == minute_max + 1 => Pace::First,
            _ => Pace::Further,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_holds_from_its_making_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let tokens = Tokens::open(store.clone()).unwrap();
        let add = |name: &'static str, expires_ms| {
            let made = token::make().unwrap();
            let times = ("uid 0".to_owned(), 10, expires_ms);
            let accounts = Some(vec!["111122223333".to_owned()]);
            tokens.add(name.to_owned(), Role::Analyst, accounts, times, made)
        };
        let text = add("a", 100).await.unwrap();
        assert!(matches!(add("a", 100).await, Err(NotAdded::Taken(_))));
        let shown = format!("Bearer {text}");
        let who = |tokens: &Tokens, shown: &str, now_ms| {
            let found = tokens.find(Some(shown), now_ms);
            found.map(|token| token.caller("192.0.2.1".into()))
        };
        let caller = who(&tokens, &shown, 50).unwrap();
        assert_eq!(caller.role, Role::Analyst);
        assert_eq!(caller.scope, Scope::Accounts(vec!["111122223333".into()]));
        assert!(caller.who.starts_with("token a "), "{}", caller.who);
        assert_eq!(who(&tokens, &shown, 100), Err(Unknown::Expired));
        let other = format!("Bearer {}", token::make().unwrap().text);
        let id = text.split('_').nth(1).unwrap();
        let mixed = format!("Bearer pot_{id}_{}", other.rsplit('_').next().unwrap());
        for wrong in [
            text.as_str(),
            "Bearer",
            "Bearer x",
            &format!("Basic {text}"),
            &other,
            &mixed,
        ] {
            assert_eq!(who(&tokens, wrong, 50), Err(Unknown::BadToken), "{wrong}");
        }
        assert!(matches!(tokens.find(None, 50), Err(Unknown::NoToken)));
        // Another process of the same store knows it too, until it is revoked.
        let again = Tokens::open(store.clone()).unwrap();
        assert!(who(&again, &shown, 50).is_ok());
        assert!(tokens.revoke("a".into(), 60).await.unwrap());
        assert!(!tokens.revoke("a".into(), 61).await.unwrap());
        assert_eq!(who(&tokens, &shown, 70), Err(Unknown::BadToken));
        let after = Tokens::open(store).unwrap();
        assert_eq!(who(&after, &shown, 70), Err(Unknown::BadToken));
        assert!(add("a", 100).await.is_ok());
    }

    #[test]
    fn a_minute_holds_so_many() {
        let made = token::make().unwrap();
        let token = Token::of(OperatorRow {
            id: made.id,
            name: "a".into(),
            hash: made.hash,
            role: "viewer".into(),
            accounts: None,
            created_ms: 0,
            created_by: String::new(),
            expires_ms: u64::MAX,
            revoked_ms: None,
            used_ms: None,
        });
        let token = token.unwrap();
        let paces = [100_000, 100_001, 100_002, 100_003, 160_000].map(|now| token.pace(2, now));
        assert_eq!(
            paces,
            [
                Pace::Well,
                Pace::Well,
                Pace::First,
                Pace::Further,
                Pace::Well
            ]
        );
    }
}
