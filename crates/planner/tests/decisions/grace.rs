//! How long a name that a Service no longer gives stays.

use crate::fixtures::{NOW, World, deployment, service};
use certmint_contract::{WorkloadKind, WorkloadRef};
use certmint_planner::{GRACE, MAX_NAMES, Plan, Replicas, Service, ServiceKind};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use time::{Duration, OffsetDateTime};

const NAMES: [&str; 2] = ["payments.shop.svc", "payments.shop.svc.cluster.local"];

/// A settled world, after a change and one more plan.
fn changed(change: impl FnOnce(&mut World)) -> World {
    let mut world = World::default().settled();
    change(&mut world);
    world.planned()
}

#[test]
fn a_service_made_anew_within_the_grace_changes_nothing() {
    let world = changed(|world| world.services.clear());
    assert_eq!(world.certified(), NAMES);
    let Plan::Keep { until } = world.decide().plan else { panic!("{:?}", world.decide()) };
    assert_eq!(until, NOW + GRACE);
    let mut back = world.clone().later(GRACE - Duration::SECOND);
    assert_eq!(back.secrets, world.secrets);
    back.services = vec![service("payments")];
    let back = back.planned().later(GRACE * 2);
    assert_eq!(back.secrets, world.secrets);
}

#[test]
fn a_name_goes_when_the_grace_is_over() {
    let world = changed(|world| world.services.clear()).later(GRACE);
    assert_eq!(world.certified(), [""; 0]);
    let mut world = changed(|world| world.services.clear());
    world.now += GRACE;
    let Plan::Renew(order) = world.decide().plan else { panic!("{:?}", world.decide()) };
    assert_eq!(
        order.reason.to_string(),
        "names changed: -payments.shop.svc -payments.shop.svc.cluster.local"
    );
}

#[test]
fn each_name_has_a_grace_of_its_own() {
    let second = Service { name: "payments-2".into(), ..service("payments") };
    let mut world = World { services: vec![service("payments"), second], ..World::default() }.settled();
    world.services.remove(0);
    let mut world = world.planned().later(GRACE - Duration::SECOND);
    world.services.clear();
    let world = world.planned();
    assert_eq!(world.certified().len(), 4);
    let world = world.later(Duration::SECOND);
    assert_eq!(world.certified(), ["payments-2.shop.svc", "payments-2.shop.svc.cluster.local"]);
    assert!(world.later(GRACE - Duration::SECOND).certified().is_empty());
}

#[test]
fn what_is_issued_meanwhile_keeps_the_name() {
    let world = changed(|world| world.services[0].name = "pay".into());
    assert_eq!(
        world.certified(),
        [
            "pay.shop.svc",
            "pay.shop.svc.cluster.local",
            "payments.shop.svc",
            "payments.shop.svc.cluster.local"
        ]
    );
    let world = world.later(GRACE);
    assert_eq!(world.certified(), ["pay.shop.svc", "pay.shop.svc.cluster.local"]);
}

#[test]
fn a_replica_that_is_scaled_away_keeps_its_name_while_it_ends() {
    let mut world = World::default();
    world.workload.reference = WorkloadRef::new(WorkloadKind::StatefulSet, "payments");
    world.workload.replicas = Some(Replicas { governing_service: "payments".into(), ordinals: 0..9 });
    world.services[0].kind = ServiceKind::Headless;
    let mut world = world.settled();
    let before = world.secrets.clone();
    world.workload.replicas.as_mut().unwrap().ordinals = 0..1;
    let world = world.planned();
    assert_eq!(world.secrets, before);
    let world = world.later(GRACE);
    assert!(world.certified().contains(&"payments-1.payments.shop.svc"));
    assert!(!world.certified().contains(&"payments-8.payments.shop.svc"));
}

#[test]
fn an_extra_name_that_is_no_longer_asked_for_or_granted_goes_at_once() {
    let granted = r#"{"extraDnsNames":{"shop":["pay.example.com"]}}"#;
    let world =
        World::default().with_policy(granted).annotated(&[("dns-names", "pay.example.com")]).settled();
    let world = world.annotated(&[]).planned();
    assert_eq!(world.certified(), NAMES);
}

#[test]
fn another_cluster_domain_counts_at_once() {
    let world = changed(|world| {
        world.services.clear();
        *world = world.clone().with_policy(r#"{"clusterDomain":"k8s.example.org"}"#);
    });
    assert_eq!(world.certified(), ["payments.shop.svc"]);
}

#[test]
fn what_a_secret_says_gives_no_name() {
    let mut world = World::default().settled();
    let record = world.secrets[0].record.as_mut().unwrap();
    record.dns_names.push("victim.shop.svc".parse().unwrap());
    record.dns_names.sort();
    let world = world.planned();
    assert_eq!(world.certified(), NAMES);
}

#[test]
fn names_in_their_grace_never_cost_those_that_are_there() {
    let many = |prefix: &str| -> Vec<Service> {
        let one = |index| Service { name: format!("{prefix}-{index}").into(), ..service("payments") };
        (0..MAX_NAMES / 2).map(one).collect()
    };
    let mut world = World { services: many("blue"), ..World::default() }.settled();
    assert_eq!(world.certified().len(), MAX_NAMES);
    world.services = many("green");
    let world = world.planned();
    assert!(world.certified().iter().all(|name| name.starts_with("green")));
    assert_eq!(world.certified().len(), MAX_NAMES);
}

#[test]
fn however_many_services_come_and_go_few_are_remembered() {
    let many = |prefix: &str| -> Vec<Service> {
        let one = |index| Service { name: format!("{prefix}-{index}").into(), ..service("payments") };
        (0..3 * MAX_NAMES).map(one).collect()
    };
    let mut world = World::default();
    for prefix in ["a", "b", "c"] {
        world.services = many(prefix);
        let decision = world.decide();
        assert!(matches!(decision.plan, Plan::Issue(_)) && decision.lacks.is_some());
        let debug = format!("{:?}", decision.hosts);
        assert!(debug.matches("name:").count() <= 2 * MAX_NAMES + 1);
        world.hosts = decision.hosts;
    }
}

#[test]
fn a_clock_that_is_set_back_lengthens_nothing() {
    let world = changed(|world| world.services.clear()).later(-Duration::HOUR);
    assert!(world.certified().is_empty());
}

/// What happens between two plans: some seconds pass, and these Services are there.
fn any_step() -> impl Strategy<Value = (i64, Vec<bool>, bool)> {
    (0_i64..90, prop::collection::vec(any::<bool>(), 3), any::<bool>())
}

proptest! {
    #[test]
    fn no_name_is_issued_that_was_not_there_within_the_grace(
        steps in prop::collection::vec(any_step(), 1..30),
    ) {
        let mut world = World::default();
        let mut last_there: BTreeMap<String, OffsetDateTime> = BTreeMap::new();
        let mut before = BTreeSet::new();
        for (seconds, there, renewal) in steps {
            world.now += Duration::seconds(seconds);
            world.services = ["a", "b", "c"].iter().zip(there).filter(|(_, there)| *there)
                .map(|(name, _)| Service { name: (*name).into(), ..service("payments") }).collect();
            if renewal {
                for secret in &mut world.secrets {
                    secret.damage = Some("the key does not fit".into());
                }
            }
            // What is gone counts from the plan that first finds it so.
            let there = world.services.iter().flat_map(|service| {
                ["svc", "svc.cluster.local"].map(|form| format!("{}.shop.{form}", service.name))
            });
            let there: BTreeSet<String> = there.collect();
            for name in there.iter().chain(&before) {
                last_there.insert(name.clone(), world.now);
            }
            before = there;
            let decision = world.decide();
            if let Plan::Issue(order) | Plan::Renew(order) = &decision.plan {
                for name in &order.dns_names {
                    let seen = last_there.get(name.as_str()).copied();
                    prop_assert!(seen.is_some_and(|at| world.now - at < GRACE), "{name} {seen:?} at {}", world.now);
                }
                for service in &world.services {
                    let name = format!("{}.shop.svc", service.name).parse().unwrap();
                    prop_assert!(order.dns_names.contains(&name));
                }
            }
            world.carry_out(&decision, 0);
            let settled = world.decide();
            prop_assert!(matches!(settled.plan, Plan::Keep { .. }), "{settled:?}");
        }
    }
}

#[test]
fn a_workload_of_another_namespace_lends_no_name() {
    let mut world = World { workload: deployment("orders"), ..World::default() }.settled();
    assert!(world.certified().is_empty());
    world.services.clear();
    assert!(world.planned().certified().is_empty());
}
