//! Whatever keeps a certificate away is told where people look, in the words of the page of errors.

mod refused;
mod stopped;
mod told;

use anyhow::Result;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::images;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::step;
use serde_json::json;

use self::told::Told;
use super::Scenario;
use super::own_cluster::own_cluster;

/// What is shown of it.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "explained",
    shows: "kubectl describe of Deployment, Pod and Secret says why there is no certificate, and the page of errors what to do.",
    run,
}];

const NAMESPACE: &str = "explained";
/// A short wait of the pods for their certificates, and a namespace that the policy closes.
const VALUES: &[&str] = &["fetch.deadlineSeconds=5", "policy.excludedNamespaces[0]=explained-closed"];

/// On a cluster of its own: the CA is removed, the controller stopped, and the chart comes late.
fn run(shared: &Cluster) -> Result<()> {
    own_cluster(shared, NAMESPACE, &[NAMESPACE, SYSTEM_NAMESPACE], life)
}

fn life(cluster: &Cluster) -> Result<()> {
    let kubectl = namespace(cluster, NAMESPACE, &[])?;
    let told = Told::new(kubectl, cluster.provide(&images::tools(cluster.cache())?)?)?;

    step("before there is a webhook: annotated, templated and created in vain", || stopped::early(&told))?;
    installation::install(cluster, VALUES)?;
    step("once it is there: each is told why, and what to do", || stopped::early_is_told(&told))?;

    step("kubectl annotate says what is wrong, and what is right", || {
        namespace(cluster, "explained-closed", &[])?;
        refused::at_once(cluster, &told)
    })?;
    stopped::in_the_way(&told)?;
    step("Secrets in the way: told on both workloads and on the Secret", || {
        stopped::in_the_way_is_told(&told)
    })?;
    step("a Secret that somebody damaged: told on it and on its workload", || stopped::damaged(&told))?;
    step("no Service selects the pods: told with the certificate", || stopped::nameless(&told))?;
    step("no way to the issuance API: the pod tells", || stopped::unreachable(&told))?;
    step("the CA is gone: told on the controller, the workload and the pod", || {
        let system = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
        stopped::without_ca(&told, &system)
    })?;
    step("the controller is down: the pod tells", || {
        installation::scale_controller(cluster, 0)?;
        told.opted_in("alone", &json!({}))?;
        told.pod("alone", "Unreachable")
    })
}
