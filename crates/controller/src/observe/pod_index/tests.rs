//! Tests of the index of pods and of its memory limits.

use std::collections::BTreeMap;

use certmint_contract::{Namespace, OptIn};

use super::*;
use crate::observe::pod::{PodFacts, PodOwner};

fn namespace(name: &str) -> Namespace {
    name.parse().unwrap()
}

/// Returns a pod of Deployment `web`.
fn facts(uid: &str) -> PodFacts {
    let texts = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect::<BTreeMap<_, _>>()
    };
    PodFacts {
        uid: uid.into(),
        is_started: false,
        is_deleted: false,
        hostname: None,
        subdomain: None,
        service_account: "web".into(),
        owner: Some(PodOwner {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: "web-7c9f".into(),
            uid: "0b9a1f3e-2f55-4b6c-9d0e-0d3f6c1f2a77".into(),
        }),
        workload: Some("Deployment/web".parse().unwrap()),
        labels: texts(&[
            ("app", "web"),
            ("app.kubernetes.io/part-of", "shop"),
            ("pod-template-hash", "7c9f"),
        ]),
        annotations: texts(&[("certmint.dev/inject", "true"), ("certmint.dev/secret-name", "mine")]),
    }
}

#[test]
fn pods_of_one_template_share_memory() {
    let (mut pods, shop) = (PodIndex::default(), namespace("shop"));
    for index in 0..1000 {
        let uid = format!("0b9a1f3e-2f55-4b6c-9d0e-{index:012}");
        assert_eq!(pods.put(&shop, &format!("web-7c9f-{index:05}"), InjectedPod::new(facts(&uid))), Ok(true));
    }
    assert!(pods.bytes < 1000 * 320, "{}", pods.bytes);
    let web = "Deployment/web".parse().unwrap();
    assert_eq!(pods.of_workload(&shop, &web).count(), 1000);
    let again = InjectedPod::new(facts("0b9a1f3e-2f55-4b6c-9d0e-000000000007"));
    assert_eq!(pods.put(&shop, "web-7c9f-00007", again), Ok(false));
    for index in 0..1000 {
        pods.remove(&shop, &format!("web-7c9f-{index:05}")).unwrap();
    }
    assert!(pods.namespaces.is_empty() && pods.bytes == 0);
}

#[test]
fn limits_page_has_the_pod_limits() {
    let page = include_str!("../../../../../docs/src/reference/limits.md");
    for row in [
        format!("the injected pods of one namespace | {} MiB,", MAX_BYTES_PER_NAMESPACE >> 20),
        format!("all injected pods | {} MiB |", MAX_BYTES >> 20),
    ] {
        assert!(page.contains(&row), "{row}");
    }
}

#[test]
fn pods_have_individual_and_shared_labels() {
    let mut with_own_label = facts("p-1");
    with_own_label.labels.insert("statefulset.kubernetes.io/pod-name".into(), "db-0".into());
    let pod = InjectedPod::new(with_own_label);
    let labels: BTreeMap<_, _> = pod.labels().collect();
    assert_eq!(labels["statefulset.kubernetes.io/pod-name"], "db-0");
    assert_eq!((labels["app"], labels.len()), ("web", 4));
    assert_eq!(pod.shared, InjectedPod::new(facts("p-2")).shared);
    let workload = pod.as_workload(&namespace("shop"), "db-0");
    assert_eq!(workload.reference.to_string(), "Pod/db-0");
    assert_eq!(workload.template_labels.get("statefulset.kubernetes.io/pod-name"), Some("db-0"));
    let Ok(OptIn::Yes(request)) = workload.opt_in else { panic!() };
    assert_eq!(request.secret_name, None, "all pods of the Deployment would want it");
}

#[test]
fn a_namespace_full_of_pods_leaves_room_for_others() {
    let (mut pods, mallory) = (PodIndex::default(), namespace("mallory"));
    let mut first_failures = 0;
    for index in 0..100_000 {
        let mut forged = facts(&format!("p-{index}"));
        forged.labels.insert("noise".into(), format!("{index}"));
        if let Err(full) = pods.put(&mallory, &format!("p-{index}"), InjectedPod::new(forged)) {
            first_failures += usize::from(full.is_first);
        }
    }
    assert_eq!(first_failures, 1);
    assert!(pods.bytes <= MAX_BYTES_PER_NAMESPACE, "{}", pods.bytes);
    assert_eq!(pods.put(&namespace("shop"), "web-7c9f-1", InjectedPod::new(facts("p"))), Ok(true));
    pods.remove(&mallory, "p-7").unwrap();
    assert_eq!(pods.put(&mallory, "p-8", InjectedPod::new(facts("p-8"))), Ok(true));
}
