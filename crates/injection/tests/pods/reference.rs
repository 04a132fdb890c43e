//! Asserts that the reference pages `pods.md` and `flags.md` quote messages, variables and commands exactly.

use certmint_testkit::Object;
use serde_json::{Value, json};

use crate::common::admit;
use crate::{fetch_container, opted_in};

const REFERENCE: &str = include_str!("../../../../docs/src/reference/pods.md");
const FLAGS: &str = include_str!("../../../../docs/src/reference/flags.md");

/// Creates the pod and returns the rejection, or the warnings.
fn messages(pod: &Object) -> Vec<String> {
    admit(pod, None).map_or_else(|rejection| vec![rejection.to_string()], |injection| injection.warnings)
}

fn pod_with_mount(path: &str) -> Object {
    let mounts = json!([{"name": "x", "mountPath": path}]);
    opted_in().annotated("mount-path", "/app/tls").with("/spec/containers/0", "volumeMounts", mounts)
}

/// Returns a pod that mounts a volume read-only at the parent directory of the certificate's mount path.
fn pod_with_mount_above(source: Value) -> Object {
    let mut volume = source;
    volume["name"] = "x".into();
    let mounts = json!([{"name": "x", "mountPath": "/app", "readOnly": true}]);
    opted_in().annotated("mount-path", "/app/tls").with_spec("volumes", json!([volume])).with(
        "/spec/containers/0",
        "volumeMounts",
        mounts,
    )
}

fn rejected_pods() -> Vec<Object> {
    let foreign = || json!([{"name": "certmint", "command": ["/bin/sh"]}]);
    vec![
        opted_in().with_spec("initContainers", foreign()),
        opted_in().with_spec("containers", foreign()),
        opted_in().with_spec("volumes", json!([{"name": "certmint-tls", "emptyDir": {}}])),
        opted_in().with_spec("containers", Value::Null),
        pod_with_mount("/app/tls"),
        pod_with_mount("/app/tls/own.crt"),
        pod_with_mount_above(json!({"emptyDir": {}})),
        opted_in().annotated("reload", "signal:SIGHUP:nginx").with_spec("hostPID", json!(true)),
        opted_in()
            .annotated("resources", "requests.cpu=50m")
            .with_spec("resources", json!({"requests": {"cpu": "20m"}})),
        opted_in().with(
            "/spec/containers/0",
            "volumeMounts",
            json!([{"name": "certmint-tls", "mountPath": "/app/tls"}]),
        ),
    ]
}

fn pods_with_warnings() -> Vec<Object> {
    let user = |name: &str, user: u64| json!({"name": name, "securityContext": {"runAsUser": user}});
    let signal = opted_in().annotated("reload", "signal:SIGHUP:nginx");
    vec![
        opted_in().with_spec("os", json!({"name": "windows"})),
        opted_in().with_spec("nodeSelector", json!({"kubernetes.io/os": "windows"})),
        opted_in().with_spec("containers", json!([user("app", 1000), user("proxy", 2000)])),
        opted_in()
            .annotated("containers", "app,envoy")
            .with_spec("containers", json!([{"name": "app"}, {"name": "logs"}])),
        opted_in().with_spec("hostNetwork", json!(true)),
        opted_in().with_spec("dnsPolicy", json!("Default")),
        signal.clone(),
        signal.clone().with_spec("shareProcessNamespace", json!(true)),
        signal.annotated("renew", "false"),
        opted_in().with("/metadata/annotations", "kubernetes.io/config.mirror", json!("5d41402a")),
        pod_with_mount_above(json!({"persistentVolumeClaim": {"claimName": "data"}})),
        opted_in().with_spec("containers", json!([user("app", 0)])),
        opted_in().annotated("resources", "requests.cpu=50m").with_spec(
            "containers",
            json!([{"name": "app", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]),
        ),
    ]
}

#[test]
fn the_reference_contains_every_message() {
    for pod in rejected_pods().into_iter().chain(pods_with_warnings()) {
        let messages = messages(&pod);
        assert_eq!(messages.len(), 1, "{messages:?}");
        for sentence in messages {
            assert!(
                REFERENCE.contains(&format!("| {sentence} |")),
                "docs/src/reference/pods.md lacks\n{sentence}"
            );
        }
    }
}

#[test]
fn the_reference_contains_variables_and_commands() {
    let listed = |table: &str| -> Vec<String> {
        let (_, rows) = FLAGS.split_once(table).unwrap();
        let rows = rows.lines().skip(1).take_while(|line| line.starts_with("| `"));
        rows.map(|row| row.split('`').nth(1).unwrap().to_owned()).collect()
    };
    let pod = opted_in().annotated("reload", "http://127.0.0.1:8080/reload");
    let sidecar = fetch_container(&pod);
    let set: Vec<_> = sidecar["env"].as_array().unwrap().iter().map(|variable| &variable["name"]).collect();
    assert_eq!(json!(set), json!(listed("| variable | what it is |\n")));

    let words = |command: &Value| -> String {
        command.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>().join(" ")
    };
    let once = fetch_container(&opted_in().annotated("renew", "false"));
    let probe = &sidecar["startupProbe"]["exec"]["command"];
    let run = [&sidecar["command"], &once["command"], probe].map(words);
    assert_eq!(listed("| command | what it does |\n"), run);
}
