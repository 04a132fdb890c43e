use super::{
    fixture::{DEPLOYMENT, SECRET, SECRETS, fixture, replaced, seen, workload, written_by_us},
    *,
};
use certmint_contract::WorkloadKind;
use serde_json::{Value, json};
use std::sync::Arc;

#[tokio::test(start_paused = true)]
async fn a_new_workload_costs_one_write_and_an_event() {
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
    // The write itself was taken note of: nothing is left to do, whether or not the watch told of it.
    assert!(matches!(fixture.reconciler.reconcile(&fixture.key).await, WorkOutcome::CheckAt(_)));
    fixture.server.expect_silence().await;
}

#[tokio::test(start_paused = true)]
async fn a_foreign_secret_of_that_name_is_read_and_left_alone_until_it_is_gone() {
    let mut fixture = fixture();
    let foreign = json!({ "metadata": {
        "name": "payments-certmint-tls", "namespace": "shop", "uid": "f", "resourceVersion": "1",
    }});
    for first in [true, false, false] {
        let before = Instant::now();
        let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
            // Once it is known to be there, no key is made in vain.
            if first {
                fixture.server.expect("POST", SECRETS).await.fail(409, "AlreadyExists");
            }
            fixture.server.expect("GET", SECRET).await.ok(foreign.clone());
        });
        assert_eq!(outcome, WorkOutcome::CheckAt(before + BLOCKED_REST));
    }
    let told: Vec<_> = std::iter::from_fn(|| fixture.told.try_recv().ok()).collect();
    let about: Vec<_> = told.iter().map(|event| event.subject.kind).collect();
    assert_eq!(about, ["Deployment", "Secret"]);
    assert!(told.iter().all(|event| event.reason == "ForeignSecret"));
    assert_eq!(told[1].subject.uid.as_deref(), Some("f"));
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("GET", SECRET).await.fail(404, "NotFound");
        fixture.server.expect("POST", SECRETS).await.written("2");
    });
    assert!(matches!(outcome, WorkOutcome::CheckAt(_)), "{outcome:?}");
    assert_eq!(fixture.reasons(), ["Issued"]);
    fixture.server.expect_silence().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_lost_our_label_gets_it_back() {
    let mut fixture = fixture();
    let mut secret = fixture.issue().await;
    secret["metadata"]["labels"] = json!({});
    secret["metadata"]["resourceVersion"] = "2".into();
    // The watch selects by the label, so that to it the Secret is gone.
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
    fixture.server.expect_silence().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_cannot_be_changed_is_created_anew() {
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
async fn the_event_of_a_certificate_tells_its_end_as_the_secret_does() {
    let mut fixture = fixture();
    let secret = fixture.issue().await;
    let note = fixture.told.try_recv().unwrap().note;
    let end = secret["metadata"]["annotations"]["certmint.dev/not-after"].as_str().unwrap();
    assert!(note.contains(&format!("valid until {end}, for ")), "{note}");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_refused_for_another_reason_deletes_nothing() {
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
    fixture.server.expect_silence().await;
}

#[tokio::test(start_paused = true)]
async fn at_the_start_only_what_others_wrote_is_read_at_once_and_the_rest_within_the_hour() {
    let secret = fixture().issue().await;
    for (ours, seen_first) in [(true, written_by_us(&secret)), (false, secret)] {
        // Another process, which has not seen it before; the roots are of another CA, so that a look shows.
        let mut fixture = fixture();
        fixture.cache.insert_secret(&seen(&seen_first));
        let wait = fixture.known().verify_at.saturating_duration_since(Instant::now());
        assert_eq!(wait >= Duration::from_secs(1_800), ours);
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
async fn who_writes_only_whose_a_secret_is_has_it_read_and_written_anew() {
    let mut secret = fixture().issue().await;
    assert_eq!(secret["data"]["workload"], "RGVwbG95bWVudC9wYXltZW50cw==");
    secret = written_by_us(&secret);
    let fields = secret["metadata"]["managedFields"][0].clone();
    let data = secret["metadata"]["managedFields"][0]["fieldsV1"]["f:data"].as_object_mut().unwrap();
    let taken = data.remove("f:workload").unwrap();
    let mut others = fields;
    others["manager"] = "kubectl".into();
    others["fieldsV1"] = json!({ "f:data": { "f:workload": taken } });
    secret["metadata"]["managedFields"].as_array_mut().unwrap().push(others);
    let fixture = fixture();
    fixture.cache.insert_secret(&seen(&secret));
    assert!(fixture.known().verify_at <= Instant::now());
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_another_leader_issued_meanwhile_is_kept() {
    let mut fixture = fixture();
    let secret = fixture.issue().await;
    fixture.cache.forget_secret(&fixture.key.namespace, &"payments-certmint-tls".parse().unwrap());
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("POST", SECRETS).await.fail(409, "AlreadyExists");
        fixture.server.expect("GET", SECRET).await.ok(secret);
    });
    assert!(matches!(outcome, WorkOutcome::CheckAt(_)), "{outcome:?}");
    assert_eq!(fixture.reasons(), ["Issued"]);
    fixture.server.expect_silence().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_changed_by_hand_is_read_and_replaced_exactly_as_it_was_seen() {
    let mut fixture = fixture();
    let mut secret = fixture.issue().await;
    secret["metadata"]["resourceVersion"] = "2".into();
    secret["data"]["tls.key"] = "aHVzaA==".into();
    fixture.cache.insert_secret(&seen(&secret));
    assert_eq!(fixture.known().verify_at, Instant::now());
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("GET", SECRET).await.ok(secret.clone());
        // Somebody is faster: what is there now is looked at before anything else is written.
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
async fn an_untouched_secret_that_only_got_a_label_is_kept() {
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
    fixture.server.expect_silence().await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_lags_behind_our_own_writes_renews_nothing() {
    let mut fixture = fixture();
    let secret = fixture.issue().await;
    // What the watch tells only now is the certificate before the one that was just written.
    let mut earlier = secret.clone();
    earlier["metadata"]["resourceVersion"] = "0".into();
    earlier["metadata"]["annotations"]["certmint.dev/serial"] = "0badcafe".into();
    fixture.cache.insert_secret(&seen(&earlier));
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("GET", SECRET).await.ok(secret);
    });
    assert!(matches!(outcome, WorkOutcome::CheckAt(_)), "{outcome:?}");
    assert_eq!(fixture.reasons(), ["Issued"]);
    fixture.server.expect_silence().await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_goes_only_when_its_workload_says_so_itself() {
    let mut fixture = fixture();
    fixture.issue().await;
    fixture.cache.remove_workload(WorkloadKind::Deployment, "shop", "payments");
    // The label is gone, but the workload still asks: it is looked at again when renewal is due.
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("GET", DEPLOYMENT).await.ok(workload());
    });
    assert!(matches!(outcome, WorkOutcome::CheckAt(_)), "{outcome:?}");
    fixture.server.expect_silence().await;
    // It opted out.
    let mut opted_out = workload();
    opted_out["metadata"]["annotations"] = json!({});
    let (_, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("GET", DEPLOYMENT).await.ok(opted_out);
        let call = fixture.server.expect("DELETE", SECRET).await;
        assert_eq!(call.body["preconditions"]["uid"], "s-1");
        call.ok(json!({ "kind": "Status", "status": "Success" }));
    });
    fixture.server.expect_silence().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_ca_nothing_is_written_and_the_workload_is_told() {
    let mut fixture = fixture();
    fixture.ca.send_modify(|ca| ca.authority = Err(Arc::new(crate::ca::CaFault::NotYet)));
    assert!(matches!(fixture.reconciler.reconcile(&fixture.key).await, WorkOutcome::CheckAt(_)));
    assert_eq!(fixture.reasons(), ["CaUnavailable"]);
    fixture.server.expect_silence().await;
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_refuses_is_tried_again_later() {
    let mut fixture = fixture();
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("POST", SECRETS).await.fail(500, "InternalError");
    });
    assert_eq!(outcome, WorkOutcome::Failed);
    assert_eq!(fixture.reasons(), ["CallRefused"]);
}

#[tokio::test(start_paused = true)]
async fn a_quota_is_called_by_its_name_and_tried_again() {
    let mut fixture = fixture();
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        let call = fixture.server.expect("POST", SECRETS).await;
        let message = r#"secrets "payments-certmint-tls" is forbidden: exceeded quota: few, requested: secrets=1, used: secrets=9, limited: secrets=9"#;
        call.refuse(403, "Forbidden", message);
    });
    assert_eq!(outcome, WorkOutcome::Failed);
    assert_eq!(fixture.reasons(), ["QuotaExceeded"]);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_being_deleted_is_no_trouble_and_may_be_made_anew() {
    let mut fixture = fixture();
    let before = Instant::now();
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("POST", SECRETS).await.fail(403, "NamespaceTerminating");
    });
    assert_eq!(outcome, WorkOutcome::CheckAt(before + BLOCKED_REST));
    assert!(fixture.reasons().is_empty(), "{:?}", fixture.reasons());
    fixture.server.expect_silence().await;
    fixture.issue().await;
}
