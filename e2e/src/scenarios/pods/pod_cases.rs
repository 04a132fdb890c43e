//! Table of pods that get a certificate.

use serde_json::json;

use super::pod_case::{PodCase, container, pod_case, with_command, with_security_context};

const APP_USER_CANNOT_READ: &str = "certmint: SuspiciousSetting: container \"app\" runs as root; if its application becomes another user, that user cannot read the key: set runAsUser in the pod's securityContext to that user, or fsGroup to its group";
const PROXY_USER_CANNOT_READ: &str = "certmint: SuspiciousSetting: container \"proxy\" runs as root; if its application becomes another user, that user cannot read the key: set runAsUser in the pod's securityContext to that user, or fsGroup to its group";
const NO_SHARED_GROUP: &str = "certmint: SuspiciousSetting: users 1000, 2000 get the key and share no group, so everyone in their containers can read it; set fsGroup in the pod's securityContext, or name the containers that need it in annotation certmint.dev/containers";
/// Expected `KeyReader::access` in a pod whose spec does not name a user, so that the image determines the user.
const IMAGE_USER: &str = "65532 444 65532:0";
/// Shell command that succeeds if the key can be read.
const READS_KEY: &str = "grep -q 'PRIVATE KEY' /var/run/secrets/certmint.dev/tls.key";
/// Shell command that succeeds if the key does not exist yet.
const SEES_NO_KEY: &str = "! ls /var/run/secrets/certmint.dev/tls.key";

/// Returns every case.
pub(super) fn all() -> Vec<PodCase> {
    [users(), containers(), volumes_and_settings(), certmint_names()].into_iter().flatten().collect()
}

/// Pods with different users and groups, on which the mode of the files depends.
fn users() -> Vec<PodCase> {
    let no_capabilities = json!({ "runAsUser": 0, "capabilities": { "drop": ["ALL"] } });
    let two_users = || {
        [
            with_security_context("app", json!({ "runAsUser": 1000 })),
            with_security_context("proxy", json!({ "runAsUser": 2000 })),
        ]
    };
    vec![
        pod_case("user-of-pod")
            .spec("securityContext", json!({ "runAsUser": 1000 }))
            .read_by("app", "1000 400 1000:0"),
        pod_case("user-of-container")
            .containers(&[with_security_context("app", json!({ "runAsUser": 1000 }))])
            .read_by("app", "1000 400 1000:0"),
        pod_case("user-and-fs-group")
            .spec("securityContext", json!({ "runAsUser": 1000, "fsGroup": 3000 }))
            .read_by("app", "1000 400 1000:3000"),
        pod_case("user-and-root")
            .containers(&[
                with_security_context("app", json!({ "runAsUser": 1000 })),
                with_security_context("proxy", json!({ "runAsUser": 0 })),
            ])
            .read_by("app", "1000 400 1000:0")
            .read_by("proxy", "0 400 1000:0")
            .warned(PROXY_USER_CANNOT_READ),
        pod_case("two-users")
            .containers(&two_users())
            .read_by("app", "1000 444 65532:0")
            .read_by("proxy", "2000 444 65532:0")
            .warned(NO_SHARED_GROUP),
        pod_case("two-users-fs-group")
            .spec("securityContext", json!({ "fsGroup": 3000 }))
            .containers(&two_users())
            .read_by("app", "1000 440 65532:3000")
            .read_by("proxy", "2000 440 65532:3000"),
        pod_case("two-users-one-group")
            .containers(&[
                with_security_context("app", json!({ "runAsUser": 1000, "runAsGroup": 3000 })),
                with_security_context("proxy", json!({ "runAsUser": 2000, "runAsGroup": 3000 })),
            ])
            .read_by("app", "1000 440 65532:3000")
            .read_by("proxy", "2000 440 65532:3000"),
        pod_case("fs-group")
            .spec("securityContext", json!({ "fsGroup": 3000 }))
            .read_by("app", "65532 440 65532:3000"),
        pod_case("user-of-image").read_by("app", IMAGE_USER),
        pod_case("run-as-non-root")
            .spec("securityContext", json!({ "runAsNonRoot": true }))
            .read_by("app", IMAGE_USER),
        pod_case("root")
            .spec("securityContext", json!({ "runAsUser": 0 }))
            .read_by("app", "0 440 65532:0")
            .warned(APP_USER_CANNOT_READ),
        pod_case("root-and-fs-group")
            .spec("securityContext", json!({ "runAsUser": 0, "fsGroup": 3000 }))
            .read_by("app", "0 440 65532:3000"),
        pod_case("root-without-capabilities")
            .containers(&[with_security_context("app", no_capabilities)])
            .read_by("app", "0 440 65532:0"),
    ]
}

/// Pods with different containers and init containers.
fn containers() -> Vec<PodCase> {
    let sidecar = || container("proxy", json!({ "restartPolicy": "Always" }));
    vec![
        pod_case("own-init-container")
            .spec("initContainers", json!([with_command("migrate", READS_KEY)]))
            .init_containers(&["certmint", "migrate"])
            .read_by("app", IMAGE_USER),
        pod_case("own-native-sidecar")
            .spec("initContainers", json!([sidecar()]))
            .init_containers(&["certmint", "proxy"])
            .read_by("proxy", IMAGE_USER)
            .read_by("app", IMAGE_USER),
        pod_case("classic-sidecar")
            .containers(&[container("app", json!({})), container("logs", json!({}))])
            .read_by("app", IMAGE_USER)
            .read_by("logs", IMAGE_USER),
        pod_case("order-last")
            .annotated("order", "last")
            .spec("initContainers", json!([with_command("migrate", SEES_NO_KEY), sidecar()]))
            .init_containers(&["migrate", "proxy", "certmint"])
            .read_by("proxy", IMAGE_USER)
            .read_by("app", IMAGE_USER),
        pod_case("named-containers")
            .annotated("containers", "app")
            .spec("initContainers", json!([with_command("migrate", SEES_NO_KEY)]))
            .containers(&[
                with_security_context("app", json!({ "runAsUser": 1000 })),
                with_security_context("logs", json!({ "runAsUser": 2000 })),
            ])
            .init_containers(&["certmint", "migrate"])
            .read_by("app", "1000 400 1000:0")
            .not_in("logs")
            .not_in("migrate"),
        pod_case("renew-false").annotated("renew", "false").read_by("app", IMAGE_USER),
        pod_case("renew-false-order-last")
            .annotated("renew", "false")
            .annotated("order", "last")
            .spec("initContainers", json!([with_command("migrate", SEES_NO_KEY)]))
            .init_containers(&["migrate", "certmint"])
            .read_by("app", IMAGE_USER),
    ]
}

/// Pods with other volumes, resources, and settings that they share with the node.
fn volumes_and_settings() -> Vec<PodCase> {
    let mounts = |mounts: serde_json::Value, read_only: bool| {
        container(
            "app",
            json!({ "volumeMounts": mounts, "securityContext": { "readOnlyRootFilesystem": read_only } }),
        )
    };
    vec![
        pod_case("host-network")
            .spec("hostNetwork", true.into())
            .spec("dnsPolicy", "ClusterFirstWithHostNet".into())
            .read_by("app", IMAGE_USER),
        pod_case("shared-processes").spec("shareProcessNamespace", true.into()).read_by("app", IMAGE_USER),
        pod_case("read-only-root")
            .spec("volumes", json!([{ "name": "run", "emptyDir": {} }]))
            .containers(&[mounts(json!([{ "name": "run", "mountPath": "/var/run" }]), true)])
            .read_by("app", IMAGE_USER),
        pod_case("sub-path")
            .annotated("mount-path", "/etc/app/tls")
            .spec("volumes", json!([{ "name": "config", "configMap": { "name": "kube-root-ca.crt" } }]))
            .containers(&[mounts(
                json!([{ "name": "config", "mountPath": "/etc/app/ca.crt", "subPath": "ca.crt" }]),
                false,
            )])
            .read_by("app", IMAGE_USER),
        pod_case("inside-a-volume")
            .annotated("mount-path", "/data/tls")
            .spec("volumes", json!([{ "name": "data", "emptyDir": {} }]))
            .containers(&[mounts(json!([{ "name": "data", "mountPath": "/data" }]), true)])
            .read_by("app", IMAGE_USER),
        pod_case("inside-a-config-map")
            .annotated("mount-path", "/config/tls")
            .spec("volumes", json!([{ "name": "config", "configMap": { "name": "kube-root-ca.crt" } }]))
            .containers(&[mounts(json!([{ "name": "config", "mountPath": "/config" }]), true)])
            .read_by("app", IMAGE_USER),
        pod_case("inside-a-read-only-config-map")
            .annotated("mount-path", "/config/tls")
            .spec("volumes", json!([{ "name": "config", "configMap": { "name": "kube-root-ca.crt" } }]))
            .containers(&[mounts(
                json!([{ "name": "config", "mountPath": "/config", "readOnly": true }]),
                true,
            )])
            .read_by("app", IMAGE_USER),
        pod_case("inside-a-rendered-config")
            .annotated("mount-path", "/etc/app/tls")
            .spec("volumes", json!([{ "name": "config", "emptyDir": {} }]))
            .spec(
                "initContainers",
                json!([container(
                    "render",
                    json!({
                        "command": ["sh", "-c", "echo a=b > /etc/app/app.conf"],
                        "volumeMounts": [{ "name": "config", "mountPath": "/etc/app" }],
                    })
                )]),
            )
            .containers(&[mounts(
                json!([{ "name": "config", "mountPath": "/etc/app", "readOnly": true }]),
                true,
            )])
            .init_containers(&["certmint", "render"])
            .read_by("app", IMAGE_USER),
        pod_case("inside-a-host-path")
            .annotated("mount-path", "/node/ssl")
            .spec("volumes", json!([{ "name": "node", "hostPath": { "path": "/etc" } }]))
            .containers(&[mounts(
                json!([{ "name": "node", "mountPath": "/node", "readOnly": true }]),
                false,
            )])
            .read_by("app", IMAGE_USER)
            .warned("certmint: SuspiciousSetting: container \"app\" mounts volume \"node\" read-only at /node, above the certificate's path /node/ssl; without that directory in the volume it cannot start: choose another path with annotation certmint.dev/mount-path"),
        pod_case("own-token")
            .spec("automountServiceAccountToken", false.into())
            .spec("volumes", json!([{ "name": "token", "projected": {
                "sources": [{ "serviceAccountToken": { "path": "token" } }],
            } }]))
            .containers(&[mounts(
                json!([{ "name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount" }]),
                true,
            )])
            .read_by("app", IMAGE_USER),
        pod_case("ends-on-its-own")
            .spec("activeDeadlineSeconds", 3000.into())
            .spec("restartPolicy", "Never".into())
            .spec("hostname", "ends".into())
            .spec("subdomain", "pods".into())
            .spec("setHostnameAsFQDN", true.into())
            .read_by("app", IMAGE_USER),
        pod_case("variables-like-certmint")
            .containers(&[container("app", json!({
                "env": [{ "name": "CERTMINT_API", "value": "https://elsewhere.example.com" }],
            }))])
            .read_by("app", IMAGE_USER),
        pod_case("host-processes").spec("hostPID", true.into()).read_by("app", IMAGE_USER),
        pod_case("no-api-token").spec("automountServiceAccountToken", false.into()).read_by("app", IMAGE_USER),
        pod_case("guaranteed")
            .containers(&[container(
                "app",
                json!({ "resources": { "limits": { "cpu": "20m", "memory": "32Mi" } } }),
            )])
            .read_by("app", IMAGE_USER),
        with_pod_resources("pod-resources-exact", json!({ "requests": exact_resources(), "limits": { "cpu": "200m", "memory": "128Mi" } })),
        with_pod_resources("pod-resources-limits", json!({ "limits": { "cpu": "200m", "memory": "128Mi" } })),
        pod_case("pod-resources-small")
            .spec("resources", json!({ "limits": { "cpu": "50m", "memory": "24Mi" } }))
            .read_by("app", IMAGE_USER),
        pod_case("resources")
            .annotated("resources", "requests.cpu=10m,limits.memory=64Mi")
            .read_by("app", IMAGE_USER),
    ]
}

/// Requests of the pod, and of its container `app`.
fn exact_resources() -> serde_json::Value {
    json!({ "cpu": "20m", "memory": "32Mi" })
}

/// Returns a pod with resources at the level of the pod.
fn with_pod_resources(name: &'static str, resources: serde_json::Value) -> PodCase {
    let app = container("app", json!({ "resources": { "requests": exact_resources() } }));
    pod_case(name).spec("resources", resources).containers(&[app]).read_by("app", IMAGE_USER)
}

/// Pods with names that Certmint uses.
fn certmint_names() -> Vec<PodCase> {
    let foreign = json!({
        "name": "certmint", "image": "registry.example.com/foreign", "command": ["/certmint-fetch"],
    });
    vec![
        pod_case("certmint-name-foreign-image")
            .spec("initContainers", json!([foreign]))
            .read_by("app", IMAGE_USER),
    ]
}
