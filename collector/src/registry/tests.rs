use picket_wire::PublicKey;

use super::*;

fn configured(seed: u8, instance: &str) -> config::Agent {
    let key = PublicKey([seed; 32]);
    config::Agent {
        id: AgentId::of_key(&key.0),
        public_key: key,
        account: "111122223333".into(),
        region: "eu-west-1".into(),
        instance: instance.into(),
    }
}

#[tokio::test]
async fn a_change_is_told_once_and_survives() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let agents = [configured(1, "i-1"), configured(2, "i-2")];
    let registry = Registry::open(&agents, store.clone()).unwrap();
    let (mut admission, seen) = registry.admission(picket_detect::admit::Settings::default());
    let revoked = |admission: &Admission| {
        let agents = admission.agents();
        agents
            .filter(|agent| agent.revoked)
            .map(|agent| agent.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(admission.agents().count(), 2);
    assert!(registry.revoke(agents[0].id, false).await.unwrap());
    assert!(!registry.revoke(AgentId([9; 16]), false).await.unwrap());
    assert!(!registry.approve(agents[1].id).await.unwrap());
    let later = registry.catch_up(&mut admission, seen);
    assert_eq!(revoked(&admission), [agents[0].id]);
    assert_ne!(seen, later);
    assert_eq!(registry.catch_up(&mut admission, later), later);
    let again = Registry::open(&agents, store).unwrap();
    assert!(again.find(agents[0].id).unwrap().known.revoked);
    assert!(again.find(agents[1].id).unwrap().is_expected());
}

fn newcomer(seed: u8, predecessor: Option<AgentId>) -> Newcomer {
    let key = PublicKey([seed; 32]);
    Newcomer {
        enrolled: Enrolled {
            agent: AgentId::of_key(&key.0),
            key,
            account: "111122223333".into(),
            region: "eu-west-1".into(),
            instance: "i-1".into(),
            level: Level::Configured,
            by: "the key before".into(),
            enrolled_ms: 1_000,
            is_pending: false,
            until_ms: None,
        },
        token: None,
        predecessor,
        overlap_ms: 500,
        pending_max: 1,
        pending_since_ms: 0,
    }
}

/// A key that the configuration names is followed by two others in turn, and each may only be
/// followed, not pushed aside.
#[tokio::test]
async fn keys_follow_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let first = configured(1, "i-1");
    let registry = Registry::open(std::slice::from_ref(&first), store.clone()).unwrap();
    let aside = registry.enrol(newcomer(9, None)).await.unwrap();
    assert_eq!(aside.err(), Some(Unfit::SecondKey(first.id)));
    let second = newcomer(2, Some(first.id));
    let second_id = second.enrolled.agent;
    assert!(registry.enrol(second).await.unwrap().is_ok());
    let third = newcomer(3, Some(second_id));
    let third_id = third.enrolled.agent;
    assert!(registry.enrol(third).await.unwrap().is_ok());
    for registry in [
        registry,
        Registry::open(std::slice::from_ref(&first), store).unwrap(),
    ] {
        for (id, until_ms) in [
            (first.id, Some(1_500)),
            (second_id, Some(1_500)),
            (third_id, None),
        ] {
            assert_eq!(registry.find(id).unwrap().known.until_ms, until_ms);
        }
        let aside = registry.enrol(newcomer(9, None)).await.unwrap();
        assert_eq!(aside.err(), Some(Unfit::SecondKey(third_id)));
    }
}

/// Whoever has the key of today may have that of yesterday.
#[tokio::test]
async fn revoking_a_key_takes_those_that_it_followed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let agents = [configured(1, "i-1"), configured(7, "i-7")];
    let (first, other) = (agents[0].id, agents[1].id);
    let registry = Registry::open(&agents, store.clone()).unwrap();
    let mut keys = vec![first];
    for seed in [2, 3] {
        let mut next = newcomer(seed, keys.last().copied());
        next.enrolled.enrolled_ms += u64::from(seed);
        keys.push(next.enrolled.agent);
        assert!(registry.enrol(next).await.unwrap().is_ok());
    }
    let revoked = |registry: &Registry| {
        let is_revoked = |id: &AgentId| registry.find(*id).unwrap().known.revoked;
        keys.iter().map(is_revoked).collect::<Vec<_>>()
    };
    assert!(registry.revoke(keys[1], false).await.unwrap());
    assert_eq!(revoked(&registry), [true, true, false]);
    assert!(registry.revoke(keys[2], true).await.unwrap());
    // A key that enrols anew says when those before it were replaced, now and after a restart.
    let mut anew = newcomer(4, None);
    anew.enrolled.enrolled_ms = 2_000;
    assert!(registry.enrol(anew).await.unwrap().is_ok());
    for registry in [registry, Registry::open(&agents, store).unwrap()] {
        assert_eq!(revoked(&registry), [true, true, true]);
        let replaced = |id| registry.find(id).unwrap().known.replaced_ms;
        let all: Vec<_> = keys.iter().map(|id| replaced(*id)).collect();
        assert_eq!(all, [Some(1_002), Some(1_003), Some(2_000)]);
        let other = registry.find(other).unwrap();
        assert!(!other.known.revoked && other.known.replaced_ms.is_none());
    }
}

#[tokio::test]
async fn one_instance_cannot_take_the_places_of_those_that_wait() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let registry = Registry::open(&[], store).unwrap();
    let waits = |seed, instance: &str, since_ms| {
        let mut newcomer = newcomer(seed, None);
        newcomer.enrolled.is_pending = true;
        newcomer.enrolled.instance = instance.into();
        newcomer.pending_max = 5;
        newcomer.pending_since_ms = since_ms;
        newcomer
    };
    let id = |seed| AgentId::of_key(&[seed; 32]);
    let enrol = |newcomer| async {
        let outcome = registry.enrol(newcomer).await.unwrap();
        outcome.map(|_| ())
    };
    for seed in 1..=4 {
        assert_eq!(enrol(waits(seed, "i-1", 0)).await, Ok(()));
    }
    assert_eq!(enrol(waits(5, "i-1", 0)).await, Err(Unfit::TooMany));
    // One that waits already may ask again.
    assert_eq!(enrol(waits(4, "i-1", 0)).await, Ok(()));
    assert_eq!(enrol(waits(6, "i-2", 0)).await, Ok(()));
    assert_eq!(enrol(waits(7, "i-3", 0)).await, Err(Unfit::TooMany));
    // One that is revoked waits no more, and cannot be let in.
    assert!(registry.revoke(id(1), false).await.unwrap());
    assert!(!registry.approve(id(1)).await.unwrap());
    assert_eq!(enrol(waits(7, "i-3", 0)).await, Ok(()));
    assert!(registry.approve(id(7)).await.unwrap());
    // After a while nobody waits for it any more.
    assert_eq!(enrol(waits(8, "i-1", 1_001)).await, Ok(()));
    assert!(registry.find(id(2)).is_none() && registry.find(id(6)).is_none());
    assert!(registry.find(id(7)).is_some() && registry.find(id(8)).is_some());
    assert_eq!(enrol(waits(1, "i-1", 0)).await, Err(Unfit::Revoked));
}
