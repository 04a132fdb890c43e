//! The table of pods that get their certificate.

use serde_json::json;

use super::shape::{Shape, checking, container, running, shape};

const LOST_WITH_THE_USER: &str = "certmint: SuspiciousSetting: container \"app\" runs as root; if its application becomes another user, that user cannot read the key: set runAsUser in the pod's securityContext to that user, or fsGroup to its group";
const LOST_WITH_THE_PROXY: &str = "certmint: SuspiciousSetting: container \"proxy\" runs as root; if its application becomes another user, that user cannot read the key: set runAsUser in the pod's securityContext to that user, or fsGroup to its group";
const SHARED_BY_NOBODY: &str = "certmint: SuspiciousSetting: users 1000, 2000 get the key and share no group, so everyone in their containers can read it; set fsGroup in the pod's securityContext, or name the containers that need it in annotation certmint.dev/containers";
/// How the image's own user, of whom a pod tells nothing, reads the key.
const IMAGE_USER: &str = "65532 444 65532:0";
/// Passes when the key can be read and is one.
const READS_KEY: &str = "grep -q 'PRIVATE KEY' /var/run/secrets/certmint.dev/tls.key";
/// Passes when there is nothing yet.
const SEES_NOTHING: &str = "! ls /var/run/secrets/certmint.dev/tls.key";

/// Every shape.
pub(super) fn all() -> Vec<Shape> {
    [users(), containers(), surroundings(), ours()].into_iter().flatten().collect()
}

/// Who runs in it, which decides about the mode.
fn users() -> Vec<Shape> {
    let no_capabilities = json!({ "runAsUser": 0, "capabilities": { "drop": ["ALL"] } });
    let apart =
        || [running("app", json!({ "runAsUser": 1000 })), running("proxy", json!({ "runAsUser": 2000 }))];
    vec![
        shape("user-of-pod")
            .spec("securityContext", json!({ "runAsUser": 1000 }))
            .read_by("app", "1000 400 1000:0"),
        shape("user-of-container")
            .containers(&[running("app", json!({ "runAsUser": 1000 }))])
            .read_by("app", "1000 400 1000:0"),
        shape("user-and-fs-group")
            .spec("securityContext", json!({ "runAsUser": 1000, "fsGroup": 3000 }))
            .read_by("app", "1000 400 1000:3000"),
        shape("user-beside-root")
            .containers(&[
                running("app", json!({ "runAsUser": 1000 })),
                running("proxy", json!({ "runAsUser": 0 })),
            ])
            .read_by("app", "1000 400 1000:0")
            .read_by("proxy", "0 400 1000:0")
            .warned(LOST_WITH_THE_PROXY),
        shape("two-users")
            .containers(&apart())
            .read_by("app", "1000 444 65532:0")
            .read_by("proxy", "2000 444 65532:0")
            .warned(SHARED_BY_NOBODY),
        shape("two-users-fs-group")
            .spec("securityContext", json!({ "fsGroup": 3000 }))
            .containers(&apart())
            .read_by("app", "1000 440 65532:3000")
            .read_by("proxy", "2000 440 65532:3000"),
        shape("two-users-one-group")
            .containers(&[
                running("app", json!({ "runAsUser": 1000, "runAsGroup": 3000 })),
                running("proxy", json!({ "runAsUser": 2000, "runAsGroup": 3000 })),
            ])
            .read_by("app", "1000 440 65532:3000")
            .read_by("proxy", "2000 440 65532:3000"),
        shape("fs-group")
            .spec("securityContext", json!({ "fsGroup": 3000 }))
            .read_by("app", "65532 440 65532:3000"),
        shape("user-of-image").read_by("app", IMAGE_USER),
        shape("run-as-non-root")
            .spec("securityContext", json!({ "runAsNonRoot": true }))
            .read_by("app", IMAGE_USER),
        shape("root")
            .spec("securityContext", json!({ "runAsUser": 0 }))
            .read_by("app", "0 440 65532:0")
            .warned(LOST_WITH_THE_USER),
        shape("root-and-fs-group")
            .spec("securityContext", json!({ "runAsUser": 0, "fsGroup": 3000 }))
            .read_by("app", "0 440 65532:3000"),
        shape("root-without-capabilities")
            .containers(&[running("app", no_capabilities)])
            .read_by("app", "0 440 65532:0"),
    ]
}

/// Which containers it has, and which get the files.
fn containers() -> Vec<Shape> {
    let sidecar = || container("proxy", json!({ "restartPolicy": "Always" }));
    vec![
        shape("own-init-container")
            .spec("initContainers", json!([checking("migrate", READS_KEY)]))
            .order(&["certmint", "migrate"])
            .read_by("app", IMAGE_USER),
        shape("own-native-sidecar")
            .spec("initContainers", json!([sidecar()]))
            .order(&["certmint", "proxy"])
            .read_by("proxy", IMAGE_USER)
            .read_by("app", IMAGE_USER),
        shape("classic-sidecar")
            .containers(&[container("app", json!({})), container("logs", json!({}))])
            .read_by("app", IMAGE_USER)
            .read_by("logs", IMAGE_USER),
        shape("order-last")
            .annotated("order", "last")
            .spec("initContainers", json!([checking("migrate", SEES_NOTHING), sidecar()]))
            .order(&["migrate", "proxy", "certmint"])
            .read_by("proxy", IMAGE_USER)
            .read_by("app", IMAGE_USER),
        shape("named-containers")
            .annotated("containers", "app")
            .spec("initContainers", json!([checking("migrate", SEES_NOTHING)]))
            .containers(&[
                running("app", json!({ "runAsUser": 1000 })),
                running("logs", json!({ "runAsUser": 2000 })),
            ])
            .order(&["certmint", "migrate"])
            .read_by("app", "1000 400 1000:0")
            .not_in("logs")
            .not_in("migrate"),
        shape("renew-false").annotated("renew", "false").read_by("app", IMAGE_USER),
        shape("renew-false-order-last")
            .annotated("renew", "false")
            .annotated("order", "last")
            .spec("initContainers", json!([checking("migrate", SEES_NOTHING)]))
            .order(&["migrate", "certmint"])
            .read_by("app", IMAGE_USER),
    ]
}

/// What the pod shares with its node, and what else is mounted.
fn surroundings() -> Vec<Shape> {
    let mounts = |mounts: serde_json::Value, read_only: bool| {
        container(
            "app",
            json!({ "volumeMounts": mounts, "securityContext": { "readOnlyRootFilesystem": read_only } }),
        )
    };
    vec![
        shape("host-network")
            .spec("hostNetwork", true.into())
            .spec("dnsPolicy", "ClusterFirstWithHostNet".into())
            .read_by("app", IMAGE_USER),
        shape("shared-processes").spec("shareProcessNamespace", true.into()).read_by("app", IMAGE_USER),
        shape("read-only-root")
            .spec("volumes", json!([{ "name": "run", "emptyDir": {} }]))
            .containers(&[mounts(json!([{ "name": "run", "mountPath": "/var/run" }]), true)])
            .read_by("app", IMAGE_USER),
        shape("sub-path")
            .annotated("mount-path", "/etc/app/tls")
            .spec("volumes", json!([{ "name": "config", "configMap": { "name": "kube-root-ca.crt" } }]))
            .containers(&[mounts(
                json!([{ "name": "config", "mountPath": "/etc/app/ca.crt", "subPath": "ca.crt" }]),
                false,
            )])
            .read_by("app", IMAGE_USER),
        shape("inside-a-volume")
            .annotated("mount-path", "/data/tls")
            .spec("volumes", json!([{ "name": "data", "emptyDir": {} }]))
            .containers(&[mounts(json!([{ "name": "data", "mountPath": "/data" }]), true)])
            .read_by("app", IMAGE_USER),
        shape("inside-a-config-map")
            .annotated("mount-path", "/config/tls")
            .spec("volumes", json!([{ "name": "config", "configMap": { "name": "kube-root-ca.crt" } }]))
            .containers(&[mounts(json!([{ "name": "config", "mountPath": "/config" }]), true)])
            .read_by("app", IMAGE_USER),
        shape("inside-a-read-only-config-map")
            .annotated("mount-path", "/config/tls")
            .spec("volumes", json!([{ "name": "config", "configMap": { "name": "kube-root-ca.crt" } }]))
            .containers(&[mounts(
                json!([{ "name": "config", "mountPath": "/config", "readOnly": true }]),
                true,
            )])
            .read_by("app", IMAGE_USER),
        shape("inside-what-was-rendered")
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
            .order(&["certmint", "render"])
            .read_by("app", IMAGE_USER),
        shape("inside-a-host-path")
            .annotated("mount-path", "/node/ssl")
            .spec("volumes", json!([{ "name": "node", "hostPath": { "path": "/etc" } }]))
            .containers(&[mounts(
                json!([{ "name": "node", "mountPath": "/node", "readOnly": true }]),
                false,
            )])
            .read_by("app", IMAGE_USER)
            .warned("certmint: SuspiciousSetting: container \"app\" mounts volume \"node\" read-only at /node, above the certificate's place /node/ssl; without that directory in the volume it cannot start: choose another place with annotation certmint.dev/mount-path"),
        shape("own-token")
            .spec("automountServiceAccountToken", false.into())
            .spec("volumes", json!([{ "name": "token", "projected": {
                "sources": [{ "serviceAccountToken": { "path": "token" } }],
            } }]))
            .containers(&[mounts(
                json!([{ "name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount" }]),
                true,
            )])
            .read_by("app", IMAGE_USER),
        shape("ends-by-itself")
            .spec("activeDeadlineSeconds", 3000.into())
            .spec("restartPolicy", "Never".into())
            .spec("hostname", "ends".into())
            .spec("subdomain", "pods".into())
            .spec("setHostnameAsFQDN", true.into())
            .read_by("app", IMAGE_USER),
        shape("variables-like-ours")
            .containers(&[container("app", json!({
                "env": [{ "name": "CERTMINT_API", "value": "https://elsewhere.example.com" }],
            }))])
            .read_by("app", IMAGE_USER),
        shape("host-processes").spec("hostPID", true.into()).read_by("app", IMAGE_USER),
        shape("no-api-token").spec("automountServiceAccountToken", false.into()).read_by("app", IMAGE_USER),
        shape("guaranteed")
            .containers(&[container(
                "app",
                json!({ "resources": { "limits": { "cpu": "20m", "memory": "32Mi" } } }),
            )])
            .read_by("app", IMAGE_USER),
        whole("whole-exact", json!({ "requests": exact(), "limits": { "cpu": "200m", "memory": "128Mi" } })),
        whole("whole-limits", json!({ "limits": { "cpu": "200m", "memory": "128Mi" } })),
        shape("whole-small")
            .spec("resources", json!({ "limits": { "cpu": "50m", "memory": "24Mi" } }))
            .read_by("app", IMAGE_USER),
        shape("resources")
            .annotated("resources", "requests.cpu=10m,limits.memory=64Mi")
            .read_by("app", IMAGE_USER),
    ]
}

/// What the app of such a pod asks for, and the pod as well.
fn exact() -> serde_json::Value {
    json!({ "cpu": "20m", "memory": "32Mi" })
}

/// A pod that has resources as a whole.
fn whole(name: &'static str, resources: serde_json::Value) -> Shape {
    let app = container("app", json!({ "resources": { "requests": exact() } }));
    shape(name).spec("resources", resources).containers(&[app]).read_by("app", IMAGE_USER)
}

/// What carries something of ours already.
fn ours() -> Vec<Shape> {
    let foreign = json!({
        "name": "certmint", "image": "registry.example.com/foreign", "command": ["/certmint-fetch"],
    });
    vec![shape("our-name-foreign-image").spec("initContainers", json!([foreign])).read_by("app", IMAGE_USER)]
}
