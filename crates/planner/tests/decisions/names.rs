//! Tests of the names that a workload gets from Services and replicas.

use certmint_contract::{ErrorCode, WorkloadKind, WorkloadRef};
use certmint_planner::{Labels, MAX_NAME_BYTES, MAX_NAMES, Plan, Replicas, Service, ServiceKind, Workload};
use proptest::prelude::*;
use time::Duration;

use crate::fixtures::{NOW, World, deployment, labels, service, texts};

fn names(world: &World) -> Vec<String> {
    let Plan::Issue(order) = world.decide().plan else { panic!("{:?}", world.decide()) };
    texts(&order.dns_names).into_iter().map(Into::into).collect()
}

fn with_service(change: impl FnOnce(&mut Service)) -> World {
    let mut world = World::default();
    change(&mut world.services[0]);
    world
}

/// Returns a Deployment without a Service that was created this many seconds ago.
fn created(seconds_ago: i64) -> World {
    let mut world = World { services: Vec::new(), ..World::default() };
    world.workload.created = Some(NOW - Duration::seconds(seconds_ago));
    world
}

#[test]
fn a_new_workload_waits_for_its_services() {
    let mut world = created(0);
    let Plan::Keep { until } = world.decide().plan else { panic!("{:?}", world.decide()) };
    assert_eq!(until, NOW + Duration::seconds(2));
    world.services = vec![service("payments")];
    assert_eq!(names(&world), ["payments.shop.svc", "payments.shop.svc.cluster.local"]);
    // After the wait, the workload gets a certificate even without a Service.
    assert_eq!(names(&created(2)), [""; 0]);
}

#[test]
fn a_workload_without_expected_services_does_not_wait() {
    for kind in [WorkloadKind::Job, WorkloadKind::CronJob, WorkloadKind::Pod] {
        let mut world = created(0);
        world.workload.reference = WorkloadRef::new(kind, "payments");
        assert_eq!(names(&world), [""; 0], "{kind}");
    }
    // The API server's clock is an hour ahead.
    assert_eq!(names(&created(-3600)), [""; 0]);
}

fn stateful_set() -> World {
    let mut world = World::default();
    world.workload.reference = WorkloadRef::new(WorkloadKind::StatefulSet, "payments");
    world.workload.replicas = Some(Replicas { governing_service: "peers".into(), ordinals: 0..2 });
    world.services =
        vec![Service { name: "peers".into(), kind: ServiceKind::Headless, ..service("payments") }];
    world
}

#[test]
fn a_service_gives_names_with_and_without_cluster_domain() {
    assert_eq!(names(&World::default()), ["payments.shop.svc", "payments.shop.svc.cluster.local"]);
    let world = World::default().with_policy(r#"{"clusterDomain":"k8s.example.org"}"#);
    assert_eq!(names(&world), ["payments.shop.svc", "payments.shop.svc.k8s.example.org"]);
}

#[test]
fn the_policy_enables_short_names() {
    let world = World::default().with_policy(r#"{"shortNames":true}"#);
    assert_eq!(
        names(&world),
        ["payments", "payments.shop", "payments.shop.svc", "payments.shop.svc.cluster.local"]
    );
}

#[test]
fn every_service_that_selects_the_pods_gives_names() {
    let mut world = World::default();
    world.services.push(Service { selector: labels(&[("tier", "back")]), ..service("all-of-back") });
    assert_eq!(names(&world).len(), 4);
    assert_eq!(names(&world)[0], "all-of-back.shop.svc");
}

#[test]
fn a_service_that_does_not_select_the_pods_gives_no_names() {
    assert!(names(&with_service(|service| service.selector = labels(&[("app", "orders")]))).is_empty());
    let more = labels(&[("app", "payments"), ("version", "2")]);
    assert!(names(&with_service(|service| service.selector = more)).is_empty());
    assert!(names(&with_service(|service| service.selector = Labels::default())).is_empty());
    assert!(names(&with_service(|service| service.kind = ServiceKind::ExternalName)).is_empty());
    assert!(names(&with_service(|service| service.namespace = "other".parse().unwrap())).is_empty());
}

#[test]
fn a_governing_service_names_each_replica_and_the_next() {
    assert_eq!(
        names(&stateful_set()),
        [
            "payments-0.peers.shop.svc",
            "payments-0.peers.shop.svc.cluster.local",
            "payments-1.peers.shop.svc",
            "payments-1.peers.shop.svc.cluster.local",
            "payments-2.peers.shop.svc",
            "payments-2.peers.shop.svc.cluster.local",
            // These names are included so that the next scale-up needs no new certificate.
            "payments-3.peers.shop.svc",
            "payments-3.peers.shop.svc.cluster.local",
            "peers.shop.svc",
            "peers.shop.svc.cluster.local",
        ]
    );
    let mut world = stateful_set();
    world.workload.replicas.as_mut().unwrap().ordinals = 5..6;
    assert_eq!(names(&world)[0], "payments-5.peers.shop.svc");
    world.workload.replicas.as_mut().unwrap().ordinals = 0..0;
    assert_eq!(names(&world)[0], "payments-0.peers.shop.svc");
    assert_eq!(names(&world).len(), 4);
}

#[test]
fn a_replica_has_no_short_names() {
    let world = stateful_set().with_policy(r#"{"shortNames":true}"#);
    let short: Vec<_> = names(&world).into_iter().filter(|name| !name.contains(".svc")).collect();
    assert_eq!(short, ["peers", "peers.shop"]);
}

#[test]
fn replicas_need_a_headless_service_for_their_names() {
    let mut world = stateful_set();
    world.services[0].kind = ServiceKind::ClusterIp;
    assert_eq!(names(&world).len(), 2);
    let mut world = stateful_set();
    world.services[0].selector = labels(&[("app", "orders")]);
    assert!(names(&world).is_empty());
    let mut world = stateful_set();
    world.workload.replicas.as_mut().unwrap().governing_service = "others".into();
    assert_eq!(names(&world).len(), 2);
}

#[test]
fn invalid_dns_names_are_left_out() {
    let mut world = stateful_set();
    world.workload.reference = WorkloadRef::new(WorkloadKind::StatefulSet, &"a".repeat(62));
    assert_eq!(names(&world), ["peers.shop.svc", "peers.shop.svc.cluster.local"]);
}

#[test]
fn warns_of_names_that_do_not_fit() {
    let mut world = stateful_set();
    world.workload.replicas.as_mut().unwrap().ordinals = 0..u32::MAX;
    assert_eq!(names(&world).len(), MAX_NAMES);
    let left_out_warning = world.decide().left_out_warning.unwrap();
    assert_eq!(left_out_warning.code, ErrorCode::NamesLeftOut);
    assert!(
        left_out_warning.message.contains("beginning with payments-249.peers"),
        "{}",
        left_out_warning.message
    );
    // Services come before replicas, and extra names before Services.
    let mut world = world
        .with_policy(r#"{"extraDnsNames":{"shop":["z.example.com"]}}"#)
        .annotated(&[("dns-names", "z.example.com")]);
    world.services.push(service("zebra"));
    world.services.last_mut().unwrap().selector = world.services[0].selector.clone();
    let found = names(&world);
    for name in ["zebra.shop.svc", "peers.shop.svc", "z.example.com", "payments-246.peers.shop.svc"] {
        assert!(found.contains(&name.to_owned()), "{name}");
    }
    assert!(!found.contains(&"payments-248.peers.shop.svc".to_owned()));
}

#[test]
fn a_workload_with_too_many_hosts_is_still_renewed() {
    let mut world = stateful_set();
    world.workload.replicas.as_mut().unwrap().ordinals = 0..400;
    let mut world = world.settled();
    let Plan::Keep { until } = world.decide().plan else { panic!("{:?}", world.decide().plan) };
    assert!(world.decide().left_out_warning.is_some());
    world.now = until;
    assert!(matches!(world.decide().plan, Plan::Reissue(_)));
    world.workload.replicas.as_mut().unwrap().ordinals = 0..401;
    world.now = NOW;
    assert!(matches!(world.decide().plan, Plan::Keep { .. }), "one more replica must not cause a reissue");
}

#[test]
fn all_names_fit_into_a_handshake() {
    let mut world = World::default();
    let long = |index: usize| Service {
        name: format!("{index:03}{}", "x".repeat(60)).into(),
        ..service("payments")
    };
    world.services = (0..250).map(long).collect();
    let bytes: usize = names(&world).iter().map(String::len).sum();
    assert!((MAX_NAME_BYTES - 200..=MAX_NAME_BYTES).contains(&bytes), "{bytes}");
    assert!(world.decide().left_out_warning.is_some());
    let settled = world.settled().decide().plan;
    assert!(matches!(settled, Plan::Keep { .. }), "{settled:?}");
}

#[test]
fn warns_of_truncated_labels() {
    let mut world = World::default();
    world.workload.template_labels = world.workload.template_labels.truncated();
    assert_eq!(names(&world).len(), 2);
    let left_out_warning = world.decide().left_out_warning.unwrap();
    assert!(
        left_out_warning.message.contains("more labels than Certmint reads"),
        "{}",
        left_out_warning.message
    );
    // A truncated selector selects nothing.
    let selector = world.services[0].selector.clone();
    world.services[0].selector = selector.truncated();
    assert!(names(&world).is_empty());
}

#[test]
fn a_workload_without_services_gets_only_its_spiffe_id() {
    let mut world = World::default();
    world.services.clear();
    let Plan::Issue(order) = world.decide().plan else { panic!("{:?}", world.decide()) };
    assert!(order.dns_names.is_empty());
    assert_eq!(order.spiffe_id.as_str(), "spiffe://cluster.local/ns/shop/sa/payments");
}

fn any_service() -> impl Strategy<Value = Service> {
    let selector = prop::collection::btree_map("app|tier|zone", "payments|back|a", 0..3);
    let kind =
        prop::sample::select(vec![ServiceKind::ClusterIp, ServiceKind::Headless, ServiceKind::ExternalName]);
    ("[a-c]{1,2}", selector, kind, prop::sample::select(vec!["shop", "other"])).prop_map(
        |(name, selector, kind, namespace)| Service {
            name: name.into(),
            namespace: namespace.parse().unwrap(),
            selector: selector.into(),
            kind,
        },
    )
}

fn any_workload() -> impl Strategy<Value = Workload> {
    let labels = prop::collection::btree_map("app|tier|zone", "payments|back|a", 0..4);
    let replicas = prop::option::of(("[a-c]{1,2}", 0_u32..400));
    (labels, replicas).prop_map(|(template_labels, replicas)| Workload {
        template_labels: template_labels.into(),
        replicas: replicas
            .map(|(service, count)| Replicas { governing_service: service.into(), ordinals: 0..count }),
        ..deployment("payments")
    })
}

proptest! {
    #[test]
    fn names_are_sorted_and_independent_of_the_services_order(
        workload in any_workload(),
        services in prop::collection::vec(any_service(), 0..6),
    ) {
        let world = World { workload, services, ..World::default() };
        prop_assume!(matches!(world.decide().plan, Plan::Issue(_)));
        let found = names(&world);
        prop_assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
        let mut reversed = world.clone();
        reversed.services.reverse();
        prop_assert_eq!(&found, &names(&reversed));
    }

    #[test]
    fn every_name_belongs_to_a_service_that_selects_the_pods(
        workload in any_workload(),
        services in prop::collection::vec(any_service(), 0..6),
    ) {
        let world = World { workload, services, ..World::default() };
        prop_assume!(matches!(world.decide().plan, Plan::Issue(_)));
        let selecting: Vec<_> =
            world.services.iter().filter(|service| service.selects(&world.workload)).collect();
        for name in names(&world) {
            let owned = selecting.iter().any(|service| {
                let base = format!("{}.shop.svc", service.name);
                name.starts_with(&base) || name.contains(&format!(".{base}"))
            });
            prop_assert!(owned, "no Service gives {name}");
        }
        prop_assert!(!selecting.is_empty() || names(&world).is_empty());
    }

    #[test]
    fn an_order_never_exceeds_the_limit_of_names(
        workload in any_workload(),
        services in prop::collection::vec(any_service(), 0..6),
    ) {
        let world = World { workload, services, ..World::default() };
        let decision = world.decide();
        let Plan::Issue(order) = decision.plan else { panic!("{:?}", decision.plan) };
        prop_assert!(order.dns_names.len() <= MAX_NAMES);
        let replicas = world.workload.replicas.as_ref().map_or(0, |replicas| replicas.ordinals.len());
        if decision.left_out_warning.is_some() {
            prop_assert!(2 * (replicas + 1 + world.services.len()) > MAX_NAMES);
        }
        let settled = world.settled().decide();
        prop_assert!(matches!(settled.plan, Plan::Keep { .. }), "{settled:?}");
    }
}
