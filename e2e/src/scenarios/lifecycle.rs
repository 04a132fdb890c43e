//! A release's life: installed, tested, upgraded, limited and uninstalled, as the how-to pages say.

mod install;
mod namespaces;
mod release;

use anyhow::Result;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::wait::{self, Observed};

use super::Scenario;
use crate::story::PATIENCE;

/// What is shown of it.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "release",
        shows: "Upgrade, rollback and uninstall by the book fail no admission and no request.",
        run: release::run,
    },
    Scenario {
        name: "install",
        shows: "An installation that is not ready holds up nobody else, and helm test says what is amiss.",
        run: install::run,
    },
    Scenario {
        name: "namespaces",
        shows: "Two installations limited to namespaces of their own work side by side, and reach no other.",
        run: namespaces::run,
    },
];

/// Waits until no object of the release is left, of those that the chart makes and of their pods.
fn removed(cluster: &Cluster) -> Result<()> {
    let kinds = "mutatingwebhookconfigurations,clusterroles,clusterrolebindings,roles,rolebindings,serviceaccounts,\
                 services,deployments,pods,poddisruptionbudgets,configmaps";
    let kubectl = cluster.kubectl();
    let selector = "--selector=app.kubernetes.io/instance=certmint";
    wait::until("the release's objects to be gone", PATIENCE, || {
        let left = kubectl.run(&["get", kinds, "--all-namespaces", selector, "--output=name"])?;
        Ok(if left.is_empty() { Observed::Yes(()) } else { Observed::NotYet(left) })
    })
}
