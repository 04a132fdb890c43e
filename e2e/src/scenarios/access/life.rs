//! What makes the controller use each of its rights at least once.

use anyhow::Result;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::images;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::workload::{self, manifest};
use serde_json::json;

use crate::story::{PATIENCE, examples};

/// The one that keeps its certificate, so that it is renewed.
const STAYS: &str = "stays";
/// Short enough to be renewed soon, and for sidecars to ask the issuance API before kubelet has refreshed their volume.
const DURATION: &str = "30s";

/// Each kind issued and opted out, one renewed and fetched, one refused; the CA's names changed; what the controller
/// keeps for itself damaged.
pub(super) fn drive(cluster: &Cluster, shop: &Kubectl<'_>) -> Result<()> {
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    let annotations = json!({ "certmint.dev/inject": "true", "certmint.dev/duration": DURATION });
    let apply = |kind: &str, name: &str| shop.apply(&manifest(kind, name, &image, &annotations).to_string());
    step("each kind of workload opts in, one of them where somebody else's Secret is", || {
        shop.run(&["create", "secret", "generic", "foreign-certmint-tls"])?;
        apply("deployment", "foreign")?;
        apply("deployment", STAYS)?;
        workload::KINDS.iter().try_for_each(|kind| apply(kind, kind).map(drop))?;
        workload::KINDS.iter().chain(&[STAYS]).try_for_each(|name| awaited(shop, "create", name))
    })?;
    step("each opts out", || {
        for kind in workload::KINDS {
            // It is too late for a pod that runs, but not for what it is.
            match kind {
                "pod" => drop(shop.delete(&["pod/pod"])?),
                _ => drop(examples::opt_out(shop, &format!("{kind}/{kind}"))?),
            }
        }
        workload::KINDS.iter().try_for_each(|name| awaited(shop, "delete", name))
    })?;
    let system = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    step("the policy's names change, and with them the issuing CA", || {
        let values = [installation::SHORT_LIVED, &["policy.extraDnsNames.access={pay.example.com}"]].concat();
        installation::install(cluster, &values)?;
        // kubelet would take up to a minute to bring it to the pods that run.
        system.run(&["rollout", "restart", "deployment/certmint-controller"])?;
        installation::ready(cluster)
    })?;
    step("the webhook's certificate is damaged, and the CA away for a moment", || {
        let empty = r#"{ "data": { "tls.crt": "" } }"#;
        system.run(&["patch", "secret", "certmint-webhook-tls", "--patch", empty])?;
        without_ca(&system)
    })
}

/// Takes the CA's Secret away until the controller says so, and puts it back.
fn without_ca(system: &Kubectl<'_>) -> Result<()> {
    let mut secret = system.get(&["secret", "certmint-ca"])?;
    if let Some(metadata) = secret["metadata"].as_object_mut() {
        metadata.retain(|key, _| key == "name" || key == "labels" || key == "annotations");
    }
    system.delete(&["secret", "certmint-ca"])?;
    let told = wait::until("an Event on our own Deployment", PATIENCE, || {
        let of_ours = "--field-selector=involvedObject.name=certmint-controller,type=Warning";
        let events = system.list(&["events", of_ours])?;
        Ok(if events.is_empty() { Observed::NotYet("there is none".to_owned()) } else { Observed::Yes(()) })
    });
    system.apply(&secret.to_string())?;
    told
}

/// Waits until the Secret of the workload `name` is there, or gone.
fn awaited(shop: &Kubectl<'_>, what: &str, name: &str) -> Result<()> {
    let (what, secret) = (format!("--for={what}"), format!("secret/{name}-certmint-tls"));
    shop.run(&["wait", &what, &secret, &format!("--timeout={}s", PATIENCE.as_secs())]).map(drop)
}
