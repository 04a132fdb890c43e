//! Properties that hold for every object, checked with random objects.

mod common;

use certmint_contract::pod_layout::{SAFE_TO_EVICT_VOLUMES, TLS_VOLUME};
use certmint_testkit::{Object, workload};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use common::{admit, created, operations, patched};

fn name() -> impl Strategy<Value = String> {
    "[a-z]{1,8}"
}

fn security() -> impl Strategy<Value = Value> {
    (option::of(0..3_i64), option::of(0..3_i64)).prop_map(
        |(user, group)| json!({"runAsUser": user, "runAsGroup": group, "x-unknown": [1, {"a": null}]}),
    )
}

fn container() -> impl Strategy<Value = Value> {
    let mounts = prop::collection::vec((name(), "/[a-z]{1,5}"), 0..3).prop_map(|mounts| {
        mounts.into_iter().map(|(name, path)| json!({"name": name, "mountPath": path})).collect::<Vec<_>>()
    });
    (name(), option::of(mounts), option::of(security()), option::of(Just("Always"))).prop_map(
        |(name, mounts, security, restart)| {
            json!({"name": name, "image": "x", "volumeMounts": mounts, "securityContext": security,
                "restartPolicy": restart, "unknown": {"kept": true}})
        },
    )
}

fn pod_spec() -> impl Strategy<Value = Value> {
    let volumes = prop::collection::vec(name().prop_map(|name| json!({"name": name, "emptyDir": {}})), 0..3);
    (
        prop::collection::vec(container(), 1..4),
        option::of(prop::collection::vec(container(), 0..3)),
        option::of(volumes),
        option::of(security()),
        any::<bool>(),
    )
        .prop_map(|(containers, inits, volumes, security, unknown)| {
            json!({"containers": containers, "initContainers": inits, "volumes": volumes,
                "securityContext": security, "unknownField": unknown})
        })
}

fn annotations() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    prop::sample::subsequence(
        vec![
            ("order", "last"),
            ("renew", "false"),
            ("containers", "a,b"),
            ("mount-path", "/tls"),
            ("secret-name", "mine"),
            ("reload", "signal:SIGHUP:nginx"),
            ("duration", "12h"),
            ("key-algorithm", "ed25519"),
            ("resources", "limits.memory=64Mi"),
        ],
        0..9,
    )
}

fn object() -> impl Strategy<Value = Object> {
    let kind =
        prop::sample::select(vec!["Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "CronJob"]);
    let volumes =
        option::of(prop::sample::select(vec!["", "tmp", "tmp,cache", "certmint-tls", "a,certmint-tls"]));
    (kind, pod_spec(), annotations(), volumes).prop_map(|(kind, spec, annotations, volumes)| {
        let object = if kind == "Pod" { certmint_testkit::pod() } else { workload(kind) };
        let path = object.template_path();
        let object = object.with(&path, "spec", spec);
        let object = match volumes.filter(|_| kind == "Pod") {
            Some(volumes) => {
                object.with("/metadata", "annotations", json!({ (SAFE_TO_EVICT_VOLUMES): volumes }))
            }
            None => object,
        };
        annotations.into_iter().fold(object, |object, (key, value)| object.annotated(key, value))
    })
}

/// Returns the object without the parts that the injection may change.
fn without_injection(object: &Object) -> Value {
    let mut value = object.value().clone();
    let path = object.template_path() + "/spec";
    if let Some(spec) = value.pointer_mut(&path).and_then(Value::as_object_mut) {
        let is_injected = |name: &Value| name.as_str().is_some_and(|name| name.starts_with("certmint"));
        for list in ["volumes", "initContainers", "containers"] {
            let mut entries = spec.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
            entries.retain(|entry| !is_injected(&entry["name"]));
            for entry in &mut entries {
                let mut mounts = entry["volumeMounts"].as_array().cloned().unwrap_or_default();
                mounts.retain(|mount| !is_injected(&mount["name"]));
                entry["volumeMounts"] = mounts.into();
            }
            spec.insert(list.into(), entries.into());
        }
    }
    for metadata in ["/metadata".to_owned(), object.template_path() + "/metadata"] {
        for map in ["labels", "annotations"] {
            let Some(metadata) = value.pointer_mut(&metadata) else { continue };
            let mut entries = metadata[map].as_object().cloned().unwrap_or_default();
            entries.retain(|key, _| !key.starts_with("certmint.dev/"));
            if let Some(volumes) = entries.remove(SAFE_TO_EVICT_VOLUMES) {
                let volumes = volumes.as_str().unwrap_or_default().split(',');
                let volumes: Vec<_> =
                    volumes.filter(|name| !name.is_empty() && *name != TLS_VOLUME).collect();
                if !volumes.is_empty() {
                    entries.insert(SAFE_TO_EVICT_VOLUMES.into(), volumes.join(",").into());
                }
            }
            metadata[map] = entries.into();
        }
    }
    value
}

/// Generates any JSON. Its keys include those that the webhook reads.
fn any_json() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "metadata",
        "spec",
        "template",
        "jobTemplate",
        "annotations",
        "labels",
        "certmint.dev/inject",
        "name",
        "containers",
        "initContainers",
        "volumes",
        "volumeMounts",
        "mountPath",
        "securityContext",
        "runAsUser",
        "resources",
        "limits",
        "cpu",
        "command",
        "os",
        "ownerReferences",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(json!("true")),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn a_second_patch_is_empty(object in object()) {
        let object = object.annotated("inject", "true");
        let Ok(first) = admit(&object, None) else { return Ok(()) };
        let once = patched(&object, &first);
        let again = admit(&once, None).unwrap();
        prop_assert!(again.patch.is_empty(), "{}", operations(&again.patch));
    }

    #[test]
    fn injection_changes_its_own_parts_only(object in object()) {
        let object = object.annotated("inject", "true");
        let Ok(injection) = admit(&object, None) else { return Ok(()) };
        prop_assert_eq!(without_injection(&patched(&object, &injection)), without_injection(&object));
    }

    #[test]
    fn without_opt_in_there_is_no_patch(object in object()) {
        prop_assert!(admit(&object, None).unwrap().patch.is_empty());
    }

    #[test]
    fn an_opt_out_removes_everything(object in object()) {
        prop_assume!(object.value()["kind"] != "Pod");
        let opted_in = object.clone().annotated("inject", "true");
        let Ok(injection) = admit(&opted_in, None) else { return Ok(()) };
        let stored = patched(&opted_in, &injection);
        let opted_out = created(&stored.without_annotation("inject"));
        let template = object.template_path();
        prop_assert_eq!(opted_out.value().pointer(&template).map(|t| t["metadata"]["labels"].clone()),
            object.value().pointer(&template).map(|t| t["metadata"]["labels"].clone()));
        let annotations = opted_out.value().pointer(&(template + "/metadata/annotations")).and_then(Value::as_object).cloned();
        prop_assert!(annotations.unwrap_or_default().is_empty());
    }

    #[test]
    fn no_object_causes_a_panic(mut value in any_json(), before in any_json(), kind in 0..7_usize) {
        let kinds = ["Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"];
        if !value.is_object() {
            value = json!({});
        }
        value["kind"] = kinds[kind].into();
        let before = Object::from(before);
        let _ = admit(&Object::from(value.clone()), Some(&before));
        let _ = admit(&Object::from(value), None);
    }
}
