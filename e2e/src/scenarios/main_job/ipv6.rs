//! The main job where there is no address of IPv4, and with the webhook on its host's network.

use std::net::Ipv6Addr;

use anyhow::{Result, ensure};
use certmint_local_cluster::cluster::{Addresses, Cluster};
use certmint_local_cluster::command;
use certmint_local_cluster::installation::{self, RELEASE, SYSTEM_NAMESPACE};
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::{note, step};
use serde_json::Value;

use super::super::own_cluster::own_cluster_with;
use crate::story::call::{self, Caller};
use crate::story::examples;

const HOST: &str = "payments.ipv6.svc";

/// On a cluster of its own: the families of its addresses cannot be changed later.
pub(super) fn run(shared: &Cluster) -> Result<()> {
    own_cluster_with(shared, "ipv6", Addresses::Ipv6, &["ipv6", SYSTEM_NAMESPACE, "kube-system"], life)
}

fn life(cluster: &Cluster) -> Result<()> {
    step("it is installed", || {
        installation::install(cluster, &["service.ipFamilyPolicy=SingleStack", "service.ipFamilies={IPv6}"])
    })?;
    step("webhook and controller are reached by addresses of IPv6 alone", || assert_addresses(cluster))?;
    let kubectl = namespace(cluster, "ipv6", &[])?;
    step("nginx and a caller are opted in", || {
        examples::apply_payments_on_ipv6(cluster, &kubectl)?;
        examples::apply_checkout(cluster, &kubectl)?;
        examples::opt_both_in(&kubectl, &[])
    })?;
    step("nginx answers a caller with our certificate", || {
        call::succeeds(&kubectl, HOST).map(|answer| note(&answer))
    })?;
    step("it refuses one without", || call::refused(&kubectl, Caller::Anonymous, HOST))?;
    step("helm test passes", || {
        let mut helm = cluster.command("helm");
        command::output(helm.args(["test", RELEASE, "--namespace", SYSTEM_NAMESPACE])).map(drop)
    })?;
    step("a webhook on its host's network is called at a port of the node", || host_network(cluster))
}

/// There is one node, and so room for one webhook: an update must free its ports first.
fn host_network(cluster: &Cluster) -> Result<()> {
    let values =
        ["webhook.hostNetwork=true", "webhook.replicas=1", "webhook.port=18443", "webhook.metricsPort=19402"];
    installation::install(cluster, &values)?;
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    kubectl.run(&["rollout", "restart", "deployment/certmint-webhook"])?;
    installation::ready(cluster)?;
    let pods = kubectl.list(&["pods", "--selector=app.kubernetes.io/component=webhook"])?;
    let on_host = |pod: &&Value| pod["status"]["podIP"] == pod["status"]["hostIP"];
    ensure!(pods.iter().any(|pod| on_host(&pod)), "no webhook has its node's address: {pods:?}");
    Ok(())
}

fn assert_addresses(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    let services = kubectl.list(&["services"])?;
    let pods = kubectl.list(&["pods"])?;
    let addresses: Vec<_> = services
        .iter()
        .flat_map(|service| service["spec"]["clusterIPs"].as_array().into_iter().flatten())
        .chain(
            pods.iter()
                .flat_map(|pod| pod["status"]["podIPs"].as_array().into_iter().flatten())
                .map(|one| &one["ip"]),
        )
        .collect();
    ensure!(addresses.len() == services.len() + pods.len(), "not one address each: {addresses:?}");
    for address in addresses {
        let is_ipv6 = address.as_str().is_some_and(|text| text.parse::<Ipv6Addr>().is_ok());
        ensure!(is_ipv6, "{address} is no address of IPv6");
    }
    Ok(())
}
