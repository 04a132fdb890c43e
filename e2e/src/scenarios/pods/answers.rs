//! The table of pods that are refused or left alone, each with its sentence, asked for by dry run.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::create;
use super::shape::{Shape, container, shape};
use crate::kubectl::Kubectl;

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
    let injected = crate::story::workload::is_injected(&pod);
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
    let mounting = |source: Value, path: &str| {
        let volume = [("name", json!("x"))].into_iter().map(|(key, value)| (key.to_owned(), value));
        let volume: Value = volume.chain(source.as_object().cloned().unwrap_or_default()).collect();
        let app = container("app", json!({ "volumeMounts": [{ "name": "x", "mountPath": path }] }));
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
            mounting(json!({ "emptyDir": {} }), "/app/tls/"),
            Answer::Refused(
                "PodConflict: container \"app\" mounts volume \"x\" at /app/tls, where the certificate belongs; choose another place with annotation certmint.dev/mount-path",
            ),
        ),
        (
            mounting(json!({ "emptyDir": {} }), "/app/tls/own"),
            Answer::Refused(
                "PodConflict: container \"app\" mounts volume \"x\" at /app/tls/own, inside the certificate's own place; choose another place with annotation certmint.dev/mount-path",
            ),
        ),
    ]
}

fn warned() -> Vec<(Shape, Answer)> {
    const WINDOWS: &str = "certmint: LeftAlone: this is a Windows pod; Certmint injects into Linux pods only and leaves it as it is";
    vec![
        (shape("windows").spec("os", json!({ "name": "windows" })).warned(WINDOWS), Answer::LeftAlone),
        (
            shape("windows-node")
                .spec("nodeSelector", json!({ "kubernetes.io/os": "windows" }))
                .warned(WINDOWS),
            Answer::LeftAlone,
        ),
        (
            shape("host-network-without-dns").spec("hostNetwork", true.into()).warned(
                "certmint: Doubtful: a hostNetwork pod does not resolve names of Services, which the issuance API has; use dnsPolicy ClusterFirstWithHostNet",
            ),
            Answer::Injected,
        ),
        (
            shape("absent-container").annotated("containers", "app,envoy").warned(
                "certmint: Doubtful: annotation certmint.dev/containers names \"envoy\", but the pod has only app",
            ),
            Answer::Injected,
        ),
        (
            shape("signal-without-shared-processes").annotated("reload", "signal:SIGHUP:nginx").warned(
                "certmint: Doubtful: no signal reaches nginx: set shareProcessNamespace: true in the pod's spec, or reload by http://127.0.0.1:PORT/PATH",
            ),
            Answer::Injected,
        ),
        // It takes a runtime with user namespaces to run one.
        (shape("own-users").spec("hostUsers", false.into()), Answer::Injected),
    ]
}
