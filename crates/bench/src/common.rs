//! Helpers of several rows: clusters and namespaces that are removed afterwards, and addresses of servers.

use anyhow::{Context as _, Result};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::cluster::{Cluster, ClusterOptions};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::machine::{self, Requirement};
use certmint_local_cluster::namespaces::create_namespace;

/// Debian packages of the measuring programs.
const TOOLS: &[Requirement] = &[
    Requirement { package: "curl", paths: &["/usr/bin/curl"] },
    Requirement { package: "procps", paths: &["/usr/bin/pgrep"] },
    Requirement { package: "wrk", paths: &["/usr/bin/wrk"] },
];
/// Chart values for one replica of each component, so that there is one process to measure.
pub(crate) const VALUES: &[&str] = &["webhook.replicas=1", "controller.replicas=1"];
/// Port of the webhook, of the controller's issuance API, and of the nginx that the webhook is compared with.
pub(crate) const PORT: u16 = 8443;

/// Starts a cluster and runs `prepare` on it. The cluster ends when `prepare` fails, when the caller stops it, or when
/// this process ends.
pub(crate) fn start_cluster<T>(
    cache: &Cache,
    purpose: &str,
    prepare: impl FnOnce(&Cluster) -> Result<T>,
) -> Result<(Cluster, T)> {
    machine::install(TOOLS)?;
    let name = format!("bench-{}-{purpose}", std::process::id());
    let cluster = Cluster::start(cache, &ClusterOptions { name, control_plane_only: false })?;
    match prepare(&cluster) {
        Ok(prepared) => Ok((cluster, prepared)),
        Err(error) => with_cleanup(Err(error), cluster.stop()),
    }
}

/// Runs `work` in a new namespace, and then deletes its pods, so that they do not disturb the next row.
/// Kubernetes deletes the namespace itself within seconds.
pub(crate) fn in_namespace<T>(
    cluster: &Cluster,
    name: &str,
    work: impl FnOnce(&Kubectl<'_>) -> Result<T>,
) -> Result<T> {
    let kubectl = create_namespace(cluster, name, &[])?;
    let worked = work(&kubectl);
    let emptied = kubectl.delete(&["deployments,pods", "--all", "--cascade=foreground"]);
    let deleted = cluster.kubectl().delete(&["namespace", name, "--wait=false"]);
    with_cleanup(worked, emptied.and(deleted).map(drop))
}

/// Returns the address of the first pod that matches `selector`, with [`PORT`].
pub(crate) fn address(kubectl: &Kubectl<'_>, selector: &str) -> Result<String> {
    let pods = kubectl.list(&["pods", &format!("--selector={selector}")])?;
    let pod = pods.first().with_context(|| format!("no pod with {selector}"))?;
    let address = pod["status"]["podIP"].as_str().context("the pod has no address")?;
    Ok(format!("{address}:{PORT}"))
}

/// Returns the value of `work` if neither `work` nor the cleanup failed, and otherwise their errors.
fn with_cleanup<T>(work: Result<T>, cleanup: Result<()>) -> Result<T> {
    match (work, cleanup) {
        (Err(error), Err(cleanup)) => Err(error.context(format!("the cleanup failed too: {cleanup:#}"))),
        (Ok(_), Err(error)) => Err(error),
        (work, Ok(())) => work,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn every_error_is_reported() {
        assert_eq!(with_cleanup(Ok(1), Ok(())).unwrap(), 1);
        assert_eq!(with_cleanup::<()>(Err(anyhow!("work")), Ok(())).unwrap_err().to_string(), "work");
        assert_eq!(with_cleanup(Ok(1), Err(anyhow!("end"))).unwrap_err().to_string(), "end");
        let both =
            format!("{:#}", with_cleanup::<()>(Err(anyhow!("work")), Err(anyhow!("stop"))).unwrap_err());
        assert!(both.contains("work") && both.contains("stop"), "{both}");
    }
}
