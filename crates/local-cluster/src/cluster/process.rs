//! The processes of a local cluster's containers: a scenario stops one, lets it go on, or kills it.

use std::fmt;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Cluster, node};
use crate::command;

/// What a process is sent, see signal(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// It stands still, until [`Self::Continue`].
    Stop,
    /// It goes on where it stood.
    Continue,
    /// It ends, and cannot do anything about it.
    Kill,
}

/// What a process holds of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Now, `VmRSS`.
    pub resident_kib: u64,
    /// At most since it began, `VmHWM`.
    pub peak_kib: u64,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resident_kib, peak_kib } = self;
        write!(f, "{resident_kib} KiB of memory, at most {peak_kib}")
    }
}

/// `/proc/PID/status`, as it was once.
#[derive(Debug, Clone)]
pub struct Status(String);

impl Status {
    /// A field that is a number, in KiB where it has a unit.
    ///
    /// # Errors
    /// When there is no such field.
    pub fn number(&self, name: &str) -> Result<u64> {
        let value = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
        number.with_context(|| format!("the process has no {name}"))
    }

    /// What the process holds of memory.
    ///
    /// # Errors
    /// When it has ended: its memory is gone then.
    pub fn memory(&self) -> Result<Memory> {
        Ok(Memory { resident_kib: self.number("VmRSS")?, peak_kib: self.number("VmHWM")? })
    }
}

impl Cluster {
    /// What the kernel says of a process, by its number in the cluster.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn process_status(&self, pid: &str) -> Result<Status> {
        command::output(self.command("cat").arg(format!("/proc/{pid}/status"))).map(Status)
    }

    /// What the first process of a pod's container holds of memory.
    ///
    /// # Errors
    /// When the cluster is not a local one, or the container does not run.
    pub fn memory(&self, pod: &Value, container: &str) -> Result<Memory> {
        self.process_status(&self.process_of(pod, container)?)?.memory()
    }

    /// Signals the first process of a pod's container.
    ///
    /// # Errors
    /// When the cluster is not a local one, or the container does not run.
    pub fn signal(&self, pod: &Value, container: &str, signal: Signal) -> Result<()> {
        let pid = self.process_of(pod, container)?;
        let name = match signal {
            Signal::Stop => "-STOP",
            Signal::Continue => "-CONT",
            Signal::Kill => "-KILL",
        };
        command::output(self.command("kill").args([name, &pid])).map(drop)
    }

    /// What a pod's container has written, read from the node's disk: also while there is no API server.
    ///
    /// # Errors
    /// When the cluster is not a local one, or the container has written nothing yet.
    pub fn log_on_node(&self, pod: &Value, container: &str) -> Result<String> {
        self.state()?;
        let metadata = &pod["metadata"];
        let part = |key: &str| metadata[key].as_str().unwrap_or_default();
        let directory =
            format!("/var/log/pods/{}_{}_{}/{container}", part("namespace"), part("name"), part("uid"));
        command::output(self.command("sh").args(["-c", &format!("cat {directory}/*.log")]))
    }

    fn process_of(&self, pod: &Value, container: &str) -> Result<String> {
        self.state()?;
        let statuses = ["containerStatuses", "initContainerStatuses"];
        let mut all = statuses.iter().flat_map(|list| pod["status"][list].as_array().into_iter().flatten());
        let status = all.find(|status| status["name"] == container);
        let id = status.and_then(|status| status["containerID"].as_str()?.strip_prefix("containerd://"));
        let id = id.with_context(|| format!("{} has no container {container}", pod["metadata"]["name"]))?;
        let mut ctr = self.command("ctr");
        ctr.args(["--address", node::RUNTIME_SOCKET, "--namespace=k8s.io", "tasks", "list"]);
        let tasks = command::output(&mut ctr)?;
        // TASK PID STATUS
        let running = tasks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut of_it =
            running.filter(|task| matches!(task[..], [task, _, status] if task == id && status != "STOPPED"));
        let pid = of_it.find_map(|task| task.get(1).map(|pid| (*pid).to_owned()));
        pid.with_context(|| format!("container {container} of {} does not run", pod["metadata"]["name"]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_with_and_without_a_unit() {
        let status =
            Status("Name:\tcertmint\nVmHWM:\t    9200 kB\nVmRSS:\t    8100 kB\nThreads:\t1\n".into());
        assert_eq!(status.memory().unwrap(), Memory { resident_kib: 8100, peak_kib: 9200 });
        assert_eq!(status.number("Threads").unwrap(), 1);
        assert!(status.number("Thread").is_err());
    }
}
