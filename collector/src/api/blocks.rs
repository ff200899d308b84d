//! Orders to block: given, taken back, and what each agent did with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use picket_wire::AgentId;
use serde::{Deserialize, Serialize};

use super::guard::Detail;
use super::route::{Route, route};
use super::{Caller, Desk, Scope, failed, lines};
use crate::clock;
use crate::orders::limits::{AGENTS_ANSWERED_MAX, AGENTS_LISTED_MAX};
use crate::orders::{BookError, Target, judge};
use crate::registry::{Entry, Registry};
use crate::store::blocks::{self, BlockOrder, BlockOutcome};

/// Bytes of a refusal that the record of calls keeps. What is refused may be of any length.
const WHY_BYTES_MAX: usize = 256;

/// What can be asked of orders to block.
pub(super) const ROUTES: &[Route] = &[
    route!(GET "/v1/blocks", Viewer, Own, list),
    route!(POST "/v1/blocks", Admin, Own, add),
    route!(DELETE "/v1/blocks", Admin, Own, remove),
];

/// Something to block. One of `host`, `account` and `all` says where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantedBlock {
    /// Address, net or address:port.
    pub(crate) value: String,
    /// On the host of this name or of this agent.
    #[serde(default)]
    pub(crate) host: Option<String>,
    /// On the hosts of this account.
    #[serde(default)]
    pub(crate) account: Option<String>,
    /// On all hosts.
    #[serde(default)]
    pub(crate) all: bool,
    /// Seconds it lasts.
    pub(crate) for_s: u64,
    /// Why.
    pub(crate) reason: String,
}

/// Something to block no more; everywhere, unless `host`, `account` or `all` says where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndedBlock {
    /// Address, net or address:port.
    pub(crate) value: String,
    /// Only what was ordered of this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<String>,
    /// Only what was ordered of this account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<String>,
    /// Only what was ordered of all hosts.
    #[serde(default)]
    pub(crate) all: bool,
}

/// An order that was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GivenBlock {
    /// Its number.
    pub(crate) id: u64,
    /// What is blocked, as it is written.
    pub(crate) value: String,
    /// When it ends, RFC 3339.
    pub(crate) expires: String,
    /// Agents of whose hosts it is.
    pub(crate) agents: u64,
}

/// Orders that were taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LiftedBlock {
    /// What was blocked.
    pub(crate) value: String,
    /// The numbers of the orders.
    pub(crate) orders: Vec<u64>,
    /// The version from which on agents are not given them.
    pub(crate) version: u64,
}

/// Which orders to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WantedBlocks {
    /// Also those that are over.
    pub(crate) over: bool,
    /// Only those of this value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<String>,
    /// The latest of them, so many at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<usize>,
}

/// An order as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum BlockLine {
    /// An order.
    Order(OrderLine),
    /// An agent that refused what it was given as a whole.
    Refusal {
        /// The agent.
        agent: String,
        /// Its host.
        instance: String,
        /// When, RFC 3339.
        at: String,
        /// Why.
        why: String,
    },
}

/// An order, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OrderLine {
    /// Its number.
    pub(crate) id: u64,
    /// What is blocked.
    pub(crate) value: String,
    /// The account; `null` for all hosts.
    pub(crate) account: Option<String>,
    /// The host of it; `null` for all of them.
    pub(crate) instance: Option<String>,
    /// Why.
    pub(crate) reason: String,
    /// Who gave it.
    pub(crate) who: String,
    /// When, RFC 3339.
    pub(crate) added: String,
    /// When it ends by itself.
    pub(crate) expires: String,
    /// `in_force`, `over`, or `lifted`.
    pub(crate) standing: String,
    /// Who took it back or put another in its place.
    pub(crate) lifted_by: Option<String>,
    /// Agents by what they did: `applied`, `dry_run`, `refused`, `lifted`, `expired`, `waiting`.
    pub(crate) outcomes: BTreeMap<String, u64>,
    /// Flows of which packets were dropped, or in a dry run would have been, on all hosts.
    pub(crate) flows: u64,
    /// The agents, those that refused first, a hundred at most, and ten thousand in one answer, of
    /// the latest orders.
    pub(crate) agents: Vec<AgentBlock>,
}

/// What an agent did with an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AgentBlock {
    /// The agent.
    pub(crate) agent: String,
    /// Its host.
    pub(crate) instance: String,
    /// As in `outcomes`.
    pub(crate) did: String,
    /// Why it refused.
    pub(crate) why: Option<String>,
    /// When it said so, RFC 3339; `null` while it has not.
    pub(crate) at: Option<String>,
    /// Flows of which packets were dropped, or in a dry run would have been.
    pub(crate) flows: u64,
    /// The last of them, and when it began to be.
    pub(crate) last_flow: Option<String>,
    /// When that was, RFC 3339.
    pub(crate) last_at: Option<String>,
}

async fn add(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    Json(wanted): Json<WantedBlock>,
) -> Response {
    let place = Place::of(&wanted.host, &wanted.account, wanted.all);
    let target = match place.and_then(|place| place.ok_or(Refused::nowhere())) {
        Ok(place) => place.target(&desk.agents, &caller.scope),
        Err(refused) => Err(refused),
    };
    let judged = target.and_then(|target| {
        let thing = judge::thing(&wanted.value).map_err(Refused::unfit)?;
        judge::terms(wanted.for_s, &wanted.reason).map_err(Refused::unfit)?;
        Ok((target, thing))
    });
    let (target, thing) = match judged {
        Ok(judged) => judged,
        Err(refused) => return refused.response(),
    };
    if let Err(why) = judge::unprotected(&thing, &desk.orders.protected().await) {
        return Refused::unfit(why).response();
    }
    let now_ms = clock::now_ms();
    let order = BlockOrder {
        id: 0,
        value: thing.value,
        account: target.account.clone(),
        instance: target.instance.clone(),
        reason: wanted.reason.trim().to_owned(),
        who: caller.who.clone(),
        added_ms: now_ms,
        expires_ms: now_ms.saturating_add(wanted.for_s.saturating_mul(1_000)),
        ended: None,
    };
    let order = match desk.orders.add(order).await {
        Ok(order) => order,
        Err(error) => return unwritten(&error),
    };
    let agents = concerned(&desk.agents, &target).count() as u64;
    tracing::info!(
        order = order.id,
        value = order.value,
        agents,
        "order to block given"
    );
    let detail = format!(
        "block {} on {} agents: {}",
        order.value, agents, order.reason
    );
    let mut response = Json(GivenBlock {
        id: order.id,
        value: order.value,
        expires: clock::rfc3339(order.expires_ms),
        agents,
    })
    .into_response();
    response.extensions_mut().insert(Detail(detail));
    response
}

async fn remove(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    Query(ended): Query<EndedBlock>,
) -> Response {
    let target = match Place::of(&ended.host, &ended.account, ended.all) {
        Ok(None) => None,
        Ok(Some(place)) => match place.target(&desk.agents, &caller.scope) {
            Ok(target) => Some(target),
            Err(refused) => return refused.response(),
        },
        Err(refused) => return refused.response(),
    };
    let value = match judge::thing(&ended.value) {
        Ok(thing) => thing.value,
        Err(why) => return Refused::unfit(why).response(),
    };
    let now_ms = clock::now_ms();
    let orders = desk.orders.all();
    let meant = orders.iter().filter(|order| {
        let is_there = target
            .as_ref()
            .is_none_or(|target| *target == Target::of(order));
        order.holds(now_ms) && order.value == value && is_there && may(&caller.scope, order)
    });
    let ids: Vec<u64> = meant.map(|order| order.id).collect();
    if ids.is_empty() {
        return StatusCode::NOT_FOUND.into_response();
    }
    match desk.orders.end(ids.clone(), caller.who.clone()).await {
        Ok(version) => {
            tracing::info!(value, orders = ids.len(), "orders to block taken back");
            let detail = Detail(format!("unblock {value}: orders {ids:?}"));
            let mut response = Json(LiftedBlock {
                value,
                orders: ids,
                version,
            })
            .into_response();
            response.extensions_mut().insert(detail);
            response
        }
        Err(error) => unwritten(&error),
    }
}

async fn list(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<WantedBlocks>,
) -> Response {
    let value = match wanted.value.as_deref().map(judge::thing).transpose() {
        Ok(thing) => thing.map(|thing| thing.value),
        Err(why) => return Refused::unfit(why).response(),
    };
    let outcomes = match desk.store.read_async(blocks::outcomes).await {
        Ok(outcomes) => outcomes,
        Err(error) => return failed(&error),
    };
    let now_ms = clock::now_ms();
    let orders = desk.orders.all();
    let seen = orders.iter().rev().filter(|order| {
        let is_seen = match &order.account {
            Some(account) => caller.scope.has(account),
            // It is carried out on the caller's hosts too.
            None => true,
        };
        let is_it = value.as_ref().is_none_or(|value| *value == order.value);
        is_seen && is_it && (wanted.over || order.holds(now_ms))
    });
    let mut told = Vec::new();
    let mut room = AGENTS_ANSWERED_MAX;
    for order in seen.take(wanted.limit.unwrap_or(usize::MAX)) {
        let mut line = order_line(order, &desk.agents, &outcomes, &caller.scope, now_ms);
        line.agents.truncate(room);
        room -= line.agents.len();
        told.push(BlockLine::Order(line));
    }
    told.reverse();
    for outcome in outcomes.iter().filter(|outcome| outcome.order == 0) {
        let Some(entry) = desk.agents.find(outcome.agent) else {
            continue;
        };
        if entry.is_expected() && caller.scope.has(&entry.known.account) {
            told.push(BlockLine::Refusal {
                agent: outcome.agent.to_string(),
                instance: entry.known.instance.clone(),
                at: clock::rfc3339(outcome.at_ms),
                why: outcome.why.clone().unwrap_or_default(),
            });
        }
    }
    lines(
        told.iter()
            .filter_map(|line| serde_json::to_string(line).ok()),
    )
}

fn order_line(
    order: &BlockOrder,
    agents: &Registry,
    outcomes: &[BlockOutcome],
    scope: &Scope,
    now_ms: u64,
) -> OrderLine {
    // They are in the order of their orders.
    let from = outcomes.partition_point(|one| one.order < order.id);
    let of_order = outcomes[from..].iter();
    let of_order = of_order.take_while(|one| one.order == order.id);
    let said: BTreeMap<AgentId, &BlockOutcome> = of_order.map(|one| (one.agent, one)).collect();
    let holds = order.holds(now_ms);
    let mut listed: Vec<AgentBlock> = concerned(agents, &Target::of(order))
        .filter(|entry| scope.has(&entry.known.account))
        .filter_map(|entry| {
            let said = said.get(&entry.known.id).copied();
            // One that never heard of what is over did nothing with it.
            (holds || said.is_some()).then(|| agent_line(&entry, said))
        })
        .collect();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for one in &listed {
        *counts.entry(one.did.clone()).or_default() += 1;
    }
    let flows = listed.iter().map(|one| one.flows).sum();
    listed.sort_by_key(|one| (one.did != "refused", one.instance.clone()));
    listed.truncate(AGENTS_LISTED_MAX);
    OrderLine {
        id: order.id,
        value: order.value.clone(),
        account: order.account.clone(),
        instance: order.instance.clone(),
        reason: order.reason.clone(),
        who: order.who.clone(),
        added: clock::rfc3339(order.added_ms),
        expires: clock::rfc3339(order.expires_ms),
        standing: match (&order.ended, holds) {
            (Some(_), _) => "lifted",
            (None, true) => "in_force",
            (None, false) => "over",
        }
        .to_owned(),
        lifted_by: order.ended.as_ref().map(|(_, who)| who.clone()),
        outcomes: counts,
        flows,
        agents: listed,
    }
}

fn agent_line(entry: &Entry, said: Option<&BlockOutcome>) -> AgentBlock {
    let did = match said {
        None => "waiting",
        Some(said) if said.act == "applied" && said.is_dry_run => "dry_run",
        Some(said) => &said.act,
    };
    let last = said.and_then(|said| said.last.as_ref());
    AgentBlock {
        agent: entry.known.id.to_string(),
        instance: entry.known.instance.clone(),
        did: did.to_owned(),
        why: said.and_then(|said| said.why.clone()),
        at: said.map(|said| clock::rfc3339(said.at_ms)),
        flows: said.map_or(0, |said| said.flows),
        last_flow: last.map(|(flow, _)| flow.clone()),
        last_at: last.map(|(_, at_ms)| clock::rfc3339(*at_ms)),
    }
}

/// The agents that are expected to carry an order out.
fn concerned<'a>(
    agents: &Registry,
    target: &'a Target,
) -> impl Iterator<Item = Arc<Entry>> + use<'a> {
    let all = agents.all().into_iter();
    all.filter(|entry| entry.is_expected() && target.has(&entry.known))
}

/// Whether an order is a caller's affair to change.
fn may(scope: &Scope, order: &BlockOrder) -> bool {
    match &order.account {
        Some(account) => scope.has(account),
        None => *scope == Scope::Whole,
    }
}

/// Where something is to be blocked, as the caller says it.
enum Place<'a> {
    Host(&'a str),
    Account(&'a str),
    All,
}

impl<'a> Place<'a> {
    fn of(
        host: &'a Option<String>,
        account: &'a Option<String>,
        all: bool,
    ) -> Result<Option<Self>, Refused> {
        match (host, account, all) {
            (None, None, false) => Ok(None),
            (Some(host), None, false) => Ok(Some(Self::Host(host))),
            (None, Some(account), false) => Ok(Some(Self::Account(account))),
            (None, None, true) => Ok(Some(Self::All)),
            _ => Err(Refused::unfit(
                "only one of host, account and all".to_owned(),
            )),
        }
    }

    fn target(&self, agents: &Registry, scope: &Scope) -> Result<Target, Refused> {
        match self {
            Self::All if *scope == Scope::Whole => Ok(Target::default()),
            Self::All => Err(Refused {
                status: StatusCode::FORBIDDEN,
                why: "a token that is bound to accounts orders nothing of all hosts".to_owned(),
            }),
            Self::Account(account) => {
                let all = agents.all();
                let is_known = all.iter().any(|entry| entry.known.account == *account);
                if !scope.has(account) || !is_known {
                    return Err(Refused::unfit(format!("no agent of account {account}")));
                }
                Ok(Target {
                    account: Some((*account).to_owned()),
                    instance: None,
                })
            }
            Self::Host(host) => {
                let id = host.parse::<AgentId>().ok();
                let all = agents.all();
                let named = all.iter().filter(|entry| {
                    let is_it = entry.known.instance == *host || id == Some(entry.known.id);
                    is_it && entry.is_expected() && scope.has(&entry.known.account)
                });
                let mut targets: Vec<Target> = named
                    .map(|entry| Target {
                        account: Some(entry.known.account.clone()),
                        instance: Some(entry.known.instance.clone()),
                    })
                    .collect();
                targets.dedup();
                match (targets.pop(), targets.is_empty()) {
                    (Some(target), true) => Ok(target),
                    (None, _) => Err(Refused::unfit(format!("no agent of host {host}"))),
                    (Some(_), false) => Err(Refused::unfit(format!(
                        "hosts of several accounts are named {host}: name the agent"
                    ))),
                }
            }
        }
    }
}

/// Why something is not done, as the caller is told.
struct Refused {
    status: StatusCode,
    why: String,
}

impl Refused {
    fn unfit(why: String) -> Self {
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            why,
        }
    }

    fn nowhere() -> Self {
        Self::unfit("say where: host, account or all".to_owned())
    }

    fn response(self) -> Response {
        let body = Json(serde_json::json!({"error": &self.why}));
        let mut response = (self.status, body).into_response();
        // The record of calls says why too, as much of it as fits.
        let kept = self.why.floor_char_boundary(WHY_BYTES_MAX);
        let detail = Detail(self.why.get(..kept).unwrap_or_default().to_owned());
        response.extensions_mut().insert(detail);
        response
    }
}

fn unwritten(error: &BookError) -> Response {
    match error {
        BookError::Full { .. } | BookError::TooWide { .. } => {
            Refused::unfit(error.to_string()).response()
        }
        BookError::Store(error) => failed(error),
    }
}
