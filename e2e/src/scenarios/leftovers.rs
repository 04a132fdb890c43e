//! What of a cluster can be seen on the machine: taken before and after, the two must be equal.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::cluster::cgroups;
use crate::cluster::state::State;

/// Directories of the machine in which container runtimes, kubelet or this program could leave something.
const DIRECTORIES: [&str; 9] = [
    "/etc/cni",
    "/run",
    "/run/netns",
    "/tmp",
    "/var/lib",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log",
    "/var/log/pods",
];

/// The machine as the namespaces of the machine itself see it.
pub(super) fn machine(clusters: &[State]) -> Result<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot list mounts")?;
    // The first two fields are numbers that say nothing about what is mounted.
    seen.extend(
        mounts.lines().map(|line| format!("mount {}", line.split(' ').skip(2).collect::<Vec<_>>().join(" "))),
    );
    seen.extend(names("/sys/class/net").map(|name| format!("interface {name}")));
    for directory in DIRECTORIES {
        seen.extend(names(directory).map(|name| format!("file {directory}/{name}")));
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

/// A process, told apart from a later one with the same number by when it started.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Process {
    pid: u32,
    started: String,
    name: String,
}

/// The supervisor of `cluster` with all its descendants, those in pods included.
pub(super) fn processes(cluster: &State) -> Result<BTreeSet<Process>> {
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
pub(super) fn alive(processes: &BTreeSet<Process>) -> BTreeSet<String> {
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
