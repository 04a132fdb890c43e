//! The lifecycle of a release: it is installed, tested, upgraded, limited to namespaces, and uninstalled, with the
//! commands of the how-to pages.

mod install;
mod namespaces;
mod release;

use anyhow::Result;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};

use super::Scenario;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "release",
        shows: "During upgrade, rollback and uninstallation as documented, no pod is rejected and no request fails.",
        run: release::run,
    },
    Scenario {
        name: "install",
        shows: "An installation that does not become ready affects only workloads that opt in, and helm test reports what is wrong.",
        run: install::run,
    },
    Scenario {
        name: "namespaces",
        shows: "Two installations that are limited to their own namespaces work at the same time, and reach no other namespace.",
        run: namespaces::run,
    },
];

/// Waits until all objects that the chart creates, and their pods, are gone.
fn wait_for_removal(cluster: &Cluster) -> Result<()> {
    let kinds = "mutatingwebhookconfigurations,clusterroles,clusterrolebindings,roles,rolebindings,serviceaccounts,\
                 services,deployments,pods,poddisruptionbudgets,configmaps";
    let kubectl = cluster.kubectl();
    let selector = "--selector=app.kubernetes.io/instance=certmint";
    wait::until("the release's objects to be gone", DEFAULT_TIMEOUT, || {
        let left = kubectl.run(&["get", kinds, "--all-namespaces", selector, "--output=name"])?;
        Ok(if left.is_empty() { Check::Passed(()) } else { Check::NotYet(left) })
    })
}
