//! The door for hosts that want to be believed: `POST /v1/enrol/challenge` and `POST /v1/enrol`.
//!
//! ```text
//! pace → challenge
//! pace → size → signature of the new key → collector meant → nonce, used once
//!      → proof: join token | EC2 identity and STS | the old key's word | known already
//!      → first key of its host → on disk → receipt
//! ```
//!
//! Each check is cheaper or safer than those after it. A peer learns a word, the log more.
//! `docs/enrolment.md` describes the protocol.

mod certificates;
mod challenges;
pub(crate) mod join;
mod judge;
pub(crate) mod pace;
mod refused;
mod settings;
mod sts;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use picket_detect::identity::Certificate;
use picket_wire::enrol::{Challenge, EnrolError, Receipt, Request};
use picket_wire::limits::ENROL_REQUEST_BYTES_MAX;

use crate::analysis::Inbox;
use crate::clock;
use crate::config::{BadValue, Config};
use crate::metrics::Metrics;
use crate::quiet::Quiet;
use crate::registry::{Entry, Registry};
use crate::signing::SigningKey;
use crate::store::Store;
use challenges::Challenges;
use judge::Judge;
use pace::Pace;
use sts::Asker;

use refused::Refused;
pub(crate) use settings::Settings;

/// Media types of what comes and goes (RFC 8949 section 9.5, RFC 9052 section 2).
const CBOR: &str = "application/cbor";
const COSE: &str = "application/cose; cose-type=\"cose-sign1\"";

/// How long a request may take to arrive.
const BODY_WAIT: Duration = Duration::from_secs(10);

/// Seconds after which a host that was too fast may come again.
const RETRY_AFTER_S: &str = "10";

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// What the door is made of.
pub(crate) struct Means {
    pub(crate) registry: Arc<Registry>,
    pub(crate) store: Store,
    pub(crate) signing: Arc<SigningKey>,
    pub(crate) analysis: Inbox,
    pub(crate) metrics: Arc<Metrics>,
    /// Certificates (DER) that agents are to pin.
    pub(crate) authorities: Vec<Vec<u8>>,
}

/// What the handlers share.
struct Door {
    judge: Judge,
    pace: Pace,
    signing: Arc<SigningKey>,
    authorities: Vec<Vec<u8>>,
    metrics: Arc<Metrics>,
    log: Mutex<Quiet>,
}

/// What the configuration says, checked and read.
pub(crate) struct Opened {
    settings: Settings,
    accounts: Vec<String>,
    certificates: Vec<Certificate>,
    asker: Asker,
}

/// Reads what enrolment needs.
///
/// # Errors
/// The certificates of AWS' regions cannot be used.
pub(crate) fn open(config: &Config) -> anyhow::Result<Opened> {
    let settings = config.enrol.clone();
    let certificates = certificates::all(settings.certificates_dir.as_deref())
        .map_err(|error| BadValue::new("enrol.certificates_dir", format!("{error:#}")))?;
    let accounts = if settings.accounts.is_empty() {
        &config.accounts.own
    } else {
        &settings.accounts
    };
    Ok(Opened {
        accounts: accounts.clone(),
        certificates,
        asker: Asker::new(settings.endpoint()?),
        settings,
    })
}

/// The routes of enrolment.
pub(crate) fn router(opened: Opened, means: Means) -> Router {
    let Opened {
        settings,
        accounts,
        certificates,
        asker,
    } = opened;
    let life_ms = settings.challenge_s.saturating_mul(1_000);
    let door = Door {
        pace: Pace::new(
            settings.attempts_per_minute,
            settings.attempts_per_minute_all,
        ),
        judge: Judge {
            accounts,
            certificates,
            asker,
            challenges: Challenges::new(settings.challenges_max, life_ms),
            registry: means.registry,
            store: means.store,
            collector: means.signing.public(),
            analysis: means.analysis,
            metrics: means.metrics.clone(),
            settings,
        },
        signing: means.signing,
        authorities: means.authorities,
        metrics: means.metrics,
        log: Mutex::default(),
    };
    Router::new()
        .route("/v1/enrol/challenge", post(challenge))
        .route("/v1/enrol", post(enrol))
        .with_state(Arc::new(door))
}

async fn challenge(State(door): State<Arc<Door>>, Extension(peer): Extension<Peer>) -> Response {
    match door.challenge(peer) {
        Ok(challenge) => ([(header::CONTENT_TYPE, CBOR)], challenge.to_bytes()).into_response(),
        Err(refused) => door.refuse(&refused, peer, None),
    }
}

async fn enrol(
    State(door): State<Arc<Door>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let request = match door.receive(peer, &headers, body).await {
        Ok(request) => request,
        Err(refused) => return door.refuse(&refused, peer, None),
    };
    match door.judge.judge(&request).await {
        Ok(entry) => door.answer(&request, &entry),
        Err(refused) => door.refuse(&refused, peer, Some(&request)),
    }
}

impl Door {
    fn challenge(&self, peer: Peer) -> Result<Challenge, Refused> {
        self.keep_pace(peer)?;
        let (nonce, expires_ms) = self
            .judge
            .challenges
            .give(clock::now_ms())
            .ok_or_else(|| Refused::busy("too many challenges are unanswered"))?;
        Ok(Challenge::new(nonce, self.signing.public(), expires_ms))
    }

    async fn receive(
        &self,
        peer: Peer,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Request, Refused> {
        self.keep_pace(peer)?;
        let kind = headers.get(header::CONTENT_TYPE);
        let is_ours = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/cose"));
        if !is_ours {
            return Err(Refused::bad("content_type", "not application/cose"));
        }
        let large = || Refused {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            ..Refused::bad("too_large", "larger than a request may be")
        };
        let reading = axum::body::to_bytes(body, ENROL_REQUEST_BYTES_MAX);
        let bytes: Bytes = tokio::time::timeout(BODY_WAIT, reading)
            .await
            .map_err(|_| Refused::bad("slow", "the request did not arrive"))?
            .map_err(|_| large())?;
        Request::open(&bytes).map_err(|error| match error {
            EnrolError::Signature => Refused::forbidden("signature", error.to_string()),
            EnrolError::TooLarge { .. } | EnrolError::TooLong { .. } => Refused {
                why: error.to_string(),
                ..large()
            },
            _ => Refused::bad("malformed", error.to_string()),
        })
    }

    fn keep_pace(&self, peer: Peer) -> Result<(), Refused> {
        if self.pace.may(peer.0, clock::now_ms()) {
            Ok(())
        } else {
            Err(Refused::busy("more attempts than a minute may have"))
        }
    }

    /// The receipt, or the word that an operator is waited for.
    fn answer(&self, request: &Request, entry: &Entry) -> Response {
        let known = &entry.known;
        let host = (&known.account, &known.region, &known.instance);
        if entry.is_pending {
            self.metrics.enrolments.add("pending", 1);
            tracing::warn!(agent_id = %known.id, ?host, level = %entry.level, "enrolment waits for an operator");
            let word = Json(serde_json::json!({"status": "pending"}));
            return (StatusCode::ACCEPTED, word).into_response();
        }
        self.metrics.enrolments.add(request.proof.name(), 1);
        tracing::info!(
            agent_id = %known.id, ?host, level = %entry.level, proof = request.proof.name(),
            "receipt given"
        );
        let receipt = Receipt {
            nonce: request.nonce,
            key: known.key,
            account: known.account.clone(),
            region: known.region.clone(),
            instance: known.instance.clone(),
            level: entry.level,
            issued_ms: clock::now_ms(),
            collector: self.signing.public(),
            authorities: self.authorities.clone(),
        };
        let bytes = receipt.seal(self.signing.signer());
        ([(header::CONTENT_TYPE, COSE)], bytes).into_response()
    }

    fn refuse(&self, refused: &Refused, peer: Peer, request: Option<&Request>) -> Response {
        let Refused { word, status, why } = refused;
        self.metrics.enrolments_refused.add(word, 1);
        let agent = request.map(|request| request.agent().to_string());
        let unsaid = {
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            log.may_say(word, clock::now_ms())
        };
        if let Some(unsaid) = unsaid {
            tracing::warn!(agent_id = agent, peer = %peer.0, reason = word, why, unsaid, "enrolment refused");
        }
        let body = Json(serde_json::json!({"error": word}));
        let mut response = (*status, body).into_response();
        if matches!(
            *status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            let pause = header::HeaderValue::from_static(RETRY_AFTER_S);
            response.headers_mut().insert(header::RETRY_AFTER, pause);
        }
        response
    }
}
