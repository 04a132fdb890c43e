//! Where and of what a run was made: figures without it compare with nothing.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use certmint_local_cluster::components::KUBERNETES;
use certmint_local_cluster::images;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::wrk;

/// What a run's figures depend on.
#[derive(Debug, Serialize)]
pub(crate) struct Environment {
    /// When it began, RFC 3339.
    pub(crate) started: String,
    /// The commit, with `+` when files differ from it.
    pub(crate) commit: String,
    /// The processor.
    pub(crate) processor: String,
    /// How many of them.
    pub(crate) cores: usize,
    /// Memory in MiB.
    pub(crate) memory: u64,
    /// The kernel.
    pub(crate) kernel: String,
    /// The compiler.
    pub(crate) rustc: String,
    /// The load average of the minute before it began: figures of a busy machine are worse.
    pub(crate) load: String,
    /// The same at its end.
    pub(crate) load_at_end: String,
    /// The Kubernetes of the local clusters.
    pub(crate) kubernetes: &'static str,
    /// The load generator, where there is one.
    pub(crate) wrk: Option<String>,
    /// The profile that the measured images were built with, when they are not as they are released.
    pub(crate) image_profile: Option<String>,
    /// Whether this program was built without optimization.
    pub(crate) debug: bool,
    /// Whether it was a short run, whose figures are rough and not judged.
    pub(crate) quick: bool,
}

impl Environment {
    /// Of here and now.
    ///
    /// # Errors
    /// When a run is judged and what it would measure is not as it is released.
    pub(crate) fn observe(quick: bool) -> Result<Self> {
        let image_profile = std::env::var(images::PROFILE).ok();
        ensure!(
            quick || image_profile.is_none(),
            "{} is set, so that not what is released would be measured: unset it, or measure with --quick",
            images::PROFILE
        );
        let debug = cfg!(debug_assertions);
        ensure!(
            quick || !debug,
            "this program is a debug build, whose own rows are slow: measure with `cargo xtask bench`, or with --quick"
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

    /// Adds what is known at the run's end.
    ///
    /// # Errors
    /// When the sources have changed meanwhile.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.load_at_end = load();
        // On a new machine it was installed meanwhile.
        self.wrk = wrk::version();
        let now = commit();
        ensure!(
            now == self.commit,
            "the commit was {} and is {now} now, so that figures may be of either: measure again, and leave the sources alone meanwhile",
            self.commit
        );
        Ok(())
    }

    /// In one line.
    pub(crate) fn line(&self) -> String {
        let Self { commit, processor, cores, memory, kernel, rustc, load, load_at_end, kubernetes, .. } =
            self;
        let quick = if self.quick { "quick: figures are rough, and not judged; " } else { "" };
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

/// The commit, marked when files differ from it.
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
