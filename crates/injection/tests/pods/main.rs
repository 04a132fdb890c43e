//! Pods of many shapes: what they get, what they are told, and what is refused.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod mounts;
mod others;
mod readers;
mod reference;
mod resources;

use certmint_testkit::{Object, pod};
use common::{admit, created};
use serde_json::{Value, json};

fn opted_in() -> Object {
    pod().annotated("inject", "true")
}

/// The injected container of a created pod.
fn ours(pod: &Object) -> Value {
    let inits = created(pod).value()["spec"]["initContainers"].as_array().cloned().unwrap_or_default();
    inits.into_iter().find(|init| init["name"] == "certmint").unwrap_or_default()
}

fn refusal(pod: &Object) -> String {
    admit(pod, None).map_or_else(|refusal| format!("{}: {refusal}", refusal.code()), |_| "admitted".into())
}

fn warnings(pod: &Object) -> Vec<String> {
    admit(pod, None).unwrap().warnings
}

#[test]
fn a_pod_that_did_not_opt_in_is_left_alone() {
    for pod in [pod(), pod().annotated("inject", "false"), pod().annotated("duration", "banana")] {
        assert_eq!(admit(&pod, None).unwrap(), Default::default());
    }
}

#[test]
fn warnings_do_not_grow_with_the_product_of_what_the_author_lists() {
    let containers: Vec<_> = (0..500).map(|n| json!({"name": format!("{n}{}", "x".repeat(1000))})).collect();
    let pod = opted_in()
        .annotated("containers", &vec!["a"; 4000].join(","))
        .with_spec("containers", json!(containers));
    let warnings = warnings(&pod);
    assert!(warnings.concat().len() < 10_000, "{} bytes", warnings.concat().len());
    assert!(warnings[0].contains("names \"a\", but the pod has only 0xxx"), "{}", warnings[0]);
}

#[test]
fn the_cluster_autoscaler_may_evict_the_certificates_volume_and_those_that_the_user_listed() {
    const KEY: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";
    let listed = |pod: &Object| created(pod).value()["metadata"]["annotations"][KEY].clone();
    assert_eq!(listed(&opted_in()), "certmint-tls");
    let pod = opted_in().with("/metadata/annotations", KEY, json!("tmp,cache"));
    assert_eq!(listed(&pod), "tmp,cache,certmint-tls");
    assert!(admit(&created(&pod), None).unwrap().patch.is_empty());
    let left_alone = pod.annotated("inject", "false");
    assert_eq!(created(&left_alone).value()["metadata"]["annotations"][KEY], "tmp,cache");
}

#[test]
fn injection_goes_first_or_last() {
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
fn the_users_init_containers_get_the_files_too() {
    let pod = opted_in().with_spec("initContainers", json!([{"name": "migrate", "volumeMounts": []}]));
    let mount =
        json!({"name": "certmint-tls", "mountPath": "/var/run/secrets/certmint.dev", "readOnly": true});
    assert_eq!(created(&pod).value()["spec"]["initContainers"][1]["volumeMounts"], json!([mount]));
    assert_eq!(created(&pod).value()["spec"]["containers"][0]["volumeMounts"], json!([mount]));
}

#[test]
fn only_named_containers_get_the_files() {
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
fn without_renewal_there_is_no_sidecar() {
    let ours = ours(&opted_in().annotated("renew", "false"));
    assert_eq!(ours["command"], json!(["/certmint-fetch", "once"]));
    assert!(ours["restartPolicy"].is_null() && ours["startupProbe"].is_null());
}

#[test]
fn nothing_starts_before_the_probe_has_succeeded_and_no_failure_of_it_restarts_the_container() {
    let ours = ours(&opted_in());
    let probe = json!({
        "exec": {"command": ["/certmint-fetch", "wait"]},
        "periodSeconds": 1, "timeoutSeconds": 40, "failureThreshold": i32::MAX,
    });
    assert_eq!(ours["startupProbe"], probe);
    assert!(ours["lifecycle"].is_null(), "a hook would keep the kubelet from deleting a pod that waits");
}

#[test]
fn a_guaranteed_pod_stays_guaranteed() {
    let amount = json!({"cpu": "1", "memory": "1Gi"});
    let container = |resources: Value| json!([{"name": "app", "resources": resources}]);
    let guaranteed =
        opted_in().with_spec("containers", container(json!({"limits": amount, "requests": amount})));
    let expected = json!({"cpu": "50m", "memory": "32Mi"});
    assert_eq!(ours(&guaranteed)["resources"], json!({"limits": expected, "requests": expected}));

    let burstable = opted_in().with_spec("containers", container(json!({"requests": amount})));
    assert_eq!(ours(&burstable)["resources"]["requests"], json!({"cpu": "5m", "memory": "8Mi"}));
    assert_eq!(ours(&burstable)["resources"]["limits"], json!({"memory": "32Mi"}));
}

#[test]
fn a_pod_of_cpu_limits_satisfies_a_quota_on_them_with_ours_too() {
    let limits = |cpus: &[Value]| {
        let containers = cpus.iter().enumerate().map(|(index, limits)| {
            let requests = json!({"cpu": "10m"});
            json!({"name": format!("app-{index}"), "resources": {"limits": limits, "requests": requests}})
        });
        ours(&opted_in().with_spec("containers", containers.collect()))["resources"]["limits"].clone()
    };
    let limited = json!({"cpu": "1"});
    assert_eq!(limits(&[limited.clone(), limited.clone()]), json!({"cpu": "200m", "memory": "32Mi"}));
    assert_eq!(limits(&[limited, json!({"memory": "1Gi"})]), json!({"memory": "32Mi"}));
}

fn secret(pod: &Object) -> Option<String> {
    let volumes = created(pod).value()["spec"]["volumes"].as_array().unwrap().clone();
    let volume = volumes.into_iter().find(|volume| volume["name"] == "certmint-secret");
    volume.map(|volume| volume["secret"]["secretName"].as_str().unwrap().to_owned())
}

fn managed(pod: &Object) -> Value {
    created(pod).value()["metadata"]["labels"]["certmint.dev/managed"].clone()
}

fn nameless() -> Object {
    opted_in().with("/metadata", "name", Value::Null).with("/metadata", "generateName", json!("p-"))
}

#[test]
fn the_secret_is_mounted_when_the_pods_workload_can_be_known() {
    assert_eq!(secret(&opted_in()).as_deref(), Some("payments-certmint-tls"));
    assert_eq!(secret(&opted_in().annotated("secret-name", "mine")).as_deref(), Some("mine"));
    let hashed = |pod: Object| pod.with("/metadata/labels", "pod-template-hash", json!("abc"));
    let owned = |kind, stamp: &str| hashed(opted_in().owned_by(kind, "web-abc").annotated("workload", stamp));
    for (kind, stamp, expected) in [
        ("ReplicaSet", "Deployment/web", Some("web-certmint-tls")),
        ("ReplicaSet", "ReplicaSet/web-abc", Some("web-abc-certmint-tls")),
        ("Job", "CronJob/web", Some("web-certmint-tls")),
        ("Job", "Job/web-abc", Some("web-abc-certmint-tls")),
        // A template that was copied from another workload.
        ("ReplicaSet", "Deployment/other", Some("web-certmint-tls")),
        ("ReplicaSet", "ReplicaSet/other", Some("web-certmint-tls")),
        ("StatefulSet", "Deployment/web", Some("web-abc-certmint-tls")),
        ("DaemonSet", "DaemonSet/other", Some("web-abc-certmint-tls")),
        ("Job", "nonsense", Some("web-abc-certmint-tls")),
    ] {
        assert_eq!(secret(&owned(kind, stamp)).as_deref(), expected, "{kind}, {stamp}");
    }
    // Only a Deployment's ReplicaSet has the hash.
    let unstamped = opted_in().owned_by("ReplicaSet", "web-abc");
    assert_eq!(secret(&hashed(unstamped.clone())).as_deref(), Some("web-certmint-tls"));
    assert_eq!(secret(&unstamped).as_deref(), Some("web-abc-certmint-tls"));
    assert_eq!(secret(&opted_in().owned_by("StatefulSet", "db")).as_deref(), Some("db-certmint-tls"));
    assert_eq!(secret(&nameless()), None);
    assert_eq!(secret(&nameless().annotated("secret-name", "mine")), None);
}

#[test]
fn the_container_is_told_its_workload_exactly_when_it_mounts_the_secret() {
    let told = |pod: &Object| {
        let env = ours(pod)["env"].as_array().unwrap().clone();
        env.into_iter()
            .find(|variable| variable["name"] == "CERTMINT_WORKLOAD")
            .map(|one| one["value"].clone())
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
        assert_eq!(told(&pod), expected.map(Value::from));
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
fn a_pod_of_an_owner_that_cannot_opt_in_is_a_workload_of_its_own() {
    for (version, kind) in UNKNOWN_OWNERS {
        let stamped = opted_in().annotated("workload", "Deployment/web");
        let named = stamped.controlled_by(version, kind, "web");
        assert_eq!(secret(&named).as_deref(), Some("payments-certmint-tls"), "{kind}");
        assert_eq!(managed(&named), "true", "{kind}");
        let nameless = nameless().controlled_by(version, kind, "web");
        assert_eq!(secret(&nameless), None, "{kind}");
        assert_eq!(managed(&nameless), "true", "{kind}");
    }
}

#[test]
fn pods_of_an_owner_that_cannot_opt_in_share_no_secret() {
    let pod = nameless().controlled_by("v1", "ReplicationController", "web").annotated("secret-name", "mine");
    assert_eq!(
        refusal(&pod),
        "InvalidAnnotation: annotation certmint.dev/secret-name cannot stand on the pods of ReplicationController/web, because each of them gets a certificate of its own in a Secret of its own; remove it"
    );
}

#[test]
fn a_pod_that_a_workload_controls_is_not_managed_itself() {
    assert_eq!(managed(&opted_in()), "true");
    for kind in ["ReplicaSet", "StatefulSet", "DaemonSet", "Job"] {
        assert_eq!(managed(&opted_in().owned_by(kind, "web-abc")), Value::Null, "{kind}");
    }
}

#[test]
fn what_collides_is_refused_with_what_to_do() {
    let volume = opted_in().with_spec("volumes", json!([{"name": "certmint-tls", "emptyDir": {}}]));
    assert_eq!(
        refusal(&volume),
        "PodConflict: the pod has a volume named \"certmint-tls\"; rename it: that name is for an injected one"
    );
    let name = "PodConflict: the pod has a container named \"certmint\" that does not run /certmint-fetch; rename it: that name is for the injected one";
    let foreign = json!([{"name": "certmint", "image": "evil", "command": ["/bin/sh"]}]);
    assert_eq!(refusal(&opted_in().with_spec("initContainers", foreign.clone())), name);
    assert_eq!(refusal(&opted_in().with_spec("containers", foreign)), name);
    assert_eq!(
        refusal(&opted_in().with_spec("containers", Value::Null)),
        "PodConflict: the pod has no containers; add at least one"
    );
}

#[test]
fn additions_of_the_api_server_are_no_reason_to_patch_again() {
    let injected = created(&opted_in())
        .with("/spec/initContainers/0", "resizePolicy", json!([]))
        .with("/spec/initContainers/0/volumeMounts/0", "recursiveReadOnly", json!("Disabled"))
        .with("/spec/volumes/1/projected", "defaultMode", json!(420));
    assert_eq!(admit(&injected, None).unwrap(), Default::default());
}

#[test]
fn a_container_added_after_ours_gets_the_files_at_reinvocation() {
    let injected = created(&opted_in());
    let proxy = json!({"name": "proxy"});
    let containers = json!([injected.value()["spec"]["containers"][0], proxy]);
    let created = created(&injected.with_spec("containers", containers));
    assert_eq!(created.value()["spec"]["containers"][1]["volumeMounts"][0]["name"], "certmint-tls");
    assert_eq!(created.value()["spec"]["initContainers"].as_array().unwrap().len(), 1);
}

#[test]
fn windows_is_left_alone() {
    for (field, value) in
        [("os", json!({"name": "windows"})), ("nodeSelector", json!({"kubernetes.io/os": "windows"}))]
    {
        let injection = admit(&opted_in().with_spec(field, value), None).unwrap();
        assert!(injection.patch.is_empty());
        assert!(injection.warnings[0].contains("Windows"));
    }
}

#[test]
fn a_windows_pod_does_not_count_as_missed() {
    let labelled = opted_in().with("/metadata/labels", "certmint.dev/inject", json!("true"));
    let created = created(&labelled.with_spec("os", json!({"name": "windows"})));
    assert!(created.value()["metadata"]["labels"]["certmint.dev/inject"].is_null());
    assert!(created.value()["metadata"]["labels"]["certmint.dev/injected"].is_null());
}

#[test]
fn the_mirror_of_a_static_pod_is_left_alone() {
    let mirror = opted_in().with("/metadata/annotations", "kubernetes.io/config.mirror", json!("5d41402a"));
    let injection = admit(&mirror, None).unwrap();
    assert!(injection.patch.is_empty());
    assert!(injection.warnings[0].starts_with("certmint: Ignored: this is the mirror of a static pod"));
}

#[test]
fn a_signal_does_not_reach_other_pods() {
    let host = opted_in().with_spec("hostPID", json!(true));
    let signal = host.clone().annotated("reload", "signal:SIGHUP:nginx");
    assert_eq!(
        refusal(&signal),
        "PodConflict: annotation certmint.dev/reload: a signal would reach processes of other pods too, because this pod has hostPID: true; reload by http://127.0.0.1:PORT/PATH"
    );
    assert_eq!(refusal(&signal.annotated("renew", "false")), "admitted");
    assert_eq!(refusal(&host.annotated("reload", "http://127.0.0.1:8080/reload")), "admitted");
}

#[test]
fn ephemeral_containers_are_never_touched() {
    let ephemeral = json!([{"name": "debug", "image": "x"}]);
    let pod = opted_in().with_spec("ephemeralContainers", ephemeral.clone());
    assert_eq!(created(&pod).value()["spec"]["ephemeralContainers"], ephemeral);
}

#[test]
fn what_looks_wrong_is_told() {
    let warned = |pod: &Object, of: &str| {
        let warnings = warnings(pod);
        assert!(warnings.len() == 1 && warnings[0].contains(of) && warnings[0].len() < 250, "{warnings:?}");
    };
    let host = opted_in().with_spec("hostNetwork", json!(true));
    warned(&host, "ClusterFirstWithHostNet");
    assert!(warnings(&host.with_spec("dnsPolicy", json!("ClusterFirstWithHostNet"))).is_empty());
    warned(&opted_in().with_spec("dnsPolicy", json!("Default")), "use ClusterFirst");
    let signal = opted_in().annotated("reload", "signal:SIGHUP:nginx");
    warned(&signal, "shareProcessNamespace: true");
    let shared = signal.clone().with_spec("shareProcessNamespace", json!(true));
    warned(&shared, "runAsUser");
    assert!(warnings(&shared.with_spec("securityContext", json!({"runAsUser": 101}))).is_empty());
    warned(&signal.annotated("renew", "false"), "reload has no effect");
}

#[test]
fn wrong_values_are_refused() {
    assert!(
        refusal(&opted_in().annotated("mode", "pod"))
            .starts_with("UnsupportedMode: annotation certmint.dev/mode")
    );
    assert!(refusal(&opted_in().annotated("durration", "1h")).contains("certmint.dev/duration"));
    assert!(refusal(&opted_in().annotated("duration", "5m")).starts_with("NotAllowed"));
    assert!(refusal(&opted_in().with("/spec", "containers", json!("x"))).starts_with("BadReview"));
}

#[test]
fn annotating_a_running_pod_is_too_late() {
    let refusal = admit(&opted_in(), Some(&pod())).unwrap_err();
    assert_eq!(refusal.code().to_string(), "TooLate");
    assert!(admit(&opted_in(), Some(&opted_in())).unwrap().patch.is_empty());
    assert!(admit(&created(&opted_in()), Some(&pod())).unwrap().patch.is_empty());
    let leaving = opted_in().with("/metadata", "deletionTimestamp", json!("2026-11-23T00:00:00Z"));
    assert!(admit(&leaving, Some(&pod())).unwrap().patch.is_empty());
}

#[test]
fn a_pod_that_opts_in_by_a_label_is_answered_with_the_right_spelling() {
    let labelled = |value: &str| pod().with("/metadata/labels", "certmint.dev/inject", value.into());
    let rc = labelled("true").controlled_by("v1", "ReplicationController", "web");
    for wrong in [labelled("true"), labelled("enabled"), rc] {
        assert_eq!(
            refusal(&wrong),
            "WrittenAsLabel: label certmint.dev/inject does nothing, because Certmint reads annotations; move it from labels to annotations"
        );
    }
    // Its template may be older than this answer, and a running app is not held up for that.
    for right in [
        labelled("true").owned_by("ReplicaSet", "web-abc"),
        labelled("false"),
        labelled("true").annotated("inject", "false"),
    ] {
        assert_eq!(admit(&right, None).unwrap(), Default::default());
    }
    assert_eq!(admit(&labelled("true"), Some(&pod())).unwrap_err().code().to_string(), "TooLate");
    assert!(admit(&labelled("true"), Some(&labelled("true"))).unwrap().patch.is_empty());
}
