//! A pod that runs under another service account than its workload's pods are to run.

use anyhow::{Result, ensure};
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::workload::{await_pods, opting_in};
use serde_json::json;

use super::{Scene, first_name};
use crate::story::PATIENCE;

/// Changes the account to one that does not exist, so that there is no new pod and the old one stays.
pub(super) fn stall(scene: &Scene<'_>) -> Result<()> {
    scene.apply(&scene.workload("deployment", "stalls", &opting_in(&[("duration", "30s")])))?;
    await_pods(&scene.kubectl, "stalls", true)?;
    let patch = json!({ "spec": { "template": { "spec": { "serviceAccountName": "nobody" } } } });
    scene.kubectl.run(&["patch", "deployment", "stalls", "-p", &patch.to_string()]).map(drop)
}

/// The pod has a Secret of its own, for its own account, and serves what is in it.
pub(super) fn served(scene: &Scene<'_>) -> Result<()> {
    let pods = await_pods(&scene.kubectl, "stalls", true)?;
    let name = first_name(&pods)?;
    scene.event("Pod", name, "StandalonePod")?;
    let told = scene.event("Deployment", "stalls", "StandalonePod")?;
    ensure!(told.contains("service account nobody"), "{told}");
    let program = ["sh", "-c", "openssl x509 -in /var/run/secrets/certmint.dev/tls.crt -noout -serial"];
    wait::until("the pod to serve the certificate of its own Secret", PATIENCE, || {
        let secret = scene.secret(&format!("{name}-certmint-tls"))?;
        let annotation = |key: &str| {
            let value = secret["metadata"]["annotations"][format!("certmint.dev/{key}")].as_str();
            value.unwrap_or_default().to_lowercase()
        };
        let (serial, identity) = (annotation("serial"), annotation("spiffe-id"));
        ensure!(identity.ends_with("/ns/ownership/sa/default"), "it is for {identity}");
        let served = scene.kubectl.exec(name, "app", &program)?.trim().to_lowercase();
        let is_served =
            served.trim_start_matches("serial=").trim_start_matches('0') == serial.trim_start_matches('0');
        Ok(if is_served { Observed::Yes(()) } else { Observed::NotYet(format!("{served}, not {serial}")) })
    })
}
