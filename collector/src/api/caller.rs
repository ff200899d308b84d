//! Who asks: an operator at the socket, or one with a token.

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::UnixListener;

use super::Role;

/// Who asks, from where, and what they may. Handlers take it as `Extension<Caller>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// `uid 1000` at the socket, `token NAME` over the network.
    pub(crate) who: String,
    /// `socket`, or the peer's address.
    pub(crate) from: String,
    /// What they may do.
    pub(crate) role: Role,
    /// With whose affairs.
    pub(crate) scope: Scope,
}

/// Whose affairs a caller may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everybody's.
    Whole,
    /// Those of these accounts.
    Accounts(Vec<String>),
}

impl Scope {
    /// Whether the affairs of `account` are in it.
    pub(crate) fn has(&self, account: &str) -> bool {
        match self {
            Self::Whole => true,
            Self::Accounts(own) => own.iter().any(|one| one == account),
        }
    }

    /// The accounts it is bound to; `None` if to none.
    pub(crate) fn accounts(&self) -> Option<&[String]> {
        match self {
            Self::Whole => None,
            Self::Accounts(own) => Some(own),
        }
    }
}

/// The other end of a connection to the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketPeer {
    /// The user that opened it; unknown only if the kernel does not say.
    uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for SocketPeer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let credentials = stream.io().peer_cred();
        Self {
            uid: credentials.ok().map(|known| known.uid()),
        }
    }
}

impl SocketPeer {
    /// Whoever may open the socket may do everything: its mode says who that is.
    pub(crate) fn caller(self) -> Caller {
        Caller {
            who: match self.uid {
                Some(uid) => format!("uid {uid}"),
                None => "unknown user".to_owned(),
            },
            from: "socket".to_owned(),
            role: Role::Admin,
            scope: Scope::Whole,
        }
    }
}
