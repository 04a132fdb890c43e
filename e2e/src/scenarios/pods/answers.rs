//! The table of pods that are refused or left alone, each with its sentence, asked for by dry run.

use anyhow::{Result, ensure};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::workload::is_injected;
use serde_json::{Value, json};

use super::create;
use super::shape::{Shape, container, shape};

/// What comes back.
enum Answer {
    /// The webhook's sentence.
    Refused(&'static str),
    /// The pod as it was written, with the shape's warnings.
    LeftAlone,
    /// Injected, with the shape's warnings.
    Injected,
}

pub(super) fn check(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    let outcome = |(shape, answer): &(Shape, Answer)| {
        let failure = answered(kubectl, shape, answer, image).err()?;
        Some(format!("{}: {failure:#}", shape.name))
    };
    let failures: Vec<String> = all().iter().filter_map(outcome).collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

fn answered(kubectl: &Kubectl<'_>, shape: &Shape, answer: &Answer, image: &str) -> Result<()> {
    let heard = create(kubectl, &["--dry-run=server", "--output=json"], &shape.manifest(image).to_string())?;
    if let Answer::Refused(sentence) = answer {
        let end = format!("admission webhook \"pods.certmint.dev\" denied the request: {sentence}");
        ensure!(!heard.accepted, "the pod was taken");
        ensure!(
            heard.told.len() == 1 && heard.told[0].ends_with(&end),
            "kubectl told {:?} instead of {end:?}",
            heard.told
        );
        return Ok(());
    }
    ensure!(heard.accepted, "refused: {}", heard.told.join("\n"));
    let expected: Vec<String> = shape.warnings.iter().map(|warning| format!("Warning: {warning}")).collect();
    ensure!(heard.told == expected, "kubectl told {:?} instead of {expected:?}", heard.told);
    let pod: Value = serde_json::from_str(&heard.printed)?;
    let injected = is_injected(&pod);
    let touched = pod["spec"].to_string().contains("certmint");
    match answer {
        Answer::Injected => ensure!(injected, "it was not injected"),
        Answer::LeftAlone | Answer::Refused(_) => ensure!(!touched, "it was changed: {}", pod["spec"]),
    }
    Ok(())
}

fn all() -> Vec<(Shape, Answer)> {
    [refused(), warned()].into_iter().flatten().collect()
}

fn refused() -> Vec<(Shape, Answer)> {
    let foreign = || json!([container("certmint", json!({ "command": ["/bin/sh"] }))]);
    let mounting = |source: Value, path: &str, read_only: bool| {
        let volume = [("name", json!("x"))].into_iter().map(|(key, value)| (key.to_owned(), value));
        let volume: Value = volume.chain(source.as_object().cloned().unwrap_or_default()).collect();
        let app = container(
            "app",
            json!({ "volumeMounts": [{ "name": "x", "mountPath": path, "readOnly": read_only }] }),
        );
        shape("mounts")
            .annotated("mount-path", "/app/tls")
            .spec("volumes", json!([volume]))
            .containers(&[app])
    };
    let our_name = "PodConflict: the pod has a container named \"certmint\" that does not run /certmint-fetch; rename it: that name is for the injected one";
    vec![
        (shape("foreign-init-container").spec("initContainers", foreign()), Answer::Refused(our_name)),
        (shape("foreign-container").spec("containers", foreign()), Answer::Refused(our_name)),
        (
            shape("no-containers").containers(&[]),
            Answer::Refused("PodConflict: the pod has no containers; add at least one"),
        ),
        (
            shape("our-volume").spec("volumes", json!([{ "name": "certmint-tls", "emptyDir": {} }])),
            Answer::Refused(
                "PodConflict: the pod has a volume named \"certmint-tls\"; rename it: that name is for an injected one",
            ),
        ),
        (
            mounting(json!({ "emptyDir": {} }), "/app/tls/", false),
            Answer::Refused(
                "PodConflict: container \"app\" mounts volume \"x\" at /app/tls, where the certificate belongs; choose another place with annotation certmint.dev/mount-path",
            ),
        ),
        (
            mounting(json!({ "emptyDir": {} }), "/app/tls/own", false),
            Answer::Refused(
                "PodConflict: container \"app\" mounts volume \"x\" at /app/tls/own, inside the certificate's own place; choose another place with annotation certmint.dev/mount-path",
            ),
        ),
        (
            mounting(json!({ "emptyDir": {} }), "/app", true),
            Answer::Refused(
                "PodConflict: container \"app\" mounts volume \"x\" at /app, read-only and above the certificate's place, so that there is no directory to mount it on; choose another place with annotation certmint.dev/mount-path",
            ),
        ),
        (
            shape("signal-to-the-node")
                .annotated("reload", "signal:SIGHUP:nginx")
                .spec("hostPID", true.into()),
            Answer::Refused(
                "PodConflict: annotation certmint.dev/reload: a signal would reach processes of other pods too, because this pod has hostPID: true; reload by http://127.0.0.1:PORT/PATH",
            ),
        ),
        (
            shape("more-than-the-whole")
                .annotated("resources", "requests.cpu=50m")
                .spec("resources", json!({ "requests": { "cpu": "20m" } })),
            Answer::Refused(
                "PodConflict: annotation certmint.dev/resources: requests.cpu=50m does not fit into the pod's own spec.resources with requests.cpu=20m; ask for less, or remove the annotation",
            ),
        ),
        (
            shape("more-than-the-policy").annotated("resources", "limits.memory=1Gi"),
            Answer::Refused(
                "NotAllowed: annotation certmint.dev/resources: limits.memory=1Gi is not allowed; the policy allows at most 256Mi",
            ),
        ),
    ]
}

fn warned() -> Vec<(Shape, Answer)> {
    const WINDOWS: &str = "certmint: Ignored: this is a Windows pod; Certmint injects into Linux pods only and leaves it as it is";
    vec![
        (shape("windows").spec("os", json!({ "name": "windows" })).warned(WINDOWS), Answer::LeftAlone),
        (
            shape("windows-node")
                .spec("nodeSelector", json!({ "kubernetes.io/os": "windows" }))
                .warned(WINDOWS),
            Answer::LeftAlone,
        ),
        (
            shape("mirror-of-a-static-pod")
                .noted("kubernetes.io/config.mirror", "5d41402abc4b2a76b9719d911017c592")
                .spec("nodeName", "somewhere".into())
                .warned(
                    "certmint: Ignored: this is the mirror of a static pod, which kubelet runs from a file; Certmint leaves it as it is, without a certificate",
                ),
            Answer::LeftAlone,
        ),
        (
            shape("host-network-without-dns").spec("hostNetwork", true.into()).warned(
                "certmint: SuspiciousSetting: a hostNetwork pod does not resolve names of Services, which the issuance API has; use dnsPolicy ClusterFirstWithHostNet",
            ),
            Answer::Injected,
        ),
        (
            shape("absent-container").annotated("containers", "app,envoy").warned(
                "certmint: SuspiciousSetting: annotation certmint.dev/containers names \"envoy\", but the pod has only app",
            ),
            Answer::Injected,
        ),
        (
            shape("signal-without-shared-processes").annotated("reload", "signal:SIGHUP:nginx").warned(
                "certmint: SuspiciousSetting: no signal reaches nginx: set shareProcessNamespace: true in the pod's spec, or reload by http://127.0.0.1:PORT/PATH",
            ),
            Answer::Injected,
        ),
        (
            shape("read-only-claim")
                .annotated("mount-path", "/data/tls")
                .spec("volumes", json!([{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }]))
                .containers(&[container(
                    "app",
                    json!({ "volumeMounts": [{ "name": "data", "mountPath": "/data", "readOnly": true }] }),
                )])
                .warned(
                    "certmint: SuspiciousSetting: container \"app\" mounts volume \"data\" read-only at /data, above the certificate's place /data/tls; without that directory in the volume it cannot start: choose another place with annotation certmint.dev/mount-path",
                ),
            Answer::Injected,
        ),
        // It takes a runtime with user namespaces to run one.
        (shape("own-users").spec("hostUsers", false.into()), Answer::Injected),
    ]
}
