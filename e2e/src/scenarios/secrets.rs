//! Secrets under attack and accident.

mod crowd;
mod damage;
mod forged;
mod scene;
mod taken;

use anyhow::Result;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation;
use certmint_local_cluster::namespaces::namespace;

use self::scene::Scene;
use super::Scenario;

/// What is shown of it.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "secrets-under-attack",
    shows: "Whatever is done to a Secret, it is healed if it is ours and left alone if it is not; forged pods get none, and a crowd of them costs little.",
    run,
}];

fn run(cluster: &Cluster) -> Result<()> {
    installation::install(cluster, installation::SHORT_LIVED)?;
    let scene = Scene { cluster, kubectl: namespace(cluster, "secrets-under-attack", &[])? };
    taken::run(&scene)?;
    damage::run(&scene)?;
    forged::run(&scene)?;
    crowd::run(&scene)
}
