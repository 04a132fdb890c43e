//! Tests of the issuance API against the mock API server.

use certmint_contract::{TrustGeneration, WorkloadKind};
use serde_json::{Value, json};

use super::claims::tests::token;
use super::*;
use crate::observe::WorkloadKey;
use crate::reconcile::Reconciler;
use crate::reconcile::fixture::{DEPLOYMENT, Fixture, SECRET, fixture, workload};

const REVIEW: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const POD: &str = "/api/v1/namespaces/shop/pods/payments-1-x";
const REPLICA_SET: &str = "/apis/apps/v1/namespaces/shop/replicasets/payments-1";

fn issuance(fixture: &Fixture) -> IssuanceApi {
    let Reconciler { client, decider, events, metrics, .. } = &*fixture.reconciler;
    IssuanceApi::new(client.clone(), decider.clone(), events.clone(), metrics.clone())
}

fn request(method: &str, path: &str) -> Request<Bytes> {
    with_token(method, path, &token(|_| {}))
}

fn with_token(method: &str, path: &str, token: &str) -> Request<Bytes> {
    let authorization = format!("Bearer {token}");
    let request = Request::builder().method(method).uri(path).header("authorization", authorization);
    request.body(Bytes::new()).unwrap()
}

fn owned_by(kind: &str, name: &str, uid: &str) -> Value {
    json!([{ "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true }])
}

/// Returns a pod of the fixture's Deployment that was not injected.
fn fixture_pod() -> Value {
    let owner = owned_by("ReplicaSet", "payments-1", "r-1");
    json!({ "metadata": { "name": "payments-1-x", "uid": "p-1", "ownerReferences": owner } })
}

fn labelled(mut workload: Value) -> Value {
    workload["metadata"]["labels"] = json!({ "certmint.dev/managed": "true" });
    workload
}

/// Answers the calls about a pod that runs as `account` and claims to belong to the fixture's Deployment.
async fn answer_calls_about_pod(fixture: &mut Fixture, account: &str) {
    answer_calls_about(fixture, account, &fixture_pod()).await;
}

async fn answer_review(fixture: &mut Fixture, account: &str) {
    fixture.server.expect("POST", REVIEW).await.ok(json!({ "status": {
        "authenticated": true, "audiences": ["certmint.dev"],
        "user": { "username": format!("system:serviceaccount:shop:{account}"), "extra": {
            "authentication.kubernetes.io/pod-name": ["payments-1-x"],
            "authentication.kubernetes.io/pod-uid": ["p-1"],
        }},
    }}));
}

async fn answer_calls_about(fixture: &mut Fixture, account: &str, pod: &Value) {
    answer_review(fixture, account).await;
    fixture.server.expect("GET", POD).await.ok(pod.clone());
    let owner = owned_by("Deployment", "payments", "w-1");
    let set = json!({ "metadata": { "name": "payments-1", "uid": "r-1", "ownerReferences": owner } });
    fixture.server.expect("GET", REPLICA_SET).await.ok(set);
}

/// Requests a bundle for a pod of the fixture's Deployment. The API server answers the calls after those about the pod
/// with the results in `then`.
async fn request_bundle(
    fixture: &mut Fixture,
    account: &str,
    then: &[(&str, Result<Value, u16>)],
) -> Result<Bundle, Failure> {
    let issuance = issuance(fixture);
    let request = request("POST", BUNDLE_PATH);
    let answer = issuance.answer(request);
    let (response, ()) = tokio::join!(answer, async {
        answer_calls_about_pod(fixture, account).await;
        for (path, result) in then {
            let call = fixture.server.expect("GET", path).await;
            match result {
                Ok(body) => call.ok(body.clone()),
                Err(404) => call.fail(404, "NotFound"),
                Err(code) => call.fail(*code, "ServiceUnavailable"),
            }
        }
    });
    fixture.server.expect_no_call().await;
    let body = response.body();
    match response.status() {
        StatusCode::OK => Ok(serde_json::from_slice(body).unwrap()),
        _ => Err(serde_json::from_slice(body).unwrap()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_gets_the_content_of_its_workloads_secret() {
    let mut fixture = fixture();
    let secret = fixture.issue().await;
    let bundle = request_bundle(&mut fixture, "default", &[(SECRET, Ok(secret))]).await.unwrap();
    assert!(bundle.certificate.starts_with("-----BEGIN CERTIFICATE-----"));
    assert_eq!(bundle.trust_bundle, *fixture.ca.borrow().trust_bundle.clone().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_pod_gets_the_present_trust_bundle_with_the_certificate_of_an_older_secret() {
    let mut fixture = fixture();
    let secret = fixture.issue().await;
    fixture.add_root();
    let bundle = request_bundle(&mut fixture, "default", &[(SECRET, Ok(secret))]).await.unwrap();
    assert_eq!(bundle.trust_bundle.generation, TrustGeneration::FIRST.next());
    assert_eq!(bundle.trust_bundle, *fixture.ca.borrow().trust_bundle.clone().unwrap());
}

#[tokio::test(start_paused = true)]
async fn delivers_no_wrong_secret_and_rechecks_it() {
    type Damage = fn(&mut Value);
    let damages: [(&str, Damage); 8] = [
        ("tls.key", |secret| secret["data"]["tls.key"] = "aHVzaA==".into()),
        ("has no tls.crt", |secret| drop(secret["data"].as_object_mut().unwrap().remove("tls.crt"))),
        ("not the trust bundle", |secret| secret["data"]["ca.crt"] = secret["data"]["tls.crt"].clone()),
        ("type is Opaque", |secret| secret["type"] = "Opaque".into()),
        ("annotations", |secret| secret["metadata"]["annotations"]["certmint.dev/serial"] = "0bad".into()),
        ("is missing", |secret| {
            drop(secret["metadata"]["annotations"].as_object_mut().unwrap().remove("certmint.dev/not-after"));
        }),
        ("not created for it", |secret| secret["metadata"]["ownerReferences"][0]["uid"] = "w-0".into()),
        ("not created for it", |secret| secret["metadata"]["ownerReferences"] = json!([])),
    ];
    for (why, damage) in damages {
        let mut fixture = fixture();
        let mut secret = fixture.issue().await;
        // The Secret that the watch delivered was valid.
        assert!(fixture.known().verify_at > tokio::time::Instant::now());
        damage(&mut secret);
        let failure = request_bundle(&mut fixture, "default", &[(SECRET, Ok(secret))]).await.unwrap_err();
        assert_eq!(failure.code, ErrorCode::NotYetIssued, "{why}: {failure}");
        assert!(why == "tls.key" || failure.message.contains(why), "{why}: {failure}");
        assert!(fixture.known().verify_at <= tokio::time::Instant::now(), "{why}");
        assert_eq!(fixture.queue.next().await, fixture.key, "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreign_secret_is_a_final_failure() {
    let mut fixture = fixture();
    let foreign = json!({ "metadata": {
        "name": "payments-certmint-tls", "namespace": "shop", "uid": "f", "resourceVersion": "1",
    }});
    let failure = request_bundle(&mut fixture, "default", &[(SECRET, Ok(foreign))]).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::ForeignSecret);
    assert!(
        failure.message.contains("payments-certmint-tls exists and was not created by Certmint"),
        "{failure}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_missing_secret_is_a_transient_failure() {
    let mut fixture = fixture();
    let failure = request_bundle(&mut fixture, "default", &[(SECRET, Err(404))]).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::NotYetIssued);
    assert_eq!(fixture.queue.next().await, fixture.key);
}

#[tokio::test(start_paused = true)]
async fn another_service_account_is_final_once_confirmed() {
    let mut fixture = fixture();
    fixture.issue().await;
    let live = labelled(workload());
    let failure = request_bundle(&mut fixture, "mallory", &[(DEPLOYMENT, Ok(live))]).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::WrongServiceAccount);
    assert!(!failure.code.is_transient());
    // The template has changed, and the watch has not delivered that yet.
    let mut changed = labelled(workload());
    changed["spec"]["template"]["spec"]["serviceAccountName"] = "clerk".into();
    let failure = request_bundle(&mut fixture, "clerk", &[(DEPLOYMENT, Ok(changed))]).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::NotYetIssued);
}

#[tokio::test(start_paused = true)]
async fn not_opted_in_is_final_once_confirmed() {
    let mut fixture = fixture();
    fixture.cache.remove_workload(WorkloadKind::Deployment, "shop", "payments");
    let live = labelled(workload());
    let failure = request_bundle(&mut fixture, "default", &[(DEPLOYMENT, Ok(live))]).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::NotYetIssued);
    let mut opted_out = labelled(workload());
    opted_out["metadata"]["annotations"] = json!({});
    // No watch delivers a workload without Certmint's label.
    for live in [Ok(workload()), Ok(opted_out), Err(404)] {
        let failure = request_bundle(&mut fixture, "default", &[(DEPLOYMENT, live)]).await.unwrap_err();
        assert_eq!(failure.code, ErrorCode::NotOptedIn);
    }
    let failure = request_bundle(&mut fixture, "default", &[(DEPLOYMENT, Err(503))]).await.unwrap_err();
    assert!(failure.code.is_transient(), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn an_unserved_injected_pod_becomes_standalone() {
    const OWN_SECRET: &str = "/api/v1/namespaces/shop/secrets/payments-1-x-certmint-tls";
    let mut fixture = fixture();
    let mut pod = fixture_pod();
    pod["metadata"]["namespace"] = "shop".into();
    pod["metadata"]["labels"] = json!({ "certmint.dev/injected": "true", "pod-template-hash": "1" });
    pod["metadata"]["annotations"] = json!({ "certmint.dev/inject": "true" });
    pod["spec"]["serviceAccountName"] = "clerk".into();
    let issuance = issuance(&fixture);
    let ask = || issuance.answer(request("POST", BUNDLE_PATH));
    // The Deployment's pods run under another account now. The watch has not delivered the pod yet.
    let (response, ()) = tokio::join!(ask(), async {
        answer_calls_about(&mut fixture, "clerk", &pod).await;
        fixture.server.expect("GET", DEPLOYMENT).await.ok(labelled(workload()));
    });
    let failure: Failure = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(failure.code, ErrorCode::NotYetIssued, "{failure}");

    fixture.cache.insert_pod(&crate::reconcile::fixture::seen(&pod));
    let (response, ()) = tokio::join!(ask(), async {
        answer_review(&mut fixture, "clerk").await;
        fixture.server.expect("GET", POD).await.ok(pod.clone());
        // The owner is remembered.
        fixture.server.expect("GET", DEPLOYMENT).await.ok(labelled(workload()));
        fixture.server.expect("GET", OWN_SECRET).await.fail(404, "NotFound");
    });
    let failure: Failure = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(failure.code, ErrorCode::NotYetIssued, "{failure}");
    let key =
        fixture.cache.standalone_pods().pop().map(|standalone| WorkloadKey::of(&standalone.pod)).unwrap();
    let (_, secret) = tokio::join!(fixture.reconciler.reconcile(&key), async {
        let call = fixture.server.expect("POST", "/api/v1/namespaces/shop/secrets").await;
        let mut secret = call.body.clone();
        secret["metadata"]["resourceVersion"] = "1".into();
        secret["metadata"]["namespace"] = "shop".into();
        secret["metadata"]["uid"] = "s-1".into();
        call.ok(secret.clone());
        secret
    });
    assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], "p-1");
    let spiffe_id = &secret["metadata"]["annotations"]["certmint.dev/spiffe-id"];
    assert!(spiffe_id.as_str().unwrap().ends_with("/ns/shop/sa/clerk"), "{spiffe_id}");

    // From now on the API server is asked about the pod only, not about its owner.
    let (response, ()) = tokio::join!(ask(), async {
        answer_review(&mut fixture, "clerk").await;
        fixture.server.expect("GET", POD).await.ok(pod.clone());
        fixture.server.expect("GET", OWN_SECRET).await.ok(secret);
    });
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_final_failure_is_an_event_on_pod_and_workload() {
    let mut fixture = fixture();
    fixture.cache.remove_workload(WorkloadKind::Deployment, "shop", "payments");
    request_bundle(&mut fixture, "default", &[(DEPLOYMENT, Ok(workload()))]).await.unwrap_err();
    let events = std::iter::from_fn(|| fixture.events.try_recv().ok());
    let events: Vec<_> =
        events.map(|event| format!("{} {}/{}", event.reason, event.object.kind, event.object.name)).collect();
    assert_eq!(events, ["NotOptedIn Pod/payments-1-x", "NotOptedIn Deployment/payments"]);
}

#[tokio::test]
async fn other_requests_get_failures_in_the_same_format() {
    let issuance = issuance(&fixture());
    for (method, path, status) in [("POST", "/", 404), ("GET", "/metrics", 404), ("GET", BUNDLE_PATH, 405)] {
        let response = issuance.answer(request(method, path)).await;
        assert_eq!(response.status(), status);
        let failure: Failure = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(failure.code, ErrorCode::BadRequest);
        assert_eq!(response.headers().get(header::ALLOW).is_some(), status == 405);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_without_roots_answers_transiently() {
    let mut fixture = fixture();
    let secret = fixture.issue().await;
    fixture.ca.send_modify(|ca| ca.trust_bundle = None);
    let failure = request_bundle(&mut fixture, "default", &[(SECRET, Ok(secret))]).await.unwrap_err();
    assert!(failure.code.is_transient() && failure.message.contains("the CA is not loaded yet"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn invalid_tokens_cost_the_api_server_nothing() {
    let mut fixture = fixture();
    let issuance = issuance(&fixture);
    let for_vault = token(|payload| payload["aud"] = json!(["vault"]));
    for token in ["abc", "a.b.c", &for_vault] {
        let response = issuance.answer(with_token("POST", BUNDLE_PATH, token)).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{token}");
    }
    fixture.server.expect_no_call().await;
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_is_reviewed_once_in_a_while() {
    let mut fixture = fixture();
    let issuance = issuance(&fixture);
    for _ in 0..2 {
        let (response, ()) = tokio::join!(issuance.answer(request("POST", BUNDLE_PATH)), async {
            fixture.server.expect("POST", REVIEW).await.ok(json!({ "status": { "authenticated": false } }));
        });
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        for _ in 0..10 {
            let response = issuance.answer(request("POST", BUNDLE_PATH)).await;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        }
        fixture.server.expect_no_call().await;
        tokio::time::advance(recent_rejections::REMEMBER_FOR).await;
    }
}

#[tokio::test(start_paused = true)]
async fn invented_tokens_of_one_address_do_not_block_others() {
    let mut fixture = fixture();
    let issuance = std::sync::Arc::new(issuance(&fixture));
    let ask = |address: &str, uid: String| {
        let token = token(|payload| payload["kubernetes.io"]["pod"]["uid"] = uid.into());
        let mut request = with_token("POST", BUNDLE_PATH, &token);
        request.extensions_mut().insert(Peer(address.parse().unwrap()));
        let issuance = std::sync::Arc::clone(&issuance);
        tokio::spawn(async move { issuance.answer(request).await.status() })
    };
    let invented: Vec<_> = (0..100).map(|number| ask("10.0.0.1", format!("p-{number}"))).collect();
    // The API server does not answer the reviews that reach it.
    let mut held = Vec::new();
    for _ in 0..slots::MAX_SLOTS_PER_ADDRESS {
        held.push(fixture.server.expect("POST", REVIEW).await);
    }
    fixture.server.expect_no_call().await;
    let other = ask("10.0.0.2", "p-1".to_owned());
    fixture.server.expect("POST", REVIEW).await.ok(json!({ "status": { "authenticated": false } }));
    assert_eq!(other.await.unwrap(), StatusCode::UNAUTHORIZED);
    // The requests that get no slot are rejected with a status that asks the client to retry.
    let mut rejected = 0;
    for invented in invented.into_iter().skip(slots::MAX_SLOTS_PER_ADDRESS) {
        rejected += usize::from(invented.await.unwrap() == StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(rejected, 100 - slots::MAX_SLOTS_PER_ADDRESS);
}
