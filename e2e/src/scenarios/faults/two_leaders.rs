//! Two controllers and one Lease: a leader that is stopped, a Lease that is deleted, rights that are lost.

use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::audit::{Mark, Request};
use certmint_local_cluster::cluster::process::Signal;
use certmint_local_cluster::command;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::{self, Observed};
use serde_json::Value;

use super::controllers::{self, CONTAINER, await_other_leader, leader, leading_pod, said};
use super::history::History;
use super::many;
use crate::story::PATIENCE;

const NAME: &str = "two-leaders";
const WORKLOADS: usize = 60;
/// When the leader is stopped: in the middle of its work.
const STOPPED_AT: usize = 10;
/// How often the old leader has to be seen at the Lease again before it counts as awake.
const LOOKS: usize = 3;
/// What a controller logs when it begins or ends to lead.
const TURN: &str = "leadership changed";

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, NAME, &[])?;
    let history = History::start(&kubectl, NAME)?;
    let old = leading_pod(cluster)?;
    let stopped = stopped_leader(cluster, &kubectl, &history, &old);
    // Whatever happened: it is not to stay like that.
    let continued = step("the old leader goes on", || awake(cluster, &old));
    stopped?;
    continued?;
    step("no Secret was issued twice", || history.each_issued_once(WORKLOADS))?;
    step("a deleted Lease stays its holder's", || deleted_lease(cluster))?;
    step("a leader without the right to renew stops, and says what it lacks", || {
        let role = without_leases(cluster)?;
        let lost = lost_right(cluster);
        replace(cluster, &role)?;
        lost
    })?;
    step("with the right back, work goes on", || {
        many::create(&kubectl, "later", 1)?;
        history.await_made(WORKLOADS + 1)?;
        history.each_issued_once(WORKLOADS + 1)
    })
}

/// Stops the leader in the middle of its work, and lets the other finish it.
fn stopped_leader(cluster: &Cluster, kubectl: &Kubectl<'_>, history: &History, old: &Value) -> Result<()> {
    let name = old["metadata"]["name"].as_str().context("a pod has a name")?;
    thread::scope(|scope| {
        let creation = scope.spawn(|| many::create(kubectl, "leader", WORKLOADS));
        history.await_made(STOPPED_AT)?;
        let stopped =
            step(&format!("the leader stands still (SIGSTOP), {} Secrets made", history.made()), || {
                cluster.signal(old, CONTAINER, Signal::Stop)
            });
        creation.join().map_err(|_| anyhow!("the creation of workloads panicked"))??;
        stopped
    })?;
    let new = step("another leads once the Lease has run out", || await_other_leader(cluster, name))?;
    note(&format!("{new} after {name}"));
    step(&format!("it issues the rest of {WORKLOADS}"), || history.await_made(WORKLOADS))
}

/// Lets the old leader go on, and passes when all it does is to find that it does not lead.
fn awake(cluster: &Cluster, old: &Value) -> Result<()> {
    let mark = Mark::now(cluster)?;
    cluster.signal(old, CONTAINER, Signal::Continue)?;
    wait::until("the old leader to look at the Lease again", PATIENCE, || {
        let asked = mark.since(cluster)?.collect::<Result<Vec<Request>>>()?;
        let looks = asked.iter().filter(|request| request.is_from(old) && request.concerns("leases")).count();
        Ok(if looks >= LOOKS { Observed::Yes(()) } else { Observed::NotYet(format!("{looks} times")) })
    })?;
    // An Event tells what was done before; it decides nothing.
    let asked = mark.since(cluster)?.collect::<Result<Vec<Request>>>()?;
    let late = asked
        .iter()
        .filter(|request| request.is_from(old) && request.is_write() && !request.concerns("events"));
    let late: Vec<String> = late.map(ToString::to_string).collect();
    ensure!(late.is_empty(), "the old leader has written after another took over: {}", late.join("; "));
    let told = said(cluster, old, &[TURN, "false"])?;
    ensure!(told > 0, "the old leader has not logged that it does not lead any more");
    Ok(())
}

fn deleted_lease(cluster: &Cluster) -> Result<()> {
    let before = leader(cluster)?;
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    kubectl.run(&["delete", "lease", controllers::NAME])?;
    let after = wait::until("the Lease to be back", PATIENCE, || leader(cluster).map(Observed::Yes))?;
    ensure!(after == before, "{before} led, and was not told to stop, when {after} took the deleted Lease");
    Ok(())
}

/// Takes the right to renew the Lease away, and returns the Role as it was.
fn without_leases(cluster: &Cluster) -> Result<Value> {
    let role = cluster.kubectl().namespace(SYSTEM_NAMESPACE).get(&["role", controllers::NAME])?;
    let mut lacking = role.clone();
    let rules = lacking["rules"].as_array_mut().context("a Role has rules")?;
    rules.retain(|rule| rule["resources"] != serde_json::json!(["leases"]));
    replace(cluster, &lacking)?;
    Ok(role)
}

fn replace(cluster: &Cluster, object: &Value) -> Result<()> {
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = Value::Null;
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    command::output_with_input(&mut kubectl.command(&["replace", "--filename=-"]), &object.to_string())
        .map(drop)
}

fn lost_right(cluster: &Cluster) -> Result<()> {
    let pod = leading_pod(cluster)?;
    let before = said(cluster, &pod, &[TURN, "false"])?;
    wait::until("the leader to stop", PATIENCE, || {
        let told = said(cluster, &pod, &[TURN, "false"])?;
        Ok(if told > before { Observed::Yes(()) } else { Observed::NotYet("it leads".to_owned()) })
    })?;
    let told = said(cluster, &pod, &["cannot get Lease", "check the controller's ClusterRole and Role"])?;
    ensure!(told > 0, "the leader has not logged which right it lacks");
    Ok(())
}
