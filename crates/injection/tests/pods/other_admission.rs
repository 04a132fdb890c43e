//! Changes by other admission controllers in the certmint-fetch container: most stay, and the fields that protect the key
//! are restored.

use certmint_testkit::Object;
use serde_json::{Value, json};

use crate::common::created;
use crate::{fetch_container, opted_in};

/// Returns a pod after the first call of the webhook.
fn injected() -> Object {
    created(&opted_in())
}

/// Returns the injected pod with a change in its certmint-fetch container.
fn changed(change: impl FnOnce(&mut Value)) -> Object {
    let mut pod = injected().value().clone();
    change(&mut pod["spec"]["initContainers"][0]);
    pod.into()
}

#[track_caller]
fn assert_stays(change: impl FnOnce(&mut Value)) {
    let pod = changed(change);
    assert_eq!(created(&pod), pod);
}

#[track_caller]
fn assert_restored(change: impl FnOnce(&mut Value)) {
    let pod = changed(change);
    assert_ne!(pod, injected());
    assert_eq!(created(&pod), injected());
}

#[test]
fn keeps_changes_of_other_controllers() {
    assert_stays(|container| container["imagePullPolicy"] = "Always".into());
    assert_stays(|container| container["image"] = "mirror.example.com/certmint-fetch@sha256:1".into());
    assert_stays(|container| {
        container["resources"] = json!({"requests": {"cpu": "50m"}, "limits": {"memory": "64Mi"}})
    });
    assert_stays(|container| {
        container["env"].as_array_mut().unwrap().push(json!({"name": "HTTP_PROXY", "value": "http://proxy"}))
    });
    assert_stays(|container| {
        let mount = json!({"name": "ca-bundle", "mountPath": "/etc/ssl/certs", "readOnly": true});
        container["volumeMounts"].as_array_mut().unwrap().push(mount);
    });
    assert_stays(|container| container["lifecycle"]["preStop"] = json!({"sleep": {"seconds": 1}}));
    assert_stays(|container| {
        container["securityContext"]["seccompProfile"] = json!({"type": "Localhost", "localhostProfile": "x"})
    });
    assert_stays(|container| container["securityContext"]["seLinuxOptions"] = json!({"level": "s0:c1,c2"}));
    assert_stays(|container| container["terminationMessagePolicy"] = "FallbackToLogsOnError".into());
}

#[test]
fn restores_fields_that_the_container_needs() {
    assert_restored(|container| container["command"] = json!(["/wrapper", "/certmint-fetch"]));
    assert_restored(|container| container["args"] = json!(["once"]));
    assert_restored(|container| drop(container.as_object_mut().unwrap().remove("restartPolicy")));
    assert_restored(|container| container["lifecycle"]["postStart"] = json!({"sleep": {"seconds": 1}}));
    assert_restored(|container| drop(container.as_object_mut().unwrap().remove("startupProbe")));
    assert_restored(|container| container["startupProbe"]["failureThreshold"] = json!(3));
    assert_restored(|container| container["startupProbe"] = json!({"tcpSocket": {"port": 8080}}));
    assert_restored(|container| container["env"][0]["value"] = "https://elsewhere.example.com".into());
    assert_restored(|container| {
        let reload = json!({"name": "CERTMINT_RELOAD", "value": "http://127.0.0.1:1/"});
        container["env"].as_array_mut().unwrap().push(reload);
    });
    assert_restored(|container| {
        let again = container["env"][0].clone();
        container["env"].as_array_mut().unwrap().push(again);
    });
}

#[test]
fn restores_fields_that_protect_the_key() {
    let assert_restored = |field: &'static str, value: Value| {
        assert_restored(|container| container["securityContext"][field] = value);
    };
    assert_restored("runAsUser", json!(0));
    assert_restored("runAsNonRoot", json!(false));
    assert_restored("privileged", json!(true));
    assert_restored("procMount", json!("Unmasked"));
    assert_restored("allowPrivilegeEscalation", json!(true));
    assert_restored("readOnlyRootFilesystem", Value::Null);
    assert_restored("capabilities", json!({"drop": ["ALL"], "add": ["SYS_ADMIN"]}));
    assert_restored("capabilities", json!({"drop": ["NET_RAW"]}));
    assert_restored("seccompProfile", json!({"type": "Unconfined"}));
    assert_restored("appArmorProfile", json!({"type": "Unconfined"}));
}

#[test]
fn restores_its_mounts_among_foreign_ones() {
    assert_restored(|container| container["volumeMounts"][0]["readOnly"] = true.into());
    assert_restored(|container| container["volumeMounts"][0]["subPath"] = "x".into());
    assert_restored(|container| drop(container["volumeMounts"].as_array_mut().unwrap().remove(1)));
    assert_restored(|container| {
        let inside = json!({"name": "x", "mountPath": "/certmint/tls/..data"});
        container["volumeMounts"].as_array_mut().unwrap().push(inside);
    });
    let other = json!({"name": "x", "mountPath": "/x"});
    let pod = changed(|container| container["volumeMounts"] = json!([other]));
    let mounts = fetch_container(&pod)["volumeMounts"].as_array().unwrap().clone();
    assert_eq!(mounts.len(), 4);
    assert_eq!(mounts[0], other);
}

#[test]
fn a_container_from_before_the_first_call_gets_the_image() {
    let foreign = json!({
        "name": "certmint", "image": "registry.example.com/foreign", "command": ["/certmint-fetch"],
        "imagePullPolicy": "Never", "resources": {"limits": {"memory": "1Gi"}},
    });
    let pod = opted_in().with_spec("initContainers", json!([foreign]));
    let (restored, expected) = (fetch_container(&pod), fetch_container(&opted_in()));
    for field in
        ["image", "imagePullPolicy", "resources", "env", "volumeMounts", "securityContext", "startupProbe"]
    {
        assert_eq!(restored[field], expected[field], "{field}");
    }
}

#[test]
fn a_copy_of_a_pod_of_another_version_gets_the_image() {
    for (map, key, value) in [
        ("/metadata/annotations", "certmint.dev/injected-by", json!("certmint/0.9.0")),
        ("/metadata/labels", "certmint.dev/injected", Value::Null),
    ] {
        let copy = changed(|container| container["image"] = "registry.example.com/certmint-fetch:0.9".into());
        let mut copy = copy.value().clone();
        let map = copy.pointer_mut(map).unwrap().as_object_mut().unwrap();
        if value.is_null() {
            drop(map.remove(key))
        } else {
            drop(map.insert(key.into(), value))
        }
        assert_eq!(created(&copy.into()), injected(), "{key}");
    }
}

#[test]
fn replaces_a_container_that_is_too_long_to_parse() {
    let pod = changed(|container| container["ports"] = vec![json!({}); 100_000].into());
    assert_eq!(created(&pod), injected());
}
