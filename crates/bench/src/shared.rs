//! What rows have in common: clusters that end, namespaces that go, where a server is.

use anyhow::{Context as _, Result};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::cluster::{Cluster, Options};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::machine::{self, Requirement};
use certmint_local_cluster::namespaces::namespace;

/// What measures, besides this program.
const TOOLS: &[Requirement] = &[
    Requirement { package: "curl", paths: &["/usr/bin/curl"] },
    Requirement { package: "procps", paths: &["/usr/bin/pgrep"] },
    Requirement { package: "wrk", paths: &["/usr/bin/wrk"] },
];
/// One replica of each part: what is measured has one place to be measured at.
pub(crate) const VALUES: &[&str] = &["webhook.replicas=1", "controller.replicas=1"];
/// Where webhook, controller and what stands beside them listen.
pub(crate) const PORT: u16 = 8443;

/// A cluster of this run's with what `prepare` made of it. It goes down with this process at the latest, and at once
/// when `prepare` fails.
pub(crate) fn start<T>(
    cache: &Cache,
    purpose: &str,
    prepare: impl FnOnce(&Cluster) -> Result<T>,
) -> Result<(Cluster, T)> {
    machine::install(TOOLS)?;
    let name = format!("bench-{}-{purpose}", std::process::id());
    let cluster = Cluster::start(cache, &Options { name, control_plane_only: false })?;
    match prepare(&cluster) {
        Ok(prepared) => Ok((cluster, prepared)),
        Err(error) => ended(Err(error), cluster.stop()),
    }
}

/// What `work` does in a new namespace, whose pods are gone afterwards: nothing of a row is to run beside the next. The
/// namespace itself follows in the time that Kubernetes takes, which is seconds.
pub(crate) fn within<T>(
    cluster: &Cluster,
    name: &str,
    work: impl FnOnce(&Kubectl<'_>) -> Result<T>,
) -> Result<T> {
    let kubectl = namespace(cluster, name, &[])?;
    let worked = work(&kubectl);
    let emptied = kubectl.delete(&["deployments,pods", "--all", "--cascade=foreground"]);
    let deleted = cluster.kubectl().delete(&["namespace", name, "--wait=false"]);
    ended(worked, emptied.and(deleted).map(drop))
}

/// Where the one pod of `selector` listens.
pub(crate) fn address(kubectl: &Kubectl<'_>, selector: &str) -> Result<String> {
    let pods = kubectl.list(&["pods", &format!("--selector={selector}")])?;
    let pod = pods.first().with_context(|| format!("no pod with {selector}"))?;
    let address = pod["status"]["podIP"].as_str().context("the pod has no address")?;
    Ok(format!("{address}:{PORT}"))
}

/// What came of `work`, unless it or what was done at its `end` failed.
fn ended<T>(work: Result<T>, end: Result<()>) -> Result<T> {
    match (work, end) {
        (Err(error), Err(end)) => Err(error.context(format!("and this at its end: {end:#}"))),
        (Ok(_), Err(error)) => Err(error),
        (work, Ok(())) => work,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn no_error_is_lost() {
        assert_eq!(ended(Ok(1), Ok(())).unwrap(), 1);
        assert_eq!(ended::<()>(Err(anyhow!("work")), Ok(())).unwrap_err().to_string(), "work");
        assert_eq!(ended(Ok(1), Err(anyhow!("end"))).unwrap_err().to_string(), "end");
        let both = format!("{:#}", ended::<()>(Err(anyhow!("work")), Err(anyhow!("stop"))).unwrap_err());
        assert!(both.contains("work") && both.contains("stop"), "{both}");
    }
}
