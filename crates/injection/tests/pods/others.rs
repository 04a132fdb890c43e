//! Beside other admission controllers: what they change in the injected container stays, and what protects the key is
//! restored.

use crate::common::created;
use crate::{opted_in, ours};
use certmint_testkit::Object;
use serde_json::{Value, json};

/// A pod after our first call.
fn injected() -> Object {
    created(&opted_in())
}

/// The injected pod with a change of its container, as others leave it.
fn altered(change: impl FnOnce(&mut Value)) -> Object {
    let mut pod = injected().value().clone();
    change(&mut pod["spec"]["initContainers"][0]);
    pod.into()
}

#[track_caller]
fn stays(change: impl FnOnce(&mut Value)) {
    let pod = altered(change);
    assert_eq!(created(&pod), pod);
}

#[track_caller]
fn is_restored(change: impl FnOnce(&mut Value)) {
    let pod = altered(change);
    assert_ne!(pod, injected());
    assert_eq!(created(&pod), injected());
}

#[test]
fn what_others_change_in_our_container_stays() {
    stays(|ours| ours["imagePullPolicy"] = "Always".into());
    stays(|ours| ours["image"] = "mirror.example.com/certmint-fetch@sha256:1".into());
    stays(|ours| ours["resources"] = json!({"requests": {"cpu": "50m"}, "limits": {"memory": "64Mi"}}));
    stays(|ours| {
        ours["env"].as_array_mut().unwrap().push(json!({"name": "HTTP_PROXY", "value": "http://proxy"}))
    });
    stays(|ours| {
        let mount = json!({"name": "ca-bundle", "mountPath": "/etc/ssl/certs", "readOnly": true});
        ours["volumeMounts"].as_array_mut().unwrap().push(mount);
    });
    stays(|ours| ours["lifecycle"]["preStop"] = json!({"sleep": {"seconds": 1}}));
    stays(|ours| {
        ours["securityContext"]["seccompProfile"] = json!({"type": "Localhost", "localhostProfile": "x"})
    });
    stays(|ours| ours["securityContext"]["seLinuxOptions"] = json!({"level": "s0:c1,c2"}));
    stays(|ours| ours["terminationMessagePolicy"] = "FallbackToLogsOnError".into());
}

#[test]
fn what_makes_the_container_work_is_restored() {
    is_restored(|ours| ours["command"] = json!(["/wrapper", "/certmint-fetch"]));
    is_restored(|ours| ours["args"] = json!(["once"]));
    is_restored(|ours| drop(ours.as_object_mut().unwrap().remove("restartPolicy")));
    is_restored(|ours| ours["lifecycle"]["postStart"] = json!({"sleep": {"seconds": 1}}));
    is_restored(|ours| drop(ours.as_object_mut().unwrap().remove("startupProbe")));
    is_restored(|ours| ours["startupProbe"]["failureThreshold"] = json!(3));
    is_restored(|ours| ours["startupProbe"] = json!({"tcpSocket": {"port": 8080}}));
    is_restored(|ours| ours["env"][0]["value"] = "https://elsewhere.example.com".into());
    is_restored(|ours| {
        let reload = json!({"name": "CERTMINT_RELOAD", "value": "http://127.0.0.1:1/"});
        ours["env"].as_array_mut().unwrap().push(reload);
    });
    is_restored(|ours| {
        let again = ours["env"][0].clone();
        ours["env"].as_array_mut().unwrap().push(again);
    });
}

#[test]
fn what_protects_the_key_is_restored() {
    let is_restored =
        |field: &'static str, value: Value| is_restored(|ours| ours["securityContext"][field] = value);
    is_restored("runAsUser", json!(0));
    is_restored("runAsNonRoot", json!(false));
    is_restored("privileged", json!(true));
    is_restored("procMount", json!("Unmasked"));
    is_restored("allowPrivilegeEscalation", json!(true));
    is_restored("readOnlyRootFilesystem", Value::Null);
    is_restored("capabilities", json!({"drop": ["ALL"], "add": ["SYS_ADMIN"]}));
    is_restored("capabilities", json!({"drop": ["NET_RAW"]}));
    is_restored("seccompProfile", json!({"type": "Unconfined"}));
    is_restored("appArmorProfile", json!({"type": "Unconfined"}));
}

#[test]
fn our_mounts_are_restored_among_those_of_others() {
    is_restored(|ours| ours["volumeMounts"][0]["readOnly"] = true.into());
    is_restored(|ours| ours["volumeMounts"][0]["subPath"] = "x".into());
    is_restored(|ours| drop(ours["volumeMounts"].as_array_mut().unwrap().remove(1)));
    is_restored(|ours| {
        let inside = json!({"name": "x", "mountPath": "/certmint/tls/..data"});
        ours["volumeMounts"].as_array_mut().unwrap().push(inside);
    });
    let other = json!({"name": "x", "mountPath": "/x"});
    let pod = altered(|ours| ours["volumeMounts"] = json!([other]));
    let mounts = ours(&pod)["volumeMounts"].as_array().unwrap().clone();
    assert_eq!(mounts.len(), 4);
    assert_eq!(mounts[0], other);
}

#[test]
fn a_container_that_was_there_before_the_first_call_gets_our_image() {
    let foreign = json!({
        "name": "certmint", "image": "registry.example.com/foreign", "command": ["/certmint-fetch"],
        "imagePullPolicy": "Never", "resources": {"limits": {"memory": "1Gi"}},
    });
    let pod = opted_in().with_spec("initContainers", json!([foreign]));
    let (restored, expected) = (ours(&pod), ours(&opted_in()));
    for field in
        ["image", "imagePullPolicy", "resources", "env", "volumeMounts", "securityContext", "startupProbe"]
    {
        assert_eq!(restored[field], expected[field], "{field}");
    }
}

#[test]
fn a_copy_of_a_pod_that_another_version_injected_gets_our_image() {
    for (map, key, value) in [
        ("/metadata/annotations", "certmint.dev/injected-by", json!("certmint/0.9.0")),
        ("/metadata/labels", "certmint.dev/injected", Value::Null),
    ] {
        let copy = altered(|ours| ours["image"] = "registry.example.com/certmint-fetch:0.9".into());
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
fn a_container_of_our_name_that_is_too_long_to_be_read_is_replaced() {
    let pod = altered(|ours| ours["ports"] = vec![json!({}); 100_000].into());
    assert_eq!(created(&pod), injected());
}
