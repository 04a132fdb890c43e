//! What kubectl prints to whoever annotates.

use anyhow::{Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::{command, installation};
use serde_json::json;

use super::scene::{Scene, both_streams, deployment, said};

/// What kubectl puts before the sentence of a refusal.
const DENIED: &str = "Error from server: admission webhook \"workloads.certmint.dev\" denied the request: ";

/// A wrong annotation (without prefix), and what stands after [`DENIED`].
const REFUSED: [(&str, &str); 16] = [
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

/// A doubtful annotation (without prefix), and what kubectl warns of.
const DOUBTFUL: [(&str, &str); 3] = [
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
    installation::install(cluster, installation::SHORT_LIVED)?;
    let scene = Scene::new(cluster, "annotations")?;
    scene.deploy("web", &[])?;
    step("kubectl annotate: every wrong value and key is refused in a sentence", || annotate(&scene))?;
    step("kubectl apply: so it is, and all faults are told at once", || apply(&scene))?;
    step("kubectl annotate: what is doubtful is taken, with a warning", || warned(&scene))?;
    step("in an excluded namespace it is refused at once, not passed over", || excluded(&scene))
}

fn annotate(scene: &Scene<'_>) -> Result<()> {
    let before = scene.kubectl.get(&["deployment/web"])?["metadata"]["resourceVersion"].clone();
    for (annotation, expected) in REFUSED {
        let annotation = format!("certmint.dev/{annotation}");
        let (taken, told) =
            said(&scene.kubectl, &["annotate", "--overwrite", "deployment/web", &annotation])?;
        ensure!(
            !taken && told == format!("{DENIED}{expected}\n"),
            "kubectl annotate {annotation} said: {told}"
        );
    }
    let after = scene.kubectl.get(&["deployment/web"])?["metadata"]["resourceVersion"].clone();
    ensure!(before == after, "a refused annotation changed the Deployment");
    Ok(())
}

fn apply(scene: &Scene<'_>) -> Result<()> {
    let wrong = deployment("wrong", &[("duration", "banana"), ("order", "middle"), ("renew", "never")]);
    let apply = scene.kubectl.apply(&wrong.to_string());
    let told = apply.err().map(|error| format!("{error:#}")).unwrap_or_default();
    let expected = r#"denied the request: InvalidAnnotation: annotation certmint.dev/duration: "banana" is not a duration: write a whole number with a unit, like 24h, 90m or 1h30m (units d, h, m, s); annotation certmint.dev/renew: "never" is not allowed; use one of true, false; annotation certmint.dev/order: "middle" is not allowed; use one of first, last"#;
    ensure!(told.contains(expected), "kubectl apply said: {told}");
    Ok(())
}

fn warned(scene: &Scene<'_>) -> Result<()> {
    for (annotation, expected) in DOUBTFUL {
        let (key, value) = annotation.split_once('=').unwrap_or_default();
        let (taken, told) =
            said(&scene.kubectl, &["annotate", "deployment/web", &format!("certmint.dev/{key}={value}")])?;
        ensure!(
            taken && told == format!("Warning: {expected}\n"),
            "kubectl annotate {annotation} said: {told}"
        );
        scene.kubectl.run(&["annotate", "deployment/web", &format!("certmint.dev/{key}-")])?;
    }
    let mut idle = deployment("idle", &[("duration", "1h")]);
    idle["metadata"]["annotations"] = json!({ "certmint.dev/duration": "1h" });
    let create = scene.kubectl.command(&["create", "--filename=-", "--dry-run=server"]);
    let told = command::output_with_input(&mut both_streams(&create), &idle.to_string())?;
    let expected = "Warning: certmint: SuspiciousSetting: annotation certmint.dev/duration has no effect without certmint.dev/inject=true";
    ensure!(told.lines().any(|line| line == expected), "kubectl create said: {told}");
    Ok(())
}

/// Where no webhook may hold up a pod, the workload's author is told all the same.
fn excluded(scene: &Scene<'_>) -> Result<()> {
    for namespace in ["kube-system", installation::SYSTEM_NAMESPACE] {
        let kubectl = scene.cluster.kubectl().namespace(namespace);
        let opted_in = deployment("certmint-excluded", &[]);
        let mut create = kubectl.command(&["create", "--filename=-", "--dry-run=server"]);
        let told = command::output_with_input(&mut create, &opted_in.to_string());
        let told = told.err().map(|error| format!("{error:#}")).unwrap_or_default();
        let expected = format!(
            "denied the request: NotAllowed: namespace {namespace} is excluded by the policy; ask your platform engineer to change excludedNamespaces"
        );
        ensure!(told.contains(&expected), "in {namespace} kubectl said: {told}");
    }
    Ok(())
}
