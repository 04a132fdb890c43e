//! Tests of the limits of the memory that a namespace takes.

use super::*;

#[test]
fn a_full_namespace_takes_nothing_from_others() {
    let cache = Cache::new(Arc::default(), 0);
    cache.limit_to(200_000);
    let forged = |namespace: &str, index: usize| -> WatchedObject {
        let names: Vec<String> = (0..100).map(|name| format!("a{name}.b{index}.example.com")).collect();
        let mut annotations = json!({
            "certmint.dev/workload": "Deployment/payments", "certmint.dev/dns-names": names.join(","),
            "certmint.dev/spiffe-id": "s", "certmint.dev/key-algorithm": "ecdsa-p256", "certmint.dev/duration": "1h",
            "certmint.dev/issuer": "i", "certmint.dev/root": "r", "certmint.dev/serial": "0",
        });
        for key in ["not-before", "not-after", "renew-at"] {
            annotations[format!("certmint.dev/{key}")] = "2026-01-01T00:00:00Z".into();
        }
        let metadata = json!({
            "name": format!("s{index}"), "namespace": namespace, "uid": format!("{index}"), "resourceVersion": "1",
            "labels": { "certmint.dev/managed": "true" }, "annotations": annotations,
        });
        watched(&json!({ "metadata": metadata }))
    };
    for index in 0..1_000 {
        cache.insert_secret(&forged("evil", index));
    }
    let kept = cache.keys(WatchedKind::Secret, None).len();
    assert!((1..20).contains(&kept), "{kept}");
    assert!(cache.lacks_room(WatchedKind::Secret));
    assert!(cache.left_out().iter().all(|(object, _)| &*object.namespace == "evil"));
    cache.insert_secret(&forged("shop", 0));
    let object = watched(&deployment("payments", "1", template("payments")));
    cache.insert_workload(WorkloadKind::Deployment, &object);
    assert!(cache.workload(&key("payments")).is_some());
    assert_eq!(cache.view(&key("payments")).secrets.len(), 1);
}

#[test]
fn leaves_out_workloads_whose_secrets_have_no_room() {
    let cache = Cache::new(Arc::default(), 0);
    cache.limit_to(100_000);
    let workload = |index: usize| -> WatchedObject {
        watched(&deployment(&format!("w{index}"), "1", template("payments")))
    };
    for index in 0..20 {
        cache.insert_workload(WorkloadKind::Deployment, &workload(index));
        let owner = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": format!("w{index}"), "uid": format!("w{index}"), "controller": true });
        let names: Vec<String> = (0..100).map(|name| format!("a{name}.b{index}.example.com")).collect();
        let mut annotations = json!({
            "certmint.dev/workload": format!("Deployment/w{index}"), "certmint.dev/dns-names": names.join(","),
            "certmint.dev/spiffe-id": "s", "certmint.dev/key-algorithm": "ecdsa-p256", "certmint.dev/duration": "1h",
            "certmint.dev/issuer": "i", "certmint.dev/root": "r", "certmint.dev/serial": "0",
        });
        for key in ["not-before", "not-after", "renew-at"] {
            annotations[format!("certmint.dev/{key}")] = "2026-01-01T00:00:00Z".into();
        }
        let metadata = json!({
            "name": format!("s{index}"), "namespace": "shop", "uid": format!("{index}"), "resourceVersion": "1",
            "labels": { "certmint.dev/managed": "true" }, "annotations": annotations, "ownerReferences": [owner],
        });
        cache.note_secret(serde_json::from_value(metadata).unwrap(), None);
    }
    let kind = WatchedKind::Workload(WorkloadKind::Deployment);
    let (workloads, secrets) = (cache.keys(kind, None).len(), cache.keys(WatchedKind::Secret, None).len());
    assert!((1..15).contains(&secrets) && workloads == secrets, "{workloads} {secrets}");
    assert!(cache.lacks_room(kind) && !cache.left_out().is_empty());
}

#[test]
fn views_few_claiming_secrets_and_the_wanted_one() {
    let cache = Cache::new(Arc::default(), 0);
    let object = watched(&deployment("payments", "1", template("payments")));
    cache.insert_workload(WorkloadKind::Deployment, &object);
    for index in 0..100 {
        let name = if index == 50 { "payments-certmint-tls".to_owned() } else { format!("s{index}") };
        let owner = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "payments", "uid": "payments", "controller": true });
        let metadata = json!({
            "name": name, "namespace": "shop", "uid": format!("{index}"), "resourceVersion": "1",
            "labels": { "certmint.dev/managed": "true" }, "ownerReferences": [owner],
        });
        cache.insert_secret(&watched(&json!({ "metadata": metadata })));
    }
    let secrets = cache.view(&key("payments")).secrets;
    assert!(secrets.len() < 20);
    assert!(secrets.iter().any(|secret| secret.facts.name.as_str() == "payments-certmint-tls"));
}
