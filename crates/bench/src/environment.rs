//! Where and of what a run was made: figures without it compare with nothing.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use certmint_e2e::components::KUBERNETES;
use certmint_e2e::images;
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
    /// The load average of the last minute: figures of a busy machine are worse.
    pub(crate) load: String,
    /// The Kubernetes of the local clusters.
    pub(crate) kubernetes: &'static str,
    /// The load generator, where there is one.
    pub(crate) wrk: Option<String>,
    /// The profile that the measured images were built with, when they are not as they are released.
    pub(crate) image_profile: Option<String>,
    /// Whether it was a short run, whose figures are rough and not judged.
    pub(crate) quick: bool,
}

impl Environment {
    /// Of here and now.
    ///
    /// # Errors
    /// When images other than the released ones are chosen for a run that is judged.
    pub(crate) fn observe(quick: bool) -> Result<Self> {
        let image_profile = std::env::var(images::PROFILE).ok();
        ensure!(
            quick || image_profile.is_none(),
            "{} is set, so that not what is released would be measured: unset it, or measure with --quick",
            images::PROFILE
        );
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let changed = !output("git", &["status", "--porcelain"]).is_empty();
        let commit = output("git", &["rev-parse", "--short=12", "HEAD"]);
        Ok(Self {
            started: OffsetDateTime::now_utc().truncate_to_second().format(&Rfc3339).unwrap_or_default(),
            commit: if changed { commit + "+" } else { commit },
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
            load: read("/proc/loadavg").split_whitespace().next().unwrap_or_default().to_owned(),
            kubernetes: KUBERNETES.version,
            wrk: wrk::version(),
            image_profile,
            quick,
        })
    }

    /// In one line.
    pub(crate) fn line(&self) -> String {
        let Self { commit, processor, cores, memory, kernel, rustc, load, kubernetes, .. } = self;
        let quick = if self.quick { "quick: figures are rough, and not judged; " } else { "" };
        let images = self.image_profile.as_ref().map(|profile| format!(", images by profile {profile}"));
        let wrk = self.wrk.as_ref().map(|version| format!(", {version}"));
        format!(
            "{quick}commit {commit}{}; {cores} x {processor}, {memory} MiB, Linux {kernel}, load {load} at the start; {rustc}; Kubernetes {kubernetes}{}",
            images.unwrap_or_default(),
            wrk.unwrap_or_default(),
        )
    }
}

fn field(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == name));
    line.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
