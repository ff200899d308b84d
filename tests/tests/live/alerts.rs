//! Alerts outlive a receiver that refuses and a collector that is killed.

use std::time::Duration;

use picket_tests::lab::{Wire, wait_until};
use picket_tests::product::Rig;
use picket_tests::product::rig::skips;
use picket_tests::scene::Scenario;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn alerts_wait_for_their_receiver() {
    if skips() {
        return;
    }
    let scenario = Scenario::load("c2-lookup").unwrap();
    let mut rig = Rig::raise(&scenario, Wire::Ordinary).unwrap();
    rig.webhook.refuse(true);
    rig.play(&scenario).unwrap();
    let expected = &scenario.expected;
    wait_until("the findings", LIMIT, || {
        let found = rig.collector.ask("findings list")?;
        Ok(expected.missing(&found).is_empty().then_some(()))
    })
    .unwrap();
    wait_until("a delivery that fails", LIMIT, || {
        let failed = "picket_collector_alerts_failed_total{channel=\"webhook\"}";
        Ok((rig.collector.metric(failed)? > 0).then_some(()))
    })
    .unwrap();
    assert!(rig.webhook.deliveries().is_empty());

    rig.collector.kill().unwrap();
    rig.webhook.refuse(false);
    rig.collector.start().unwrap();
    let mut watch = rig.watch();
    watch.until_complete(expected, LIMIT, |_| {}).unwrap();
    assert_eq!(rig.webhook.unsigned(), 0);
}
