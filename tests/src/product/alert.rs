//! An alert as a person reads it: which finding, about whom, with whom, how long after the packet.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Value;

use crate::lab::webhook::Delivery;
use crate::scene::expected::Severity;

/// The event that set an alert off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// A packet that met an indicator; the product promises to tell within a second.
    Hit(Duration),
    /// Packets judged together when their window had passed.
    Window(Duration),
    /// An API call, known when CloudTrail delivers it.
    Log,
}

/// A finding that came in by webhook.
#[derive(Debug, Clone)]
pub struct Alert {
    /// When it came in.
    pub at: SystemTime,
    /// The finding.
    pub finding: Value,
}

impl Alert {
    /// Reads a delivery: the finding is the `detail` of an event.
    ///
    /// # Errors
    /// When it is no such event.
    pub fn read(delivery: &Delivery) -> Result<Self> {
        let event: Value =
            serde_json::from_slice(&delivery.body).context("an alert that is no JSON")?;
        let finding = event["detail"].clone();
        finding["type"].as_str().context("an alert without type")?;
        Ok(Self {
            at: delivery.at,
            finding,
        })
    }

    /// The finding's id.
    pub fn id(&self) -> &str {
        self.finding["id"].as_str().unwrap_or_default()
    }

    /// The finding's type.
    pub fn kind(&self) -> &str {
        self.finding["type"].as_str().unwrap_or_default()
    }

    /// The finding's severity, 0 where it has none.
    pub fn severity(&self) -> f64 {
        self.finding["severity"].as_f64().unwrap_or_default()
    }

    /// Its band.
    pub fn band(&self) -> Severity {
        Severity::of(self.severity())
    }

    /// Whom it is about: the instance, or the key's user.
    pub fn resource(&self) -> &str {
        let resource = &self.finding["resource"];
        let ways = [
            &resource["instanceDetails"]["instanceId"],
            &resource["accessKeyDetails"]["userName"],
            &resource["resourceType"],
        ];
        let name = ways.into_iter().find_map(Value::as_str);
        let name = name.unwrap_or("(nobody)");
        // Root has no name but the end of its ARN.
        name.rsplit_once(':').map_or(name, |(_, end)| end)
    }

    /// What the resource had to do with: a name, a peer and its port, an API call and its caller.
    pub fn peer(&self) -> String {
        let action = &self.finding["service"]["action"];
        let address = |details: &Value| {
            let ways = [&details["ipAddressV4"], &details["ipAddressV6"]];
            let found = ways.into_iter().find_map(Value::as_str);
            found.unwrap_or("?").to_owned()
        };
        if let Some(name) = action["dnsRequestAction"]["domain"].as_str() {
            return name.to_owned();
        }
        let connection = &action["networkConnectionAction"];
        if connection.is_object() {
            let peer = address(&connection["remoteIpDetails"]);
            return match connection["remotePortDetails"]["port"].as_u64() {
                Some(port) if port != 0 && peer.contains(':') => format!("[{peer}]:{port}"),
                Some(port) if port != 0 => format!("{peer}:{port}"),
                _ => peer,
            };
        }
        let call = &action["awsApiCallAction"];
        if let Some(api) = call["api"].as_str() {
            return format!("{api} from {}", address(&call["remoteIpDetails"]));
        }
        self.finding["title"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// What set it off, with the time from the packet to the moment the alert came in.
    pub fn trigger(&self) -> Trigger {
        let none = Vec::new();
        let evidence = self.finding["picket"]["evidence"]
            .as_array()
            .unwrap_or(&none);
        let first = |kinds: &[&str], field: &str| {
            evidence
                .iter()
                .filter(|one| {
                    one["kind"]
                        .as_str()
                        .is_some_and(|kind| kinds.contains(&kind))
                })
                .filter_map(|one| moment(&one[field]))
                .min()
        };
        let since = |packet: SystemTime| self.at.duration_since(packet).unwrap_or_default();
        if let Some(packet) = first(&["hit"], "time") {
            return Trigger::Hit(since(packet));
        }
        match first(&["flow", "dns", "tls"], "time") {
            Some(packet) => Trigger::Window(since(packet)),
            None => Trigger::Log,
        }
    }
}

/// A time in a finding: RFC 3339, or seconds since the epoch.
fn moment(value: &Value) -> Option<SystemTime> {
    match value {
        Value::String(text) => text.parse::<Timestamp>().ok().map(SystemTime::from),
        Value::Number(seconds) => {
            Some(UNIX_EPOCH + Duration::try_from_secs_f64(seconds.as_f64()?).ok()?)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;
    use serde_json::json;

    use super::*;

    fn alert(detail: &Value) -> Alert {
        let delivery = Delivery {
            at: UNIX_EPOCH + Duration::from_millis(1_767_225_601_500),
            headers: HeaderMap::new(),
            body: json!({"detail": detail}).to_string().into_bytes(),
        };
        Alert::read(&delivery).unwrap()
    }

    #[test]
    fn the_time_is_from_the_first_packet() {
        let hit = |time: &str| json!({"kind": "hit", "time": time});
        let flow = json!({"kind": "flow", "time": "2026-01-01T00:00:00Z"});
        let ms = Duration::from_millis;
        for (point, evidence, expected) in [
            (
                "a hit before its flow",
                json!([flow, hit("2026-01-01T00:00:01.25Z")]),
                Trigger::Hit(ms(250)),
            ),
            (
                "the earlier of two hits",
                json!([
                    hit("2026-01-01T00:00:01.25Z"),
                    hit("2026-01-01T00:00:01.1Z")
                ]),
                Trigger::Hit(ms(400)),
            ),
            ("a flow alone", json!([flow]), Trigger::Window(ms(1500))),
            (
                "a call",
                json!([{"kind": "cloudtrail", "time": "2026-01-01T00:00:00Z"}]),
                Trigger::Log,
            ),
        ] {
            let alert = alert(&json!({"type": "X", "picket": {"evidence": evidence}}));
            assert_eq!(alert.trigger(), expected, "{point}");
        }
    }

    #[test]
    fn the_peer_is_what_the_action_names() {
        for (action, expected) in [
            (
                json!({"dnsRequestAction": {"domain": "a.example"}}),
                "a.example",
            ),
            (
                json!({"networkConnectionAction": {"remoteIpDetails": {"ipAddressV6": "2001:db8::1"},
                    "remotePortDetails": {"port": 443}}}),
                "[2001:db8::1]:443",
            ),
            (
                json!({"awsApiCallAction": {"api": "StopLogging",
                    "remoteIpDetails": {"ipAddressV4": "192.0.2.1"}}}),
                "StopLogging from 192.0.2.1",
            ),
        ] {
            let alert = alert(&json!({"type": "X", "service": {"action": action}}));
            assert_eq!(alert.peer(), expected);
        }
    }
}
