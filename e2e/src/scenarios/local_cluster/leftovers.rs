//! Leftovers of a cluster on the machine: processes, mounts, network interfaces, cgroups and files. The scenario
//! `side-by-side` asserts that there are none.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Result;
use certmint_local_cluster::cluster::cgroups;
use certmint_local_cluster::cluster::directory::ClusterDirectory;

/// Directories in which container runtimes, the kubelet or this program could leave files. Directories that other
/// programs use too, such as /tmp and /run, cannot be compared.
const DIRECTORIES: [&str; 12] = [
    "/etc/cni",
    "/run/certmint",
    "/run/cluster",
    "/run/cni",
    "/run/containerd",
    "/run/netns",
    "/run/runc",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
];

/// Returns everything that clusters could have left on the machine, as far as it is visible outside their namespaces.
pub(super) fn visible_on_machine(clusters: &[ClusterDirectory]) -> Result<BTreeSet<String>> {
    let mut seen: BTreeSet<String> =
        names("/sys/class/net").map(|name| format!("interface {name}")).collect();
    for directory in DIRECTORIES.iter().filter(|directory| Path::new(directory).exists()) {
        seen.insert(format!("file {directory}"));
        seen.extend(names(directory).map(|name| format!("file {directory}/{name}")));
    }
    for directory in clusters {
        seen.extend(
            cgroups::groups(&directory.cgroup())?.iter().map(|group| format!("cgroup {}", group.display())),
        );
        if directory.root().exists() {
            seen.insert(format!("file {}", directory.root().display()));
        }
    }
    Ok(seen)
}

/// Returns the mounts that process `pid` (or `self`) sees: device, path on it, mount point. See
/// proc_pid_mountinfo(5).
pub(super) fn mounts(pid: &str) -> BTreeSet<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let mount = |line: &str| line.split(' ').skip(2).take(3).collect::<Vec<_>>().join(" ");
    table.lines().map(|line| format!("mount {}", mount(line))).collect()
}

/// A process. Its start time distinguishes it from a later process with the same number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RunningProcess {
    pid: u32,
    started: String,
    name: String,
}

/// Processes and mounts of running clusters, all of which must be gone when the clusters have ended.
#[derive(Debug, Default)]
pub(super) struct ClusterTraces {
    /// All processes, including those in pods.
    pub processes: BTreeSet<RunningProcess>,
    /// All mounts of these processes that the machine does not have.
    pub mounts: BTreeSet<String>,
}

/// Returns the traces of running `clusters`.
pub(super) fn traces(clusters: &[ClusterDirectory]) -> Result<ClusterTraces> {
    let mut traces = ClusterTraces::default();
    for cluster in clusters {
        traces.processes.extend(processes(cluster)?);
    }
    let of_machine = mounts("self");
    for process in &traces.processes {
        traces.mounts.extend(mounts(&process.pid.to_string()).difference(&of_machine).cloned());
    }
    Ok(traces)
}

impl ClusterTraces {
    /// Returns the traces that are still visible on the machine.
    pub(super) fn remaining(&self) -> BTreeSet<String> {
        let mut remaining = still_running(&self.processes);
        remaining.extend(mounts("self").intersection(&self.mounts).cloned());
        remaining
    }
}

/// Returns the supervisor of `cluster` and all its descendants, including those in pods.
fn processes(cluster: &ClusterDirectory) -> Result<BTreeSet<RunningProcess>> {
    let all: Vec<(u32, RunningProcess)> = pids().filter_map(read_process).collect();
    let unshare_pid = cluster.unshare_pid()?;
    let supervisor = all.iter().find(|(_, process)| process.pid == unshare_pid).map(|(parent, _)| *parent);
    let mut descendants: BTreeSet<u32> = supervisor.into_iter().collect();
    // Each round adds the children of the known processes, until there are no more.
    loop {
        let before = descendants.len();
        let children =
            all.iter().filter(|(parent, _)| descendants.contains(parent)).map(|(_, child)| child.pid);
        descendants.extend(children.collect::<Vec<_>>());
        if descendants.len() == before {
            break;
        }
    }
    Ok(all
        .into_iter()
        .map(|(_, process)| process)
        .filter(|process| descendants.contains(&process.pid))
        .collect())
}

/// Returns those of `processes` that still run.
fn still_running(processes: &BTreeSet<RunningProcess>) -> BTreeSet<String> {
    processes
        .iter()
        .filter(|process| read_process(process.pid).is_some_and(|(_, now)| now == **process))
        .map(|process| format!("process {} {}", process.pid, process.name))
        .collect()
}

fn pids() -> impl Iterator<Item = u32> {
    names("/proc").filter_map(|name| name.parse().ok())
}

/// Returns a process and the number of its parent.
///
/// See proc_pid_stat(5): the name is in parentheses and can contain any character. Of the fields after the name, the
/// first is the state, the second the parent, and the twentieth the start time.
fn read_process(pid: u32) -> Option<(u32, RunningProcess)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (start, fields) = stat.rsplit_once(") ")?;
    let name = start.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = fields.split(' ').collect();
    let parent = fields.get(1)?.parse().ok()?;
    Some((parent, RunningProcess { pid, started: (*fields.get(19)?).to_owned(), name }))
}

fn names(directory: impl AsRef<Path>) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_still_running_until_it_has_ended() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (parent, process) = read_process(child.id()).unwrap();
        assert_eq!(parent, std::process::id());
        let descendants = BTreeSet::from([process]);
        assert_eq!(still_running(&descendants).len(), 1);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(still_running(&descendants), BTreeSet::new());
    }
}
