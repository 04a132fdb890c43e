//! The scenario `two-leaders` stops the leading controller (SIGSTOP) until another one leads, and lets it continue.
//! Then it deletes the Lease, and removes the permission to renew it.
//!
//! It asserts that the former leader changes nothing after it continues, that each certificate is issued once, that
//! the holder takes a deleted Lease again, and that a leader without the permission stops leading and logs which
//! permission is missing.

use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::audit::{AuditedRequest, Mark};
use certmint_local_cluster::cluster::process::Signal;
use certmint_local_cluster::command;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use serde_json::Value;

use super::bulk_workloads;
use super::controllers::{self, CONTAINER, count_log_lines, leader, leading_pod, wait_for_other_leader};
use super::secret_history::SecretHistory;

const NAME: &str = "two-leaders";
const WORKLOADS: usize = 60;
/// Number of Secrets after which the leader is stopped: in the middle of its work.
const STOP_AT_SECRETS: usize = 10;
/// Number of requests for the Lease after which the former leader counts as running again.
const LEASE_REQUESTS: usize = 3;
/// Log line of a controller that starts or stops leading.
const LEADERSHIP_CHANGED: &str = "leadership changed";

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let kubectl = create_namespace(cluster, NAME, &[])?;
    let history = SecretHistory::start(&kubectl, NAME)?;
    let old = leading_pod(cluster)?;
    let stopped = stop_leader(cluster, &kubectl, &history, &old);
    // The former leader continues even if the step before failed.
    let continued =
        step("the former leader continues and changes nothing", || continue_former_leader(cluster, &old));
    stopped?;
    continued?;
    step("no certificate was issued twice", || history.assert_each_issued_once(WORKLOADS))?;
    step("a deleted Lease goes to its former holder", || delete_lease(cluster))?;
    step("a leader without the permission to renew stops leading, and logs what is missing", || {
        let role = remove_lease_permission(cluster)?;
        let stopped = wait_for_end_of_leadership(cluster);
        replace(cluster, &role)?;
        stopped
    })?;
    step("with the permission, the controllers issue again", || {
        bulk_workloads::create(&kubectl, "later", 1)?;
        history.wait_for_count(WORKLOADS + 1)?;
        history.assert_each_issued_once(WORKLOADS + 1)
    })
}

/// Stops the leader in the middle of its work, and waits until the other controller has issued the rest.
fn stop_leader(cluster: &Cluster, kubectl: &Kubectl<'_>, history: &SecretHistory, old: &Value) -> Result<()> {
    let name = old["metadata"]["name"].as_str().context("the pod has no name")?;
    thread::scope(|scope| {
        let creation = scope.spawn(|| bulk_workloads::create(kubectl, "leader", WORKLOADS));
        history.wait_for_count(STOP_AT_SECRETS)?;
        let stopped =
            step(&format!("the leader is stopped (SIGSTOP) after {} Secrets", history.count()), || {
                cluster.signal(old, CONTAINER, Signal::Stop)
            });
        creation.join().map_err(|_| anyhow!("the creation of workloads panicked"))??;
        stopped
    })?;
    let new = step("the other controller leads after the Lease has expired", || {
        wait_for_other_leader(cluster, name)
    })?;
    note(&format!("{new} leads after {name}"));
    step(&format!("the new leader issues the rest of {WORKLOADS} certificates"), || {
        history.wait_for_count(WORKLOADS)
    })
}

/// Lets the former leader continue. Asserts that it requests the Lease, logs that it no longer leads, and changes nothing
/// except Events.
fn continue_former_leader(cluster: &Cluster, old: &Value) -> Result<()> {
    let mark = Mark::now(cluster)?;
    cluster.signal(old, CONTAINER, Signal::Continue)?;
    wait::until("the former leader to request the Lease again", DEFAULT_TIMEOUT, || {
        let requests = mark.since(cluster)?.collect::<Result<Vec<AuditedRequest>>>()?;
        let of_lease = requests.iter().filter(|request| request.is_from(old) && request.concerns("leases"));
        let count = of_lease.count();
        Ok(if count >= LEASE_REQUESTS { Check::Passed(()) } else { Check::NotYet(format!("{count} times")) })
    })?;
    let requests = mark.since(cluster)?.collect::<Result<Vec<AuditedRequest>>>()?;
    // Events are allowed, because they report earlier work and change no other object. A request that had passed the
    // fence before the process stopped is sent when it continues. The API server rejects it, because the new leader was
    // first: the Secret exists, or has another version.
    let late = requests.iter().filter(|request| {
        request.is_from(old)
            && request.is_write()
            && !request.concerns("events")
            && !request.was_in_conflict()
    });
    let late: Vec<String> = late.map(ToString::to_string).collect();
    ensure!(
        late.is_empty(),
        "the former leader changed objects after another controller led: {}",
        late.join("; ")
    );
    let logged = count_log_lines(cluster, old, &[LEADERSHIP_CHANGED, "false"])?;
    ensure!(logged > 0, "the former leader has not logged that it no longer leads");
    Ok(())
}

fn delete_lease(cluster: &Cluster) -> Result<()> {
    let before = leader(cluster)?;
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    kubectl.run(&["delete", "lease", controllers::NAME])?;
    let after =
        wait::until("the Lease to be recreated", DEFAULT_TIMEOUT, || leader(cluster).map(Check::Passed))?;
    ensure!(after == before, "{after} took the deleted Lease while {before} was still leading");
    Ok(())
}

/// Removes the permission to renew the Lease, and returns the original Role.
fn remove_lease_permission(cluster: &Cluster) -> Result<Value> {
    let role = cluster.kubectl().namespace(SYSTEM_NAMESPACE).get(&["role", controllers::NAME])?;
    let mut reduced = role.clone();
    let rules = reduced["rules"].as_array_mut().context("the Role has no rules")?;
    rules.retain(|rule| rule["resources"] != serde_json::json!(["leases"]));
    replace(cluster, &reduced)?;
    Ok(role)
}

fn replace(cluster: &Cluster, object: &Value) -> Result<()> {
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = Value::Null;
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    command::output_with_input(&mut kubectl.command(&["replace", "--filename=-"]), &object.to_string())
        .map(drop)
}

fn wait_for_end_of_leadership(cluster: &Cluster) -> Result<()> {
    let pod = leading_pod(cluster)?;
    let before = count_log_lines(cluster, &pod, &[LEADERSHIP_CHANGED, "false"])?;
    wait::until("the leader to stop leading", DEFAULT_TIMEOUT, || {
        let count = count_log_lines(cluster, &pod, &[LEADERSHIP_CHANGED, "false"])?;
        Ok(if count > before { Check::Passed(()) } else { Check::NotYet("it still leads".to_owned()) })
    })?;
    let logged = count_log_lines(
        cluster,
        &pod,
        &["cannot get Lease", "compare the controller's ClusterRole and Role"],
    )?;
    ensure!(logged > 0, "the leader has not logged which permission is missing");
    Ok(())
}
