//! What the demo prints about findings.

use std::time::{Duration, SystemTime};

use picket_tests::product::Alert;
use picket_tests::product::alert::Trigger;
use serde_json::Value;

/// Prints the head of the lines that [`alert`] prints.
pub(crate) fn head() {
    println!(
        "    {:>12}    {:<8} {:<50} {:<20} with",
        "after", "severity", "finding", "about"
    );
}

/// Prints one alert; `delivered` is when CloudTrail last delivered a file.
pub(crate) fn alert(alert: &Alert, delivered: Option<SystemTime>) {
    print!("    {:>12}", after(alert, delivered));
    line(alert);
}

/// Prints one alert without its time.
pub(crate) fn line(alert: &Alert) {
    println!(
        "    {:<8} {:<50} {:<20} {}",
        alert.band(),
        alert.kind(),
        alert.resource(),
        alert.peer()
    );
}

/// Time from the cause to the alert: a packet, a window of packets, a log file.
fn after(alert: &Alert, delivered: Option<SystemTime>) -> String {
    match alert.trigger() {
        Trigger::Hit(time) => format!("{:.3} s", time.as_secs_f64()),
        Trigger::Window(time) => format!("{:.1} s (w)", time.as_secs_f64()),
        Trigger::Log => match delivered.and_then(|then| alert.at.duration_since(then).ok()) {
            Some(time) => format!("{:.3} s (l)", time.as_secs_f64()),
            None => "(l)".to_owned(),
        },
    }
}

/// Prints an incident with its stages; `findings` are those that it may name by their id.
pub(crate) fn incident(incident: &Value, findings: &[Value]) {
    println!("\nincident: {}", text(&incident["title"]));
    println!(
        "  severity {}, id {}",
        incident["severity"],
        text(&incident["id"])
    );
    for stage in incident["stages"].as_array().into_iter().flatten() {
        // To the second: CloudTrail knows no more.
        let time = text(&stage["time"]).get(..19).unwrap_or_default();
        let what = match stage["finding"].as_str() {
            Some(id) => finding(id, findings),
            None => event(&stage["event"]),
        };
        println!("  {time}  {:<20} {what}", text(&stage["tactic"]));
    }
}

fn finding(id: &str, findings: &[Value]) -> String {
    let known = findings.iter().find(|finding| finding["id"] == id);
    known.map_or_else(
        || format!("finding {id}"),
        |one| text(&one["type"]).to_owned(),
    )
}

fn event(event: &Value) -> String {
    let by = text(&event["principal"]);
    let by = by.rsplit_once(':').map_or(by, |(_, name)| name);
    format!(
        "{} by {by} from {}",
        text(&event["event_name"]),
        text(&event["source_ip"])
    )
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Prints how long it took from packet to alert.
pub(crate) fn summary(alerts: &[Alert]) {
    let mut hits: Vec<Duration> = Vec::new();
    let mut windows = 0;
    let mut logs = 0;
    for alert in alerts {
        match alert.trigger() {
            Trigger::Hit(time) => hits.push(time),
            Trigger::Window(_) => windows += 1,
            Trigger::Log => logs += 1,
        }
    }
    hits.sort();
    println!(
        "\n{} findings: {} from packets that met an indicator, {windows} from windows of packets (w), \
         {logs} from CloudTrail, counted from delivery (l)",
        alerts.len(),
        hits.len()
    );
    if let (Some(least), Some(most)) = (hits.first(), hits.last()) {
        println!(
            "packet → alert received by webhook: median {:.3} s, least {:.3} s, most {:.3} s",
            median(&hits).as_secs_f64(),
            least.as_secs_f64(),
            most.as_secs_f64()
        );
    }
}

/// The middle of a sorted list that is not empty; the mean of the two middle ones where it has two.
fn median(sorted: &[Duration]) -> Duration {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[half]
    } else {
        (sorted[half - 1] + sorted[half]) / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle() {
        let ms = Duration::from_millis;
        assert_eq!(median(&[ms(1)]), ms(1));
        assert_eq!(median(&[ms(1), ms(3)]), ms(2));
        assert_eq!(median(&[ms(1), ms(2), ms(9)]), ms(2));
    }
}
