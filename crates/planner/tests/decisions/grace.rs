//! Tests of the grace period for names of Services that disappeared.

use std::collections::{BTreeMap, BTreeSet};

use certmint_contract::{WorkloadKind, WorkloadRef};
use certmint_planner::{GRACE_PERIOD, MAX_NAMES, Plan, Replicas, Service, ServiceKind};
use proptest::prelude::*;
use time::{Duration, OffsetDateTime};

use crate::fixtures::{NOW, World, deployment, service};

const NAMES: [&str; 2] = ["payments.shop.svc", "payments.shop.svc.cluster.local"];

/// Returns a settled world after a change and one more plan.
fn planned_after_change(change: impl FnOnce(&mut World)) -> World {
    let mut world = World::default().settled();
    change(&mut world);
    world.planned()
}

#[test]
fn a_service_recreated_within_the_grace_period_changes_nothing() {
    let world = planned_after_change(|world| world.services.clear());
    assert_eq!(world.issued_names(), NAMES);
    let Plan::Keep { until } = world.decide().plan else { panic!("{:?}", world.decide()) };
    assert_eq!(until, NOW + GRACE_PERIOD);
    let mut back = world.clone().later(GRACE_PERIOD - Duration::SECOND);
    assert_eq!(back.secrets, world.secrets);
    back.services = vec![service("payments")];
    let back = back.planned().later(GRACE_PERIOD * 2);
    assert_eq!(back.secrets, world.secrets);
}

#[test]
fn a_name_is_removed_after_the_grace_period() {
    let world = planned_after_change(|world| world.services.clear()).later(GRACE_PERIOD);
    assert_eq!(world.issued_names(), [""; 0]);
    let mut world = planned_after_change(|world| world.services.clear());
    world.now += GRACE_PERIOD;
    let Plan::Reissue(order) = world.decide().plan else { panic!("{:?}", world.decide()) };
    assert_eq!(
        order.reason.to_string(),
        "names changed: -payments.shop.svc -payments.shop.svc.cluster.local"
    );
}

#[test]
fn each_name_has_its_own_grace_period() {
    let second = Service { name: "payments-2".into(), ..service("payments") };
    let mut world = World { services: vec![service("payments"), second], ..World::default() }.settled();
    world.services.remove(0);
    let mut world = world.planned().later(GRACE_PERIOD - Duration::SECOND);
    world.services.clear();
    let world = world.planned();
    assert_eq!(world.issued_names().len(), 4);
    let world = world.later(Duration::SECOND);
    assert_eq!(world.issued_names(), ["payments-2.shop.svc", "payments-2.shop.svc.cluster.local"]);
    assert!(world.later(GRACE_PERIOD - Duration::SECOND).issued_names().is_empty());
}

#[test]
fn a_certificate_issued_in_the_grace_period_keeps_the_name() {
    let world = planned_after_change(|world| world.services[0].name = "pay".into());
    assert_eq!(
        world.issued_names(),
        [
            "pay.shop.svc",
            "pay.shop.svc.cluster.local",
            "payments.shop.svc",
            "payments.shop.svc.cluster.local"
        ]
    );
    let world = world.later(GRACE_PERIOD);
    assert_eq!(world.issued_names(), ["pay.shop.svc", "pay.shop.svc.cluster.local"]);
}

#[test]
fn a_replica_keeps_its_name_while_it_terminates() {
    let mut world = World::default();
    world.workload.reference = WorkloadRef::new(WorkloadKind::StatefulSet, "payments");
    world.workload.replicas = Some(Replicas { governing_service: "payments".into(), ordinals: 0..9 });
    world.services[0].kind = ServiceKind::Headless;
    let mut world = world.settled();
    let before = world.secrets.clone();
    world.workload.replicas.as_mut().unwrap().ordinals = 0..1;
    let world = world.planned();
    assert_eq!(world.secrets, before);
    let world = world.later(GRACE_PERIOD);
    assert!(world.issued_names().contains(&"payments-1.payments.shop.svc"));
    assert!(!world.issued_names().contains(&"payments-8.payments.shop.svc"));
}

#[test]
fn an_extra_name_is_removed_at_once() {
    let granted = r#"{"extraDnsNames":{"shop":["pay.example.com"]}}"#;
    let world =
        World::default().with_policy(granted).annotated(&[("dns-names", "pay.example.com")]).settled();
    let world = world.annotated(&[]).planned();
    assert_eq!(world.issued_names(), NAMES);
}

#[test]
fn a_new_cluster_domain_takes_effect_at_once() {
    let world = planned_after_change(|world| {
        world.services.clear();
        *world = world.clone().with_policy(r#"{"clusterDomain":"k8s.example.org"}"#);
    });
    assert_eq!(world.issued_names(), ["payments.shop.svc"]);
}

#[test]
fn the_annotations_of_a_secret_give_no_names() {
    let mut world = World::default().settled();
    let record = world.secrets[0].record.as_mut().unwrap();
    record.dns_names.push("victim.shop.svc".parse().unwrap());
    record.dns_names.sort();
    let world = world.planned();
    assert_eq!(world.issued_names(), NAMES);
}

#[test]
fn gone_names_never_displace_present_names() {
    let many = |prefix: &str| -> Vec<Service> {
        let one = |index| Service { name: format!("{prefix}-{index}").into(), ..service("payments") };
        (0..MAX_NAMES / 2).map(one).collect()
    };
    let mut world = World { services: many("blue"), ..World::default() }.settled();
    assert_eq!(world.issued_names().len(), MAX_NAMES);
    world.services = many("green");
    let world = world.planned();
    assert!(world.issued_names().iter().all(|name| name.starts_with("green")));
    assert_eq!(world.issued_names().len(), MAX_NAMES);
}

#[test]
fn the_number_of_remembered_hosts_is_limited() {
    let many = |prefix: &str| -> Vec<Service> {
        let one = |index| Service { name: format!("{prefix}-{index}").into(), ..service("payments") };
        (0..3 * MAX_NAMES).map(one).collect()
    };
    let mut world = World::default();
    for prefix in ["a", "b", "c"] {
        world.services = many(prefix);
        let decision = world.decide();
        assert!(matches!(decision.plan, Plan::Issue(_)) && decision.left_out_warning.is_some());
        let debug = format!("{:?}", decision.hosts);
        assert!(debug.matches("name:").count() <= 2 * MAX_NAMES + 1);
        world.hosts = decision.hosts;
    }
}

#[test]
fn setting_the_clock_back_does_not_extend_the_grace_period() {
    let world = planned_after_change(|world| world.services.clear()).later(-Duration::HOUR);
    assert!(world.issued_names().is_empty());
}

/// Generates the events between two plans: the seconds that pass, which Services exist, and whether a renewal is due.
fn any_step() -> impl Strategy<Value = (i64, Vec<bool>, bool)> {
    (0_i64..90, prop::collection::vec(any::<bool>(), 3), any::<bool>())
}

proptest! {
    #[test]
    fn every_issued_name_existed_within_the_grace_period(
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
            // The grace period begins with the plan that first finds the name missing.
            let there = world.services.iter().flat_map(|service| {
                ["svc", "svc.cluster.local"].map(|form| format!("{}.shop.{form}", service.name))
            });
            let there: BTreeSet<String> = there.collect();
            for name in there.iter().chain(&before) {
                last_there.insert(name.clone(), world.now);
            }
            before = there;
            let decision = world.decide();
            if let Plan::Issue(order) | Plan::Reissue(order) = &decision.plan {
                for name in &order.dns_names {
                    let seen = last_there.get(name.as_str()).copied();
                    prop_assert!(seen.is_some_and(|at| world.now - at < GRACE_PERIOD), "{name} {seen:?} at {}", world.now);
                }
                for service in &world.services {
                    let name = format!("{}.shop.svc", service.name).parse().unwrap();
                    prop_assert!(order.dns_names.contains(&name));
                }
            }
            world.execute(&decision, 0);
            let settled = world.decide();
            prop_assert!(matches!(settled.plan, Plan::Keep { .. }), "{settled:?}");
        }
    }
}

#[test]
fn a_workload_gets_no_names_of_other_services() {
    let mut world = World { workload: deployment("orders"), ..World::default() }.settled();
    assert!(world.issued_names().is_empty());
    world.services.clear();
    assert!(world.planned().issued_names().is_empty());
}
