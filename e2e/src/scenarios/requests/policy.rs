//! The scenario `policy` changes the policy while Certmint runs: names, lifetimes, algorithms, excluded namespaces
//! and domains. Finally, it stores an invalid policy.
//!
//! It asserts that every server loads the changes without a restart, that annotations that the policy does not allow
//! are rejected, that only affected certificates are reissued, and that the servers keep the last valid policy instead
//! of an invalid one.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::policy_file::PolicyFile;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::{command, installation, workload};
use serde_json::json;

use super::fixture::{CertificateFixture, deployment, run_for_stderr};
use crate::support::secret_files::SecretFiles;
use crate::support::{events, metrics};

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let fixture = CertificateFixture::new(cluster, "policy")?;
    let excluded = create_namespace(cluster, "policy-excluded", &[])?;
    fixture.deploy("web", &[])?;
    fixture.apply_service("web", &json!({ "selector": { "app": "web" } }))?;
    fixture.wait_for_names("web", &["web"])?;
    fixture.deploy("big", &[("key-algorithm", "rsa-2048")])?;
    fixture.wait_for_names("big", &[])?;

    let policy = PolicyFile::read(cluster)?;
    let result = change_policy(&fixture, &excluded, &policy);
    // The scenario restores the policy even after a failure, because other scenarios use the same installation.
    let restored = step("the original policy is restored, and the servers are ready", || {
        policy.restore()?;
        workload::wait_for_rollout(&system(cluster), "certmint-controller").map(drop)
    });
    result?;
    restored
}

fn change_policy(
    fixture: &CertificateFixture<'_>,
    excluded: &Kubectl<'_>,
    policy: &PolicyFile<'_>,
) -> Result<()> {
    let rules = json!({
        "extraDnsNames": { "policy": ["pay.example.com"] },
        "shortestDuration": "2h",
        "longestDuration": "20d",
        "keyAlgorithms": ["ecdsa-p256", "ed25519"],
        "excludedNamespaces": ["policy-excluded"],
    });
    step("every server loads a changed policy without a restart", || policy.change_and_wait(&rules))?;
    step("only names that the policy grants to the namespace are issued", || assert_names(fixture))?;
    step("lifetimes, algorithms and namespaces that the policy does not allow are rejected", || {
        assert_limits(fixture, excluded)
    })?;
    step("a certificate that the policy no longer allows stays, and an Event says why", || {
        assert_forbidden_certificate_stays(fixture)
    })?;
    step("only certificates that the policy affects are reissued", || {
        let mut rules = rules.clone();
        // After a change of the default lifetime alone, the controller would spread the reissues over an hour. After the
        // other changes, it reissues at once.
        rules["defaultDuration"] = "12h".into();
        rules["clusterDomain"] = "k8s.example.org".into();
        rules["trustDomain"] = "example.org".into();
        policy.change_and_wait(&rules)?;
        assert_new_domains(fixture)
    })?;
    step("every server rejects a broken policy, and keeps the last valid one", || {
        policy.write_invalid_and_wait(r#"{"keyAlgorithms":[]}"#)?;
        assert_last_valid_policy(fixture)
    })?;
    step("servers that start with a broken policy load the last valid one", || restart_servers(fixture))
}

/// Waits until the certificate has names in the new cluster domain, and asserts its lifetime and its SPIFFE ID.
fn assert_new_domains(fixture: &CertificateFixture<'_>) -> Result<()> {
    let name_in_new_domain = format!("web.{}.svc.k8s.example.org", fixture.namespace);
    fixture.wait_for_certificate("web", "to have names in the new cluster domain", |found| {
        found.names.contains(&name_in_new_domain)
    })?;
    let files = SecretFiles::write(&fixture.kubectl, "web-certmint-tls")?;
    let secret = fixture.kubectl.get(&["secret", "web-certmint-tls"])?;
    let duration = &secret["metadata"]["annotations"]["certmint.dev/duration"];
    ensure!(duration == "12h", "the certificate has the lifetime {duration}");
    files.verify(&["-purpose", "sslserver", "-verify_hostname", &name_in_new_domain])?;
    let text = files.certificate_text()?;
    ensure!(
        text.contains("URI:spiffe://example.org/ns/policy/sa/default"),
        "the certificate is not in the new trust domain: {text}"
    );
    Ok(())
}

fn system(cluster: &Cluster) -> Kubectl<'_> {
    cluster.kubectl().namespace(installation::SYSTEM_NAMESPACE)
}

fn assert_names(fixture: &CertificateFixture<'_>) -> Result<()> {
    let annotation = |name: &str| format!("certmint.dev/dns-names={name}");
    let rejection = |name: &str| {
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
        assert_rejected(&fixture.kubectl, &annotation(name), &rejection(name))?;
    }
    assert_rejected(
        &fixture.kubectl,
        &annotation("*.pay.example.com"),
        r#"InvalidAnnotation: annotation certmint.dev/dns-names: "*.pay.example.com" is not a DNS name: wildcards are not issued; write a lowercase name like payments.shop.svc"#,
    )?;
    let mut other = deployment("other", &[("dns-names", "pay.example.com")]);
    other["metadata"]["namespace"] = "default".into();
    let mut create = fixture.cluster.kubectl().command(&["create", "--dry-run=server", "--filename=-"]);
    let created = command::output_with_input(&mut create, &other.to_string());
    let error = created.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(
        error.contains("pay.example.com is not allowed in namespace default"),
        "kubectl create printed: {error}"
    );

    fixture.deploy("pay", &[("dns-names", "pay.example.com,eu.pay.example.com")])?;
    fixture.wait_for_certificate("pay", "to have the granted names", |found| found.names.len() == 2)?;
    let files = SecretFiles::write(&fixture.kubectl, "pay-certmint-tls")?;
    for name in ["pay.example.com", "eu.pay.example.com"] {
        files.verify(&["-purpose", "sslserver", "-verify_hostname", name])?;
    }
    // The name constraints of the issuing CA contain the names that the policy grants.
    let issuing_ca = files.issuing_ca_text()?;
    ensure!(
        issuing_ca.contains("DNS:pay.example.com") && !issuing_ca.contains("DNS:bank.example.com"),
        "the issuing CA does not have the expected name constraints: {issuing_ca}"
    );
    Ok(())
}

fn assert_limits(fixture: &CertificateFixture<'_>, excluded: &Kubectl<'_>) -> Result<()> {
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
        let annotation = format!("certmint.dev/{annotation}");
        assert_rejected(&fixture.kubectl, &annotation, &format!("NotAllowed: {expected}"))?;
    }
    excluded.apply(&workload::manifest("deployment", "web", "none", &json!({})).to_string())?;
    assert_rejected(
        excluded,
        "certmint.dev/inject=true",
        "NotAllowed: namespace policy-excluded is excluded by the policy; ask your platform engineer to change excludedNamespaces",
    )
}

/// Asserts that kubectl annotate is rejected with exactly this message.
fn assert_rejected(kubectl: &Kubectl<'_>, annotation: &str, expected: &str) -> Result<()> {
    let result = run_for_stderr(kubectl, &["annotate", "--overwrite", "deployment/web", annotation])?;
    let expected = format!(
        "Error from server: admission webhook \"workloads.certmint.dev\" denied the request: {expected}\n"
    );
    ensure!(
        !result.succeeded && result.stderr == expected,
        "kubectl annotate {annotation} printed: {}",
        result.stderr
    );
    Ok(())
}

fn assert_forbidden_certificate_stays(fixture: &CertificateFixture<'_>) -> Result<()> {
    let before = fixture.current_certificate("big")?;
    wait_for_event(
        &fixture.kubectl,
        "Deployment/big",
        "NotAllowed",
        "Deployment/big in policy: annotation certmint.dev/key-algorithm: rsa-2048 is not allowed; the policy allows ecdsa-p256, ed25519",
    )?;
    let result = run_for_stderr(&fixture.kubectl, &["label", "deployment/big", "team=checkout"])?;
    // The API server does not call the webhook for a change that does not affect Certmint's keys.
    ensure!(result.succeeded && result.stderr.is_empty(), "kubectl label printed: {}", result.stderr);
    ensure!(fixture.current_certificate("big")? == before, "the certificate of big was reissued");
    Ok(())
}

/// Asserts that the webhook applies the last valid policy, and that metrics and an Event report the broken one.
fn assert_last_valid_policy(fixture: &CertificateFixture<'_>) -> Result<()> {
    let cluster = fixture.cluster;
    assert_rejected(
        &fixture.kubectl,
        "certmint.dev/duration=1h",
        "NotAllowed: annotation certmint.dev/duration: 1h is not allowed; the policy allows 2h to 480h",
    )?;
    let system = system(cluster);
    for component in ["webhook", "controller"] {
        let selector = format!("--selector=app.kubernetes.io/component={component}");
        for pod in system.list(&["pods", &selector])? {
            let value = metrics::value(cluster, &pod, "certmint_policy_rejected")?;
            ensure!(
                value.as_deref() == Some("1"),
                "{} has the metric certmint_policy_rejected {value:?}",
                pod["metadata"]["name"]
            );
        }
    }
    let note = "the new policy is not valid, so the last valid one stays in force: the policy allows no key algorithm: list at least one under keyAlgorithms";
    wait_for_event(&system, "Deployment/certmint-controller", "InvalidPolicy", note)
}

/// Waits for an Event about the object with exactly this note.
fn wait_for_event(kubectl: &Kubectl<'_>, object: &str, reason: &str, note: &str) -> Result<()> {
    events::wait_for_event(kubectl, object, reason, |found| found == note)
        .with_context(|| format!("the expected note is {note:?}"))
        .map(drop)
}

/// Deletes a pod of the webhook and one of the controller, and asserts that their replacements apply the last valid
/// policy.
fn restart_servers(fixture: &CertificateFixture<'_>) -> Result<()> {
    let system = system(fixture.cluster);
    for component in ["webhook", "controller"] {
        let selector = format!("--selector=app.kubernetes.io/component={component}");
        let pods = system.list(&["pods", &selector])?;
        let first = pods.first().and_then(|pod| pod["metadata"]["name"].as_str()).unwrap_or_default();
        system.delete(&["pod", first])?;
        workload::wait_for_rollout(&system, &format!("certmint-{component}"))?;
    }
    assert_last_valid_policy(fixture)
}
