//! Snapshots of complete injected pods, as the API server would store them after it applied the patch.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use certmint_testkit::{Object, pod, sample_review};
use serde_json::json;

use common::{admit, created};

fn assert_snapshot(name: &str, pod: &Object) {
    assert!(admit(pod, None).unwrap().warnings.is_empty());
    insta::assert_snapshot!(name, serde_json::to_string_pretty(created(pod).value()).unwrap());
}

#[test]
fn injected_pods() {
    let opted_in = pod().annotated("inject", "true");
    assert_snapshot("standalone_pod", &opted_in);
    assert_snapshot("pod_of_a_deployment", &sample_review().object());
    let nginx = opted_in
        .clone()
        .annotated("reload", "signal:SIGHUP:nginx")
        .annotated("mount-path", "/etc/nginx/tls")
        .with_spec("shareProcessNamespace", json!(true))
        .with_spec("securityContext", json!({"runAsUser": 101, "fsGroup": 101}));
    assert_snapshot("nginx_with_reload", &nginx);
    let job = opted_in
        .owned_by("Job", "report")
        .annotated("renew", "false")
        .annotated("order", "last")
        .with_spec("securityContext", json!({"runAsUser": 0}))
        .with("/spec/containers/0", "securityContext", json!({"capabilities": {"drop": ["ALL"]}}))
        .with_spec("initContainers", json!([{"name": "prepare", "image": "x"}]));
    assert_snapshot("job_without_renewal", &job);
}
