//! Tests of how the content of Secrets is inspected.

use std::sync::Arc;

use certmint_contract::{Policy, WorkloadKind, WorkloadRef};
use certmint_planner::{Hosts, plan};
use serde_json::json;

use super::fixture::{SECRET, SECRETS, fixture, replaced, seen, workload};
use super::*;

#[tokio::test(start_paused = true)]
async fn a_restored_secret_with_another_key_is_replaced_at_once() {
    let mut fixture = fixture();
    let mut secret = fixture.issue().await;
    let name = "payments-certmint-tls".parse().unwrap();
    fixture.cache.forget_secret(&fixture.key.namespace, &name);
    secret["data"]["tls.key"] = "aHVzaA==".into();
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("POST", SECRETS).await.fail(409, "AlreadyExists");
        fixture.server.expect("GET", SECRET).await.ok(secret.clone());
        replaced(fixture.server.expect("PATCH", SECRET).await);
    });
    assert!(matches!(outcome, WorkOutcome::CheckAt(_)), "{outcome:?}");
    assert_eq!(fixture.reasons(), ["Issued", "SecretDamaged", "SecretDamaged", "Renewed"]);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_names_another_workload_is_replaced() {
    for (workload, kept) in
        [(Some("U3RhdGVmdWxTZXQvcGF5bWVudHM="), false), (Some("/w=="), false), (None, true)]
    {
        let mut fixture = fixture();
        let mut secret = fixture.issue().await;
        fixture.reasons();
        let data = secret["data"].as_object_mut().unwrap();
        match workload {
            Some(workload) => data.insert("workload".into(), workload.into()),
            None => data.remove("workload"),
        };
        secret["metadata"]["resourceVersion"] = "2".into();
        fixture.cache.insert_secret(&seen(&secret));
        let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
            fixture.server.expect("GET", SECRET).await.ok(secret.clone());
            if !kept {
                let call = fixture.server.expect("PATCH", SECRET).await;
                assert_eq!(call.body["data"]["workload"], "RGVwbG95bWVudC9wYXltZW50cw==");
                replaced(call);
            }
        });
        assert!(matches!(outcome, WorkOutcome::CheckAt(_)), "{outcome:?}");
        let expected: &[&str] = if kept { &[] } else { &["SecretDamaged", "SecretDamaged", "Renewed"] };
        assert_eq!(fixture.reasons(), expected, "{workload:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_secret_of_another_workload_is_not_damaged() {
    let mut fixture = fixture();
    let secret = fixture.issue().await;
    fixture.reasons();
    fixture.cache.insert_secret(&seen(&secret));
    let mut other = workload();
    other["metadata"]["name"] = "orders".into();
    other["metadata"]["uid"] = "w-2".into();
    other["metadata"]["annotations"]["certmint.dev/secret-name"] = "payments-certmint-tls".into();
    other["spec"]["template"]["spec"]["serviceAccountName"] = "orders".into();
    fixture.cache.insert_workload(WorkloadKind::Deployment, &seen(&other));
    let workload = WorkloadRef::new(WorkloadKind::Deployment, "orders");
    let key = WorkloadKey { workload, ..fixture.key.clone() };
    // The issuance API calls `recheck` when a pod of that workload requests a bundle.
    fixture.cache.recheck(&key, Some(&fixture.known().facts.name));
    let before = Instant::now();
    assert_eq!(fixture.reconciler.reconcile(&key).await, WorkOutcome::CheckAt(before + CONFLICT_RETRY_AFTER));
    assert_eq!(fixture.reasons(), ["SecretClaimed", "SecretClaimed"]);
    assert_eq!(fixture.known().facts.damage, None);
}

#[tokio::test(start_paused = true)]
async fn a_newer_trust_bundle_is_written_with_one_call() {
    let mut fixture = fixture();
    let mut secret = fixture.issue().await;
    fixture.reasons();
    fixture.add_root();
    // Another client wrote to the Secret, so the controller reads it. Its older trust bundle is not damage.
    secret["metadata"]["resourceVersion"] = "2".into();
    fixture.cache.insert_secret(&seen(&secret));
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("GET", SECRET).await.ok(secret.clone());
        let call = fixture.server.expect("PATCH", SECRET).await;
        let data = call.body["data"].as_object().unwrap();
        assert_eq!(
            data.keys().collect::<Vec<_>>(),
            ["ca.crt", "trust-generation"],
            "key and certificate stay"
        );
        let annotations = json!({ "certmint.dev/trust-generation": "2" });
        assert_eq!(call.body["metadata"]["annotations"], annotations);
        assert_eq!(call.body["metadata"]["resourceVersion"], "2");
        let mut written = secret["metadata"].clone();
        written["resourceVersion"] = "3".into();
        written["annotations"]["certmint.dev/trust-generation"] = "2".into();
        call.ok(json!({ "metadata": written }));
    });
    assert!(matches!(outcome, WorkOutcome::CheckAt(_)), "{outcome:?}");
    assert_eq!(fixture.reasons(), [] as [&str; 0]);
    let before = secret["metadata"]["annotations"]["certmint.dev/serial"].as_str().unwrap();
    assert_eq!(*fixture.known().facts.record.unwrap().serial, *before);
}

#[tokio::test(start_paused = true)]
async fn a_forged_newer_trust_bundle_is_damage() {
    let mut fixture = fixture();
    let mut secret = fixture.issue().await;
    fixture.reasons();
    secret["metadata"]["resourceVersion"] = "2".into();
    secret["metadata"]["annotations"]["certmint.dev/trust-generation"] = "9".into();
    secret["data"]["trust-generation"] = "OQ==".into();
    fixture.cache.insert_secret(&seen(&secret));
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("GET", SECRET).await.ok(secret.clone());
        let call = fixture.server.expect("PATCH", SECRET).await;
        assert_eq!(call.body["data"]["trust-generation"], "MQ==");
        replaced(call);
    });
    assert!(matches!(outcome, WorkOutcome::CheckAt(_)), "{outcome:?}");
    assert_eq!(fixture.reasons(), ["SecretDamaged", "SecretDamaged", "Renewed"]);
}

#[tokio::test(start_paused = true)]
async fn without_roots_no_secret_is_inspected() {
    let mut fixture = fixture();
    let mut secret = fixture.issue().await;
    secret["metadata"]["resourceVersion"] = "2".into();
    fixture.cache.insert_secret(&seen(&secret));
    fixture.ca.send_modify(|ca| {
        ca.authority = Err(Arc::new(crate::ca::CaFault::NotYet));
        ca.trust_bundle = None;
    });
    let before = Instant::now();
    let outcome = fixture.reconciler.reconcile(&fixture.key).await;
    assert_eq!(outcome, WorkOutcome::CheckAt(before + MAX_PLAN_INTERVAL));
}

#[tokio::test(start_paused = true)]
async fn an_expired_certificate_is_not_damaged() {
    let mut fixture = fixture();
    let secret = fixture.issue().await;
    fixture.reasons();
    let mut ended = secret.clone();
    let annotations = &mut ended["metadata"]["annotations"];
    annotations["certmint.dev/not-before"] = "2020-01-01T00:00:00Z".into();
    annotations["certmint.dev/not-after"] = "2020-01-02T00:00:00Z".into();
    ended["metadata"]["resourceVersion"] = "2".into();
    fixture.cache.insert_secret(&seen(&ended));
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("GET", SECRET).await.ok(ended.clone());
        replaced(fixture.server.expect("PATCH", SECRET).await);
    });
    assert!(matches!(outcome, WorkOutcome::CheckAt(_)), "{outcome:?}");
    assert_eq!(fixture.reasons(), ["Renewed"]);
}

#[tokio::test(start_paused = true)]
async fn a_recreated_workload_does_not_inherit_hosts() {
    let fixture = fixture();
    let cache = &fixture.cache;
    let service = json!({
        "metadata": { "name": "front", "namespace": "shop" }, "spec": { "selector": { "app": "payments" } },
    });
    let services = [seen(&service).service().unwrap()];
    let before = cache.workload(&fixture.key).unwrap();
    let policy = Policy::default();
    let known = certmint_planner::Observed {
        workload: &before,
        pods: certmint_planner::Pods { services: &services, running: &[] },
        hosts: &Hosts::default(),
        secrets: &[],
        issuer: None,
        policy: &policy,
    };
    let hosts = plan(&known, clock::now()).hosts;
    let mut recreated = workload();
    recreated["metadata"]["uid"] = "w-2".into();
    cache.insert_workload(WorkloadKind::Deployment, &seen(&recreated));
    cache.remember_hosts(&before, hosts.clone());
    assert_eq!(cache.view(&fixture.key).hosts, Hosts::default());
    cache.remember_hosts(&cache.workload(&fixture.key).unwrap(), hosts.clone());
    assert_eq!(cache.view(&fixture.key).hosts, hosts);
    cache.forget_hosts();
    assert_eq!(cache.view(&fixture.key).hosts, Hosts::default());
}
