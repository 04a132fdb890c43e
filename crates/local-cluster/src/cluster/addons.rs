//! Programs that run in pods of every cluster: CoreDNS and, on request, metrics-server.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Cluster;
use super::network::Addresses;
use crate::images::{self, Image};

/// Limit for CoreDNS to become ready.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// Installs CoreDNS, and waits until it is ready.
///
/// # Errors
/// When the API server rejects the manifest, or CoreDNS does not become ready in time.
pub(super) fn install_dns(cluster: &Cluster, images: &[Image], addresses: Addresses) -> Result<()> {
    let image = images.iter().find(|image| image.name == images::COREDNS).context("no CoreDNS image")?;
    let manifest = include_str!("coredns.yaml")
        .replace("IMAGE", &image.local_reference())
        .replace("CLUSTER_IP", addresses.primary().dns_service);
    let kubectl = cluster.kubectl().namespace("kube-system");
    kubectl.apply(&manifest)?;
    kubectl.wait_for_rollout("deployment/coredns", READY_TIMEOUT)
}

/// Installs metrics-server. Its first values are available about a minute later.
///
/// # Errors
/// When the image cannot be built or provided, or the API server rejects the manifest.
pub fn install_metrics_server(cluster: &Cluster) -> Result<()> {
    let image = images::metrics_server(cluster.cache())?;
    let manifest = include_str!("metrics-server.yaml").replace("IMAGE", &cluster.provide(&image)?);
    cluster.kubectl().apply(&manifest).map(drop)
}
