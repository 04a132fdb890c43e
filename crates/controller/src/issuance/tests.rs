use super::{claims::tests::token, *};
use crate::reconcile::{
    Reconciler,
    fixture::{DEPLOYMENT, Fixture, SECRET, fixture, workload},
};
use certmint_contract::WorkloadKind;
use serde_json::{Value, json};

const REVIEW: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const POD: &str = "/api/v1/namespaces/shop/pods/payments-1-x";
const REPLICA_SET: &str = "/apis/apps/v1/namespaces/shop/replicasets/payments-1";

fn issuance(fixture: &Fixture) -> Issuance {
    let Reconciler { client, planning, events, metrics, .. } = &*fixture.reconciler;
    Issuance::new(client.clone(), planning.clone(), events.clone(), metrics.clone())
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

/// A pod of the fixture's Deployment that nobody has injected.
fn fixture_pod() -> Value {
    let owner = owned_by("ReplicaSet", "payments-1", "r-1");
    json!({ "metadata": { "name": "payments-1-x", "uid": "p-1", "ownerReferences": owner } })
}

fn labelled(mut workload: Value) -> Value {
    workload["metadata"]["labels"] = json!({ "certmint.dev/managed": "true" });
    workload
}

/// Answers what is asked about a pod that runs as `account` and says that it is of the fixture's Deployment.
async fn introduce(fixture: &mut Fixture, account: &str) {
    introduce_pod(fixture, account, &fixture_pod()).await;
}

async fn review(fixture: &mut Fixture, account: &str) {
    fixture.server.expect("POST", REVIEW).await.ok(json!({ "status": {
        "authenticated": true, "audiences": ["certmint.dev"],
        "user": { "username": format!("system:serviceaccount:shop:{account}"), "extra": {
            "authentication.kubernetes.io/pod-name": ["payments-1-x"],
            "authentication.kubernetes.io/pod-uid": ["p-1"],
        }},
    }}));
}

async fn introduce_pod(fixture: &mut Fixture, account: &str, pod: &Value) {
    review(fixture, account).await;
    fixture.server.expect("GET", POD).await.ok(pod.clone());
    let owner = owned_by("Deployment", "payments", "w-1");
    let set = json!({ "metadata": { "name": "payments-1", "uid": "r-1", "ownerReferences": owner } });
    fixture.server.expect("GET", REPLICA_SET).await.ok(set);
}

/// What the issuance API answers to that pod, while the API server answers as `then` says.
async fn answer(
    fixture: &mut Fixture,
    account: &str,
    then: &[(&str, Result<Value, u16>)],
) -> Result<Bundle, Failure> {
    let issuance = issuance(fixture);
    let request = request("POST", BUNDLE_PATH);
    let answer = issuance.answer(request);
    let (response, ()) = tokio::join!(answer, async {
        introduce(fixture, account).await;
        for (path, result) in then {
            let call = fixture.server.expect("GET", path).await;
            match result {
                Ok(body) => call.ok(body.clone()),
                Err(404) => call.fail(404, "NotFound"),
                Err(code) => call.fail(*code, "ServiceUnavailable"),
            }
        }
    });
    fixture.server.expect_silence().await;
    let body = response.body();
    match response.status() {
        StatusCode::OK => Ok(serde_json::from_slice(body).unwrap()),
        _ => Err(serde_json::from_slice(body).unwrap()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_the_workload_is_given_what_its_secret_holds() {
    let mut fixture = fixture();
    let secret = fixture.issue().await;
    let bundle = answer(&mut fixture, "default", &[(SECRET, Ok(secret))]).await.unwrap();
    assert!(bundle.certificate.starts_with("-----BEGIN CERTIFICATE-----"));
    assert_eq!(bundle.trust_bundle, *fixture.ca.borrow().roots.clone().unwrap());
}

#[tokio::test(start_paused = true)]
async fn whatever_is_wrong_with_the_secret_nothing_is_given_and_it_is_looked_at_again() {
    type Spoil = fn(&mut Value);
    let spoils: [(&str, Spoil); 8] = [
        ("tls.key", |secret| secret["data"]["tls.key"] = "aHVzaA==".into()),
        ("has no tls.crt", |secret| drop(secret["data"].as_object_mut().unwrap().remove("tls.crt"))),
        ("not the trust bundle", |secret| secret["data"]["ca.crt"] = secret["data"]["tls.crt"].clone()),
        ("type is Opaque", |secret| secret["type"] = "Opaque".into()),
        ("annotations", |secret| secret["metadata"]["annotations"]["certmint.dev/serial"] = "0bad".into()),
        ("is missing", |secret| {
            drop(secret["metadata"]["annotations"].as_object_mut().unwrap().remove("certmint.dev/not-after"));
        }),
        ("not made for it", |secret| secret["metadata"]["ownerReferences"][0]["uid"] = "w-0".into()),
        ("not made for it", |secret| secret["metadata"]["ownerReferences"] = json!([])),
    ];
    for (why, spoil) in spoils {
        let mut fixture = fixture();
        let mut secret = fixture.issue().await;
        // What the watch told of it was right.
        assert!(fixture.known().verify_at > tokio::time::Instant::now());
        spoil(&mut secret);
        let refused = answer(&mut fixture, "default", &[(SECRET, Ok(secret))]).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::NotYetIssued, "{why}: {refused}");
        assert!(why == "tls.key" || refused.message.contains(why), "{why}: {refused}");
        assert!(fixture.known().verify_at <= tokio::time::Instant::now(), "{why}");
        assert_eq!(fixture.queue.next().await, fixture.key, "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreign_secret_is_refused_for_good() {
    let mut fixture = fixture();
    let foreign = json!({ "metadata": {
        "name": "payments-certmint-tls", "namespace": "shop", "uid": "f", "resourceVersion": "1",
    }});
    let refused = answer(&mut fixture, "default", &[(SECRET, Ok(foreign))]).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::ForeignSecret);
    assert!(
        refused.message.contains("payments-certmint-tls exists and was not made by Certmint"),
        "{refused}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_not_there_is_awaited() {
    let mut fixture = fixture();
    let refused = answer(&mut fixture, "default", &[(SECRET, Err(404))]).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotYetIssued);
    assert_eq!(fixture.queue.next().await, fixture.key);
}

#[tokio::test(start_paused = true)]
async fn another_service_account_is_refused_for_good_once_the_api_server_confirms_the_workloads() {
    let mut fixture = fixture();
    fixture.issue().await;
    let live = labelled(workload());
    let refused = answer(&mut fixture, "mallory", &[(DEPLOYMENT, Ok(live))]).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::WrongServiceAccount);
    assert!(!refused.code.is_transient());
    // The template has changed, and this replica was not told yet.
    let mut changed = labelled(workload());
    changed["spec"]["template"]["spec"]["serviceAccountName"] = "clerk".into();
    let refused = answer(&mut fixture, "clerk", &[(DEPLOYMENT, Ok(changed))]).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotYetIssued);
}

#[tokio::test(start_paused = true)]
async fn that_a_workload_did_not_opt_in_is_said_only_when_it_says_so_itself() {
    let mut fixture = fixture();
    fixture.observed.unsee(WorkloadKind::Deployment, "shop", "payments");
    let live = labelled(workload());
    let refused = answer(&mut fixture, "default", &[(DEPLOYMENT, Ok(live))]).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotYetIssued);
    let mut opted_out = labelled(workload());
    opted_out["metadata"]["annotations"] = json!({});
    // No watch is ever going to tell of one without our label.
    for live in [Ok(workload()), Ok(opted_out), Err(404)] {
        let refused = answer(&mut fixture, "default", &[(DEPLOYMENT, live)]).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::NotOptedIn);
    }
    let refused = answer(&mut fixture, "default", &[(DEPLOYMENT, Err(503))]).await.unwrap_err();
    assert!(refused.code.is_transient(), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn an_injected_pod_that_its_workload_does_not_serve_gets_a_certificate_of_its_own() {
    const OWN_SECRET: &str = "/api/v1/namespaces/shop/secrets/payments-1-x-certmint-tls";
    let mut fixture = fixture();
    let mut pod = fixture_pod();
    pod["metadata"]["namespace"] = "shop".into();
    pod["metadata"]["labels"] = json!({ "certmint.dev/injected": "true", "pod-template-hash": "1" });
    pod["metadata"]["annotations"] = json!({ "certmint.dev/inject": "true" });
    pod["spec"]["serviceAccountName"] = "clerk".into();
    let issuance = issuance(&fixture);
    let ask = || issuance.answer(request("POST", BUNDLE_PATH));
    // The Deployment's pods run under another account by now; no watch has told of the pod.
    let (response, ()) = tokio::join!(ask(), async {
        introduce_pod(&mut fixture, "clerk", &pod).await;
        fixture.server.expect("GET", DEPLOYMENT).await.ok(labelled(workload()));
    });
    let refused: Failure = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(refused.code, ErrorCode::NotYetIssued, "{refused}");

    fixture.observed.see_pod(&crate::reconcile::fixture::seen(&pod));
    let (response, ()) = tokio::join!(ask(), async {
        review(&mut fixture, "clerk").await;
        fixture.server.expect("GET", POD).await.ok(pod.clone());
        // The owner is remembered.
        fixture.server.expect("GET", DEPLOYMENT).await.ok(labelled(workload()));
        fixture.server.expect("GET", OWN_SECRET).await.fail(404, "NotFound");
    });
    let refused: Failure = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(refused.code, ErrorCode::NotYetIssued, "{refused}");
    let key = fixture.observed.pods_alone().pop().map(|alone| WorkloadKey::of(&alone.pod)).unwrap();
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

    // What is known of the pod is enough from now on.
    let (response, ()) = tokio::join!(ask(), async {
        review(&mut fixture, "clerk").await;
        fixture.server.expect("GET", POD).await.ok(pod.clone());
        fixture.server.expect("GET", OWN_SECRET).await.ok(secret);
    });
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_final_refusal_is_told_on_the_pod_and_on_its_workload() {
    let mut fixture = fixture();
    fixture.observed.unsee(WorkloadKind::Deployment, "shop", "payments");
    answer(&mut fixture, "default", &[(DEPLOYMENT, Ok(workload()))]).await.unwrap_err();
    let told: Vec<_> = std::iter::from_fn(|| fixture.told.try_recv().ok()).collect();
    let told: Vec<_> = told
        .iter()
        .map(|told| format!("{} {}/{}", told.reason, told.subject.kind, told.subject.name))
        .collect();
    assert_eq!(told, ["NotOptedIn Pod/payments-1-x", "NotOptedIn Deployment/payments"]);
}

#[tokio::test]
async fn what_is_no_request_for_a_bundle_is_answered_in_the_same_shape() {
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
async fn a_replica_that_knows_too_little_says_so() {
    let mut fixture = fixture();
    let secret = fixture.issue().await;
    fixture.ca.send_modify(|ca| ca.roots = None);
    let refused = answer(&mut fixture, "default", &[(SECRET, Ok(secret))]).await.unwrap_err();
    assert!(refused.code.is_transient() && refused.message.contains("the CA is not loaded yet"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_a_good_token_costs_the_api_server_nothing() {
    let mut fixture = fixture();
    let issuance = issuance(&fixture);
    let for_vault = token(|payload| payload["aud"] = json!(["vault"]));
    for token in ["abc", "a.b.c", &for_vault] {
        let response = issuance.answer(with_token("POST", BUNDLE_PATH, token)).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{token}");
    }
    fixture.server.expect_silence().await;
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
        fixture.server.expect_silence().await;
        tokio::time::advance(remembered::REMEMBERED).await;
    }
}

#[tokio::test(start_paused = true)]
async fn invented_tokens_of_one_address_keep_nobody_else_waiting() {
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
    // The API server holds back each of those reviews that reaches it.
    let mut held = Vec::new();
    for _ in 0..turns::MAX_OF_ONE {
        held.push(fixture.server.expect("POST", REVIEW).await);
    }
    fixture.server.expect_silence().await;
    let other = ask("10.0.0.2", "p-1".to_owned());
    fixture.server.expect("POST", REVIEW).await.ok(json!({ "status": { "authenticated": false } }));
    assert_eq!(other.await.unwrap(), StatusCode::UNAUTHORIZED);
    // Most of the others are told to come again.
    let mut refused = 0;
    for invented in invented.into_iter().skip(turns::MAX_OF_ONE) {
        refused += usize::from(invented.await.unwrap() == StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(refused, 100 - turns::MAX_OF_ONE);
}
