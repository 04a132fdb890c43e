//! Actions after which the controller has used each of its permissions at least once.

use anyhow::Result;
use certmint_contract::TrustGeneration;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::images;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::workload::{self, manifest};
use serde_json::json;

use crate::support::examples;

/// Deployment that stays opted in, so that its certificate is renewed.
const KEPT_DEPLOYMENT: &str = "stays";
/// Lifetime of the certificates. It is short, so that a renewal happens soon, and so that certmint-fetch asks the
/// issuance API before the kubelet has updated the Secret volume.
const DURATION: &str = "30s";

/// Opts each kind of workload in and out, changes the names that the CA may issue, and damages the Secrets of the
/// installation. One workload has a name conflict with a foreign Secret.
pub(super) fn run(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<()> {
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    let annotations = json!({ "certmint.dev/inject": "true", "certmint.dev/duration": DURATION });
    let apply =
        |kind: &str, name: &str| kubectl.apply(&manifest(kind, name, &image, &annotations).to_string());
    step("each kind of workload opts in, and one workload conflicts with a foreign Secret", || {
        kubectl.run(&["create", "secret", "generic", "foreign-certmint-tls"])?;
        apply("deployment", "foreign")?;
        apply("deployment", KEPT_DEPLOYMENT)?;
        workload::KINDS.iter().try_for_each(|kind| apply(kind, kind).map(drop))?;
        let names = workload::KINDS.iter().chain(&[KEPT_DEPLOYMENT]);
        names.into_iter().try_for_each(|name| wait_for_secret(kubectl, "create", name))
    })?;
    step("each kind of workload opts out", || {
        for kind in workload::KINDS {
            // The containers of a running pod cannot change, so the pod is deleted instead.
            match kind {
                "pod" => drop(kubectl.delete(&["pod/pod"])?),
                _ => drop(examples::opt_out(kubectl, &format!("{kind}/{kind}"))?),
            }
        }
        workload::KINDS.iter().try_for_each(|name| wait_for_secret(kubectl, "delete", name))
    })?;
    let system = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    step("the policy changes the permitted names, so the controller replaces the issuing CA", || {
        let values =
            [installation::ALLOW_SHORT_LIFETIMES, &["policy.extraDnsNames.access={pay.example.com}"]]
                .concat();
        installation::install_and_wait(cluster, &values)?;
        // The kubelet would take up to a minute to update the policy in running pods.
        system.run(&["rollout", "restart", "deployment/certmint-controller"])?;
        installation::wait_for_ready(cluster)
    })?;
    step("the trusted roots get a new generation", || raise_trust_generation(&system))?;
    step("the webhook's certificate is damaged, and the CA's Secret is missing for a moment", || {
        let empty = r#"{ "data": { "tls.crt": "" } }"#;
        system.run(&["patch", "secret", "certmint-webhook-tls", "--patch", empty])?;
        remove_ca_until_reported(&system)
    })
}

/// Gives the trusted roots a new generation, so that the controller publishes them again.
fn raise_trust_generation(system: &Kubectl<'_>) -> Result<()> {
    let published = system.get(&["configmap", "certmint-trust-bundle"])?;
    let generation: TrustGeneration =
        published["data"]["trust-generation"].as_str().unwrap_or("1").parse()?;
    let state = format!(r#"{{"format":1,"trustGeneration":{}}}"#, generation.next());
    let patch = json!({ "stringData": { "state.json": state } }).to_string();
    system.run(&["patch", "secret", "certmint-ca", "--patch", &patch]).map(drop)
}

/// Deletes the CA's Secret, waits until the controller reports that in an Event, and restores the Secret.
fn remove_ca_until_reported(system: &Kubectl<'_>) -> Result<()> {
    let mut secret = system.get(&["secret", "certmint-ca"])?;
    if let Some(metadata) = secret["metadata"].as_object_mut() {
        metadata.retain(|key, _| key == "name" || key == "labels" || key == "annotations");
    }
    system.delete(&["secret", "certmint-ca"])?;
    let reported = wait::until("a warning Event on the controller's Deployment", DEFAULT_TIMEOUT, || {
        let of_controller = "--field-selector=involvedObject.name=certmint-controller,type=Warning";
        let events = system.list(&["events", of_controller])?;
        Ok(if events.is_empty() { Check::NotYet("there is none".to_owned()) } else { Check::Passed(()) })
    });
    // The Secret is restored even if the wait failed.
    system.apply(&secret.to_string())?;
    reported
}

/// Waits until the Secret of the workload `name` exists (`condition` is `create`) or is gone (`delete`).
fn wait_for_secret(kubectl: &Kubectl<'_>, condition: &str, name: &str) -> Result<()> {
    let (condition, secret) = (format!("--for={condition}"), format!("secret/{name}-certmint-tls"));
    let timeout = format!("--timeout={}s", DEFAULT_TIMEOUT.as_secs());
    kubectl.run(&["wait", &condition, &secret, &timeout]).map(drop)
}
