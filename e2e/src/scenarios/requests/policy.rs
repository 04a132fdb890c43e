//! What the policy decides, while everything runs on.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::policy_file::PolicyFile;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::{command, installation, workload};
use serde_json::json;

use super::scene::{Scene, deployment, said};
use crate::story::secret_files::SecretFiles;
use crate::story::{events, metrics};

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install(cluster, installation::SHORT_LIVED)?;
    let scene = Scene::new(cluster, "policy")?;
    let excluded = namespace(cluster, "policy-excluded", &[])?;
    scene.deploy("web", &[])?;
    scene.serve("web", &json!({ "selector": { "app": "web" } }))?;
    scene.named("web", &["web"])?;
    scene.deploy("big", &[("key-algorithm", "rsa-2048")])?;
    scene.named("big", &[])?;

    let policy = PolicyFile::of(cluster)?;
    let shown = changed(&scene, &excluded, &policy);
    // Whatever happened: it is not to stay like that.
    let mended = step("the policy mended, the servers run", || {
        policy.restore()?;
        workload::rolled_out(&system(cluster), "certmint-controller").map(drop)
    });
    shown?;
    mended
}

fn changed(scene: &Scene<'_>, excluded: &Kubectl<'_>, policy: &PolicyFile<'_>) -> Result<()> {
    let rules = json!({
        "extraDnsNames": { "policy": ["pay.example.com"] },
        "shortestDuration": "2h",
        "longestDuration": "20d",
        "keyAlgorithms": ["ecdsa-p256", "ed25519"],
        "excludedNamespaces": ["policy-excluded"],
    });
    step("a changed policy is taken by every server without a restart", || policy.change(&rules))?;
    step("nobody gets a name by asking, only one that the policy grants the namespace", || names(scene))?;
    step("durations, algorithms and namespaces: what is not allowed is refused by name", || {
        bounds(scene, excluded)
    })?;
    step("what is there and not allowed any more stays, and is told in an Event", || outlawed(scene))?;
    step("what the policy does not change is not issued again, and what it changes is", || {
        let mut rules = rules.clone();
        // Alone, it would wait for the workload's turn within the hour.
        rules["defaultDuration"] = "12h".into();
        rules["clusterDomain"] = "k8s.example.org".into();
        rules["trustDomain"] = "example.org".into();
        policy.change(&rules)?;
        let long = format!("web.{}.svc.k8s.example.org", scene.namespace);
        scene.certificate("web", "to be of the other domain", |found| found.names.contains(&long))?;
        let files = SecretFiles::of(&scene.kubectl, "web-certmint-tls")?;
        let secret = scene.kubectl.get(&["secret", "web-certmint-tls"])?;
        let duration = &secret["metadata"]["annotations"]["certmint.dev/duration"];
        ensure!(duration == "12h", "it was issued for {duration}");
        files.verify(&["-purpose", "sslserver", "-verify_hostname", &long])?;
        let text = files.text()?;
        ensure!(text.contains("URI:spiffe://example.org/ns/policy/sa/default"), "{text}");
        Ok(())
    })?;
    step("a broken policy is refused by every server, which go on with the last good one", || {
        policy.spoil(r#"{"keyAlgorithms":[]}"#)?;
        broken(scene)
    })?;
    step("servers that start with a broken policy begin with the last good one", || starts_anew(scene))
}

fn system(cluster: &Cluster) -> Kubectl<'_> {
    cluster.kubectl().namespace(installation::SYSTEM_NAMESPACE)
}

fn names(scene: &Scene<'_>) -> Result<()> {
    let asks = |name: &str| format!("certmint.dev/dns-names={name}");
    let denied = |name: &str| {
        format!(
            "NotAllowed: annotation certmint.dev/dns-names: {name} is not allowed in namespace policy; ask your platform engineer to add it to extraDnsNames, or remove it (names of Services are always allowed)"
        )
    };
    for name in [
        "bank.example.com",
        "example.com",
        "web.other.svc",
        "big.policy.svc",
        "kubernetes.default.svc.cluster.local",
    ] {
        refused(&scene.kubectl, &asks(name), &denied(name))?;
    }
    refused(
        &scene.kubectl,
        &asks("*.pay.example.com"),
        r#"InvalidAnnotation: annotation certmint.dev/dns-names: "*.pay.example.com" is not a DNS name: wildcards are not issued; write a lowercase name like payments.shop.svc"#,
    )?;
    let mut other = deployment("other", &[("dns-names", "pay.example.com")]);
    other["metadata"]["namespace"] = "default".into();
    let mut create = scene.cluster.kubectl().command(&["create", "--dry-run=server", "--filename=-"]);
    let told = command::output_with_input(&mut create, &other.to_string());
    let told = told.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(told.contains("pay.example.com is not allowed in namespace default"), "kubectl said: {told}");

    scene.deploy("pay", &[("dns-names", "pay.example.com,eu.pay.example.com")])?;
    scene.certificate("pay", "to have the extra names", |found| found.names.len() == 2)?;
    let files = SecretFiles::of(&scene.kubectl, "pay-certmint-tls")?;
    for name in ["pay.example.com", "eu.pay.example.com"] {
        files.verify(&["-purpose", "sslserver", "-verify_hostname", name])?;
    }
    // The issuing CA is constrained to what the policy grants, these names included.
    let chain = files.issuing_ca_text()?;
    ensure!(chain.contains("DNS:pay.example.com") && !chain.contains("DNS:bank.example.com"), "{chain}");
    Ok(())
}

fn bounds(scene: &Scene<'_>, excluded: &Kubectl<'_>) -> Result<()> {
    for (annotation, expected) in [
        ("duration=1h", "annotation certmint.dev/duration: 1h is not allowed; the policy allows 2h to 480h"),
        (
            "duration=30d",
            "annotation certmint.dev/duration: 720h is not allowed; the policy allows 2h to 480h",
        ),
        (
            "key-algorithm=rsa-4096",
            "annotation certmint.dev/key-algorithm: rsa-4096 is not allowed; the policy allows ecdsa-p256, ed25519",
        ),
    ] {
        refused(&scene.kubectl, &format!("certmint.dev/{annotation}"), &format!("NotAllowed: {expected}"))?;
    }
    excluded.apply(&workload::manifest("deployment", "web", "none", &json!({})).to_string())?;
    refused(
        excluded,
        "certmint.dev/inject=true",
        "NotAllowed: namespace policy-excluded is excluded by the policy; ask your platform engineer to change excludedNamespaces",
    )
}

fn refused(kubectl: &Kubectl<'_>, annotation: &str, expected: &str) -> Result<()> {
    let (taken, told) = said(kubectl, &["annotate", "--overwrite", "deployment/web", annotation])?;
    let expected = format!(
        "Error from server: admission webhook \"workloads.certmint.dev\" denied the request: {expected}\n"
    );
    ensure!(!taken && told == expected, "kubectl annotate {annotation} said: {told}");
    Ok(())
}

fn outlawed(scene: &Scene<'_>) -> Result<()> {
    let before = scene.now("big")?;
    is_told(
        &scene.kubectl,
        "Deployment/big",
        "NotAllowed",
        "Deployment/big in policy: annotation certmint.dev/key-algorithm: rsa-2048 is not allowed; the policy allows ecdsa-p256, ed25519",
    )?;
    let (taken, told) = said(&scene.kubectl, &["label", "deployment/big", "team=checkout"])?;
    // No webhook is asked about a change that is not Certmint's.
    ensure!(taken && told.is_empty(), "kubectl label said: {told}");
    ensure!(scene.now("big")? == before, "the certificate changed");
    Ok(())
}

fn broken(scene: &Scene<'_>) -> Result<()> {
    let cluster = scene.cluster;
    refused(
        &scene.kubectl,
        "certmint.dev/duration=1h",
        "NotAllowed: annotation certmint.dev/duration: 1h is not allowed; the policy allows 2h to 480h",
    )?;
    let system = system(cluster);
    for component in ["webhook", "controller"] {
        let selector = format!("--selector=app.kubernetes.io/component={component}");
        for pod in system.list(&["pods", &selector])? {
            let shown = metrics::value(cluster, &pod, "certmint_policy_rejected")?;
            ensure!(shown.as_deref() == Some("1"), "{} shows {shown:?}", pod["metadata"]["name"]);
        }
    }
    let note = "the new policy is not valid, the last valid one stays in force: the policy allows no key algorithm: list at least one under keyAlgorithms";
    is_told(&system, "Deployment/certmint-controller", "InvalidPolicy", note)
}

/// Waits until there is an Event that says exactly that.
fn is_told(kubectl: &Kubectl<'_>, object: &str, reason: &str, note: &str) -> Result<()> {
    events::await_told(kubectl, object, reason, |told| told == note)
        .with_context(|| format!("{object} is to be told {note:?}"))
        .map(drop)
}

/// A webhook and a controller are deleted; their successors start while the policy is broken.
fn starts_anew(scene: &Scene<'_>) -> Result<()> {
    let system = system(scene.cluster);
    for component in ["webhook", "controller"] {
        let selector = format!("--selector=app.kubernetes.io/component={component}");
        let pods = system.list(&["pods", &selector])?;
        let first = pods.first().and_then(|pod| pod["metadata"]["name"].as_str()).unwrap_or_default();
        system.delete(&["pod", first])?;
        workload::rolled_out(&system, &format!("certmint-{component}"))?;
    }
    broken(scene)
}
