//! Table of pods that the webhook rejects, warns about or does not inject, each with the expected message. The pods
//! are created in a dry run.

use anyhow::{Result, ensure};
use certmint_local_cluster::kubectl::Kubectl;
use serde_json::{Value, json};

use super::create;
use super::pod_case::{PodCase, container, pod_case};

/// Expected response to a pod.
enum Expected {
    /// The webhook rejects the pod with this message.
    Rejected(&'static str),
    /// The webhook does not change the pod. kubectl prints the warnings of the case.
    Unchanged,
    /// The webhook injects the pod. kubectl prints the warnings of the case.
    Injected,
}

pub(super) fn check(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    let check_case = |(case, expected): &(PodCase, Expected)| {
        let failure = assert_response(kubectl, case, expected, image).err()?;
        Some(format!("{}: {failure:#}", case.name))
    };
    let cases = [rejected_cases(), accepted_cases()].into_iter().flatten();
    let failures: Vec<String> = cases.collect::<Vec<_>>().iter().filter_map(check_case).collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

fn assert_response(kubectl: &Kubectl<'_>, case: &PodCase, expected: &Expected, image: &str) -> Result<()> {
    let result = create(kubectl, &["--dry-run=server", "--output=json"], &case.manifest(image).to_string())?;
    if let Expected::Rejected(message) = expected {
        let end = format!("admission webhook \"pods.certmint.dev\" denied the request: {message}");
        ensure!(!result.accepted, "the pod was accepted");
        ensure!(
            result.stderr_lines.len() == 1 && result.stderr_lines[0].ends_with(&end),
            "kubectl printed {:?} instead of {end:?}",
            result.stderr_lines
        );
        return Ok(());
    }
    ensure!(result.accepted, "the pod was rejected: {}", result.stderr_lines.join("\n"));
    case.assert_warnings(&result)?;
    let pod: Value = serde_json::from_str(&result.stdout)?;
    let injected = certmint_local_cluster::workload::is_injected(&pod);
    let changed = pod["spec"].to_string().contains("certmint");
    match expected {
        Expected::Injected => ensure!(injected, "the pod was not injected"),
        Expected::Unchanged | Expected::Rejected(_) => {
            ensure!(!changed, "the pod was changed: {}", pod["spec"])
        }
    }
    Ok(())
}

fn rejected_cases() -> Vec<(PodCase, Expected)> {
    let foreign = || json!([container("certmint", json!({ "command": ["/bin/sh"] }))]);
    let mounting = |source: Value, path: &str, read_only: bool| {
        let volume = [("name", json!("x"))].into_iter().map(|(key, value)| (key.to_owned(), value));
        let volume: Value = volume.chain(source.as_object().cloned().unwrap_or_default()).collect();
        let app = container(
            "app",
            json!({ "volumeMounts": [{ "name": "x", "mountPath": path, "readOnly": read_only }] }),
        );
        pod_case("mounts")
            .annotated("mount-path", "/app/tls")
            .spec("volumes", json!([volume]))
            .containers(&[app])
    };
    let name_conflict = "PodConflict: the pod has a container named \"certmint\" that does not run /certmint-fetch; rename it: that name is reserved for the container of Certmint";
    vec![
        (
            pod_case("foreign-init-container").spec("initContainers", foreign()),
            Expected::Rejected(name_conflict),
        ),
        (pod_case("foreign-container").spec("containers", foreign()), Expected::Rejected(name_conflict)),
        (
            pod_case("no-containers").containers(&[]),
            Expected::Rejected("PodConflict: the pod has no containers; add at least one"),
        ),
        (
            pod_case("certmint-volume").spec("volumes", json!([{ "name": "certmint-tls", "emptyDir": {} }])),
            Expected::Rejected(
                "PodConflict: the pod has a volume named \"certmint-tls\"; rename it: that name is reserved for a volume of Certmint",
            ),
        ),
        (
            mounting(json!({ "emptyDir": {} }), "/app/tls/", false),
            Expected::Rejected(
                "PodConflict: container \"app\" mounts volume \"x\" at /app/tls, the path of the certificate; choose another path with annotation certmint.dev/mount-path",
            ),
        ),
        (
            mounting(json!({ "emptyDir": {} }), "/app/tls/own", false),
            Expected::Rejected(
                "PodConflict: container \"app\" mounts volume \"x\" at /app/tls/own, below the path of the certificate; choose another path with annotation certmint.dev/mount-path",
            ),
        ),
        (
            mounting(json!({ "emptyDir": {} }), "/app", true),
            Expected::Rejected(
                "PodConflict: container \"app\" mounts volume \"x\" at /app, read-only and above the path of the certificate, so that its directory cannot be created; choose another path with annotation certmint.dev/mount-path",
            ),
        ),
        (
            pod_case("signal-to-the-node")
                .annotated("reload", "signal:SIGHUP:nginx")
                .spec("hostPID", true.into()),
            Expected::Rejected(
                "PodConflict: annotation certmint.dev/reload: a signal would reach processes of other pods too, because this pod has hostPID: true; reload by http://127.0.0.1:PORT/PATH",
            ),
        ),
        (
            pod_case("exceeds-pod-resources")
                .annotated("resources", "requests.cpu=50m")
                .spec("resources", json!({ "requests": { "cpu": "20m" } })),
            Expected::Rejected(
                "PodConflict: annotation certmint.dev/resources: requests.cpu=50m does not fit into the pod's own spec.resources with requests.cpu=20m; ask for less, or remove the annotation",
            ),
        ),
        (
            pod_case("exceeds-policy").annotated("resources", "limits.memory=1Gi"),
            Expected::Rejected(
                "NotAllowed: annotation certmint.dev/resources: limits.memory=1Gi is not allowed; the policy allows at most 256Mi",
            ),
        ),
    ]
}

fn accepted_cases() -> Vec<(PodCase, Expected)> {
    const WINDOWS: &str = "certmint: Ignored: this is a Windows pod; Certmint injects into Linux pods only and leaves it as it is";
    vec![
        (pod_case("windows").spec("os", json!({ "name": "windows" })).warned(WINDOWS), Expected::Unchanged),
        (
            pod_case("windows-node")
                .spec("nodeSelector", json!({ "kubernetes.io/os": "windows" }))
                .warned(WINDOWS),
            Expected::Unchanged,
        ),
        (
            pod_case("mirror-of-a-static-pod")
                .foreign_annotation("kubernetes.io/config.mirror", "5d41402abc4b2a76b9719d911017c592")
                .spec("nodeName", "somewhere".into())
                .warned(
                    "certmint: Ignored: this is the mirror of a static pod, which the kubelet runs from a file; Certmint leaves it as it is, without a certificate",
                ),
            Expected::Unchanged,
        ),
        (
            pod_case("host-network-without-dns").spec("hostNetwork", true.into()).warned(
                "certmint: SuspiciousSetting: a hostNetwork pod does not resolve names of Services, such as the name of the issuance API; use dnsPolicy ClusterFirstWithHostNet",
            ),
            Expected::Injected,
        ),
        (
            pod_case("absent-container").annotated("containers", "app,envoy").warned(
                "certmint: SuspiciousSetting: annotation certmint.dev/containers names \"envoy\", but the pod has only app",
            ),
            Expected::Injected,
        ),
        (
            pod_case("signal-without-shared-processes").annotated("reload", "signal:SIGHUP:nginx").warned(
                "certmint: SuspiciousSetting: no signal reaches nginx: set shareProcessNamespace: true in the pod's spec, or reload by http://127.0.0.1:PORT/PATH",
            ),
            Expected::Injected,
        ),
        (
            pod_case("read-only-claim")
                .annotated("mount-path", "/data/tls")
                .spec("volumes", json!([{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }]))
                .containers(&[container(
                    "app",
                    json!({ "volumeMounts": [{ "name": "data", "mountPath": "/data", "readOnly": true }] }),
                )])
                .warned(
                    "certmint: SuspiciousSetting: container \"app\" mounts volume \"data\" read-only at /data, above the certificate's path /data/tls; without that directory in the volume it cannot start: choose another path with annotation certmint.dev/mount-path",
                ),
            Expected::Injected,
        ),
        // The pod is not started, because that needs a container runtime with user namespaces.
        (pod_case("own-users").spec("hostUsers", false.into()), Expected::Injected),
    ]
}
