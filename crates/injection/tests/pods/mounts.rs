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

/// A volume of that source, mounted like that above the certificate's place.
fn below(source: Value, mount: Value) -> Object {
    let mut volume = source;
    volume["name"] = "x".into();
    let mut mounted = json!({"name": "x", "mountPath": "/app", "readOnly": true});
    mounted.as_object_mut().unwrap().extend(mount.as_object().unwrap().clone());
    let pod = pod().annotated("inject", "true").annotated("mount-path", "/app/tls");
    pod.with_spec("volumes", json!([volume])).with("/spec/containers/0", "volumeMounts", json!([mounted]))
}

#[test]
fn where_no_directory_can_be_made_the_pod_is_refused() {
    let told = "PodConflict: container \"app\" mounts volume \"x\" at /app, read-only and above the certificate's place, so that there is no directory to mount it on; choose another place with annotation certmint.dev/mount-path";
    let empty = || json!({"emptyDir": {}});
    assert_eq!(refusal(&below(empty(), json!({}))), told);
    assert_eq!(refusal(&below(empty(), json!({"mountPath": "/app/"}))), told);
    assert_eq!(refusal(&below(empty(), json!({"subPath": "conf"}))), told);
    assert_eq!(refusal(&below(empty(), json!({"readOnly": false}))), "admitted");
    assert_eq!(refusal(&below(empty(), json!({"mountPath": "/ap"}))), "admitted");
    assert_eq!(refusal(&below(empty(), json!({})).annotated("containers", "other")), "admitted");
    let default =
        pod().annotated("inject", "true").with_spec("volumes", json!([{"name": "run", "emptyDir": {}}]));
    let mounts = json!([{"name": "run", "mountPath": "/var/run", "readOnly": true}]);
    assert!(
        refusal(&default.with("/spec/containers/0", "volumeMounts", mounts))
            .contains("at /var/run, read-only")
    );
    // The deepest mount is what the runtime meets.
    let within = |deeper: Value| {
        let outer = json!({"name": "x", "mountPath": "/", "readOnly": true});
        let volumes = json!([{"name": "x", "emptyDir": {}}, {"name": "y", "emptyDir": {}}]);
        refusal(&below(empty(), json!({})).with_spec("volumes", volumes).with(
            "/spec/containers/0",
            "volumeMounts",
            json!([outer, deeper]),
        ))
    };
    assert_eq!(within(json!({"name": "y", "mountPath": "/app"})), "admitted");
    assert!(within(json!({"name": "y", "mountPath": "/opt"})).contains("volume \"x\" at /, read-only"));
}

#[test]
fn a_directory_that_an_earlier_container_has_made_is_enough() {
    let prepared = |more: Value| {
        let mut mount = json!({"name": "x", "mountPath": "/app"});
        mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        below(json!({"emptyDir": {}}), json!({}))
            .with_spec("initContainers", json!([{"name": "render", "volumeMounts": [mount]}]))
    };
    assert_eq!(refusal(&prepared(json!({}))), "admitted");
    // It gets no certificate, so nothing is made for it.
    assert!(refusal(&prepared(json!({})).annotated("containers", "app")).contains("read-only and above"));
    assert!(refusal(&prepared(json!({"subPath": "y"}))).contains("read-only and above"));
    assert!(refusal(&prepared(json!({"mountPath": "/etc/app"}))).contains("read-only and above"));
}

#[test]
fn where_a_directory_may_be_there_the_user_is_warned() {
    let warnings = |pod: &Object| admit(pod, None).unwrap().warnings;
    let told = "certmint: SuspiciousSetting: container \"app\" mounts volume \"x\" read-only at /app, above the certificate's place /app/tls; without that directory in the volume it cannot start: choose another place with annotation certmint.dev/mount-path";
    let claim = || json!({"persistentVolumeClaim": {"claimName": "data"}});
    let unmarked = || json!({"readOnly": false});
    for doubtful in [
        below(claim(), json!({})),
        below(json!({"hostPath": {"path": "/etc"}}), json!({})),
        below(json!({"persistentVolumeClaim": {"claimName": "data", "readOnly": true}}), unmarked()),
        below(json!({"csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": true}}), unmarked()),
        below(json!({"image": {"reference": "models:1"}}), unmarked()),
        below(json!({"configMap": {"name": "conf"}}), json!({"subPath": "dir", "readOnly": false})),
    ] {
        assert_eq!(warnings(&doubtful), [told]);
    }
    for source in ["configMap", "secret", "projected", "downwardAPI"] {
        assert!(warnings(&below(json!({source: {}}), json!({}))).is_empty(), "{source}");
    }
    assert!(warnings(&below(claim(), unmarked())).is_empty());
    let many: Vec<_> = (0..500)
        .map(|n| json!({"name": format!("{n}{}", "x".repeat(1000)), "volumeMounts": [{"name": "x", "mountPath": "/app", "readOnly": true}]}))
        .collect();
    assert!(
        warnings(&below(claim(), json!({})).with_spec("containers", many.into())).concat().len() < 10_000
    );
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
