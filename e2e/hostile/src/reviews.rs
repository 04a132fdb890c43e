//! Request bodies for the webhook that are not valid AdmissionReviews, or unusual ones.

use anyhow::Result;
use serde_json::{Value, json};

use crate::connection::exchange;
use crate::{AttackTarget, Input};

/// Inputs with the bodies of this module, and some with unusual headers.
pub(crate) const INPUTS: &[Input] = &[
    ("review", |target| Box::pin(async move { send(target, &review().to_string()).await })),
    ("charset parameter", |target| {
        Box::pin(async move {
            post(target, "Content-Type: application/json; charset=utf-8", &review().to_string()).await
        })
    }),
    ("empty", |target| Box::pin(async move { send(target, "").await })),
    ("truncated", |target| {
        Box::pin(async move {
            let whole = review().to_string();
            send(target, whole.get(..whole.len() / 2).unwrap_or_default()).await
        })
    }),
    ("null", |target| Box::pin(async move { send(target, "null").await })),
    ("empty object", |target| Box::pin(async move { send(target, "{}").await })),
    ("empty list", |target| Box::pin(async move { send(target, "[]").await })),
    ("no request", |target| {
        Box::pin(async move {
            let envelope = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview" });
            send(target, &envelope.to_string()).await
        })
    }),
    ("a ConfigMap instead", |target| {
        Box::pin(async move {
            send(target, &json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": {} }).to_string()).await
        })
    }),
    ("a review of a ConfigMap", |target| {
        Box::pin(async move { send(target, &review_with("/request/kind/kind", "ConfigMap".into())).await })
    }),
    ("a ConfigMap as if it were a Pod", |target| {
        Box::pin(async move {
            let metadata = json!({ "annotations": { "certmint.dev/inject": "true" } });
            let config_map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata });
            send(target, &review_with("/request/object", config_map)).await
        })
    }),
    ("v1beta1", |target| {
        Box::pin(
            async move { send(target, &review_with("/apiVersion", "admission.k8s.io/v1beta1".into())).await },
        )
    }),
    ("v99", |target| {
        Box::pin(
            async move { send(target, &review_with("/apiVersion", "admission.k8s.io/v99".into())).await },
        )
    }),
    ("no uid", |target| {
        Box::pin(async move { send(target, &review_with("/request/uid", Value::Null)).await })
    }),
    ("100,000 deep", |target| {
        Box::pin(
            async move { send(target, &format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))).await },
        )
    }),
    ("100,000 deep in an ignored field", |target| {
        Box::pin(async move {
            let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
            let marked = review_with("/request/object/spec/hostname", "DEEP".into());
            send(target, &marked.replace("\"DEEP\"", &deep)).await
        })
    }),
    ("100,000 unknown annotations", |target| {
        Box::pin(async move {
            let keys = (0..100_000).map(|number| (format!("certmint.dev/x{number}"), "".into()));
            let keys = Value::Object(keys.collect());
            send(target, &review_with("/request/object/metadata/annotations", keys)).await
        })
    }),
    ("300,000 names", |target| {
        Box::pin(async move {
            let names = (0..300_000).map(|number| format!("a{number}.b")).collect::<Vec<_>>().join(",");
            let keys = json!({ "certmint.dev/inject": "true", "certmint.dev/dns-names": names });
            send(target, &review_with("/request/object/metadata/annotations", keys)).await
        })
    }),
    ("gzip bomb", |target| {
        Box::pin(async move {
            let headers = "Content-Type: application/json\r\nContent-Encoding: gzip";
            post(target, headers, &"\u{1f}\u{8b}".repeat(1000)).await
        })
    }),
    ("wrong content type", |target| {
        Box::pin(async move { post(target, "Content-Type: text/plain", &review().to_string()).await })
    }),
    ("no content type", |target| {
        Box::pin(async move { post(target, "X-Nothing: 1", &review().to_string()).await })
    }),
];

/// Returns a valid AdmissionReview of an opted-in pod.
pub(crate) fn review() -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "operation": "CREATE",
            "namespace": "shop",
            "name": "payments",
            "object": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": { "name": "payments", "annotations": { "certmint.dev/inject": "true" } },
                "spec": { "containers": [{ "name": "app", "image": "x" }] },
            },
        },
    })
}

/// Returns the review with another value at a JSON pointer. A missing member is added.
pub(crate) fn review_with(pointer: &str, value: Value) -> String {
    let mut review = review();
    let (parent, member) = pointer.rsplit_once('/').unwrap_or_default();
    if let Some(Value::Object(parent)) = review.pointer_mut(parent) {
        parent.insert(member.to_owned(), value);
    }
    review.to_string()
}

async fn send(target: AttackTarget, body: &str) -> Result<String> {
    post(target, "Content-Type: application/json", body).await
}

async fn post(target: AttackTarget, headers: &str, body: &str) -> Result<String> {
    let head =
        format!("POST /mutate HTTP/1.1\r\nHost: a\r\n{headers}\r\nContent-Length: {}\r\n\r\n", body.len());
    exchange(target, &[head.as_bytes(), body.as_bytes()].concat()).await
}
