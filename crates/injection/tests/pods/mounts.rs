//! The mount of the certificate next to the mounts of the user.

use certmint_testkit::{Object, pod};
use serde_json::{Value, json};

use crate::common::admit;
use crate::rejection;

/// Returns a pod with the certificate at `/app/tls`. Its container `app` mounts volume `x` at `path`.
fn pod_with_mount(path: &str, source: &str) -> Object {
    pod()
        .annotated("inject", "true")
        .annotated("mount-path", "/app/tls")
        .with_spec("volumes", json!([{"name": "x", source: {}}]))
        .with("/spec/containers/0", "volumeMounts", json!([{"name": "x", "mountPath": path}]))
}

#[test]
fn rejects_a_mount_at_the_path_or_below() {
    let choose = "choose another path with annotation certmint.dev/mount-path";
    let cases = [
        ("/app/tls", "emptyDir", "/app/tls, the path of the certificate"),
        ("//app/./tls/", "emptyDir", "/app/tls, the path of the certificate"),
        ("/app/tls/own.crt", "emptyDir", "/app/tls/own.crt, below the path of the certificate"),
    ];
    for (path, source, what) in cases {
        let expected = format!("PodConflict: container \"app\" mounts volume \"x\" at {what}; {choose}");
        assert_eq!(rejection(&pod_with_mount(path, source)), expected);
    }
    for (path, source) in [
        ("/app", "emptyDir"),
        ("/app", "configMap"),
        ("/app/tls2", "configMap"),
        ("/ap", "secret"),
        ("/", "emptyDir"),
    ] {
        assert_eq!(rejection(&pod_with_mount(path, source)), "admitted", "{path} {source}");
    }
}

/// Returns a pod with the certificate at `/app/tls`. Its container `app` mounts volume `x` read-only above, at `/app`.
/// `source` is the source of the volume, and `mount` overrides fields of the mount.
fn pod_with_mount_above(source: Value, mount: Value) -> Object {
    let mut volume = source;
    volume["name"] = "x".into();
    let mut mounted = json!({"name": "x", "mountPath": "/app", "readOnly": true});
    mounted.as_object_mut().unwrap().extend(mount.as_object().unwrap().clone());
    let pod = pod().annotated("inject", "true").annotated("mount-path", "/app/tls");
    pod.with_spec("volumes", json!([volume])).with("/spec/containers/0", "volumeMounts", json!([mounted]))
}

#[test]
fn rejects_a_read_only_mount_without_the_directory() {
    let message = "PodConflict: container \"app\" mounts volume \"x\" at /app, read-only and above the path of the certificate, so that its directory cannot be created; choose another path with annotation certmint.dev/mount-path";
    let empty = || json!({"emptyDir": {}});
    assert_eq!(rejection(&pod_with_mount_above(empty(), json!({}))), message);
    assert_eq!(rejection(&pod_with_mount_above(empty(), json!({"mountPath": "/app/"}))), message);
    assert_eq!(rejection(&pod_with_mount_above(empty(), json!({"subPath": "conf"}))), message);
    assert_eq!(rejection(&pod_with_mount_above(empty(), json!({"readOnly": false}))), "admitted");
    assert_eq!(rejection(&pod_with_mount_above(empty(), json!({"mountPath": "/ap"}))), "admitted");
    assert_eq!(
        rejection(&pod_with_mount_above(empty(), json!({})).annotated("containers", "other")),
        "admitted"
    );
    let default =
        pod().annotated("inject", "true").with_spec("volumes", json!([{"name": "run", "emptyDir": {}}]));
    let mounts = json!([{"name": "run", "mountPath": "/var/run", "readOnly": true}]);
    assert!(
        rejection(&default.with("/spec/containers/0", "volumeMounts", mounts))
            .contains("at /var/run, read-only")
    );
    // The deepest mount above the certificate decides.
    let within = |deeper: Value| {
        let outer = json!({"name": "x", "mountPath": "/", "readOnly": true});
        let volumes = json!([{"name": "x", "emptyDir": {}}, {"name": "y", "emptyDir": {}}]);
        rejection(&pod_with_mount_above(empty(), json!({})).with_spec("volumes", volumes).with(
            "/spec/containers/0",
            "volumeMounts",
            json!([outer, deeper]),
        ))
    };
    assert_eq!(within(json!({"name": "y", "mountPath": "/app"})), "admitted");
    assert!(within(json!({"name": "y", "mountPath": "/opt"})).contains("volume \"x\" at /, read-only"));
}

#[test]
fn accepts_a_directory_of_an_earlier_container() {
    let prepared = |more: Value| {
        let mut mount = json!({"name": "x", "mountPath": "/app"});
        mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        pod_with_mount_above(json!({"emptyDir": {}}), json!({}))
            .with_spec("initContainers", json!([{"name": "render", "volumeMounts": [mount]}]))
    };
    assert_eq!(rejection(&prepared(json!({}))), "admitted");
    // The init container gets no certificate, so the runtime creates no directory for it.
    assert!(rejection(&prepared(json!({})).annotated("containers", "app")).contains("read-only and above"));
    assert!(rejection(&prepared(json!({"subPath": "y"}))).contains("read-only and above"));
    assert!(rejection(&prepared(json!({"mountPath": "/etc/app"}))).contains("read-only and above"));
}

#[test]
fn warns_if_the_directory_may_be_missing() {
    let warnings = |pod: &Object| admit(pod, None).unwrap().warnings;
    let message = "certmint: SuspiciousSetting: container \"app\" mounts volume \"x\" read-only at /app, above the certificate's path /app/tls; without that directory in the volume it cannot start: choose another path with annotation certmint.dev/mount-path";
    let claim = || json!({"persistentVolumeClaim": {"claimName": "data"}});
    let writable_mount = || json!({"readOnly": false});
    for suspicious in [
        pod_with_mount_above(claim(), json!({})),
        pod_with_mount_above(json!({"hostPath": {"path": "/etc"}}), json!({})),
        pod_with_mount_above(
            json!({"persistentVolumeClaim": {"claimName": "data", "readOnly": true}}),
            writable_mount(),
        ),
        pod_with_mount_above(
            json!({"csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": true}}),
            writable_mount(),
        ),
        pod_with_mount_above(json!({"image": {"reference": "models:1"}}), writable_mount()),
        pod_with_mount_above(
            json!({"configMap": {"name": "conf"}}),
            json!({"subPath": "dir", "readOnly": false}),
        ),
    ] {
        assert_eq!(warnings(&suspicious), [message]);
    }
    for source in ["configMap", "secret", "projected", "downwardAPI"] {
        assert!(warnings(&pod_with_mount_above(json!({source: {}}), json!({}))).is_empty(), "{source}");
    }
    assert!(warnings(&pod_with_mount_above(claim(), writable_mount())).is_empty());
    let many: Vec<_> = (0..500)
        .map(|n| json!({"name": format!("{n}{}", "x".repeat(1000)), "volumeMounts": [{"name": "x", "mountPath": "/app", "readOnly": true}]}))
        .collect();
    assert!(
        warnings(&pod_with_mount_above(claim(), json!({})).with_spec("containers", many.into()))
            .concat()
            .len()
            < 10_000
    );
}

#[test]
fn rejects_a_writable_mount_of_the_certificates_volume() {
    let message = "PodConflict: container \"app\" mounts volume \"certmint-tls\" at /rw without readOnly: true; add that, or remove the mount, because Certmint adds its own";
    let rejection_with = |list: &str, mount: Value| {
        let container = json!([{"name": "app", "volumeMounts": [{"name": "x", "mountPath": "/x"}, mount]}]);
        rejection(
            &pod().annotated("inject", "true").annotated("containers", "other").with_spec(list, container),
        )
    };
    for list in ["containers", "initContainers"] {
        for mount in [
            json!({"name": "certmint-tls", "mountPath": "/rw"}),
            json!({"name": "certmint-tls", "mountPath": "/rw", "readOnly": false}),
        ] {
            assert_eq!(rejection_with(list, mount), message);
        }
        let read_only = json!({"name": "certmint-tls", "mountPath": "/ro", "readOnly": true});
        assert_eq!(rejection_with(list, read_only), "admitted");
    }
}

#[test]
fn rejects_a_conflict_with_the_service_account_token() {
    let pod_with_path = |path: &str| pod().annotated("inject", "true").annotated("mount-path", path);
    let parent = pod_with_path("/var/run/secrets");
    assert_eq!(
        rejection(&parent),
        "PodConflict: container \"app\" mounts volume \"kube-api-access\" at /var/run/secrets/kubernetes.io/serviceaccount, below the path of the certificate; choose another path with annotation certmint.dev/mount-path"
    );
    assert!(
        rejection(&pod_with_path("/var/run/secrets/kubernetes.io/serviceaccount"))
            .contains("the path of the certificate")
    );
    assert_eq!(rejection(&parent.with_spec("automountServiceAccountToken", Value::from(false))), "admitted");
}
