//! What miners and their pools say: Stratum, the dialect of xmrig, EthProxy. One JSON object a
//! line, the client first:
//!
//! ```text
//! {"id":1,"method":"mining.subscribe","params":["agent"]}
//! {"id":2,"method":"mining.authorize","params":["wallet.worker","password"]}
//! {"id":1,"jsonrpc":"2.0","method":"login","params":{"login":"wallet","pass":"x","agent":"XMRig/…"}}
//! {"id":1,"method":"eth_submitLogin","params":["wallet"],"worker":"rig"}
//! ```
//!
//! Keys come in any order, blanks anywhere. Only the first bytes of a direction count, so that a
//! log that carries such lines is no miner; and since other services have a `login` too, one needs
//! a miner's parameters. Passwords are left out.

use serde::Serialize;
use serde_json::{Map, Value};

use super::Decoded;
use super::bytes::{Bytes, escaped};
use super::stream::{Claim, Step, StreamProtocol, StreamView};
use crate::limits::CONTENT_CHARS_MAX;

/// Bytes of a line. A job of 64 transactions takes some kilobytes; xmrig refuses lines over 16
/// KiB.
const LINE_BYTES_MAX: usize = 16 << 10;

/// Calls told of one direction: the opening and the first work. Chosen by hand.
const CALLS_MAX: u32 = 8;

/// Characters from which on a login is a wallet: Monero's have 95, Bitcoin's at most 62. Chosen by
/// hand between them and the names of people.
const WALLET_CHARS_MIN: usize = 64;

/// Which dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Stratum v1, `mining.…`.
    Stratum,
    /// That of xmrig and the pools of Monero.
    Xmrig,
    /// That of Ethereum's proxies, `eth_submit…`.
    EthProxy,
}

impl Dialect {
    /// Its name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stratum => "stratum",
            Self::Xmrig => "xmrig",
            Self::EthProxy => "ethproxy",
        }
    }
}

/// A call of a miner or of its pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Call {
    /// In which dialect.
    pub dialect: Dialect,
    /// What is called; `job` also for the first one, which comes as a result.
    pub method: String,
    /// Wallet, user or worker.
    pub login: Option<String>,
    /// Software of the miner.
    pub agent: Option<String>,
}

impl Call {
    /// Reads a line, if it is a miner's or a pool's.
    #[must_use]
    pub fn read(line: &[u8]) -> Option<Self> {
        let Value::Object(call) = serde_json::from_slice(line).ok()? else {
            return None;
        };
        let Some(method) = call.get("method").and_then(Value::as_str) else {
            // The answer to xmrig's login.
            let job = call.get("result")?.get("job")?.as_object()?;
            return is_job(job).then(|| Self::plain(Dialect::Xmrig, "job"));
        };
        let params = call.get("params");
        let text = |at: usize| params?.get(at)?.as_str();
        let named = |key: &str| params?.get(key)?.as_str();
        if method.starts_with("mining.") {
            let (login, agent) = match method {
                "mining.authorize" | "mining.submit" => (text(0), None),
                "mining.subscribe" => (None, text(0)),
                "mining.hello" => (None, named("agent")),
                "mining.notify"
                | "mining.set_difficulty"
                | "mining.set_target"
                | "mining.configure"
                | "mining.extranonce.subscribe"
                | "mining.set_extranonce"
                | "mining.suggest_difficulty"
                | "mining.suggest_target"
                | "mining.set" => (None, None),
                _ => return None,
            };
            return Some(Self::new(Dialect::Stratum, method, login, agent));
        }
        if let "eth_submitLogin" | "eth_getWork" | "eth_submitWork" | "eth_submitHashrate" = method
        {
            let login = text(0).filter(|_| method == "eth_submitLogin");
            let worker = call.get("worker").and_then(Value::as_str);
            let login = login.or(worker);
            return Some(Self::new(Dialect::EthProxy, method, login, None));
        }
        let Some(Value::Object(fields)) = params else {
            return None;
        };
        match method {
            "login" => {
                let login = named("login")?;
                let wallet = login.len() >= WALLET_CHARS_MIN;
                let miner = wallet || named("agent").is_some() || fields.contains_key("algo");
                miner.then(|| Self::new(Dialect::Xmrig, method, Some(login), named("agent")))
            }
            "submit" => {
                let share = ["job_id", "nonce", "result"];
                let all = share.iter().all(|key| fields.contains_key(*key));
                all.then(|| Self::plain(Dialect::Xmrig, method))
            }
            "job" => is_job(fields).then(|| Self::plain(Dialect::Xmrig, method)),
            _ => None,
        }
    }

    fn new(dialect: Dialect, method: &str, login: Option<&str>, agent: Option<&str>) -> Self {
        Self {
            dialect,
            method: method.to_owned(),
            login: login.filter(|login| !login.is_empty()).map(shown),
            agent: agent.map(shown),
        }
    }

    fn plain(dialect: Dialect, method: &str) -> Self {
        Self::new(dialect, method, None, None)
    }
}

fn is_job(fields: &Map<String, Value>) -> bool {
    ["blob", "job_id"]
        .iter()
        .all(|key| fields.contains_key(*key))
}

/// Bounded and safe to show; blanks stay, as agents have them.
fn shown(text: &str) -> String {
    let words = text.split(' ').map(|word| escaped(word.as_bytes()));
    let mut text = words.collect::<Vec<_>>().join(" ");
    text.truncate(CONTENT_CHARS_MAX);
    text
}

/// A miner's protocol, on any port: known by the first line.
pub(super) struct OverTcp;

impl StreamProtocol for OverTcp {
    fn claims(&self, view: &StreamView<'_>) -> Claim {
        if !view.first || view.bytes.first() != Some(&b'{') {
            return Claim::No;
        }
        let line = Bytes::new(view.bytes).line();
        // Some leave the end of the line to the next segment.
        if Call::read(line.unwrap_or(view.bytes)).is_some() {
            Claim::Yes
        } else if line.is_some() || view.bytes.len() > LINE_BYTES_MAX {
            Claim::No
        } else {
            Claim::Unsure
        }
    }

    fn advance(&self, view: &StreamView<'_>, out: &mut dyn FnMut(Decoded)) -> Step {
        let mut bytes = Bytes::new(view.bytes);
        let line = match bytes.line() {
            Some(line) => line,
            None if Call::read(view.bytes).is_some() => {
                bytes = Bytes::new(&[]);
                view.bytes
            }
            None if view.bytes.len() <= LINE_BYTES_MAX => return Step::Wait,
            None => return Step::Leave,
        };
        if let Some(call) = Call::read(line) {
            out(Decoded::Stratum(Box::new(call)));
        }
        if view.messages + 1 >= CALLS_MAX {
            return Step::Leave;
        }
        Step::Took(view.bytes.len() - bytes.rest().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::over_tcp;

    #[track_caller]
    fn check(parts: &[&str], expected: &[&str]) {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        let told: Vec<String> = over_tcp(&parts)
            .iter()
            .map(|message| match message {
                Decoded::Stratum(call) => {
                    let or_none = |text: &Option<String>| text.clone().unwrap_or("-".to_owned());
                    let (login, agent) = (or_none(&call.login), or_none(&call.agent));
                    format!("{} {} {login} {agent}", call.dialect.name(), call.method)
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, expected);
    }

    const SUBSCRIBE: &str =
        "{\"id\": 1, \"method\": \"mining.subscribe\", \"params\": [\"cpuminer/2.5.1\"]}\n";
    const LOGIN: &str = r#"{"params":{"agent":"XMRig/6.26.0 (Linux)","pass":"s3cret","login":"W"},"method":"login","id":1}"#;

    #[test]
    fn openings_of_all_dialects() {
        let subscribed = "stratum mining.subscribe - cpuminer/2.5.1";
        check(&[SUBSCRIBE], &[subscribed]);
        let authorize =
            "{\"method\":\"mining.authorize\",\"params\":[\"w.rig\",\"s3cret\"],\"id\":2}\n";
        check(
            &[SUBSCRIBE, authorize],
            &[subscribed, "stratum mining.authorize w.rig -"],
        );
        let (front, back) = SUBSCRIBE.split_at(30);
        check(&[front, back], &[subscribed]);
        check(&[LOGIN], &["xmrig login W XMRig/6.26.0 (Linux)"]);
        check(&[LOGIN, "\n"], &["xmrig login W XMRig/6.26.0 (Linux)"]);
        let wallet = "4".repeat(95);
        let bare = format!("{{\"method\":\"login\",\"params\":{{\"login\":\"{wallet}\"}}}}\n");
        check(&[&bare], &[&format!("xmrig login {wallet} -")]);
        check(
            &[r#"{"worker":"rig","method":"eth_submitLogin","params":["0xW"],"id":1}"#],
            &["ethproxy eth_submitLogin 0xW -"],
        );
        let job = r#"{"id":1,"result":{"id":"x","job":{"blob":"00","job_id":"1"},"status":"OK"}}"#;
        check(&[job], &["xmrig job - -"]);
    }

    #[test]
    fn passwords_are_left_out() {
        let told = format!("{:?}", over_tcp(&[LOGIN.as_bytes()]));
        assert!(!told.contains("s3cret"), "{told}");
    }

    #[test]
    fn near_misses() {
        check(
            &["{\"method\":\"login\",\"params\":{\"login\":\"bob\",\"pass\":\"x\"}}\n"],
            &[],
        );
        check(
            &["{\"message\":\"saw mining.subscribe\",\"method\":\"log\"}\n"],
            &[],
        );
        check(&["{\"method\":\"mining.news\",\"params\":[]}\n"], &[]);
        check(&["{\"method\":\"job\",\"params\":{\"id\":7}}\n"], &[]);
        check(
            &["{\"method\":\"submit\",\"params\":[\"job_id\",\"nonce\",\"result\"]}\n"],
            &[],
        );
        check(
            &["{\"jsonrpc\":\"2.0\",\"method\":\"eth_blockNumber\",\"params\":[]}\n"],
            &[],
        );
        check(&["POST line\n", SUBSCRIBE], &[]);
        check(&[&SUBSCRIBE.replace('}', "")], &[]);
        check(&["[1]\n", "{}\n"], &[]);
    }

    #[test]
    fn only_so_many_calls_are_told() {
        let all = SUBSCRIBE.repeat(20);
        assert_eq!(over_tcp(&[all.as_bytes()]).len(), CALLS_MAX as usize);
        let deep = format!("{{\"params\":{}1", "[".repeat(10_000));
        assert_eq!(over_tcp(&[deep.as_bytes()]).len(), 0);
    }
}
