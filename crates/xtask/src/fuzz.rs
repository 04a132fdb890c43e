//! `cargo xtask fuzz`: tests parsers and the webhook with generated inputs.
//!
//! The targets are in `fuzz/`. cargo-fuzz builds them without a sanitizer, so that the project's own toolchain
//! can build them. A sanitizer would find nothing, because Certmint has no unsafe code.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::{command, progress, repository, tools};

/// Version of cargo-fuzz, which is built once into the cache.
const CARGO_FUZZ: &str = "0.13.2";
/// Build target of the fuzz targets.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";
/// Limit of an input in bytes. Real inputs are objects or files of a few kilobytes; longer ones only slow the
/// search down.
const MAX_INPUT_BYTES: u32 = 64 * 1024;
/// Limit of the time for one input. A longer time is a finding.
const MAX_SECONDS_PER_INPUT: u32 = 10;
/// Limit of the memory of a fuzz target, in MB. More memory is a finding.
const MAX_MEGABYTES: u32 = 1024;

/// Fuzz targets, and the time for each.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u32,
    /// Run only these targets of fuzz/fuzz_targets.
    pub(crate) targets: Vec<String>,
}

/// Runs each target for its time, and returns the number of targets.
pub(crate) fn run(cache: &Cache, arguments: &Arguments) -> Result<usize> {
    let Arguments { seconds, targets } = arguments;
    let targets = select_targets(targets)?;
    let programs = progress::step("building the fuzz targets", || build(cache))?;
    for target in &targets {
        let mut executed = String::new();
        progress::step(&format!("fuzzing {target}"), || {
            executed = fuzz(cache, &programs, target, *seconds)?;
            Ok(())
        })?;
        progress::note(&format!("  {executed} inputs"));
    }
    Ok(targets.len())
}

fn select_targets(names: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder().join("fuzz_targets")).context("cannot list fuzz/fuzz_targets")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        all.extend(name.strip_suffix(".rs").map(|name| name.replace('_', "-")));
    }
    all.sort();
    if let Some(unknown) = names.iter().find(|name| !all.contains(name)) {
        bail!("unknown fuzz target {unknown}; the targets are: {}", all.join(", "));
    }
    Ok(if names.is_empty() { all } else { names.to_vec() })
}

/// Builds all targets, and returns the directory of their programs.
fn build(cache: &Cache) -> Result<PathBuf> {
    let cargo_fuzz = tools::build_tool(cache, "cargo-fuzz", CARGO_FUZZ, &[])?;
    // Instrumented code needs a target directory of its own.
    let target_dir = cache.path("target/fuzz");
    let mut build = Command::new(cargo_fuzz);
    build.args(["fuzz", "build", "--sanitizer=none", "--target", PLATFORM, "--fuzz-dir"]).arg(folder());
    command::output(build.arg("--target-dir").arg(&target_dir).current_dir(folder()))?;
    Ok(target_dir.join(PLATFORM).join("release"))
}

/// Runs one target, starting with its seeds and the inputs that earlier runs kept. Returns the number of inputs.
fn fuzz(cache: &Cache, programs: &Path, target: &str, seconds: u32) -> Result<String> {
    let (corpus, artifacts) = (cache.path("fuzz").join(target), folder().join("artifacts").join(target));
    for directory in [&corpus, &artifacts] {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let log = cache.path("fuzz").join(format!("{target}.log"));
    let mut program = Command::new(programs.join(target));
    program
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={MAX_INPUT_BYTES}"))
        .arg(format!("-timeout={MAX_SECONDS_PER_INPUT}"))
        .arg(format!("-rss_limit_mb={MAX_MEGABYTES}"))
        .arg(format!("-dict={}", folder().join("dictionaries").join(format!("{target}.dict")).display()))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1")
        .args([corpus, folder().join("seeds").join(target)])
        .stderr(fs::File::create(&log).with_context(|| format!("cannot create {}", log.display()))?);
    let succeeded = program.status().context("cannot start the fuzz target")?.success();
    let output = fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())?;
    if !succeeded {
        let finding = output.lines().skip_while(|line| !line.contains("panicked") && !line.starts_with("=="));
        let finding: Vec<&str> = finding.take(20).collect();
        bail!("{target} has a finding; the input is in {}\n{}", artifacts.display(), finding.join("\n"));
    }
    let executed = output.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    Ok(executed.context("the output of the fuzz target has no number of inputs")?.trim().to_owned())
}

fn folder() -> PathBuf {
    repository::root().join("fuzz")
}
