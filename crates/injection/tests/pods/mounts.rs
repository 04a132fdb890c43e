//! The certificate's place beside the pod's own mounts.

use crate::common::admit;
use certmint_testkit::{Object, pod};
use serde_json::{Value, json};

/// A pod whose app mounts volume `x` at that path, with the certificate at `/app/tls`.
fn mounting(path: &str, source: &str) -> Object {
    pod()
        .annotated("inject", "true")
        .annotated("mount-path", "/app/tls")
        .with_spec("volumes", json!([{"name": "x", source: {}}]))
        .with("/spec/containers/0", "volumeMounts", json!([{"name": "x", "mountPath": path}]))
}

fn refusal(pod: &Object) -> String {
    admit(pod, None).map_or_else(|refusal| format!("{}: {refusal}", refusal.code()), |_| "admitted".into())
}

#[test]
fn a_mount_at_the_place_or_inside_it_is_refused() {
    let choose = "choose another place with annotation certmint.dev/mount-path";
    let cases = [
        ("/app/tls", "emptyDir", "/app/tls, where the certificate belongs"),
        ("//app/./tls/", "emptyDir", "/app/tls, where the certificate belongs"),
        ("/app/tls/own.crt", "emptyDir", "/app/tls/own.crt, inside the certificate's own place"),
    ];
    for (path, source, what) in cases {
        let expected = format!("PodConflict: container \"app\" mounts volume \"x\" at {what}; {choose}");
        assert_eq!(refusal(&mounting(path, source)), expected);
    }
    for (path, source) in [
        ("/app", "emptyDir"),
        ("/app", "configMap"),
        ("/app/tls2", "configMap"),
        ("/ap", "secret"),
        ("/", "emptyDir"),
    ] {
        assert_eq!(refusal(&mounting(path, source)), "admitted", "{path} {source}");
    }
}

#[test]
fn no_app_can_write_where_the_certificate_is() {
    let told = "PodConflict: container \"app\" mounts volume \"certmint-tls\" at /rw without readOnly: true; add that, or remove the mount, because Certmint adds its own";
    let with = |list: &str, mount: Value| {
        let container = json!([{"name": "app", "volumeMounts": [{"name": "x", "mountPath": "/x"}, mount]}]);
        refusal(
            &pod().annotated("inject", "true").annotated("containers", "other").with_spec(list, container),
        )
    };
    for list in ["containers", "initContainers"] {
        for mount in [
            json!({"name": "certmint-tls", "mountPath": "/rw"}),
            json!({"name": "certmint-tls", "mountPath": "/rw", "readOnly": false}),
        ] {
            assert_eq!(with(list, mount), told);
        }
        let reads = json!({"name": "certmint-tls", "mountPath": "/ro", "readOnly": true});
        assert_eq!(with(list, reads), "admitted");
    }
}

#[test]
fn the_place_does_not_meet_the_token_that_the_api_server_will_mount() {
    let at = |path: &str| pod().annotated("inject", "true").annotated("mount-path", path);
    let around = at("/var/run/secrets");
    assert_eq!(
        refusal(&around),
        "PodConflict: container \"app\" mounts volume \"kube-api-access\" at /var/run/secrets/kubernetes.io/serviceaccount, inside the certificate's own place; choose another place with annotation certmint.dev/mount-path"
    );
    assert!(
        refusal(&at("/var/run/secrets/kubernetes.io/serviceaccount"))
            .contains("where the certificate belongs")
    );
    assert_eq!(refusal(&around.with_spec("automountServiceAccountToken", Value::from(false))), "admitted");
}
