//! Conditions of a run, such as the commit and the machine. A reader needs them to compare the results of two runs.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use certmint_local_cluster::components::KUBERNETES;
use certmint_local_cluster::images;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::wrk;

/// Conditions that the results of a run depend on.
#[derive(Debug, Serialize)]
pub(crate) struct Environment {
    /// Start of the run, in RFC 3339.
    pub(crate) started: String,
    /// Commit, with `+` when files differ from it.
    pub(crate) commit: String,
    /// Model of the processor.
    pub(crate) processor: String,
    /// Number of processor cores.
    pub(crate) cores: usize,
    /// Memory in MiB.
    pub(crate) memory: u64,
    /// Version of the Linux kernel.
    pub(crate) kernel: String,
    /// Version of the compiler.
    pub(crate) rustc: String,
    /// Load average of the minute before the start. Results of a busy machine are worse.
    pub(crate) load: String,
    /// Load average of the minute before the end.
    pub(crate) load_at_end: String,
    /// Kubernetes version of the local clusters.
    pub(crate) kubernetes: &'static str,
    /// Version of wrk, if it is installed.
    pub(crate) wrk: Option<String>,
    /// Build profile of the measured images, if it is not the release profile.
    pub(crate) image_profile: Option<String>,
    /// Whether this program is a debug build.
    pub(crate) debug: bool,
    /// Whether the run is short. Its results are rough, and are not compared with targets.
    pub(crate) quick: bool,
}

impl Environment {
    /// Reads the current conditions.
    ///
    /// # Errors
    /// When the run is not short, but images or this program are not built like a release.
    pub(crate) fn observe(quick: bool) -> Result<Self> {
        let image_profile = std::env::var(images::PROFILE).ok();
        ensure!(
            quick || image_profile.is_none(),
            "{} is set, so the measured images would not be the released ones: unset it, or measure with --quick",
            images::PROFILE
        );
        let debug = cfg!(debug_assertions);
        ensure!(
            quick || !debug,
            "this program is a debug build, in which some rows are slow: measure with `cargo xtask bench`, or with --quick"
        );
        Ok(Self {
            started: OffsetDateTime::now_utc().truncate_to_second().format(&Rfc3339).unwrap_or_default(),
            commit: commit(),
            processor: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: field(&read("/proc/meminfo"), "MemTotal")
                .split_whitespace()
                .next()
                .and_then(|kib| kib.parse::<u64>().ok())
                .unwrap_or_default()
                / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            rustc: output("rustc", &["--version"]),
            load: load(),
            load_at_end: String::new(),
            kubernetes: KUBERNETES.version,
            wrk: wrk::version(),
            image_profile,
            debug,
            quick,
        })
    }

    /// Adds the conditions at the end of the run.
    ///
    /// # Errors
    /// When the sources have changed during the run.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.load_at_end = load();
        // On a new machine, wrk was installed during the run.
        self.wrk = wrk::version();
        let commit_at_end = commit();
        ensure!(
            commit_at_end == self.commit,
            "the commit was {} and is {commit_at_end} now, so the results may be of either: measure again, and do not change the sources during the run",
            self.commit
        );
        Ok(())
    }

    /// Returns the conditions in one line.
    pub(crate) fn line(&self) -> String {
        let Self { commit, processor, cores, memory, kernel, rustc, load, load_at_end, kubernetes, .. } =
            self;
        let quick = if self.quick { "quick: results are rough, and have no targets; " } else { "" };
        let debug = if self.debug { ", debug build" } else { "" };
        let end = if load_at_end.is_empty() { String::new() } else { format!(", {load_at_end} at the end") };
        let images = self.image_profile.as_ref().map(|profile| format!(", images by profile {profile}"));
        let wrk = self.wrk.as_ref().map(|version| format!(", {version}"));
        format!(
            "{quick}commit {commit}{debug}{}; {cores} x {processor}, {memory} MiB, Linux {kernel}, load {load} at the start{end}; {rustc}; Kubernetes {kubernetes}{}",
            images.unwrap_or_default(),
            wrk.unwrap_or_default(),
        )
    }
}

/// Returns the commit, with `+` when files differ from it.
fn commit() -> String {
    let changed = !output("git", &["status", "--porcelain"]).is_empty();
    output("git", &["rev-parse", "--short=12", "HEAD"]) + if changed { "+" } else { "" }
}

fn load() -> String {
    read("/proc/loadavg").split_whitespace().next().unwrap_or_default().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn field(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == name));
    line.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
