//! Processes of a local cluster's containers. Scenarios stop, continue or kill them, and read their memory.

use std::fmt;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Cluster, node};
use crate::command;

/// Signal to a process, see signal(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Stops the process until [`Self::Continue`].
    Stop,
    /// Continues a stopped process.
    Continue,
    /// Kills the process. The process cannot handle this signal.
    Kill,
}

/// Memory of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Current resident memory in KiB, `VmRSS`.
    pub resident_kib: u64,
    /// Peak of the resident memory in KiB, `VmHWM`, since the start or [`Cluster::reset_peak_memory`].
    pub peak_kib: u64,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resident_kib, peak_kib } = self;
        write!(f, "{resident_kib} KiB of memory, peak {peak_kib} KiB")
    }
}

/// Content of `/proc/PID/status`.
#[derive(Debug, Clone)]
pub struct ProcessStatus(String);

impl ProcessStatus {
    /// Returns the number in the field `name`, in KiB if the field has a unit.
    ///
    /// # Errors
    /// When the field does not exist.
    pub fn number(&self, name: &str) -> Result<u64> {
        let value = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
        number.with_context(|| format!("the process status has no field {name}"))
    }

    /// Returns the memory of the process.
    ///
    /// # Errors
    /// When the process has ended, because its memory is released then.
    pub fn memory(&self) -> Result<Memory> {
        Ok(Memory { resident_kib: self.number("VmRSS")?, peak_kib: self.number("VmHWM")? })
    }
}

impl Cluster {
    /// Reads the status of the process with the number `pid` in the cluster.
    ///
    /// # Errors
    /// When the process does not exist.
    pub fn process_status(&self, pid: &str) -> Result<ProcessStatus> {
        command::output(self.command("cat").arg(format!("/proc/{pid}/status"))).map(ProcessStatus)
    }

    /// Returns the memory of the first process in a pod's container.
    ///
    /// # Errors
    /// When the cluster is not a local one, or the container does not run.
    pub fn memory(&self, pod: &Value, container: &str) -> Result<Memory> {
        self.process_status(&self.process_of(pod, container)?)?.memory()
    }

    /// Sets the peak memory of the first process in a pod's container to its current memory, so that [`Self::memory`]
    /// then returns the peak since this call.
    ///
    /// # Errors
    /// When the cluster is not a local one, or the container does not run.
    pub fn reset_peak_memory(&self, pod: &Value, container: &str) -> Result<()> {
        let pid = self.process_of(pod, container)?;
        // See proc_pid_clear_refs(5): 5 resets the field VmHWM.
        command::output(self.command("sh").args(["-c", &format!("echo 5 > /proc/{pid}/clear_refs")]))
            .map(drop)
    }

    /// Sends a signal to the first process in a pod's container.
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

    /// Reads the log of a pod's container from the node's disk. Works also while the API server is down.
    ///
    /// # Errors
    /// When the cluster is not a local one, or the container has not written a log.
    pub fn log_on_node(&self, pod: &Value, container: &str) -> Result<String> {
        self.directory()?;
        let metadata = &pod["metadata"];
        let part = |key: &str| metadata[key].as_str().unwrap_or_default();
        let directory =
            format!("/var/log/pods/{}_{}_{}/{container}", part("namespace"), part("name"), part("uid"));
        command::output(self.command("sh").args(["-c", &format!("cat {directory}/*.log")]))
    }

    fn process_of(&self, pod: &Value, container: &str) -> Result<String> {
        self.directory()?;
        let statuses = ["containerStatuses", "initContainerStatuses"];
        let mut all_statuses =
            statuses.iter().flat_map(|list| pod["status"][list].as_array().into_iter().flatten());
        let status = all_statuses.find(|status| status["name"] == container);
        let id = status.and_then(|status| status["containerID"].as_str()?.strip_prefix("containerd://"));
        let id = id.with_context(|| format!("{} has no container {container}", pod["metadata"]["name"]))?;
        let mut ctr = self.command("ctr");
        ctr.args(["--address", node::RUNTIME_SOCKET, "--namespace=k8s.io", "tasks", "list"]);
        let tasks = command::output(&mut ctr)?;
        // The columns are TASK, PID and STATUS.
        let running = tasks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut tasks_of_container =
            running.filter(|task| matches!(task[..], [task, _, status] if task == id && status != "STOPPED"));
        let pid = tasks_of_container.find_map(|task| task.get(1).map(|pid| (*pid).to_owned()));
        pid.with_context(|| format!("container {container} of {} does not run", pod["metadata"]["name"]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_numbers_may_have_a_unit() {
        let status =
            ProcessStatus("Name:\tcertmint\nVmHWM:\t    9200 kB\nVmRSS:\t    8100 kB\nThreads:\t1\n".into());
        assert_eq!(status.memory().unwrap(), Memory { resident_kib: 8100, peak_kib: 9200 });
        assert_eq!(status.number("Threads").unwrap(), 1);
        assert!(status.number("Thread").is_err());
    }
}
