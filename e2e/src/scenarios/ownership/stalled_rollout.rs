//! A pod of a stalled rollout: it runs under another service account than its workload's template names.

use anyhow::{Result, ensure};
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::workload::{opt_in_annotations, wait_for_injected_pods};
use serde_json::json;

use super::{OwnershipFixture, first_name};

/// Opts a Deployment in, then changes its service account to one that does not exist. No new pod can start, so the
/// old pod keeps running.
pub(super) fn start(fixture: &OwnershipFixture<'_>) -> Result<()> {
    fixture.apply(&fixture.workload("deployment", "stalls", &opt_in_annotations(&[("duration", "30s")])))?;
    wait_for_injected_pods(&fixture.kubectl, "stalls")?;
    let patch = json!({ "spec": { "template": { "spec": { "serviceAccountName": "missing" } } } });
    fixture.kubectl.run(&["patch", "deployment", "stalls", "-p", &patch.to_string()]).map(drop)
}

/// Waits until the old pod uses the certificate in a separate Secret. This certificate is for the pod's service
/// account.
pub(super) fn wait_for_own_certificate(fixture: &OwnershipFixture<'_>) -> Result<()> {
    let pods = wait_for_injected_pods(&fixture.kubectl, "stalls")?;
    let name = first_name(&pods)?;
    fixture.wait_for_event("Pod", name, "StandalonePod")?;
    let message = fixture.wait_for_event("Deployment", "stalls", "StandalonePod")?;
    ensure!(
        message.contains("service account missing"),
        "the Event does not name the service account: {message}"
    );
    let program = ["sh", "-c", "openssl x509 -in /var/run/secrets/certmint.dev/tls.crt -noout -serial"];
    wait::until("the pod to use the certificate of its own Secret", DEFAULT_TIMEOUT, || {
        let secret = fixture.wait_for_secret(&format!("{name}-certmint-tls"))?;
        let annotation = |key: &str| {
            let value = secret["metadata"]["annotations"][format!("certmint.dev/{key}")].as_str();
            value.unwrap_or_default().to_lowercase()
        };
        let (serial, spiffe_id) = (annotation("serial"), annotation("spiffe-id"));
        ensure!(spiffe_id.ends_with("/ns/ownership/sa/default"), "the certificate is for {spiffe_id}");
        let printed = fixture.kubectl.exec(name, "app", &program)?.trim().to_lowercase();
        let used = printed.trim_start_matches("serial=").trim_start_matches('0');
        Ok(if used == serial.trim_start_matches('0') {
            Check::Passed(())
        } else {
            Check::NotYet(format!("the pod has {printed}, and its Secret has {serial}"))
        })
    })
}
