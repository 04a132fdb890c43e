//! Tests of delayed changes: of the policy, and of the issuing CA.

use certmint_contract::lifetime::BACKDATE;
use certmint_contract::{KeyAlgorithm, Lifetime, Policy};
use certmint_planner::{IssueReason, Plan, SPREAD_WINDOW};
use time::Duration;

use crate::fixtures::{NOW, World, deployment};

/// Returns workloads with their certificates, after this change.
fn workloads_after(change: impl Fn(&mut World)) -> Vec<World> {
    let of = |index: usize| {
        let mut world = World { workload: deployment("payments"), ..World::default() };
        world.workload.uid = format!("0b9a1f3e-2f55-4b6c-9d0e-{index:012}").into();
        let mut world = world.settled();
        change(&mut world);
        world
    };
    (0..1_000).map(of).collect()
}

/// Returns workloads whose certificates were issued before the policy's default duration changed.
fn workloads() -> Vec<World> {
    workloads_after(|world| world.policy.default_duration = Lifetime::from_seconds(12 * 3600))
}

#[test]
fn a_new_default_is_applied_within_an_hour() {
    assert_reissued_within_an_hour(workloads());
}

fn assert_reissued_within_an_hour(mut worlds: Vec<World>) {
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

/// Replaces the issuing CA `ago` before now.
fn replace_issuing_ca(world: &mut World, ago: Duration, reissue: bool) {
    let since = world.now - ago;
    let issuer = world.issuer.as_mut().unwrap();
    issuer.key_identifier = "2662".into();
    issuer.reissue_since = reissue.then_some(since);
}

#[test]
fn certificates_of_a_replaced_issuing_ca_are_reissued_on_request() {
    let replaced = |reissue| workloads_after(|world| replace_issuing_ca(world, Duration::ZERO, reissue));
    assert_reissued_within_an_hour(replaced(true));
    for world in replaced(false) {
        let plan = world.decide().plan;
        assert!(matches!(plan, Plan::Keep { until } if until > NOW + SPREAD_WINDOW), "{plan:?}");
    }
}

/// Returns a workload that is in its slot.
fn workload_in_its_slot(change: impl Fn(&mut World)) -> World {
    let mut world = workloads().swap_remove(0);
    let Plan::Keep { until } = world.decide().plan else { panic!("{:?}", world.decide().plan) };
    world.policy.default_duration = Policy::default().default_duration;
    world.now = until;
    change(&mut world);
    world
}

#[test]
fn a_certificate_is_reissued_once_for_a_replaced_issuing_ca() {
    let mut world = workload_in_its_slot(|world| replace_issuing_ca(world, Duration::ZERO, true));
    let decision = world.decide();
    let Plan::Reissue(order) = &decision.plan else { panic!("{:?}", decision.plan) };
    assert_eq!(order.reason, IssueReason::IssuingCaReplaced);
    world.execute(&decision, 0);
    assert!(matches!(world.decide().plan, Plan::Keep { .. }));
    // A later replacement without a request reissues nothing.
    world = workload_in_its_slot(|_| {});
    world.now += Duration::hours(2);
    world = world.annotated(&[("duration", "20h")]).settled();
    world.now += SPREAD_WINDOW;
    replace_issuing_ca(&mut world, Duration::hours(3), true);
    assert!(matches!(world.decide().plan, Plan::Keep { .. }), "{:?}", world.decide().plan);
}

#[test]
fn a_certificate_of_a_replica_whose_clock_is_ahead_is_reissued() {
    // This replica still had the earlier issuing CA, and its clock was up to ten minutes ahead.
    let ahead = Duration::minutes(10);
    let world = workload_in_its_slot(|world| {
        let issued = world.secrets[0].record.as_ref().unwrap().not_before + BACKDATE;
        let ago = world.now - (issued - ahead);
        replace_issuing_ca(world, ago, true);
    });
    assert!(matches!(world.decide().plan, Plan::Reissue(_)), "{:?}", world.decide().plan);
}
