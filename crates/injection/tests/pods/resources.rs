//! Requests and limits of the certmint-fetch container.

use certmint_testkit::Object;
use serde_json::{Value, json};

use crate::{fetch_container, opted_in, rejection, warnings};

fn app(resources: Value) -> Value {
    json!([{"name": "app", "resources": resources}])
}

/// Returns a pod with pod resources, whose container `app` has the resources `containers`.
fn pod_with_pod_resources(pod: Value, containers: Value) -> Object {
    opted_in().with_spec("containers", app(containers)).with_spec("resources", pod)
}

fn resources(pod: &Object) -> Value {
    fetch_container(pod)["resources"].clone()
}

#[test]
fn requests_nothing_in_a_pod_with_pod_resources() {
    let exact = json!({"requests": {"cpu": "100m", "memory": "64Mi"}});
    let nothing = json!({"requests": {"cpu": "0", "memory": "0"}});
    for pod in [
        json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "128Mi"}}),
        json!({"limits": {"cpu": "200m", "memory": "128Mi"}}),
        json!({"requests": {"cpu": "100m"}}),
        json!({"limits": {"memory": "24Mi"}}),
    ] {
        assert_eq!(resources(&pod_with_pod_resources(pod.clone(), exact.clone())), nothing, "{pod}");
        assert_eq!(resources(&pod_with_pod_resources(pod.clone(), json!({}))), nothing, "{pod}");
    }
    for none in [json!({}), json!({"requests": {}}), json!({"limits": {"hugepages-2Mi": "4Mi"}}), Value::Null]
    {
        let usual = json!({"requests": {"cpu": "5m", "memory": "8Mi"}, "limits": {"memory": "32Mi"}});
        assert_eq!(resources(&pod_with_pod_resources(none, json!({}))), usual);
    }
}

#[test]
fn the_annotation_sets_the_resources() {
    let resources_with = |text: &str| resources(&opted_in().annotated("resources", text));
    assert_eq!(
        resources_with("requests.cpu=50m,requests.memory=64Mi,limits.memory=64Mi"),
        json!({"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}})
    );
    assert_eq!(resources_with("limits.cpu=1"), json!({"limits": {"cpu": "1"}}));
    assert_eq!(resources_with("none"), json!({}));
}

#[test]
fn checks_the_annotation_against_policy_and_pod() {
    assert_eq!(
        rejection(&opted_in().annotated("resources", "limits.memory=1Gi")),
        "NotAllowed: annotation certmint.dev/resources: limits.memory=1Gi is not allowed; the policy allows at most 256Mi"
    );
    let pod =
        |order: &str, asked: &str| {
            let whole = json!({"requests": {"cpu": "150m"}, "limits": {"cpu": "300m"}});
            pod_with_pod_resources(whole, json!({"requests": {"cpu": "100m"}}))
            .with_spec("initContainers", json!([
                {"name": "prepare", "resources": {"limits": {"cpu": "120m"}}},
                {"name": "proxy", "restartPolicy": "Always", "resources": {"requests": {"cpu": "10m"}}},
            ]))
            .annotated("order", order)
            .annotated("resources", asked)
        };
    let message = |kind: &str, asked: &str, allowed: &str| {
        format!(
            "PodConflict: annotation certmint.dev/resources: {kind}.cpu={asked} does not fit into the pod's own spec.resources with {kind}.cpu={allowed}; ask for less, or remove the annotation"
        )
    };
    assert_eq!(rejection(&pod("last", "requests.cpu=40m")), "admitted");
    assert_eq!(rejection(&pod("last", "requests.cpu=41m")), message("requests", "41m", "150m"));
    // If the certmint-fetch container is first, it runs while the other init container runs.
    assert_eq!(rejection(&pod("first", "requests.cpu=30m")), "admitted");
    assert_eq!(rejection(&pod("first", "limits.cpu=31m")), message("requests", "31m", "150m"));
    assert_eq!(rejection(&pod("last", "requests.cpu=0,limits.cpu=301m")), message("limits", "301m", "300m"));
    assert_eq!(rejection(&pod("last", "requests.cpu=0,limits.cpu=300m")), "admitted");
}

#[test]
fn warns_if_the_annotation_ends_the_guarantee() {
    let amount = json!({"cpu": "1", "memory": "1Gi"});
    let guaranteed = opted_in().with_spec("containers", app(json!({"limits": amount})));
    assert!(warnings(&guaranteed).is_empty());
    let count = |asked: &str| warnings(&guaranteed.clone().annotated("resources", asked)).len();
    assert_eq!(count("limits.cpu=50m,limits.memory=32Mi"), 0);
    assert_eq!(count("requests.cpu=0.05,limits.cpu=50m,limits.memory=32Mi"), 0);
    assert_eq!(count("requests.cpu=50m,limits.memory=32Mi"), 1);
    assert_eq!(count("none"), 1);
}

/// Returns a pod with the resources of container `app`, and with a note of the LimitRanger.
fn pod_with_note(note: &str, resources: Value) -> Object {
    let pod = opted_in().with_spec("containers", app(resources));
    pod.with(
        "/metadata/annotations",
        "kubernetes.io/limit-ranger",
        format!("LimitRanger plugin set: {note}").into(),
    )
}

#[test]
fn leaves_out_what_a_limit_range_sets() {
    let both =
        json!({"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "500m", "memory": "256Mi"}});
    let note = "cpu, memory request for container app; cpu, memory limit for container app";
    assert_eq!(resources(&pod_with_note(note, both.clone())), json!({}));
    // The container `app` has its own requests, which satisfy the minimum. The requests of the certmint-fetch container
    // may be below the minimum.
    assert_eq!(
        resources(&pod_with_note("cpu limit for container app", both.clone())),
        json!({"requests": {"memory": "8Mi"}, "limits": {"memory": "32Mi"}})
    );
    // A LimitRange that has only a minimum sets a request and no limit.
    let minimum = |memory: &str| {
        let pod =
            pod_with_note("memory request for init container app", json!({"requests": {"memory": memory}}));
        resources(&pod)
    };
    assert_eq!(minimum("32Mi"), json!({"requests": {"cpu": "5m"}, "limits": {"memory": "32Mi"}}));
    assert_eq!(minimum("64Mi"), json!({"requests": {"cpu": "5m"}}));
    // A default for the certmint-fetch container has no meaning for the other containers.
    let usual = json!({"requests": {"cpu": "5m", "memory": "8Mi"}, "limits": {"memory": "32Mi"}});
    let unlimited = json!({"requests": {"cpu": "100m", "memory": "128Mi"}});
    assert_eq!(resources(&pod_with_note("cpu limit for init container certmint", unlimited.clone())), usual);
    assert_eq!(resources(&pod_with_note("a note of another kind", unlimited.clone())), usual);
    // The annotation has priority.
    let asked = pod_with_note(note, both).annotated("resources", "requests.cpu=50m");
    assert_eq!(resources(&asked), json!({"requests": {"cpu": "50m"}}));
    // In a pod with pod resources, a default request could exceed them.
    let pod = pod_with_note(note, unlimited).with_spec("resources", json!({"requests": {"cpu": "100m"}}));
    assert_eq!(resources(&pod), json!({"requests": {"cpu": "0", "memory": "0"}}));
}

#[test]
fn sets_ephemeral_storage_if_all_containers_do() {
    let storage = |requests: Value, limits: Value| {
        let resources = resources(
            &opted_in().with_spec("containers", app(json!({"requests": requests, "limits": limits}))),
        );
        (resources["requests"]["ephemeral-storage"].clone(), resources["limits"]["ephemeral-storage"].clone())
    };
    let some = || json!({"ephemeral-storage": "1Gi"});
    assert_eq!(storage(some(), some()), (json!("8Mi"), json!("128Mi")));
    assert_eq!(storage(some(), json!({})), (json!("8Mi"), Value::Null));
    assert_eq!(storage(json!({}), json!({})), (Value::Null, Value::Null));
}
