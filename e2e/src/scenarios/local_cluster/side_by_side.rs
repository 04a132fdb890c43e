//! Two clusters side by side, and nothing left of them.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::cluster::state::State;
use certmint_local_cluster::cluster::{Cluster, Options};
use certmint_local_cluster::images;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::{self, Observed};

use super::leftovers::{self, Traces};

/// The command that runs [`runner`].
pub const RUNNER: &str = "cluster-runner";

const PATIENCE: Duration = Duration::from_secs(180);

pub(super) fn run(shared: &Cluster) -> Result<()> {
    let cache = shared.cache();
    // Another run on this machine may be at the same place.
    let names = ["left", "right"].map(|side| format!("{side}-{}", std::process::id()));
    let states = names.each_ref().map(|name| State::of(cache, name));
    let before = leftovers::machine(&states)?;

    let clusters = step("two clusters start side by side", || {
        names.iter().map(|name| Cluster::start(cache, &options(name))).collect::<Result<Vec<_>>>()
    })?;
    step("each runs a pod of its own, and knows nothing of the other's", || {
        clusters.iter().zip(&names).try_for_each(|(cluster, name)| run_pod(cluster, name))?;
        clusters.iter().zip(&names).try_for_each(|(cluster, name)| knows_only(cluster, name))
    })?;
    let traces = leftovers::traces(&states)?;
    step("both are stopped", || clusters.into_iter().try_for_each(Cluster::stop))?;
    step(&nothing_of(&traces), || nothing_left(&states, &before, &traces))?;

    let [name, _] = names;
    let states = [State::of(cache, &name)];
    let mut runner = Command::new(std::env::current_exe()?)
        .arg(RUNNER)
        .arg(State::of(cache, &name).directory())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start another runner")?;
    let started = step("another runner starts a cluster", || {
        wait::until("its pod to run", PATIENCE, || {
            let cluster = Cluster::running(cache, &name)?;
            running(&cluster, &name)
        })
    });
    let traces = started.and_then(|()| leftovers::traces(&states));
    step("that runner is killed", || Ok(runner.kill().and_then(|()| runner.wait().map(drop))?))?;
    let traces = traces?;
    step(&nothing_of(&traces), || nothing_left(&states, &before, &traces))
}

/// Starts the cluster of `directory` with a pod, which ends with this process, and waits to be killed. It does
/// not outlive the process that started it either, whose pipe is its standard input.
///
/// # Errors
/// When the cluster does not come up.
pub fn runner(directory: &Path) -> Result<()> {
    thread::spawn(|| {
        while std::io::stdin().read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
        std::process::exit(1);
    });
    let cache = Cache::open()?;
    let name = State::at(directory).name();
    let cluster = Cluster::start(&cache, &options(&name))?;
    run_pod(&cluster, &name)?;
    loop {
        thread::park();
    }
}

fn options(name: &str) -> Options {
    Options { name: name.to_owned(), control_plane_only: false }
}

fn run_pod(cluster: &Cluster, name: &str) -> Result<()> {
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    cluster.kubectl().run(&["create", "deployment", name, "--image", &image])?;
    wait::until(&format!("the pod of {name}"), PATIENCE, || running(cluster, name))
}

fn running(cluster: &Cluster, name: &str) -> Result<Observed<()>> {
    let deployment = cluster.kubectl().get(&[&format!("deployment/{name}")])?;
    Ok(match deployment["status"]["availableReplicas"].as_u64() {
        Some(1) => Observed::Yes(()),
        _ => Observed::NotYet(deployment["status"].to_string()),
    })
}

fn knows_only(cluster: &Cluster, name: &str) -> Result<()> {
    let names = cluster.kubectl().run(&["get", "deployments", "--output=name"])?;
    if names.trim() != format!("deployment.apps/{name}") {
        bail!("cluster {name} has the deployments {names}");
    }
    Ok(())
}

fn nothing_of(traces: &Traces) -> String {
    let (processes, mounts) = (traces.processes.len(), traces.mounts.len());
    format!("gone: {processes} processes, {mounts} mounts, every interface, cgroup and file")
}

fn nothing_left(states: &[State], before: &BTreeSet<String>, traces: &Traces) -> Result<()> {
    wait::until("everything to be gone", Duration::from_secs(30), || {
        let mut left: BTreeSet<String> = leftovers::machine(states)?.difference(before).cloned().collect();
        left.extend(traces.remaining());
        Ok(if left.is_empty() {
            Observed::Yes(())
        } else {
            Observed::NotYet(left.into_iter().collect::<Vec<_>>().join("\n"))
        })
    })
}
