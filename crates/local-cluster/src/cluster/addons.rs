//! What runs in pods in every real cluster: the name service and, on request, metrics-server.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Cluster;
use super::network::Addresses;
use crate::images::{self, Image};

const PATIENCE: Duration = Duration::from_secs(120);

/// Installs CoreDNS and waits until it answers.
///
/// # Errors
/// When the API server refuses it or it does not become ready.
pub(super) fn install_dns(cluster: &Cluster, images: &[Image], addresses: Addresses) -> Result<()> {
    let image = images.iter().find(|image| image.name == images::COREDNS).context("no CoreDNS image")?;
    let manifest = include_str!("coredns.yaml")
        .replace("IMAGE", &image.local_reference())
        .replace("CLUSTER_IP", addresses.primary().dns_service);
    let kubectl = cluster.kubectl().namespace("kube-system");
    kubectl.apply(&manifest)?;
    kubectl.rolled_out("deployment/coredns", PATIENCE)
}

/// Installs metrics-server. Its first figures are there about a minute later: ask with
/// `kubectl top pods`, and do something else meanwhile.
///
/// # Errors
/// When it cannot be built or the API server refuses it.
pub fn install_metrics_server(cluster: &Cluster) -> Result<()> {
    let image = images::metrics_server(cluster.cache())?;
    let manifest = include_str!("metrics-server.yaml").replace("IMAGE", &cluster.provide(&image)?);
    cluster.kubectl().apply(&manifest).map(drop)
}
