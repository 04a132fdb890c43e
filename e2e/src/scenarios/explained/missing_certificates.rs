//! Causes for a missing certificate after the API server has accepted the annotation.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::workload;
use serde_json::json;

use super::fixture::ExplainedFixture;

/// Applies workloads that a webhook would have rejected or changed.
pub(super) fn opt_in_before_installation(fixture: &ExplainedFixture<'_>) -> Result<()> {
    let kubectl = &fixture.kubectl;
    fixture.apply_opted_in("early", &json!({}))?;
    let opted_in = json!({ "certmint.dev/inject": "true" });
    let mut missed = fixture.deployment("missed", &json!({}), &json!({}));
    missed["spec"]["template"]["metadata"]["annotations"] = opted_in.clone();
    missed["spec"]["template"]["metadata"]["labels"]["certmint.dev/inject"] = "true".into();
    kubectl.apply(&missed.to_string())?;
    workload::wait_for_pods_without_injection(kubectl, "missed")?;

    // This Deployment has the content of a Deployment that was annotated while the policy allowed the name.
    let annotations = json!({ "certmint.dev/inject": "true", "certmint.dev/dns-names": "pay.example.com" });
    let mut extra_name = fixture.deployment("extra-name", &annotations, &json!({}));
    extra_name["metadata"]["labels"]["certmint.dev/managed"] = "true".into();
    extra_name["spec"]["template"]["metadata"]["annotations"] = annotations;
    extra_name["spec"]["template"]["metadata"]["annotations"]["certmint.dev/copied"] =
        "inject,dns-names".into();
    kubectl.apply(&extra_name.to_string()).map(drop)
}

/// Waits for the error codes on the workloads of [`opt_in_before_installation`], and asserts that the commands for the
/// first workload opt it in.
pub(super) fn wait_for_missed_opt_ins(fixture: &ExplainedFixture<'_>) -> Result<()> {
    fixture.wait_for_deployment_code("early", "OptInMissed")?;
    fixture.wait_for_pod_code("missed", "NotInjected")?;
    fixture.wait_for_deployment_code("extra-name", "NotAllowed")?;
    // These are the commands that the Event OptInMissed names.
    fixture.kubectl.run(&["annotate", "deployment/early", "certmint.dev/inject-"])?;
    fixture.kubectl.run(&["annotate", "deployment/early", "certmint.dev/inject=true"])?;
    workload::wait_for_injected_pods(&fixture.kubectl, "early").map(drop)
}

/// Creates a foreign Secret that has the name of a workload's Secret, and two workloads that name the same Secret.
pub(super) fn create_name_conflicts(fixture: &ExplainedFixture<'_>) -> Result<()> {
    let kubectl = &fixture.kubectl;
    kubectl.run(&["create", "secret", "generic", "foreign-certmint-tls", "--from-literal=mine=yes"])?;
    fixture.apply_opted_in("foreign", &json!({}))?;
    let shared = json!({ "certmint.dev/secret-name": "shared" });
    fixture.apply_opted_in("first", &shared)?;
    workload::wait_for_injected_pods(kubectl, "first")?;
    // The second workload has another service account, so it cannot use the certificate of the first workload.
    kubectl.run(&["create", "serviceaccount", "other"])?;
    let annotations = json!({ "certmint.dev/inject": "true", "certmint.dev/secret-name": "shared" });
    let second = fixture.deployment("second", &annotations, &json!({ "serviceAccountName": "other" }));
    kubectl.apply(&second.to_string()).map(drop)
}

pub(super) fn wait_for_name_conflicts(fixture: &ExplainedFixture<'_>) -> Result<()> {
    fixture.wait_for_deployment_code("foreign", "ForeignSecret")?;
    fixture.wait_for_pod_code("foreign", "ForeignSecret")?;
    fixture.wait_for_event_code("secret/foreign-certmint-tls", "ForeignSecret")?;
    fixture.wait_for_deployment_code("second", "SecretClaimed")?;
    fixture.wait_for_pod_code("second", "SecretClaimed")?;
    fixture.wait_for_event_code("secret/shared", "SecretClaimed")?;
    // kubectl describe shows annotations of a Secret, but not its Events.
    wait_for_secret_description(fixture, "certmint.dev/workload: Deployment/first")
}

/// Damages the Secret of `first`, which has a certificate, and waits for the Events.
pub(super) fn damage_secret(fixture: &ExplainedFixture<'_>) -> Result<()> {
    let patch = json!({ "stringData": { "tls.crt": "junk" } }).to_string();
    fixture.kubectl.run(&["patch", "secret/shared", "--patch", &patch])?;
    fixture.wait_for_deployment_code("first", "SecretDamaged")?;
    fixture.wait_for_event_code("secret/shared", "SecretDamaged")?;
    wait_for_secret_description(fixture, "certmint.dev/reason: damaged:")
}

/// Waits until `kubectl describe` of the Secret `shared` prints these words.
fn wait_for_secret_description(fixture: &ExplainedFixture<'_>, words: &str) -> Result<()> {
    wait::until(&format!("kubectl describe secret to print {words}"), DEFAULT_TIMEOUT, || {
        let text = fixture.kubectl.run(&["describe", "secret/shared"])?;
        Ok(if text.contains(words) { Check::Passed(()) } else { Check::NotYet(text) })
    })
}

pub(super) fn assert_no_service_reported(fixture: &ExplainedFixture<'_>) -> Result<()> {
    let described = fixture.kubectl.run(&["describe", "deployment/first"])?;
    ensure!(
        described.contains("no Service selects its pods"),
        "kubectl describe deployment does not say that no Service selects the pods: {described}"
    );
    Ok(())
}

/// Starts a pod that cannot resolve the name of a Service, as if the network did not let it reach the issuance API.
pub(super) fn wait_for_unreachable_api(fixture: &ExplainedFixture<'_>) -> Result<()> {
    // With its Secret, the pod would not need the API. The controller cannot create that Secret, because a foreign
    // Secret has its name.
    let create = ["create", "secret", "generic", "no-dns-certmint-tls", "--from-literal=mine=yes"];
    fixture.kubectl.run(&create)?;
    let opted_in = json!({ "certmint.dev/inject": "true" });
    let deployment = fixture.deployment("no-dns", &opted_in, &json!({ "dnsPolicy": "Default" }));
    fixture.kubectl.apply(&deployment.to_string())?;
    fixture.wait_for_pod_code("no-dns", "DeadlineExceeded")?;
    fixture.wait_for_pod_code("no-dns", "Unreachable")
}

/// Deletes the CA's Secret, waits for the reports, restores the Secret, and waits for the certificate.
pub(super) fn remove_ca(fixture: &ExplainedFixture<'_>, system: &Kubectl<'_>) -> Result<()> {
    let mut ca = system.get(&["secret", "certmint-ca"])?;
    let metadata = ca["metadata"].as_object_mut().context("the CA's Secret has no metadata")?;
    metadata.retain(|key, _| matches!(key.as_str(), "name" | "labels" | "annotations"));
    system.delete(&["secret", "certmint-ca"])?;
    let reported = (|| {
        fixture.wait_for_object_code(system, "deployment/certmint-controller", "CaUnavailable")?;
        fixture.apply_opted_in("without-ca", &json!({}))?;
        fixture.wait_for_deployment_code("without-ca", "CaUnavailable")?;
        fixture.wait_for_pod_code("without-ca", "CaUnavailable")
    })();
    // The scenario restores the Secret even if a report is missing.
    system.apply(&ca.to_string())?;
    reported?;
    wait::until("the certificate of the workload that waited for the CA", DEFAULT_TIMEOUT, || {
        Ok(match fixture.kubectl.get(&["secret/without-ca-certmint-tls"]) {
            Ok(_) => Check::Passed(()),
            Err(error) => Check::NotYet(format!("{error:#}")),
        })
    })
}
