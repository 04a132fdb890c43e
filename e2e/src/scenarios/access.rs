//! The permissions of Certmint's service accounts.
//!
//! The scenario `access` installs Certmint on a new cluster and makes the controller do everything that it can do. Then
//! it compares the audit log of the API server with the RBAC rules of the release: the controller must have used each
//! permission, each forbidden request must have been allowed later, and the webhook must have sent no request. Finally,
//! the scenario asserts that the accounts do not have other permissions.

mod denied_permissions;
mod permissions;
mod use_every_permission;

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::audit::{AuditedRequest, Mark};
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::{self, Check};
use permissions::Permission;

use super::Scenario;
use super::own_cluster::run_on_own_cluster;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "access",
    shows: "The controller uses each of its permissions and has no others; webhook and injected pods have none.",
    run,
}];

/// Time limit for the use of every permission. The last use is the renewal of a certificate with the lifetime of
/// [`use_every_permission`], after 20 seconds. The rest is a reserve for a busy machine.
const USE_TIMEOUT: Duration = Duration::from_secs(90);
/// Namespace of the workloads.
const NAMESPACE: &str = "access";

/// Runs on a cluster of its own, because its audit log must contain all requests since the installation.
fn run(shared: &Cluster) -> Result<()> {
    run_on_own_cluster(shared, NAMESPACE, &[SYSTEM_NAMESPACE, NAMESPACE], |cluster| {
        installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
        let kubectl = create_namespace(cluster, NAMESPACE, &[])?;
        use_every_permission::run(cluster, &kubectl)?;
        let permissions = permissions::of_release(cluster)?;
        step(
            &format!("the controller uses each of {} permissions, and lacks none", permissions.len()),
            || wait_for_use(cluster, &permissions),
        )?;
        step("the webhook has not sent a request to the API server", || {
            assert_only_controller_sent_requests(cluster)
        })?;
        denied_permissions::check(cluster, &kubectl)
    })
}

/// Returns all requests of Certmint's accounts so far.
fn requests_so_far(cluster: &Cluster) -> Result<Vec<AuditedRequest>> {
    Mark::START.since(cluster)?.collect()
}

/// Waits until the audit log has an allowed request for each permission. Fails at once when a request was forbidden
/// and was not allowed later.
fn wait_for_use(cluster: &Cluster, permissions: &[Permission]) -> Result<()> {
    let requests = wait::until("each permission to be used", USE_TIMEOUT, || {
        let requests = requests_so_far(cluster)?;
        let was_allowed = |request: &AuditedRequest| {
            requests.iter().any(|other| other.is_allowed() && other.is_same(request))
        };
        let mut missing = requests.iter().filter(|request| !request.is_allowed() && !was_allowed(request));
        if let Some(missing) = missing.next_back() {
            let (account, api_group) = (missing.account(), &missing.object.api_group);
            let missing = format!("a permission is missing: {account}, {missing}, API group {api_group:?}");
            return Ok(Check::Passed(Err(missing)));
        }
        let is_used = |permission: &&Permission| {
            requests.iter().any(|request| request.is_allowed() && permission.covers(request))
        };
        let unused = permissions.iter().filter(|permission| !is_used(permission));
        let unused: Vec<String> = unused.map(Permission::to_string).collect();
        Ok(if unused.is_empty() {
            Check::Passed(Ok(requests.len()))
        } else {
            Check::NotYet(format!("{} permissions are unused:\n{}", unused.len(), unused.join("\n")))
        })
    })?;
    match requests {
        Ok(count) => note(&format!("the controller sent {count} requests, and all were allowed")),
        Err(missing) => bail!(missing),
    }
    Ok(())
}

fn assert_only_controller_sent_requests(cluster: &Cluster) -> Result<()> {
    let requests = requests_so_far(cluster)?;
    let others: Vec<&AuditedRequest> =
        requests.iter().filter(|request| !request.account().ends_with("-controller")).collect();
    ensure!(others.is_empty(), "an account other than the controller's sent requests: {others:?}");
    Ok(())
}
