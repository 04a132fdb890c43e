//! Tests of delayed changes of the policy.

use certmint_contract::{KeyAlgorithm, Lifetime};
use certmint_planner::{Plan, SPREAD_WINDOW};
use time::Duration;

use crate::fixtures::{NOW, World, deployment};

/// Returns workloads whose certificates were issued before the policy's default duration changed.
fn workloads() -> Vec<World> {
    let of = |index: usize| {
        let mut world = World { workload: deployment("payments"), ..World::default() };
        world.workload.uid = format!("0b9a1f3e-2f55-4b6c-9d0e-{index:012}").into();
        let mut world = world.settled();
        world.policy.default_duration = Lifetime::from_seconds(12 * 3600);
        world
    };
    (0..1_000).map(of).collect()
}

#[test]
fn a_new_default_is_applied_within_an_hour() {
    let mut worlds = workloads();
    let mut issued = Vec::new();
    for _ in 0..=60 {
        let due = worlds.iter_mut().filter(|world| matches!(world.decide().plan, Plan::Reissue(_)));
        issued.push(due.count());
        for world in &mut worlds {
            let decision = world.decide();
            world.execute(&decision, 0);
            world.now += Duration::MINUTE;
        }
    }
    let most = issued.iter().max().unwrap();
    assert!(*most < 50, "{issued:?}");
    assert_eq!(issued.iter().sum::<usize>(), worlds.len(), "{issued:?}");
}

#[test]
fn each_workload_is_planned_in_its_slot() {
    for mut world in workloads().into_iter().take(100) {
        if let Plan::Keep { until } = world.decide().plan {
            assert!(until > NOW && until <= NOW + SPREAD_WINDOW);
            world.now = until;
        }
        let plan = world.decide().plan;
        assert!(matches!(plan, Plan::Reissue(_)), "{plan:?}");
    }
}

#[test]
fn settings_of_the_workload_take_effect_at_once() {
    let world = workloads().swap_remove(0);
    for setting in [("duration", "6h"), ("key-algorithm", "ed25519")] {
        let plan = world.clone().annotated(&[setting]).decide().plan;
        assert!(matches!(plan, Plan::Reissue(_)), "{setting:?}: {plan:?}");
    }
}

#[test]
fn changes_of_names_and_identity_are_not_delayed() {
    let mut world =
        workloads().into_iter().find(|world| matches!(world.decide().plan, Plan::Keep { .. })).unwrap();
    world.workload.service_account = "clerk".into();
    let Plan::Reissue(order) = world.decide().plan else { panic!("{:?}", world.decide().plan) };
    assert_eq!(order.lifetime, Lifetime::from_seconds(12 * 3600));
    assert_eq!(order.key_algorithm, KeyAlgorithm::default());
}
