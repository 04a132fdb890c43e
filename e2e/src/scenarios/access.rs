//! What Certmint's accounts may do: what they need, and nothing more.

mod grants;
mod life;
mod limits;

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::audit::{Mark, Request};
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::{self, Observed};

use self::grants::Grant;
use super::Scenario;
use super::own_cluster::own_cluster;

/// What is shown of it.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "access",
    shows: "The controller needs each of its rights and has no other; webhook and injected pods have none.",
    run,
}];

/// A certificate of [`life`]'s is due for renewal after 20 seconds; nothing else takes longer on a busy machine.
const SOON: Duration = Duration::from_secs(90);
/// The namespace of the workloads.
const SHOP: &str = "access";

/// On a cluster of its own, whose API server logs what the accounts ask for from the first moment on.
fn run(shared: &Cluster) -> Result<()> {
    own_cluster(shared, SHOP, &[SYSTEM_NAMESPACE, SHOP], |cluster| {
        installation::install(cluster, installation::SHORT_LIVED)?;
        let shop = namespace(cluster, SHOP, &[])?;
        life::drive(cluster, &shop)?;
        let grants = grants::of_release(cluster)?;
        step(&format!("each of {} rights is used, and nothing is refused", grants.len()), || {
            all_used(cluster, &grants)
        })?;
        step("the webhook has asked the API server for nothing", || silent(cluster))?;
        limits::check(cluster, &shop)
    })
}

/// Every request up to now.
fn asked(cluster: &Cluster) -> Result<Vec<Request>> {
    Mark::START.since(cluster)?.collect()
}

/// Waits until the log has a request for each right. One that was refused, and not granted since, is a right missing.
fn all_used(cluster: &Cluster, grants: &[Grant]) -> Result<()> {
    let requests = wait::until("each right to be used", SOON, || {
        let requests = asked(cluster)?;
        let refused = requests.iter().filter(|request| !request.is_allowed());
        let mut missing = refused
            .filter(|refused| !requests.iter().any(|other| other.is_allowed() && other.is_same(refused)));
        if let Some(missing) = missing.next_back() {
            let (account, api_group) = (missing.account(), &missing.object.api_group);
            let missing = format!("a right is missing: {account}, {missing}, of API group {api_group:?}");
            return Ok(Observed::Yes(Err(missing)));
        }
        let used =
            |grant: &Grant| requests.iter().any(|request| request.is_allowed() && grant.covers(request));
        let unused: Vec<String> = grants.iter().filter(|grant| !used(grant)).map(Grant::to_string).collect();
        Ok(if unused.is_empty() {
            Observed::Yes(Ok(requests.len()))
        } else {
            Observed::NotYet(format!("{} that nothing needed:\n{}", unused.len(), unused.join("\n")))
        })
    })?;
    match requests {
        Ok(count) => note(&format!("{count} requests of the controller's, all allowed")),
        Err(missing) => bail!(missing),
    }
    Ok(())
}

fn silent(cluster: &Cluster) -> Result<()> {
    let requests = asked(cluster)?;
    let asked: Vec<&Request> =
        requests.iter().filter(|request| !request.account().ends_with("-controller")).collect();
    ensure!(asked.is_empty(), "not only the controller asked: {asked:?}");
    Ok(())
}
