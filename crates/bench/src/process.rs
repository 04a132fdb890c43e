//! A process in a cluster, as its kernel counts it.

use anyhow::{Context as _, Result, bail};
use certmint_e2e::cluster::Cluster;
use certmint_e2e::command;

/// A process, by its number within the cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process<'a> {
    cluster: &'a Cluster,
    pid: u32,
}

/// What a process holds, in MiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Now.
    pub(crate) rss: f64,
    /// The most since it started.
    pub(crate) peak: f64,
}

impl<'a> Process<'a> {
    /// The one process whose command line matches `pattern`.
    pub(crate) fn only(cluster: &'a Cluster, pattern: &str) -> Result<Self> {
        match Self::all(cluster, pattern)?.as_slice() {
            [one] => Ok(*one),
            found => bail!("{} processes match {pattern}, one is to be measured", found.len()),
        }
    }

    /// The process of that pod whose command line matches `pattern`.
    pub(crate) fn of_pod(cluster: &'a Cluster, pattern: &str, uid: &str) -> Result<Self> {
        for process in Self::all(cluster, pattern)? {
            if process.read("cgroup")?.contains(uid) {
                return Ok(process);
            }
        }
        bail!("no process of pod {uid} matches {pattern}")
    }

    /// Every process whose command line matches `pattern`.
    pub(crate) fn all(cluster: &'a Cluster, pattern: &str) -> Result<Vec<Self>> {
        let found = command::output(cluster.command("pgrep").args(["--full", pattern]))?;
        found.split_whitespace().map(|pid| Ok(Self { cluster, pid: pid.parse()? })).collect()
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Processor time so far, in seconds, of user and kernel.
    pub(crate) fn cpu(&self) -> Result<f64> {
        let stat = self.read("stat")?;
        // The name, in parentheses, may hold spaces.
        let fields: Vec<&str> =
            stat.rsplit_once(')').context("no process name")?.1.split_whitespace().collect();
        let ticks = |index: usize| -> Result<f64> { Ok(fields.get(index).context("a short line")?.parse()?) };
        Ok((ticks(11)? + ticks(12)?) / rustix::param::clock_ticks_per_second() as f64)
    }

    /// The same of a process with one thread, counted finer than in ticks.
    pub(crate) fn precise_cpu(&self) -> Result<f64> {
        let statistics = self.read("schedstat")?;
        let nanoseconds = statistics.split_whitespace().next().context("an empty line")?;
        Ok(nanoseconds.parse::<f64>()? / 1e9)
    }

    /// Memory that is its own or shared and in use now, in MiB.
    pub(crate) fn rss(&self) -> Result<f64> {
        self.status("VmRSS")
    }

    /// The most of that there ever was, in MiB.
    pub(crate) fn peak_rss(&self) -> Result<f64> {
        self.status("VmHWM")
    }

    /// Both.
    pub(crate) fn memory(&self) -> Result<Memory> {
        Ok(Memory { rss: self.rss()?, peak: self.peak_rss()? })
    }

    fn status(&self, field: &str) -> Result<f64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.with_context(|| format!("no {field}"))?.parse::<f64>()? / 1024.0)
    }

    fn read(&self, file: &str) -> Result<String> {
        command::output(self.cluster.command("cat").arg(format!("/proc/{}/{file}", self.pid)))
    }
}
