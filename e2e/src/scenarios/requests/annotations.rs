//! The scenario `annotations` writes wrong and suspicious annotations with kubectl.
//!
//! It asserts the complete message that kubectl prints for each of them: wrong values and keys are rejected,
//! suspicious ones are accepted with a warning, and an opt-in in an excluded namespace is rejected.

use anyhow::{Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::{command, installation};
use serde_json::json;

use super::fixture::{CertificateFixture, deployment, run_for_stderr, with_merged_output};

/// Text that kubectl prints before the message of a rejection.
const REJECTION_PREFIX: &str =
    "Error from server: admission webhook \"workloads.certmint.dev\" denied the request: ";

/// Wrong annotation without its prefix, and the webhook's message.
const REJECTED: [(&str, &str); 16] = [
    (
        "inject=ture",
        r#"InvalidAnnotation: annotation certmint.dev/inject: "ture" is not allowed (did you mean "true"?); use one of true, false"#,
    ),
    (
        "mode=secrets",
        r#"InvalidAnnotation: annotation certmint.dev/mode: "secrets" is not allowed (did you mean "secret"?); use one of secret, pod, kubelet"#,
    ),
    (
        "mode=pod",
        r#"UnsupportedMode: annotation certmint.dev/mode: mode "pod" is not supported yet; remove the annotation or write "secret""#,
    ),
    (
        "secret-name=My_TLS",
        r#"InvalidAnnotation: annotation certmint.dev/secret-name: "My_TLS" is not a valid Secret name (did you mean "my-tls"?): use a-z, 0-9, '-' and '.', beginning and ending with a letter or digit, at most 253 characters"#,
    ),
    (
        "dns-names=*.example.com",
        r#"InvalidAnnotation: annotation certmint.dev/dns-names: "*.example.com" is not a DNS name: wildcards are not issued; write a lowercase name like payments.shop.svc"#,
    ),
    (
        "dns-names=payments.names.svc",
        "NotAllowed: annotation certmint.dev/dns-names: payments.names.svc is not allowed in namespace annotations; ask your platform engineer to add it to extraDnsNames, or remove it (names of Services are always allowed)",
    ),
    (
        "duration=24H",
        r#"InvalidAnnotation: annotation certmint.dev/duration: "24H" is not a duration (did you mean "24h"?): write a whole number with a unit, like 24h, 90m or 1h30m (units d, h, m, s)"#,
    ),
    (
        "duration=365d",
        "NotAllowed: annotation certmint.dev/duration: 8760h is not allowed; the policy allows 10s to 720h",
    ),
    (
        "key-algorithm=ecdsa-p265",
        r#"InvalidAnnotation: annotation certmint.dev/key-algorithm: "ecdsa-p265" is not a key algorithm (did you mean "ecdsa-p256"?); use one of ecdsa-p256, ecdsa-p384, ed25519, rsa-2048, rsa-3072, rsa-4096"#,
    ),
    (
        "mount-path=etc/tls",
        r#"InvalidAnnotation: annotation certmint.dev/mount-path: "etc/tls" is not a mount path (did you mean "/etc/tls"?); write an absolute path without ".." or ':', like /var/run/secrets/certmint.dev"#,
    ),
    (
        "containers=App",
        r#"InvalidAnnotation: annotation certmint.dev/containers: "App" is not a container name (did you mean "app"?); write names like app,proxy"#,
    ),
    (
        "renew=off",
        r#"InvalidAnnotation: annotation certmint.dev/renew: "off" is not allowed (did you mean "false"?); use one of true, false"#,
    ),
    (
        "reload=signal:HUP:nginx",
        r#"InvalidAnnotation: annotation certmint.dev/reload: "signal:HUP:nginx" is not a reload hook (did you mean "signal:SIGHUP:nginx"?): write http://127.0.0.1:PORT/PATH (https too) or signal:SIGHUP:PROCESS (SIGHUP, SIGUSR1 or SIGUSR2)"#,
    ),
    (
        "order=frist",
        r#"InvalidAnnotation: annotation certmint.dev/order: "frist" is not allowed (did you mean "first"?); use one of first, last"#,
    ),
    (
        "durration=1h",
        r#"UnknownAnnotation: annotation certmint.dev/durration does not exist (did you mean "certmint.dev/duration"?); known: inject, mode, secret-name, dns-names, duration, key-algorithm, mount-path, containers, renew, reload, order, resources"#,
    ),
    (
        "colour=blue",
        "UnknownAnnotation: annotation certmint.dev/colour does not exist; known: inject, mode, secret-name, dns-names, duration, key-algorithm, mount-path, containers, renew, reload, order, resources",
    ),
];

/// Suspicious annotation without its prefix, and kubectl's warning.
const SUSPICIOUS: [(&str, &str); 3] = [
    (
        "containers=app,sidecar",
        r#"certmint: SuspiciousSetting: annotation certmint.dev/containers names "sidecar", but the pod has only app"#,
    ),
    (
        "reload=signal:SIGHUP:nginx",
        "certmint: SuspiciousSetting: no signal reaches nginx: set shareProcessNamespace: true in the pod's spec, or reload by http://127.0.0.1:PORT/PATH",
    ),
    (
        "renew=false",
        r#"certmint: SuspiciousSetting: with renew: "false" nothing renews the certificate in the pods of a Deployment, which run longer than it is valid; leave it out, or restart them in time"#,
    ),
];

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let fixture = CertificateFixture::new(cluster, "annotations")?;
    fixture.deploy("web", &[])?;
    step("kubectl annotate prints why a wrong value or key is rejected", || {
        assert_annotations_rejected(&fixture)
    })?;
    step("kubectl apply prints all errors of a workload at once", || assert_all_errors_reported(&fixture))?;
    step("kubectl prints a warning about a suspicious annotation", || assert_warnings(&fixture))?;
    step("an opt-in in an excluded namespace is rejected", || assert_excluded_namespaces(&fixture))
}

fn assert_annotations_rejected(fixture: &CertificateFixture<'_>) -> Result<()> {
    let before = fixture.kubectl.get(&["deployment/web"])?["metadata"]["resourceVersion"].clone();
    for (annotation, expected) in REJECTED {
        let annotation = format!("certmint.dev/{annotation}");
        let arguments = ["annotate", "--overwrite", "deployment/web", &annotation];
        let result = run_for_stderr(&fixture.kubectl, &arguments)?;
        ensure!(
            !result.succeeded && result.stderr == format!("{REJECTION_PREFIX}{expected}\n"),
            "kubectl annotate {annotation} printed: {}",
            result.stderr
        );
    }
    let after = fixture.kubectl.get(&["deployment/web"])?["metadata"]["resourceVersion"].clone();
    ensure!(before == after, "a rejected annotation changed the Deployment");
    Ok(())
}

fn assert_all_errors_reported(fixture: &CertificateFixture<'_>) -> Result<()> {
    let wrong = deployment("wrong", &[("duration", "banana"), ("order", "middle"), ("renew", "never")]);
    let error = fixture.kubectl.apply(&wrong.to_string()).err();
    let error = error.map(|error| format!("{error:#}")).unwrap_or_default();
    let expected = r#"denied the request: InvalidAnnotation: annotation certmint.dev/duration: "banana" is not a duration: write a whole number with a unit, like 24h, 90m or 1h30m (units d, h, m, s); annotation certmint.dev/renew: "never" is not allowed; use one of true, false; annotation certmint.dev/order: "middle" is not allowed; use one of first, last"#;
    ensure!(error.contains(expected), "kubectl apply printed: {error}");
    Ok(())
}

fn assert_warnings(fixture: &CertificateFixture<'_>) -> Result<()> {
    for (annotation, expected) in SUSPICIOUS {
        let (key, value) = annotation.split_once('=').unwrap_or_default();
        let annotation = format!("certmint.dev/{key}={value}");
        let result = run_for_stderr(&fixture.kubectl, &["annotate", "deployment/web", &annotation])?;
        ensure!(
            result.succeeded && result.stderr == format!("Warning: {expected}\n"),
            "kubectl annotate {annotation} printed: {}",
            result.stderr
        );
        fixture.kubectl.run(&["annotate", "deployment/web", &format!("certmint.dev/{key}-")])?;
    }
    // A workload that has options but does not opt in.
    let mut not_opted_in = deployment("idle", &[("duration", "1h")]);
    not_opted_in["metadata"]["annotations"] = json!({ "certmint.dev/duration": "1h" });
    let create = fixture.kubectl.command(&["create", "--filename=-", "--dry-run=server"]);
    let printed = command::output_with_input(&mut with_merged_output(&create), &not_opted_in.to_string())?;
    let expected = "Warning: certmint: SuspiciousSetting: annotation certmint.dev/duration has no effect without certmint.dev/inject=true";
    ensure!(printed.lines().any(|line| line == expected), "kubectl create printed: {printed}");
    Ok(())
}

/// Opts in workloads of namespaces for whose pods the API server never calls the webhook. It still calls the webhook
/// for the workloads, and the webhook rejects them.
fn assert_excluded_namespaces(fixture: &CertificateFixture<'_>) -> Result<()> {
    for namespace in ["kube-system", installation::SYSTEM_NAMESPACE] {
        let kubectl = fixture.cluster.kubectl().namespace(namespace);
        let opted_in = deployment("certmint-excluded", &[]);
        let mut create = kubectl.command(&["create", "--filename=-", "--dry-run=server"]);
        let created = command::output_with_input(&mut create, &opted_in.to_string());
        let error = created.err().map(|error| format!("{error:#}")).unwrap_or_default();
        let expected = format!(
            "denied the request: NotAllowed: namespace {namespace} is excluded by the policy; ask your platform engineer to change excludedNamespaces"
        );
        ensure!(error.contains(&expected), "in namespace {namespace}, kubectl printed: {error}");
    }
    Ok(())
}
