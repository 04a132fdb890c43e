//! Calls the webhook's handler without a socket: valid reviews, and requests that are not valid reviews.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails with a panic")]

use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use certmint_contract::Policy;
use certmint_server::{Handler, ServingKeyPair};
use certmint_testkit::{Object, Review, create, deployment, pod, sample_review, settings, update};
use certmint_webhook::{Admission, Endpoint, Metrics};
use http::{Method, Request, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

struct Webhook {
    endpoint: Endpoint,
    registry: Registry,
}

fn webhook() -> Webhook {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry, Arc::new(ServingKeyPair::default()));
    let admission = Admission::new(Policy::default(), metrics);
    admission.set_settings(settings());
    Webhook { endpoint: Endpoint(Arc::new(admission)), registry }
}

fn request(body: impl Into<Bytes>) -> Request<Bytes> {
    let request = Request::builder().method(Method::POST).uri("/mutate");
    request.header("content-type", "application/json").body(body.into()).unwrap()
}

async fn send(request: Request<Bytes>) -> Response<Bytes> {
    webhook().endpoint.handle(request).await
}

/// Sends a review, and returns `response` of the AdmissionReview in the answer.
async fn review(review: &Review) -> Value {
    let response = send(request(review.json())).await;
    assert_eq!(response.status(), 200);
    let answer: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(answer["response"]["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
    answer["response"].clone()
}

fn opted_in() -> Object {
    pod().annotated("inject", "true")
}

#[tokio::test]
async fn an_opted_in_pod_gets_a_json_patch_that_applies() {
    let sample = sample_review();
    let response = review(&sample).await;
    assert_eq!(response["allowed"], true);
    assert_eq!(response["patchType"], "JSONPatch");
    let patch =
        base64::engine::general_purpose::STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut patched = sample.object().value().clone();
    json_patch::patch(&mut patched, &patch).unwrap();
    assert_eq!(patched["spec"]["initContainers"][0]["name"], "certmint");
    assert_eq!(patched["metadata"]["labels"]["certmint.dev/injected"], "true");
}

#[tokio::test]
async fn a_rejection_is_short_and_on_one_line() {
    let name = format!("a\n{}", "x".repeat(1024 * 1024));
    let mount = json!([{"name": "x", "mountPath": "/var/run/secrets/certmint.dev"}]);
    let response =
        review(&create(&opted_in().with_spec("containers", json!([{"name": name, "volumeMounts": mount}]))))
            .await;
    let message = response["status"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("PodConflict: container \"a xxx"),
        "{}",
        message.escape_debug().take(80).collect::<String>()
    );
    assert!(message.len() < 5000, "{}", message.len());
}

#[tokio::test]
async fn an_object_without_opt_in_is_allowed_without_a_patch() {
    for object in [pod(), deployment()] {
        let response = review(&create(&object)).await;
        assert_eq!(response, json!({"uid": response["uid"], "allowed": true}));
    }
}

#[tokio::test]
async fn a_dry_run_gets_the_same_answer() {
    let dry = sample_review().with("/request", "dryRun", true.into());
    assert_eq!(review(&dry).await, review(&sample_review()).await);
}

#[tokio::test]
async fn a_rejection_has_a_code_and_a_message() {
    let banana = deployment().annotated("inject", "true").annotated("duration", "banana");
    let response = review(&update(&deployment(), &banana)).await;
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"]["code"], 422);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("InvalidAnnotation: annotation certmint.dev/duration: \"banana\""),
        "{message}"
    );
    let late = review(&update(&pod(), &opted_in())).await;
    assert_eq!(late["status"]["code"], 409);
}

#[tokio::test]
async fn warnings_reach_the_user() {
    let host = opted_in().with_spec("hostNetwork", true.into());
    let response = review(&create(&host)).await;
    assert!(response["warnings"][0].as_str().unwrap().contains("ClusterFirstWithHostNet"));
}

#[tokio::test]
async fn namespace_and_name_come_from_the_request() {
    let anonymous =
        opted_in().with("/metadata", "namespace", Value::Null).with("/metadata", "name", Value::Null);
    let named = create(&anonymous).with("/request", "name", "payments".into());
    assert!(review(&named).await["patch"].is_string());
    let nowhere = create(&opted_in()).with("/request", "namespace", "".into());
    assert_eq!(review(&nowhere).await["status"]["code"], 400);
}

#[tokio::test]
async fn an_object_of_a_foreign_kind_is_ignored() {
    let config_map = create(&opted_in()).with("/request/kind", "kind", "ConfigMap".into());
    let response = review(&config_map).await;
    assert_eq!(response["allowed"], true);
    assert!(response["patch"].is_null());
    assert!(response["warnings"][0].as_str().unwrap().contains("Certmint does not inject into a ConfigMap"));
    let foreign_group = create(&opted_in()).with("/request/kind", "group", "example.com".into());
    assert!(review(&foreign_group).await["patch"].is_null());
    let deleted = create(&opted_in()).with("/request", "operation", "DELETE".into());
    assert_eq!(review(&deleted).await["allowed"], true);
    assert!(review(&deleted.with("/request", "object", Value::Null)).await["patch"].is_null());
}

#[tokio::test]
async fn a_malformed_object_is_rejected() {
    for object in [
        Value::Null,
        json!([]),
        json!("pod"),
        json!({"metadata": []}),
        json!({"metadata": {"annotations": {"certmint.dev/inject": 1}}}),
    ] {
        let response = review(&create(&opted_in()).with("/request", "object", object)).await;
        assert_eq!(response["allowed"], false);
        assert!(response["status"]["message"].as_str().unwrap().starts_with("BadReview"));
    }
}

#[tokio::test]
async fn a_body_that_is_not_a_review_gets_400() {
    let valid = create(&opted_in()).json();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_object = valid.replacen("\"spec\":", &format!("\"deep\":{deep},\"spec\":"), 1);
    let bodies = [
        String::new(),
        valid[..valid.len() / 2].to_owned(),
        "null".into(),
        "{}".into(),
        "[]".into(),
        "\u{feff}{}".into(),
        r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#.into(),
        r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{}}"#.into(),
        valid.replace("AdmissionReview", "Pod"),
        valid.replace("admission.k8s.io/v1", "admission.k8s.io/v99"),
        valid.replace("705ab4f5-6393-11e8-b7cc-42010a800002", ""),
        deep,
    ];
    for body in bodies {
        let excerpt = certmint_contract::excerpt(&body);
        let response = send(request(body)).await;
        assert_eq!(response.status(), 400, "{excerpt}");
        let failure: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(failure["code"], "BadReview", "{excerpt}");
    }
    assert_eq!(send(request(vec![0xff, 0xfe, 0x00])).await.status(), 400);
    // The webhook does not decode fields that it does not need, so their depth does not matter.
    assert_eq!(send(request(deep_object)).await.status(), 200);
}

#[tokio::test]
async fn null_means_missing() {
    let named = create(&opted_in()).with("/request", "subResource", Value::Null);
    assert!(review(&named).await["patch"].is_string());
    let send_without = async |key| {
        let body = create(&opted_in()).with("/request", key, Value::Null).json();
        let response = send(request(body)).await;
        (response.status(), String::from_utf8_lossy(response.body()).into_owned())
    };
    for key in ["uid", "operation", "kind"] {
        let (status, failure) = send_without(key).await;
        assert_eq!(status, 400);
        assert!(failure.contains(&format!("has no request.{key}")), "{failure}");
    }
}

#[tokio::test]
async fn v1beta1_is_rejected_with_the_setting_to_change() {
    let old = create(&opted_in()).json().replace("admission.k8s.io/v1", "admission.k8s.io/v1beta1");
    let response = send(request(old)).await;
    assert_eq!(response.status(), 400);
    assert!(String::from_utf8_lossy(response.body()).contains("admissionReviewVersions"));
}

#[tokio::test]
async fn only_uncompressed_json_posted_to_mutate_is_read() {
    let body = create(&opted_in()).json();
    let status = async |method: &str, path: &str, headers: &[(&str, &str)]| {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = send(request.body(body.clone().into()).unwrap()).await;
        let failure: Value = serde_json::from_slice(response.body()).unwrap();
        assert!(response.status() == 200 || failure["code"] == "BadRequest", "{failure}");
        response.status().as_u16()
    };
    assert_eq!(
        status("POST", "/mutate?timeout=5s", &[("content-type", "application/json; charset=utf-8")]).await,
        200
    );
    assert_eq!(status("POST", "/mutate", &[]).await, 415);
    assert_eq!(status("POST", "/mutate", &[("content-type", "text/plain")]).await, 415);
    let gzip = [("content-type", "application/json"), ("content-encoding", "gzip")];
    assert_eq!(status("POST", "/mutate", &gzip).await, 415);
    assert_eq!(status("GET", "/mutate", &[("content-type", "application/json")]).await, 405);
    assert_eq!(status("POST", "/", &[("content-type", "application/json")]).await, 404);
}

#[tokio::test]
async fn without_a_trust_bundle_reviews_get_503() {
    let metrics = Metrics::register(&mut Registry::default(), Arc::new(ServingKeyPair::default()));
    let admission = Arc::new(Admission::new(Policy::default(), metrics));
    assert!(admission.ready().is_err());
    let response = Endpoint(admission).handle(request(sample_review().json())).await;
    assert_eq!(response.status(), 503);
}

#[tokio::test]
async fn a_new_policy_is_used_from_the_next_review_on() {
    let webhook = webhook();
    let hour = create(&opted_in().annotated("duration", "1h")).json();
    let allowed = async || {
        let response = webhook.endpoint.handle(request(hour.clone())).await;
        serde_json::from_slice::<Value>(response.body()).unwrap()["response"]["allowed"].clone()
    };
    assert_eq!(allowed().await, true);
    let policy = br#"{"shortestDuration":"2h"}"#;
    webhook.endpoint.0.set_policy(Policy::from_json(policy).unwrap());
    assert_eq!(allowed().await, false);
}

#[tokio::test]
async fn reviews_are_counted_by_kind_and_outcome() {
    let webhook = webhook();
    for body in [create(&opted_in()).json(), create(&deployment()).json(), "null".into()] {
        webhook.endpoint.handle(request(body)).await;
    }
    let mut text = String::new();
    encode(&mut text, &webhook.registry).unwrap();
    for line in [
        "certmint_webhook_reviews_total{kind=\"Pod\",outcome=\"Patched\"} 1",
        "certmint_webhook_reviews_total{kind=\"Deployment\",outcome=\"Unchanged\"} 1",
        "certmint_webhook_reviews_total{kind=\"other\",outcome=\"Invalid\"} 1",
        "certmint_webhook_review_duration_seconds_count{outcome=\"Patched\"} 1",
        "certmint_webhook_refusals_total{code=\"NotAllowed\"} 0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
