//! The scenario `ipv6` runs on a cluster with IPv6 addresses only. It opts nginx and a caller in, and afterwards
//! moves the webhook to its host's network.
//!
//! It asserts that webhook and controller have only IPv6 addresses, that mutual TLS and `helm test` work, and that
//! the API server calls the webhook at a port of the node.

use std::net::Ipv6Addr;

use anyhow::{Result, ensure};
use certmint_local_cluster::cluster::{Addresses, Cluster};
use certmint_local_cluster::command;
use certmint_local_cluster::installation::{self, RELEASE, SYSTEM_NAMESPACE};
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::{note, step};
use serde_json::Value;

use super::super::own_cluster::run_on_own_cluster_with;
use crate::support::call::{self, ClientCertificate};
use crate::support::examples;

const HOST: &str = "payments.ipv6.svc";

/// Runs on a cluster of its own, because the address families of a cluster cannot change.
pub(super) fn run(shared: &Cluster) -> Result<()> {
    let namespaces = ["ipv6", SYSTEM_NAMESPACE, "kube-system"];
    run_on_own_cluster_with(shared, "ipv6", Addresses::Ipv6, &namespaces, run_steps)
}

fn run_steps(cluster: &Cluster) -> Result<()> {
    step("Certmint is installed", || {
        installation::install_and_wait(
            cluster,
            &["service.ipFamilyPolicy=SingleStack", "service.ipFamilies={IPv6}"],
        )
    })?;
    step("webhook and controller have IPv6 addresses only", || assert_addresses(cluster))?;
    let kubectl = create_namespace(cluster, "ipv6", &[])?;
    step("nginx and a caller opt in", || {
        examples::apply_payments_on_ipv6(cluster, &kubectl)?;
        examples::apply_checkout(cluster, &kubectl)?;
        examples::opt_in_both_and_wait(&kubectl, &[])
    })?;
    step("nginx answers a call with the issued certificate", || {
        call::assert_succeeds(&kubectl, HOST).map(|answer| note(&answer))
    })?;
    step("nginx rejects a call without a certificate", || {
        call::assert_rejected(&kubectl, ClientCertificate::None, HOST)
    })?;
    step("helm test passes", || {
        let mut helm = cluster.command("helm");
        command::output(helm.args(["test", RELEASE, "--namespace", SYSTEM_NAMESPACE])).map(drop)
    })?;
    step("the API server calls a webhook on its host's network at a port of the node", || {
        move_webhook_to_host_network(cluster)
    })
}

/// Moves the webhook to the network of its node. The webhook gets one replica, because two pods cannot use the same
/// ports of the only node. For the same reason, the old pod must end before the new one starts.
fn move_webhook_to_host_network(cluster: &Cluster) -> Result<()> {
    let values =
        ["webhook.hostNetwork=true", "webhook.replicas=1", "webhook.port=18443", "webhook.metricsPort=19402"];
    installation::install_and_wait(cluster, &values)?;
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    kubectl.run(&["rollout", "restart", "deployment/certmint-webhook"])?;
    installation::wait_for_ready(cluster)?;
    let pods = kubectl.list(&["pods", "--selector=app.kubernetes.io/component=webhook"])?;
    let on_host = |pod: &&Value| pod["status"]["podIP"] == pod["status"]["hostIP"];
    ensure!(pods.iter().any(|pod| on_host(&pod)), "no pod of the webhook has its node's address: {pods:?}");
    Ok(())
}

/// Asserts that each Service and pod of Certmint has one address, and that it is an IPv6 address.
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
                .map(|address| &address["ip"]),
        )
        .collect();
    ensure!(
        addresses.len() == services.len() + pods.len(),
        "some Services or pods do not have exactly one address: {addresses:?}"
    );
    for address in addresses {
        let is_ipv6 = address.as_str().is_some_and(|text| text.parse::<Ipv6Addr>().is_ok());
        ensure!(is_ipv6, "{address} is not an IPv6 address");
    }
    Ok(())
}
