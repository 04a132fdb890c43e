//! The scenario `side-by-side` starts two local clusters at the same time, and stops them. Then it starts one in
//! another process and kills that process.
//!
//! It asserts that each cluster sees only its own objects, and that no process, mount, interface, cgroup or file of
//! the clusters is left on the machine.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::cluster::directory::ClusterDirectory;
use certmint_local_cluster::cluster::{Cluster, ClusterOptions};
use certmint_local_cluster::images;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::{self, Check};

use super::leftovers::{self, ClusterTraces};

/// The command of `cargo xtask` that runs [`runner`].
pub const RUNNER: &str = "cluster-runner";

/// Limit for a cluster's pod to run.
const POD_TIMEOUT: Duration = Duration::from_secs(180);
/// Limit for the machine to be free of a stopped cluster.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn run(shared: &Cluster) -> Result<()> {
    let cache = shared.cache();
    // The names contain the process number, because another run on this machine may use the same cache.
    let names = ["left", "right"].map(|side| format!("{side}-{}", std::process::id()));
    let directories = names.each_ref().map(|name| ClusterDirectory::of(cache, name));
    let before = leftovers::visible_on_machine(&directories)?;

    let clusters = step("two clusters start side by side", || {
        names.iter().map(|name| Cluster::start(cache, &options(name))).collect::<Result<Vec<_>>>()
    })?;
    step("each cluster runs a pod, and sees only its own Deployment", || {
        clusters.iter().zip(&names).try_for_each(|(cluster, name)| start_pod_and_wait(cluster, name))?;
        clusters.iter().zip(&names).try_for_each(|(cluster, name)| assert_sees_only(cluster, name))
    })?;
    let traces = leftovers::traces(&directories)?;
    step("both clusters are stopped", || clusters.into_iter().try_for_each(Cluster::stop))?;
    step(&removal_title(&traces), || wait_for_removal(&directories, &before, &traces))?;

    let [name, _] = names;
    let directories = [ClusterDirectory::of(cache, &name)];
    let mut runner = Command::new(std::env::current_exe()?)
        .arg(RUNNER)
        .arg(ClusterDirectory::of(cache, &name).root())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start another runner")?;
    let started = step("another runner starts a cluster", || {
        wait::until("the pod of the other runner's cluster to run", POD_TIMEOUT, || {
            let cluster = Cluster::running(cache, &name)?;
            has_running_pod(&cluster, &name)
        })
    });
    let traces = started.and_then(|()| leftovers::traces(&directories));
    // The scenario kills the runner even if the step before failed.
    step("that runner is killed", || Ok(runner.kill().and_then(|()| runner.wait().map(drop))?))?;
    let traces = traces?;
    step(&removal_title(&traces), || wait_for_removal(&directories, &before, &traces))
}

/// Starts the cluster of `directory` and a pod on it, then waits to be killed. The cluster ends with this process.
/// This process also ends when the process that started it ends, because the pipe to its standard input is closed
/// then.
///
/// # Errors
/// When the cluster does not start.
pub fn runner(directory: &Path) -> Result<()> {
    thread::spawn(|| {
        while std::io::stdin().read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
        std::process::exit(1);
    });
    let cache = Cache::open()?;
    let name = ClusterDirectory::at(directory).name();
    let cluster = Cluster::start(&cache, &options(&name))?;
    start_pod_and_wait(&cluster, &name)?;
    loop {
        thread::park();
    }
}

fn options(name: &str) -> ClusterOptions {
    ClusterOptions { name: name.to_owned(), control_plane_only: false }
}

fn start_pod_and_wait(cluster: &Cluster, name: &str) -> Result<()> {
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    cluster.kubectl().run(&["create", "deployment", name, "--image", &image])?;
    wait::until(&format!("the pod of {name} to run"), POD_TIMEOUT, || has_running_pod(cluster, name))
}

fn has_running_pod(cluster: &Cluster, name: &str) -> Result<Check<()>> {
    let deployment = cluster.kubectl().get(&[&format!("deployment/{name}")])?;
    Ok(match deployment["status"]["availableReplicas"].as_u64() {
        Some(1) => Check::Passed(()),
        _ => Check::NotYet(deployment["status"].to_string()),
    })
}

fn assert_sees_only(cluster: &Cluster, name: &str) -> Result<()> {
    let names = cluster.kubectl().run(&["get", "deployments", "--output=name"])?;
    if names.trim() != format!("deployment.apps/{name}") {
        bail!("cluster {name} has the Deployments {names}");
    }
    Ok(())
}

fn removal_title(traces: &ClusterTraces) -> String {
    let (processes, mounts) = (traces.processes.len(), traces.mounts.len());
    format!("{processes} processes, {mounts} mounts, and all interfaces, cgroups and files are gone")
}

fn wait_for_removal(
    directories: &[ClusterDirectory],
    before: &BTreeSet<String>,
    traces: &ClusterTraces,
) -> Result<()> {
    wait::until("everything of the clusters to be gone", REMOVAL_TIMEOUT, || {
        let mut left: BTreeSet<String> =
            leftovers::visible_on_machine(directories)?.difference(before).cloned().collect();
        left.extend(traces.remaining());
        Ok(if left.is_empty() {
            Check::Passed(())
        } else {
            Check::NotYet(left.into_iter().collect::<Vec<_>>().join("\n"))
        })
    })
}
