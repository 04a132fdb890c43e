//! Tests of the reconciler against the mock API server.

use std::sync::Arc;

use certmint_contract::WorkloadKind;
use serde_json::{Value, json};

use super::fixture::{DEPLOYMENT, SECRET, SECRETS, fixture, replaced, seen, workload, written_by_certmint};
use super::*;

#[tokio::test(start_paused = true)]
async fn a_new_workload_takes_one_write_and_an_event() {
    let mut fixture = fixture();
    let secret = fixture.issue().await;
    assert_eq!(secret["type"], "kubernetes.io/tls");
    assert_eq!(secret["metadata"]["labels"], json!({ "certmint.dev/managed": "true" }));
    assert_eq!(
        secret["metadata"]["ownerReferences"],
        json!([{
            "apiVersion": "apps/v1", "kind": "Deployment", "name": "payments", "uid": "w-1",
            "controller": true, "blockOwnerDeletion": false,
        }])
    );
    assert_eq!(fixture.reasons(), ["Issued"]);
    // The response to the write updated the cache, so nothing is left to do before the watch reports the Secret.
    assert!(matches!(fixture.reconciler.reconcile(&fixture.key).await, WorkOutcome::CheckAt(_)));
    fixture.server.expect_no_call().await;
}

#[tokio::test(start_paused = true)]
async fn a_foreign_secret_is_not_changed_until_it_is_deleted() {
    let mut fixture = fixture();
    let foreign = json!({ "metadata": {
        "name": "payments-certmint-tls", "namespace": "shop", "uid": "f", "resourceVersion": "1",
    }});
    for first in [true, false, false] {
        let before = Instant::now();
        let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
            // Once the conflict is known, the controller no longer generates a key before it finds the conflict.
            if first {
                fixture.server.expect("POST", SECRETS).await.fail(409, "AlreadyExists");
            }
            fixture.server.expect("GET", SECRET).await.ok(foreign.clone());
        });
        assert_eq!(outcome, WorkOutcome::CheckAt(before + CONFLICT_RETRY_AFTER));
    }
    let events: Vec<_> = std::iter::from_fn(|| fixture.events.try_recv().ok()).collect();
    let about: Vec<_> = events.iter().map(|event| event.object.kind).collect();
    assert_eq!(about, ["Deployment", "Secret"]);
    assert!(events.iter().all(|event| event.reason == "ForeignSecret"));
    assert_eq!(events[1].object.uid.as_deref(), Some("f"));
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("GET", SECRET).await.fail(404, "NotFound");
        fixture.server.expect("POST", SECRETS).await.written("2");
    });
    assert!(matches!(outcome, WorkOutcome::CheckAt(_)), "{outcome:?}");
    assert_eq!(fixture.reasons(), ["Issued"]);
    fixture.server.expect_no_call().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_lost_the_label_gets_it_back() {
    let mut fixture = fixture();
    let mut secret = fixture.issue().await;
    secret["metadata"]["labels"] = json!({});
    secret["metadata"]["resourceVersion"] = "2".into();
    // The watch selects by the label, so for the watch the Secret is deleted.
    let name = "payments-certmint-tls".parse().unwrap();
    fixture.cache.forget_secret(&fixture.key.namespace, &name);
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("POST", SECRETS).await.fail(409, "AlreadyExists");
        fixture.server.expect("GET", SECRET).await.ok(secret);
        let call = fixture.server.expect("PATCH", SECRET).await;
        assert_eq!(call.body["metadata"]["labels"], json!({ "certmint.dev/managed": "true" }));
        assert_eq!(call.body["metadata"]["resourceVersion"], "2");
        replaced(call);
    });
    assert!(matches!(outcome, WorkOutcome::CheckAt(_)), "{outcome:?}");
    fixture.server.expect_no_call().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_cannot_be_changed_is_recreated() {
    for (fixed, value) in [("immutable", json!(true)), ("type", json!("Opaque"))] {
        let mut fixture = fixture();
        let mut secret = fixture.issue().await;
        secret["metadata"]["resourceVersion"] = "2".into();
        secret["data"]["tls.key"] = "aHVzaA==".into();
        secret[fixed] = value;
        fixture.cache.insert_secret(&seen(&secret));
        let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
            fixture.server.expect("GET", SECRET).await.ok(secret.clone());
            let call = fixture.server.expect("PATCH", SECRET).await;
            assert_eq!(call.body["type"], "kubernetes.io/tls");
            call.fail(422, "Invalid");
            fixture.server.expect("GET", SECRET).await.ok(secret.clone());
            let call = fixture.server.expect("DELETE", SECRET).await;
            assert_eq!(call.body["preconditions"]["uid"], "s-1");
            call.ok(json!({ "kind": "Status", "status": "Success" }));
            fixture.server.expect("GET", SECRET).await.fail(404, "NotFound");
            fixture.server.expect("POST", SECRETS).await.written("3");
        });
        assert!(matches!(outcome, WorkOutcome::CheckAt(_)), "{outcome:?}");
        assert_eq!(fixture.reasons(), ["Issued", "SecretDamaged", "SecretDamaged", "Issued"]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_event_and_the_secret_have_the_same_expiration() {
    let mut fixture = fixture();
    let secret = fixture.issue().await;
    let note = fixture.events.try_recv().unwrap().note;
    let end = secret["metadata"]["annotations"]["certmint.dev/not-after"].as_str().unwrap();
    assert!(note.contains(&format!("valid until {end}, for ")), "{note}");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_write_deletes_nothing() {
    let mut fixture = fixture();
    let mut secret = fixture.issue().await;
    secret["metadata"]["resourceVersion"] = "2".into();
    secret["data"]["tls.key"] = "aHVzaA==".into();
    fixture.cache.insert_secret(&seen(&secret));
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("GET", SECRET).await.ok(secret.clone());
        fixture.server.expect("PATCH", SECRET).await.fail(422, "Invalid");
        fixture.server.expect("GET", SECRET).await.ok(secret.clone());
    });
    assert_eq!(outcome, WorkOutcome::Failed);
    fixture.server.expect_no_call().await;
}

#[tokio::test(start_paused = true)]
async fn at_the_start_only_foreign_writes_are_inspected_at_once() {
    let secret = fixture().issue().await;
    for (by_certmint, seen_first) in [(true, written_by_certmint(&secret)), (false, secret)] {
        // A new process, which has not seen the Secret before.
        let mut fixture = fixture();
        fixture.cache.insert_secret(&seen(&seen_first));
        let wait = fixture.known().verify_at.saturating_duration_since(Instant::now());
        assert_eq!(wait >= Duration::from_secs(1_800), by_certmint);
        assert!(wait <= Duration::from_secs(3_600));
        tokio::time::advance(wait).await;
        let read = async {
            fixture.server.expect("GET", SECRET).await.fail(500, "InternalError");
        };
        let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), read);
        assert_eq!(outcome, WorkOutcome::Failed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreign_write_of_the_workload_key_is_inspected_at_once() {
    let mut secret = fixture().issue().await;
    assert_eq!(secret["data"]["workload"], "RGVwbG95bWVudC9wYXltZW50cw==");
    secret = written_by_certmint(&secret);
    let fields = secret["metadata"]["managedFields"][0].clone();
    let data = secret["metadata"]["managedFields"][0]["fieldsV1"]["f:data"].as_object_mut().unwrap();
    let taken = data.remove("f:workload").unwrap();
    let mut foreign = fields;
    foreign["manager"] = "kubectl".into();
    foreign["fieldsV1"] = json!({ "f:data": { "f:workload": taken } });
    secret["metadata"]["managedFields"].as_array_mut().unwrap().push(foreign);
    let fixture = fixture();
    fixture.cache.insert_secret(&seen(&secret));
    assert!(fixture.known().verify_at <= Instant::now());
}

#[tokio::test(start_paused = true)]
async fn a_certificate_from_another_leader_is_kept() {
    let mut fixture = fixture();
    let secret = fixture.issue().await;
    fixture.cache.forget_secret(&fixture.key.namespace, &"payments-certmint-tls".parse().unwrap());
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("POST", SECRETS).await.fail(409, "AlreadyExists");
        fixture.server.expect("GET", SECRET).await.ok(secret);
    });
    assert!(matches!(outcome, WorkOutcome::CheckAt(_)), "{outcome:?}");
    assert_eq!(fixture.reasons(), ["Issued"]);
    fixture.server.expect_no_call().await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_secret_is_replaced_exactly_as_it_was_read() {
    let mut fixture = fixture();
    let mut secret = fixture.issue().await;
    secret["metadata"]["resourceVersion"] = "2".into();
    secret["data"]["tls.key"] = "aHVzaA==".into();
    fixture.cache.insert_secret(&seen(&secret));
    assert_eq!(fixture.known().verify_at, Instant::now());
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("GET", SECRET).await.ok(secret.clone());
        // Another client writes first. The Secret is read again before anything else is written.
        fixture.server.expect("PATCH", SECRET).await.fail(409, "Conflict");
        secret["metadata"]["resourceVersion"] = "3".into();
        secret["metadata"]["annotations"]["certmint.dev/serial"] = Value::Null;
        secret["metadata"]["annotations"].as_object_mut().unwrap().remove("certmint.dev/serial");
        fixture.server.expect("GET", SECRET).await.ok(secret.clone());
        let call = fixture.server.expect("PATCH", SECRET).await;
        assert_eq!(call.body["metadata"]["uid"], "s-1");
        assert_eq!(call.body["metadata"]["resourceVersion"], "3");
        assert_ne!(call.body["data"]["tls.key"], "aHVzaA==");
        let reason = &call.body["metadata"]["annotations"]["certmint.dev/reason"];
        assert!(reason.as_str().unwrap().starts_with("damaged: "), "{reason}");
        replaced(call);
    });
    assert!(matches!(outcome, WorkOutcome::CheckAt(_)), "{outcome:?}");
    assert_eq!(fixture.reasons(), ["Issued", "SecretDamaged", "SecretDamaged", "Renewed"]);
}

#[tokio::test(start_paused = true)]
async fn a_secret_with_an_additional_label_is_kept() {
    let mut fixture = fixture();
    let mut secret = fixture.issue().await;
    secret["metadata"]["resourceVersion"] = "2".into();
    secret["metadata"]["labels"]["team"] = "checkout".into();
    fixture.cache.insert_secret(&seen(&secret));
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("GET", SECRET).await.ok(secret);
    });
    assert!(matches!(outcome, WorkOutcome::CheckAt(_)), "{outcome:?}");
    assert!(fixture.known().verify_at > Instant::now());
    fixture.server.expect_no_call().await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_lags_behind_a_write_reissues_nothing() {
    let mut fixture = fixture();
    let secret = fixture.issue().await;
    // The watch delivers the Secret as it was before the last write.
    let mut earlier = secret.clone();
    earlier["metadata"]["resourceVersion"] = "0".into();
    earlier["metadata"]["annotations"]["certmint.dev/serial"] = "0badcafe".into();
    fixture.cache.insert_secret(&seen(&earlier));
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("GET", SECRET).await.ok(secret);
    });
    assert!(matches!(outcome, WorkOutcome::CheckAt(_)), "{outcome:?}");
    assert_eq!(fixture.reasons(), ["Issued"]);
    fixture.server.expect_no_call().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_removed_only_when_its_workload_opted_out() {
    let mut fixture = fixture();
    fixture.issue().await;
    fixture.cache.remove_workload(WorkloadKind::Deployment, "shop", "payments");
    // The label was removed, but the annotation still opts in.
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("GET", DEPLOYMENT).await.ok(workload());
    });
    assert!(matches!(outcome, WorkOutcome::CheckAt(_)), "{outcome:?}");
    fixture.server.expect_no_call().await;
    // The workload opted out.
    let mut opted_out = workload();
    opted_out["metadata"]["annotations"] = json!({});
    let (_, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("GET", DEPLOYMENT).await.ok(opted_out);
        let call = fixture.server.expect("DELETE", SECRET).await;
        assert_eq!(call.body["preconditions"]["uid"], "s-1");
        call.ok(json!({ "kind": "Status", "status": "Success" }));
    });
    fixture.server.expect_no_call().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_ca_nothing_is_written_and_an_event_is_reported() {
    let mut fixture = fixture();
    fixture.ca.send_modify(|ca| ca.authority = Err(Arc::new(crate::ca::CaFault::NotYet)));
    assert!(matches!(fixture.reconciler.reconcile(&fixture.key).await, WorkOutcome::CheckAt(_)));
    assert_eq!(fixture.reasons(), ["CaUnavailable"]);
    fixture.server.expect_no_call().await;
}

#[tokio::test(start_paused = true)]
async fn a_rejected_call_is_retried_later() {
    let mut fixture = fixture();
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("POST", SECRETS).await.fail(500, "InternalError");
    });
    assert_eq!(outcome, WorkOutcome::Failed);
    assert_eq!(fixture.reasons(), ["CallRefused"]);
}

#[tokio::test(start_paused = true)]
async fn an_exceeded_quota_has_its_own_code_and_is_retried() {
    let mut fixture = fixture();
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        let call = fixture.server.expect("POST", SECRETS).await;
        let message = r#"secrets "payments-certmint-tls" is forbidden: exceeded quota: few, requested: secrets=1, used: secrets=9, limited: secrets=9"#;
        call.fail_with_message(403, "Forbidden", message);
    });
    assert_eq!(outcome, WorkOutcome::Failed);
    assert_eq!(fixture.reasons(), ["QuotaExceeded"]);
}

#[tokio::test(start_paused = true)]
async fn a_terminating_namespace_is_retried_without_an_event() {
    let mut fixture = fixture();
    let before = Instant::now();
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("POST", SECRETS).await.fail(403, "NamespaceTerminating");
    });
    assert_eq!(outcome, WorkOutcome::CheckAt(before + CONFLICT_RETRY_AFTER));
    assert!(fixture.reasons().is_empty(), "{:?}", fixture.reasons());
    fixture.server.expect_no_call().await;
    fixture.issue().await;
}
