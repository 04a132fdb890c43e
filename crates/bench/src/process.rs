//! A process in a cluster, with the kernel's figures about its memory and processor time.

use anyhow::{Context as _, Result, bail, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::cluster::process::Memory;
use certmint_local_cluster::command;

/// Pattern of the controller's command line.
pub(crate) const CONTROLLER: &str = "^/certmint controller";
/// Pattern of the webhook's command line.
pub(crate) const WEBHOOK: &str = "^/certmint webhook";
/// Positions of user time and kernel time in `/proc/PID/stat`, counted from the field after the name.
const CPU_TIMES: [usize; 2] = [11, 12];
/// Position of the start time, counted in the same way.
const START_TIME: usize = 19;

/// A process, identified by its number within the cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process<'a> {
    cluster: &'a Cluster,
    pid: u32,
}

impl<'a> Process<'a> {
    /// Finds the only process whose command line matches `pattern`.
    pub(crate) fn only(cluster: &'a Cluster, pattern: &str) -> Result<Self> {
        match Self::all(cluster, pattern)?.as_slice() {
            [process] => Ok(*process),
            found => bail!("{} processes match {pattern}, exactly one is expected", found.len()),
        }
    }

    /// Finds the process of the pod `uid` whose command line matches `pattern`.
    pub(crate) fn of_pod(cluster: &'a Cluster, pattern: &str, uid: &str) -> Result<Self> {
        for process in Self::all(cluster, pattern)? {
            if process.read("cgroup")?.contains(uid) {
                return Ok(process);
            }
        }
        bail!("no process of pod {uid} matches {pattern}")
    }

    /// Finds every process whose command line matches `pattern`.
    pub(crate) fn all(cluster: &'a Cluster, pattern: &str) -> Result<Vec<Self>> {
        let found = command::output(cluster.command("pgrep").args(["--full", pattern]))?;
        found.split_whitespace().map(|pid| Ok(Self { cluster, pid: pid.parse()? })).collect()
    }

    /// Returns the number of the process within the cluster.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the user and kernel time so far, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64> {
        let stat = self.read("stat")?;
        CPU_TIMES.into_iter().map(|field| seconds(&stat, field)).sum()
    }

    /// Returns the processor time of a process with one thread, in finer steps than [`Self::cpu`].
    pub(crate) fn precise_cpu(&self) -> Result<f64> {
        let threads = self.cluster.process_status(&self.pid.to_string())?.number("Threads")?;
        ensure!(
            threads == 1,
            "process {} has {threads} threads, only one of them would be counted",
            self.pid
        );
        let statistics = self.read("schedstat")?;
        let nanoseconds = statistics.split_whitespace().next().context("an empty line")?;
        Ok(nanoseconds.parse::<f64>()? / 1e9)
    }

    /// Returns the resident memory (RSS) in MiB, including shared pages.
    pub(crate) fn rss(&self) -> Result<f64> {
        Ok(mib(self.memory()?.resident_kib))
    }

    /// Returns the resident memory and its peak.
    pub(crate) fn memory(&self) -> Result<Memory> {
        self.cluster.process_status(&self.pid.to_string())?.memory()
    }

    fn read(&self, file: &str) -> Result<String> {
        command::output(self.cluster.command("cat").arg(format!("/proc/{}/{file}", self.pid)))
    }
}

/// Returns the seconds that all processors together were busy since the machine started.
pub(crate) fn machine_cpu() -> Result<f64> {
    busy_seconds(&std::fs::read_to_string("/proc/stat")?)
}

/// Reads the first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal.
fn busy_seconds(stat: &str) -> Result<f64> {
    let ticks = stat
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("cpu "))
        .context("no line for all processors")?;
    let ticks: Vec<f64> = ticks.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [user, nice, system, _, _, interrupts @ ..] = ticks.as_slice() else { bail!("a short line") };
    let interrupts: f64 = interrupts.iter().take(2).sum();
    Ok((user + nice + system + interrupts) / rustix::param::clock_ticks_per_second() as f64)
}

/// Converts KiB to MiB.
pub(crate) fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// Returns the seconds from the machine's start to the start of the process, from `/proc/PID/stat`.
pub(crate) fn start_time(stat: &str) -> Result<f64> {
    seconds(stat, START_TIME)
}

/// Converts a field that counts clock ticks to seconds.
fn seconds(stat: &str, field: usize) -> Result<f64> {
    // The name is in parentheses and may contain spaces.
    let (_, fields) = stat.rsplit_once(')').context("no process name")?;
    let ticks: f64 = fields.split_whitespace().nth(field).context("a short line")?.parse()?;
    Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_stolen_time_is_not_counted() {
        let ticks = rustix::param::clock_ticks_per_second();
        let stat = format!("cpu  {ticks} 0 {ticks} 900 80 {ticks} 0 70 60 50\ncpu0 1 1 1 1\n");
        assert_eq!(busy_seconds(&stat).unwrap(), 3.0);
        assert!(busy_seconds("cpu0 1 2 3").is_err() && busy_seconds("cpu  1 2").is_err());
    }

    #[test]
    fn process_names_may_contain_parentheses() {
        let ticks = rustix::param::clock_ticks_per_second();
        // proc(5): pid, name, state, ppid, pgrp, session, tty, tpgid, flags, four counts of faults, utime, stime, …
        let stat = format!(
            "7 (a) b) S 1 7 7 0 -1 4194560 9 0 0 0 {} {ticks} 0 0 20 0 1 0 {} 1 2",
            2 * ticks,
            50 * ticks
        );
        assert_eq!(seconds(&stat, CPU_TIMES[0]).unwrap(), 2.0);
        assert_eq!(seconds(&stat, CPU_TIMES[1]).unwrap(), 1.0);
        assert_eq!(start_time(&stat).unwrap(), 50.0);
        assert!(seconds("7 (a) S 1", START_TIME).is_err());
    }
}
