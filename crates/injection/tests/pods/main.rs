//! Pods of many kinds: their patches, warnings and rejections.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod mounts;
mod other_admission;
mod readers;
mod reference;
mod resources;

use certmint_testkit::{Object, pod};
use serde_json::{Value, json};

use common::{admit, created};

fn opted_in() -> Object {
    pod().annotated("inject", "true")
}

/// Creates the pod and returns its certmint-fetch container.
fn fetch_container(pod: &Object) -> Value {
    let inits = created(pod).value()["spec"]["initContainers"].as_array().cloned().unwrap_or_default();
    inits.into_iter().find(|init| init["name"] == "certmint").unwrap_or_default()
}

/// Creates the pod and returns the rejection, or `admitted`.
fn rejection(pod: &Object) -> String {
    admit(pod, None)
        .map_or_else(|rejection| format!("{}: {rejection}", rejection.code()), |_| "admitted".into())
}

/// Creates the pod and returns the warnings.
fn warnings(pod: &Object) -> Vec<String> {
    admit(pod, None).unwrap().warnings
}

#[test]
fn without_opt_in_a_pod_stays_unchanged() {
    for pod in [pod(), pod().annotated("inject", "false"), pod().annotated("duration", "banana")] {
        assert_eq!(admit(&pod, None).unwrap(), Default::default());
    }
}

#[test]
fn limits_the_size_of_warnings() {
    let containers: Vec<_> = (0..500).map(|n| json!({"name": format!("{n}{}", "x".repeat(1000))})).collect();
    let pod = opted_in()
        .annotated("containers", &vec!["a"; 4000].join(","))
        .with_spec("containers", json!(containers));
    let warnings = warnings(&pod);
    assert!(warnings.concat().len() < 10_000, "{} bytes", warnings.concat().len());
    assert!(warnings[0].contains("names \"a\", but the pod has only 0xxx"), "{}", warnings[0]);
}

#[test]
fn the_cluster_autoscaler_may_evict_an_injected_pod() {
    const KEY: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
    let listed = |pod: &Object| created(pod).value()["metadata"]["annotations"][KEY].clone();
    assert_eq!(listed(&opted_in()), "certmint-tls");
    let pod = opted_in().with("/metadata/annotations", KEY, json!("tmp,cache"));
    assert_eq!(listed(&pod), "tmp,cache,certmint-tls");
    assert!(admit(&created(&pod), None).unwrap().patch.is_empty());
    let opted_out = pod.annotated("inject", "false");
    assert_eq!(created(&opted_out).value()["metadata"]["annotations"][KEY], "tmp,cache");
}

#[test]
fn the_fetch_container_is_first_or_last() {
    let pod = opted_in().with_spec("initContainers", json!([{"name": "migrate"}]));
    let names = |pod: &Object| {
        let pod = created(pod);
        let inits = pod.value()["spec"]["initContainers"].as_array().unwrap().clone();
        inits.iter().map(|init| init["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&pod), ["certmint", "migrate"]);
    assert_eq!(names(&pod.annotated("order", "last")), ["migrate", "certmint"]);
}

#[test]
fn init_containers_get_the_files() {
    let pod = opted_in().with_spec("initContainers", json!([{"name": "migrate", "volumeMounts": []}]));
    let mount =
        json!({"name": "certmint-tls", "mountPath": "/var/run/secrets/certmint.dev", "readOnly": true});
    assert_eq!(created(&pod).value()["spec"]["initContainers"][1]["volumeMounts"], json!([mount]));
    assert_eq!(created(&pod).value()["spec"]["containers"][0]["volumeMounts"], json!([mount]));
}

#[test]
fn with_the_annotation_only_named_containers_get_the_files() {
    let pod = opted_in()
        .annotated("containers", "app,envoy")
        .with_spec("containers", json!([{"name": "app"}, {"name": "logs"}]));
    let created = created(&pod);
    assert!(created.value()["spec"]["containers"][0]["volumeMounts"].is_array());
    assert!(created.value()["spec"]["containers"][1]["volumeMounts"].is_null());
    assert_eq!(
        warnings(&pod),
        [
            "certmint: SuspiciousSetting: annotation certmint.dev/containers names \"envoy\", but the pod has only app, logs"
        ]
    );
}

#[test]
fn without_renewal_there_is_a_plain_init_container() {
    let container = fetch_container(&opted_in().annotated("renew", "false"));
    assert_eq!(container["command"], json!(["/certmint-fetch", "once"]));
    assert!(container["restartPolicy"].is_null() && container["startupProbe"].is_null());
}

#[test]
fn the_startup_probe_delays_the_pod_and_restarts_nothing() {
    let container = fetch_container(&opted_in());
    let probe = json!({
        "exec": {"command": ["/certmint-fetch", "wait"]},
        "periodSeconds": 1, "timeoutSeconds": 40, "failureThreshold": i32::MAX,
    });
    assert_eq!(container["startupProbe"], probe);
    assert!(container["lifecycle"].is_null(), "the kubelet does not delete a pod while a hook runs");
}

#[test]
fn a_guaranteed_pod_stays_guaranteed() {
    let amount = json!({"cpu": "1", "memory": "1Gi"});
    let container = |resources: Value| json!([{"name": "app", "resources": resources}]);
    let guaranteed =
        opted_in().with_spec("containers", container(json!({"limits": amount, "requests": amount})));
    let expected = json!({"cpu": "50m", "memory": "32Mi"});
    assert_eq!(fetch_container(&guaranteed)["resources"], json!({"limits": expected, "requests": expected}));

    let burstable = opted_in().with_spec("containers", container(json!({"requests": amount})));
    assert_eq!(fetch_container(&burstable)["resources"]["requests"], json!({"cpu": "5m", "memory": "8Mi"}));
    assert_eq!(fetch_container(&burstable)["resources"]["limits"], json!({"memory": "32Mi"}));
}

#[test]
fn a_pod_with_cpu_limits_keeps_a_limit_in_each_container() {
    let limits = |cpus: &[Value]| {
        let containers = cpus.iter().enumerate().map(|(index, limits)| {
            let requests = json!({"cpu": "10m"});
            json!({"name": format!("app-{index}"), "resources": {"limits": limits, "requests": requests}})
        });
        fetch_container(&opted_in().with_spec("containers", containers.collect()))["resources"]["limits"]
            .clone()
    };
    let limited = json!({"cpu": "1"});
    assert_eq!(limits(&[limited.clone(), limited.clone()]), json!({"cpu": "200m", "memory": "32Mi"}));
    assert_eq!(limits(&[limited, json!({"memory": "1Gi"})]), json!({"memory": "32Mi"}));
}

/// Creates the pod and returns the name of its Secret.
fn secret(pod: &Object) -> Option<String> {
    let volumes = created(pod).value()["spec"]["volumes"].as_array().unwrap().clone();
    let volume = volumes.into_iter().find(|volume| volume["name"] == "certmint-secret");
    volume.map(|volume| volume["secret"]["secretName"].as_str().unwrap().to_owned())
}

/// Creates the pod and returns its label `managed`.
fn managed(pod: &Object) -> Value {
    created(pod).value()["metadata"]["labels"]["certmint.dev/managed"].clone()
}

/// Returns a pod that has only a `generateName`.
fn nameless() -> Object {
    opted_in().with("/metadata", "name", Value::Null).with("/metadata", "generateName", json!("p-"))
}

#[test]
fn mounts_the_secret_if_the_workload_is_known() {
    assert_eq!(secret(&opted_in()).as_deref(), Some("payments-certmint-tls"));
    assert_eq!(secret(&opted_in().annotated("secret-name", "mine")).as_deref(), Some("mine"));
    let hashed = |pod: Object| pod.with("/metadata/labels", "pod-template-hash", json!("abc"));
    let owned =
        |kind, recorded: &str| hashed(opted_in().owned_by(kind, "web-abc").annotated("workload", recorded));
    for (kind, recorded, expected) in [
        ("ReplicaSet", "Deployment/web", Some("web-certmint-tls")),
        ("ReplicaSet", "ReplicaSet/web-abc", Some("web-abc-certmint-tls")),
        ("Job", "CronJob/web", Some("web-certmint-tls")),
        ("Job", "Job/web-abc", Some("web-abc-certmint-tls")),
        // The template is a copy of another workload's.
        ("ReplicaSet", "Deployment/other", Some("web-certmint-tls")),
        ("ReplicaSet", "ReplicaSet/other", Some("web-certmint-tls")),
        ("StatefulSet", "Deployment/web", Some("web-abc-certmint-tls")),
        ("DaemonSet", "DaemonSet/other", Some("web-abc-certmint-tls")),
        ("Job", "nonsense", Some("web-abc-certmint-tls")),
    ] {
        assert_eq!(secret(&owned(kind, recorded)).as_deref(), expected, "{kind}, {recorded}");
    }
    // Only the ReplicaSet of a Deployment has the label with the hash.
    let unrecorded = opted_in().owned_by("ReplicaSet", "web-abc");
    assert_eq!(secret(&hashed(unrecorded.clone())).as_deref(), Some("web-certmint-tls"));
    assert_eq!(secret(&unrecorded).as_deref(), Some("web-abc-certmint-tls"));
    assert_eq!(secret(&opted_in().owned_by("StatefulSet", "db")).as_deref(), Some("db-certmint-tls"));
    assert_eq!(secret(&nameless()), None);
    assert_eq!(secret(&nameless().annotated("secret-name", "mine")), None);
}

#[test]
fn sets_the_workload_if_the_secret_is_mounted() {
    let workload = |pod: &Object| {
        let env = fetch_container(pod)["env"].as_array().unwrap().clone();
        env.into_iter()
            .find(|variable| variable["name"] == "CERTMINT_WORKLOAD")
            .map(|variable| variable["value"].clone())
    };
    let of_deployment = opted_in().owned_by("ReplicaSet", "web-abc").with(
        "/metadata/labels",
        "pod-template-hash",
        json!("abc"),
    );
    let of_rollout = opted_in().controlled_by("argoproj.io/v1alpha1", "Rollout", "web");
    for (pod, expected) in [
        (opted_in(), Some("Pod/payments")),
        (of_deployment, Some("Deployment/web")),
        (opted_in().owned_by("StatefulSet", "web"), Some("StatefulSet/web")),
        (of_rollout, Some("Pod/payments")),
        (opted_in().owned_by("ReplicaSet", "web-abc"), Some("ReplicaSet/web-abc")),
        (nameless(), None),
        (nameless().annotated("secret-name", "mine"), None),
    ] {
        assert_eq!(workload(&pod), expected.map(Value::from));
        assert_eq!(secret(&pod).is_some(), expected.is_some());
    }
}

const UNKNOWN_OWNERS: [(&str, &str); 4] = [
    ("v1", "ReplicationController"),
    ("apps.kruise.io/v1beta1", "StatefulSet"),
    ("example.com/v1", "ReplicaSet"),
    ("apps/v1", "Deployment"),
];

#[test]
fn a_pod_of_a_foreign_owner_is_standalone() {
    for (version, kind) in UNKNOWN_OWNERS {
        let recorded = opted_in().annotated("workload", "Deployment/web");
        let named = recorded.controlled_by(version, kind, "web");
        assert_eq!(secret(&named).as_deref(), Some("payments-certmint-tls"), "{kind}");
        assert_eq!(managed(&named), "true", "{kind}");
        let nameless = nameless().controlled_by(version, kind, "web");
        assert_eq!(secret(&nameless), None, "{kind}");
        assert_eq!(managed(&nameless), "true", "{kind}");
    }
}

#[test]
fn pods_of_a_foreign_owner_cannot_share_a_secret() {
    let pod = nameless().controlled_by("v1", "ReplicationController", "web").annotated("secret-name", "mine");
    assert_eq!(
        rejection(&pod),
        "InvalidAnnotation: annotation certmint.dev/secret-name is not allowed on the pods of ReplicationController/web, because each of them gets its own certificate in its own Secret; remove it"
    );
}

#[test]
fn a_pod_of_a_workload_has_no_label_managed() {
    assert_eq!(managed(&opted_in()), "true");
    for kind in ["ReplicaSet", "StatefulSet", "DaemonSet", "Job"] {
        assert_eq!(managed(&opted_in().owned_by(kind, "web-abc")), Value::Null, "{kind}");
    }
}

#[test]
fn rejects_conflicting_names() {
    let volume = opted_in().with_spec("volumes", json!([{"name": "certmint-tls", "emptyDir": {}}]));
    assert_eq!(
        rejection(&volume),
        "PodConflict: the pod has a volume named \"certmint-tls\"; rename it: that name is reserved for a volume of Certmint"
    );
    let name = "PodConflict: the pod has a container named \"certmint\" that does not run /certmint-fetch; rename it: that name is reserved for the container of Certmint";
    let foreign = json!([{"name": "certmint", "image": "evil", "command": ["/bin/sh"]}]);
    assert_eq!(rejection(&opted_in().with_spec("initContainers", foreign.clone())), name);
    assert_eq!(rejection(&opted_in().with_spec("containers", foreign)), name);
    assert_eq!(
        rejection(&opted_in().with_spec("containers", Value::Null)),
        "PodConflict: the pod has no containers; add at least one"
    );
}

#[test]
fn does_not_patch_again_after_defaults_of_the_api_server() {
    let injected = created(&opted_in())
        .with("/spec/initContainers/0", "resizePolicy", json!([]))
        .with("/spec/initContainers/0/volumeMounts/0", "recursiveReadOnly", json!("Disabled"))
        .with("/spec/volumes/1/projected", "defaultMode", json!(420));
    assert_eq!(admit(&injected, None).unwrap(), Default::default());
}

#[test]
fn a_container_added_later_gets_the_files() {
    let injected = created(&opted_in());
    let proxy = json!({"name": "proxy"});
    let containers = json!([injected.value()["spec"]["containers"][0], proxy]);
    let created = created(&injected.with_spec("containers", containers));
    assert_eq!(created.value()["spec"]["containers"][1]["volumeMounts"][0]["name"], "certmint-tls");
    assert_eq!(created.value()["spec"]["initContainers"].as_array().unwrap().len(), 1);
}

#[test]
fn ignores_windows_pods() {
    for (field, value) in
        [("os", json!({"name": "windows"})), ("nodeSelector", json!({"kubernetes.io/os": "windows"}))]
    {
        let injection = admit(&opted_in().with_spec(field, value), None).unwrap();
        assert!(injection.patch.is_empty());
        assert!(injection.warnings[0].contains("Windows"));
    }
}

#[test]
fn does_not_mark_a_windows_pod_for_injection() {
    let labelled = opted_in().with("/metadata/labels", "certmint.dev/inject", json!("true"));
    let created = created(&labelled.with_spec("os", json!({"name": "windows"})));
    assert!(created.value()["metadata"]["labels"]["certmint.dev/inject"].is_null());
    assert!(created.value()["metadata"]["labels"]["certmint.dev/injected"].is_null());
}

#[test]
fn ignores_mirror_pods() {
    let mirror = opted_in().with("/metadata/annotations", "kubernetes.io/config.mirror", json!("5d41402a"));
    let injection = admit(&mirror, None).unwrap();
    assert!(injection.patch.is_empty());
    assert!(injection.warnings[0].starts_with("certmint: Ignored: this is the mirror of a static pod"));
}

#[test]
fn rejects_a_signal_that_would_reach_other_pods() {
    let host = opted_in().with_spec("hostPID", json!(true));
    let signal = host.clone().annotated("reload", "signal:SIGHUP:nginx");
    assert_eq!(
        rejection(&signal),
        "PodConflict: annotation certmint.dev/reload: a signal would reach processes of other pods too, because this pod has hostPID: true; reload by http://127.0.0.1:PORT/PATH"
    );
    assert_eq!(rejection(&signal.annotated("renew", "false")), "admitted");
    assert_eq!(rejection(&host.annotated("reload", "http://127.0.0.1:8080/reload")), "admitted");
}

#[test]
fn ephemeral_containers_stay_unchanged() {
    let ephemeral = json!([{"name": "debug", "image": "x"}]);
    let pod = opted_in().with_spec("ephemeralContainers", ephemeral.clone());
    assert_eq!(created(&pod).value()["spec"]["ephemeralContainers"], ephemeral);
}

#[test]
fn warns_of_suspicious_settings() {
    let assert_warning = |pod: &Object, text: &str| {
        let warnings = warnings(pod);
        assert!(warnings.len() == 1 && warnings[0].contains(text) && warnings[0].len() < 250, "{warnings:?}");
    };
    let host = opted_in().with_spec("hostNetwork", json!(true));
    assert_warning(&host, "ClusterFirstWithHostNet");
    assert!(warnings(&host.with_spec("dnsPolicy", json!("ClusterFirstWithHostNet"))).is_empty());
    assert_warning(&opted_in().with_spec("dnsPolicy", json!("Default")), "use ClusterFirst");
    let signal = opted_in().annotated("reload", "signal:SIGHUP:nginx");
    assert_warning(&signal, "shareProcessNamespace: true");
    let shared = signal.clone().with_spec("shareProcessNamespace", json!(true));
    assert_warning(&shared, "runAsUser");
    assert!(warnings(&shared.with_spec("securityContext", json!({"runAsUser": 101}))).is_empty());
    assert_warning(&signal.annotated("renew", "false"), "reload has no effect");
}

#[test]
fn rejects_invalid_annotations() {
    assert!(
        rejection(&opted_in().annotated("mode", "pod"))
            .starts_with("UnsupportedMode: annotation certmint.dev/mode")
    );
    assert!(rejection(&opted_in().annotated("durration", "1h")).contains("certmint.dev/duration"));
    assert!(rejection(&opted_in().annotated("duration", "5m")).starts_with("NotAllowed"));
    assert!(rejection(&opted_in().with("/spec", "containers", json!("x"))).starts_with("BadReview"));
}

#[test]
fn rejects_an_opt_in_of_a_running_pod() {
    let rejection = admit(&opted_in(), Some(&pod())).unwrap_err();
    assert_eq!(rejection.code().to_string(), "TooLate");
    assert!(admit(&opted_in(), Some(&opted_in())).unwrap().patch.is_empty());
    assert!(admit(&created(&opted_in()), Some(&pod())).unwrap().patch.is_empty());
    let leaving = opted_in().with("/metadata", "deletionTimestamp", json!("2026-11-23T00:00:00Z"));
    assert!(admit(&leaving, Some(&pod())).unwrap().patch.is_empty());
}

#[test]
fn rejects_an_opt_in_by_label() {
    let labelled = |value: &str| pod().with("/metadata/labels", "certmint.dev/inject", value.into());
    let rc = labelled("true").controlled_by("v1", "ReplicationController", "web");
    for wrong in [labelled("true"), labelled("enabled"), rc] {
        assert_eq!(
            rejection(&wrong),
            "WrittenAsLabel: label certmint.dev/inject has no effect, because Certmint reads annotations; move it from labels to annotations"
        );
    }
    // A pod of a workload is not rejected: its template may be older than this check.
    for valid in [
        labelled("true").owned_by("ReplicaSet", "web-abc"),
        labelled("false"),
        labelled("true").annotated("inject", "false"),
    ] {
        assert_eq!(admit(&valid, None).unwrap(), Default::default());
    }
    assert_eq!(admit(&labelled("true"), Some(&pod())).unwrap_err().code().to_string(), "TooLate");
    assert!(admit(&labelled("true"), Some(&labelled("true"))).unwrap().patch.is_empty());
}
