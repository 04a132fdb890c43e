//! Secrets under attack.
//!
//! The scenario `secrets-under-attack` creates workloads whose Secrets have the names of foreign Secrets, damages
//! Certmint's Secrets, requests bundles from forged pods, and creates many large objects.
//!
//! It asserts that the controller reissues damaged Secrets, does not change foreign ones, and rejects forged pods.
//! The memory of the controllers must stay small.

mod damaged_secrets;
mod fixture;
mod forged_pods;
mod large_objects;
mod name_conflicts;

use anyhow::Result;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation;
use certmint_local_cluster::namespaces::create_namespace;

use super::Scenario;
use fixture::SecretFixture;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "secrets-under-attack",
    shows: "Damaged Secrets are reissued, foreign ones are not changed, forged pods are rejected, and large objects cost little memory.",
    run,
}];

fn run(cluster: &Cluster) -> Result<()> {
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let fixture = SecretFixture { cluster, kubectl: create_namespace(cluster, "secrets-under-attack", &[])? };
    name_conflicts::run(&fixture)?;
    damaged_secrets::run(&fixture)?;
    forged_pods::run(&fixture)?;
    large_objects::run(&fixture)
}
