//! Tests of names for some of a workload's pods: of Services that select only some, and of single pods.

use std::collections::BTreeMap;

use certmint_contract::{WorkloadKind, WorkloadRef};
use certmint_planner::{GRACE_PERIOD, Plan, PodHost, Replicas, RunningPod, Service, ServiceKind};
use proptest::prelude::*;
use time::Duration;

use crate::fixtures::{World, labels, service, texts};

fn pod(more: &[(&str, &str)]) -> RunningPod {
    let all = [("app", "payments"), ("tier", "back")].iter().chain(more).copied();
    RunningPod { labels: labels(&all.collect::<Vec<_>>()), host: None }
}

fn selecting(name: &str, selector: &[(&str, &str)]) -> Service {
    Service { selector: labels(selector), ..service(name) }
}

fn named_pod(hostname: &str, subdomain: &str) -> RunningPod {
    RunningPod { host: Some(PodHost { hostname: hostname.into(), subdomain: subdomain.into() }), ..pod(&[]) }
}

/// Returns the hosts of the ordered names, each once.
fn hosts(world: &World) -> Vec<String> {
    let Plan::Issue(order) = world.decide().plan else { panic!("{:?}", world.decide()) };
    let names = texts(&order.dns_names);
    names.into_iter().filter_map(|name| name.strip_suffix(".shop.svc")).map(Into::into).collect()
}

fn database() -> World {
    let mut world = World::default();
    world.workload.reference = WorkloadRef::new(WorkloadKind::StatefulSet, "db");
    world.workload.replicas = Some(Replicas { governing_service: "peers".into(), ordinals: 0..2 });
    world.services = vec![selecting("leader", &[("app", "payments"), ("role", "leader")])];
    world
}

#[test]
fn a_leader_service_gives_its_name_while_a_pod_leads() {
    let mut world = database();
    assert_eq!(hosts(&world), [""; 0]);
    world.running = vec![pod(&[("role", "replica")]), pod(&[("role", "leader")])];
    assert_eq!(hosts(&world), ["leader"]);
    // Each pod has one of the two labels, and no pod has both.
    world.services[0] = selecting("leader", &[("role", "leader"), ("zone", "a")]);
    world.running = vec![pod(&[("zone", "a")]), pod(&[("role", "leader")])];
    assert_eq!(hosts(&world), [""; 0]);
}

#[test]
fn a_change_of_the_leader_pod_reissues_nothing() {
    let mut world = database();
    world.running = vec![pod(&[("role", "leader"), ("x", "0")]), pod(&[("x", "1")])];
    let mut world = world.settled();
    let before = world.secrets.clone();
    for round in 0..10 {
        // For some time, no pod is the leader.
        world.running = vec![pod(&[("x", "0")]), pod(&[("x", "1")])];
        world = world.planned().later(GRACE_PERIOD - Duration::SECOND);
        let leader = if round % 2 == 0 { "1" } else { "0" };
        world.running.push(pod(&[("role", "leader"), ("x", leader)]));
        world = world.planned().later(Duration::minutes(5));
    }
    assert_eq!(world.secrets, before);
    world.running.clear();
    assert!(world.planned().later(GRACE_PERIOD).issued_names().is_empty());
}

#[test]
fn a_service_for_one_replica_counts_before_its_pod_exists() {
    let mut world = database();
    let of = |index: u32| {
        let pod = format!("db-{index}");
        selecting(
            &format!("to-{index}"),
            &[("app", "payments"), ("statefulset.kubernetes.io/pod-name", &pod)],
        )
    };
    world.services = (0..6).map(of).collect();
    // Services of the two replicas and of the next one.
    assert_eq!(hosts(&world), ["to-0", "to-1", "to-2"]);
    for (key, value) in [
        ("statefulset.kubernetes.io/pod-name", "db-01"),
        ("statefulset.kubernetes.io/pod-name", "other-0"),
        ("statefulset.kubernetes.io/pod-name", "db-"),
        ("apps.kubernetes.io/pod-index", "7"),
        ("batch.kubernetes.io/job-completion-index", "0"),
    ] {
        world.services = vec![selecting("to", &[(key, value)])];
        assert_eq!(hosts(&world), [""; 0], "{key}={value}");
    }
    world.services = vec![selecting("to", &[("apps.kubernetes.io/pod-index", "1")])];
    assert_eq!(hosts(&world), ["to"]);
    world.services[0] = selecting(
        "to",
        &[("apps.kubernetes.io/pod-index", "1"), ("statefulset.kubernetes.io/pod-name", "db-0")],
    );
    assert_eq!(hosts(&world), [""; 0], "no replica has both");
}

#[test]
fn pods_of_an_indexed_job_have_names_below_their_subdomain() {
    let mut world = World::default();
    world.workload.reference = WorkloadRef::new(WorkloadKind::Job, "train");
    world.workload.replicas = Some(Replicas { governing_service: "workers".into(), ordinals: 0..3 });
    world.services =
        vec![Service { kind: ServiceKind::Headless, ..selecting("workers", &[("app", "payments")]) }];
    assert_eq!(
        hosts(&world),
        ["train-0.workers", "train-1.workers", "train-2.workers", "train-3.workers", "workers"]
    );
    world.services.push(selecting("first", &[("batch.kubernetes.io/job-completion-index", "0")]));
    assert!(hosts(&world).contains(&"first".to_owned()));
}

#[test]
fn a_pod_host_needs_a_headless_service_that_selects_it() {
    let sub = Service { kind: ServiceKind::Headless, ..selecting("sub", &[("app", "payments")]) };
    let mut world = World { services: vec![sub], ..World::default() };
    world.workload.host = Some(PodHost { hostname: "one".into(), subdomain: "sub".into() });
    world.running = vec![named_pod("two", "sub"), named_pod("three", "elsewhere")];
    assert_eq!(hosts(&world), ["one.sub", "sub", "two.sub"]);
    world.services[0].kind = ServiceKind::ClusterIp;
    assert_eq!(hosts(&world), ["sub"]);
    world.services[0] = Service { kind: ServiceKind::Headless, ..selecting("sub", &[("app", "other")]) };
    assert_eq!(hosts(&world), [""; 0]);
}

#[test]
fn services_that_cannot_select_pods_give_no_names() {
    let mut world = database();
    world.running = vec![pod(&[("role", "leader")])];
    for change in [
        (|service: &mut Service| service.namespace = "other".parse().unwrap()) as fn(&mut Service),
        |service| service.selector = labels(&[]),
        |service| service.kind = ServiceKind::ExternalName,
        |service| service.selector = std::mem::take(&mut service.selector).truncated(),
    ] {
        let mut world = world.clone();
        change(&mut world.services[0]);
        assert_eq!(hosts(&world), [""; 0]);
    }
}

fn any_labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("app|role|zone", "payments|leader|a", 0..4)
}

fn any_service() -> impl Strategy<Value = Service> {
    let kind =
        prop::sample::select(vec![ServiceKind::ClusterIp, ServiceKind::Headless, ServiceKind::ExternalName]);
    ("[a-c]", any_labels(), kind, prop::sample::select(vec!["shop", "other"])).prop_map(
        |(name, selector, kind, namespace)| Service {
            name: name.into(),
            namespace: namespace.parse().unwrap(),
            selector: selector.into(),
            kind,
        },
    )
}

fn any_pod() -> impl Strategy<Value = RunningPod> {
    (any_labels(), prop::option::of(("h[0-2]", "[a-c]"))).prop_map(|(labels, host)| RunningPod {
        labels: labels.into(),
        host: host.map(|(hostname, subdomain): (String, String)| PodHost {
            hostname: hostname.into(),
            subdomain: subdomain.into(),
        }),
    })
}

fn selects(service: &Service, pod: &RunningPod) -> bool {
    service.namespace.as_str() == "shop"
        && service.kind != ServiceKind::ExternalName
        && !service.selector.is_empty()
        && service.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_name_leads_to_a_pod_that_has_the_name(
        template in any_labels(),
        services in prop::collection::vec(any_service(), 0..5),
        running in prop::collection::vec(any_pod(), 0..5),
    ) {
        let mut world = World { services, running, ..World::default() };
        world.workload.template_labels = template.into();
        let found = hosts(&world);
        let template = RunningPod { labels: world.workload.template_labels.clone(), host: None };
        let pods: Vec<_> = world.running.iter().chain([&template]).collect();
        for service in &world.services {
            let reaches = pods.iter().any(|pod| selects(service, pod));
            if reaches {
                prop_assert!(found.contains(&service.name.to_string()), "{} in {found:?}", service.name);
            }
        }
        for host in &found {
            let (hostname, service) = match host.split_once('.') {
                Some((hostname, service)) => (Some(hostname), service),
                None => (None, &**host),
            };
            let reached = world.services.iter().any(|found| {
                *found.name == *service
                    && pods.iter().any(|pod| selects(found, pod))
                    && (hostname.is_none() || found.kind == ServiceKind::Headless)
            });
            prop_assert!(reached, "no Service gives {host}");
            let is_called = |pod: &&RunningPod| pod.host.as_ref().is_some_and(|host| Some(&*host.hostname) == hostname);
            prop_assert!(hostname.is_none() || pods.iter().any(is_called), "no pod has the host {host}");
        }
        let settled = world.settled().decide().plan;
        prop_assert!(matches!(settled, Plan::Keep { .. }), "{settled:?}");
    }
}
