//! `cargo xtask fuzz`: parsers and the webhook on inputs that nobody thought of.
//!
//! The targets stand in `fuzz/`. They are built by cargo-fuzz without a sanitizer: our code has no unsafe part, so
//! there is nothing for one to see, and without one the project's own toolchain can build them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::{command, progress, repository, tools};

/// The version of cargo-fuzz; it is built once into the cache.
const CARGO_FUZZ: &str = "0.13.2";
/// What cargo-fuzz builds for by default.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";
/// An input is an object or a file of at most some kilobytes; longer ones only slow the search down.
const LONGEST_INPUT: u32 = 64 * 1024;
/// A single input that takes longer is a finding.
const SECONDS_PER_INPUT: u32 = 10;
/// A target that holds more memory is a finding.
const MEGABYTES: u32 = 1024;

/// What to fuzz and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u32,
    /// Only these targets, of those in fuzz/fuzz_targets.
    pub(crate) targets: Vec<String>,
}

/// Runs each target for its time, and returns how many there were.
pub(crate) fn run(cache: &Cache, arguments: &Arguments) -> Result<usize> {
    let Arguments { seconds, targets } = arguments;
    let targets = chosen(targets)?;
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

fn chosen(names: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder().join("fuzz_targets")).context("cannot list fuzz/fuzz_targets")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        all.extend(name.strip_suffix(".rs").map(|name| name.replace('_', "-")));
    }
    all.sort();
    if let Some(unknown) = names.iter().find(|name| !all.contains(name)) {
        bail!("there is no fuzz target {unknown}; there are: {}", all.join(", "));
    }
    Ok(if names.is_empty() { all } else { names.to_vec() })
}

/// Builds all targets, and returns the directory of their programs.
fn build(cache: &Cache) -> Result<PathBuf> {
    let cargo_fuzz = tools::tool(cache, "cargo-fuzz", CARGO_FUZZ, &[])?;
    // Instrumented code is kept apart from everything else.
    let target_dir = cache.path("target/fuzz");
    let mut build = Command::new(cargo_fuzz);
    build.args(["fuzz", "build", "--sanitizer=none", "--target", PLATFORM, "--fuzz-dir"]).arg(folder());
    command::output(build.arg("--target-dir").arg(&target_dir).current_dir(folder()))?;
    Ok(target_dir.join(PLATFORM).join("release"))
}

/// Fuzzes one target, beginning with its seeds and what earlier runs found worth keeping, and returns how many
/// inputs were tried.
fn fuzz(cache: &Cache, programs: &Path, target: &str, seconds: u32) -> Result<String> {
    let (corpus, artifacts) = (cache.path("fuzz").join(target), folder().join("artifacts").join(target));
    for directory in [&corpus, &artifacts] {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let log = cache.path("fuzz").join(format!("{target}.log"));
    let mut program = Command::new(programs.join(target));
    program
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={LONGEST_INPUT}"))
        .arg(format!("-timeout={SECONDS_PER_INPUT}"))
        .arg(format!("-rss_limit_mb={MEGABYTES}"))
        .arg(format!("-dict={}", folder().join("dictionaries").join(format!("{target}.dict")).display()))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1")
        .args([corpus, folder().join("seeds").join(target)])
        .stderr(fs::File::create(&log).with_context(|| format!("cannot make {}", log.display()))?);
    let succeeded = program.status().context("cannot start the fuzz target")?.success();
    let said = fs::read(&log).map(|said| String::from_utf8_lossy(&said).into_owned())?;
    if !succeeded {
        let finding = said.lines().skip_while(|line| !line.contains("panicked") && !line.starts_with("=="));
        let finding: Vec<&str> = finding.take(20).collect();
        bail!("{target} has a finding; the input is in {}\n{}", artifacts.display(), finding.join("\n"));
    }
    let executed = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    Ok(executed.context("the fuzz target did not say how many inputs it tried")?.trim().to_owned())
}

fn folder() -> PathBuf {
    repository::root().join("fuzz")
}
