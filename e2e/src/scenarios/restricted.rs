//! A namespace that admits only what the Pod Security Standard `restricted` allows.

use anyhow::Result;

use crate::cluster::Cluster;
use crate::progress::step;
use crate::story::{call, examples, installation, namespace};

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install(cluster, installation::SHORT_LIVED)?;
    let labels = [
        "pod-security.kubernetes.io/enforce=restricted",
        "pod-security.kubernetes.io/enforce-version=latest",
    ];
    let kubectl = namespace(cluster, "restricted", &labels)?;
    step("restricted pods stay restricted when injected", || examples::deploy(cluster, &kubectl, &[]))?;
    step("and speak mutual TLS", || call::succeeds(&kubectl, "payments.restricted.svc"))?;
    step("our own pods are restricted too: the API server has no warning about them", || {
        let ask = [
            "label",
            "namespace",
            super::SYSTEM_NAMESPACE,
            "--dry-run=server",
            "--overwrite",
            "--warnings-as-errors",
        ];
        cluster.kubectl().run(&[&ask[..], &labels[..]].concat())
    })
    .map(drop)
}
