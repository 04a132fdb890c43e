//! What of a cluster can be seen on the machine: taken before and after, the two must be equal.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Result;
use certmint_local_cluster::cluster::cgroups;
use certmint_local_cluster::cluster::state::State;

/// Where container runtimes, kubelet or this program could leave something on the machine. Others work on
/// it too, so that whole directories such as /tmp or /run tell nothing.
const PLACES: [&str; 12] = [
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

/// What can be seen of clusters on the machine without looking into their namespaces.
pub(super) fn machine(clusters: &[State]) -> Result<BTreeSet<String>> {
    let mut seen: BTreeSet<String> =
        names("/sys/class/net").map(|name| format!("interface {name}")).collect();
    for place in PLACES.iter().filter(|place| Path::new(place).exists()) {
        seen.insert(format!("file {place}"));
        seen.extend(names(place).map(|name| format!("file {place}/{name}")));
    }
    for state in clusters {
        seen.extend(
            cgroups::below(&state.cgroup())?.iter().map(|group| format!("cgroup {}", group.display())),
        );
        if state.directory().exists() {
            seen.insert(format!("file {}", state.directory().display()));
        }
    }
    Ok(seen)
}

/// What process `pid` (or `self`) sees mounted: device, path in it, where. See proc_pid_mountinfo(5).
pub(super) fn mounts(pid: &str) -> BTreeSet<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let mount = |line: &str| line.split(' ').skip(2).take(3).collect::<Vec<_>>().join(" ");
    table.lines().map(|line| format!("mount {}", mount(line))).collect()
}

/// A process, told apart from a later one with the same number by when it started.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Process {
    pid: u32,
    started: String,
    name: String,
}

/// What there was of running clusters that must be gone when they are.
#[derive(Debug, Default)]
pub(super) struct Traces {
    /// Every process, those in pods included.
    pub processes: BTreeSet<Process>,
    /// What any of them had mounted, and the machine had not.
    pub mounts: BTreeSet<String>,
}

/// The traces of running `clusters`.
pub(super) fn traces(clusters: &[State]) -> Result<Traces> {
    let mut traces = Traces::default();
    for cluster in clusters {
        traces.processes.extend(processes(cluster)?);
    }
    let of_machine = mounts("self");
    for process in &traces.processes {
        traces.mounts.extend(mounts(&process.pid.to_string()).difference(&of_machine).cloned());
    }
    Ok(traces)
}

impl Traces {
    /// Those that can still be seen on the machine.
    pub(super) fn remaining(&self) -> BTreeSet<String> {
        let mut remaining = alive(&self.processes);
        remaining.extend(mounts("self").intersection(&self.mounts).cloned());
        remaining
    }
}

/// The supervisor of `cluster` with all its descendants, those in pods included.
fn processes(cluster: &State) -> Result<BTreeSet<Process>> {
    let all: Vec<(u32, Process)> = pids().filter_map(read_process).collect();
    let namespaces = cluster.namespaces_of()?;
    let supervisor = all.iter().find(|(_, process)| process.pid == namespaces).map(|(parent, _)| *parent);
    let mut family: BTreeSet<u32> = supervisor.into_iter().collect();
    loop {
        let before = family.len();
        let children = all.iter().filter(|(parent, _)| family.contains(parent)).map(|(_, child)| child.pid);
        family.extend(children.collect::<Vec<_>>());
        if family.len() == before {
            break;
        }
    }
    Ok(all.into_iter().map(|(_, process)| process).filter(|process| family.contains(&process.pid)).collect())
}

/// Those of `processes` that still are.
fn alive(processes: &BTreeSet<Process>) -> BTreeSet<String> {
    processes
        .iter()
        .filter(|process| read_process(process.pid).is_some_and(|(_, now)| now == **process))
        .map(|process| format!("process {} {}", process.pid, process.name))
        .collect()
}

fn pids() -> impl Iterator<Item = u32> {
    names("/proc").filter_map(|name| name.parse().ok())
}

/// A process with its parent's pid. See proc_pid_stat(5): the name is in parentheses and may hold anything;
/// after it come the state, the parent and, as the twentieth, the start time.
fn read_process(pid: u32) -> Option<(u32, Process)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (start, fields) = stat.rsplit_once(") ")?;
    let name = start.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = fields.split(' ').collect();
    let parent = fields.get(1)?.parse().ok()?;
    Some((parent, Process { pid, started: (*fields.get(19)?).to_owned(), name }))
}

fn names(directory: impl AsRef<Path>) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_is_alive_and_an_ended_one_is_not() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (parent, process) = read_process(child.id()).unwrap();
        assert_eq!(parent, std::process::id());
        let family = BTreeSet::from([process]);
        assert_eq!(alive(&family).len(), 1);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(alive(&family), BTreeSet::new());
    }
}
