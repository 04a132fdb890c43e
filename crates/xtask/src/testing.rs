//! `cargo xtask test`: all tests, the quick ones first.

use std::io::{BufRead as _, BufReader};
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};
use certmint_docs_tests::reference;
use certmint_e2e::scenarios::{self, TestCounts};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::cluster::{Cluster, ClusterOptions};
use certmint_local_cluster::progress::{self, human};
use certmint_local_cluster::{machine, tools};

use crate::{bench, checks, fuzz};

/// Seconds for each fuzz target: enough for the seeds, the inputs that earlier runs kept, and some new ones.
const FUZZ_SECONDS: u32 = 5;

/// Number of scenarios that run at the same time, each on a cluster of its own.
const CLUSTERS: usize = 2;

/// Tests to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Stop before the tests that need a cluster.
    #[arg(long, conflicts_with = "scenarios")]
    fast: bool,
    /// Run the scenarios on the existing cluster with this kubectl context.
    #[arg(long)]
    context: Option<String>,
    /// Registry that the existing cluster pulls images from; Certmint's images are pushed there.
    #[arg(long, requires = "context")]
    registry: Option<String>,
    /// Run only these scenarios.
    scenarios: Vec<String>,
}

/// Runs the tests, and prints the number of passed and failed tests in the last line.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let start = Instant::now();
    let mut counts = TestCounts::default();
    if let Err(error) = run_tests(arguments, &mut counts) {
        eprintln!("error: {error:#}");
        counts.failed += 1;
    }
    progress::heading(&format!("took {}", human(start.elapsed())));
    println!("{} passed, {} failed", counts.passed, counts.failed);
    if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_tests(arguments: &Arguments, counts: &mut TestCounts) -> Result<()> {
    let Arguments { fast, context, registry, scenarios: names } = arguments;
    let selected = scenarios::select(names)?;
    let cache = Cache::open()?;
    if !fast && context.is_none() {
        // Without root, the command fails at once, not after minutes of other tests.
        machine::require_root()?;
    }
    if names.is_empty() {
        progress::heading("static checks");
        checks::run(&cache)?;
        progress::heading("unit and property tests");
        *counts = counts.and(unit_tests(&cache)?);
        progress::heading("chart");
        counts.passed += progress::step("lint and templates", || certmint_chart_tests::run_offline(&cache))?;
        progress::heading("reference");
        counts.passed += reference::check(&cache)?;
        progress::heading("fuzzing");
        counts.passed += fuzz::run(&cache, &fuzz::Arguments { seconds: FUZZ_SECONDS, targets: Vec::new() })?;
    }
    if !fast {
        progress::heading("cluster");
        let clusters = match context {
            Some(context) => vec![Cluster::existing(&cache, Some(context), registry.as_deref())?],
            None => local_clusters(&cache, selected.len())?,
        };
        *counts = counts.and(scenarios::run(&clusters, &selected));
        clusters.into_iter().try_for_each(Cluster::stop)?;
    }
    if !fast && names.is_empty() && context.is_none() {
        // The benchmarks run last and alone, because they and the tests would disturb each other.
        progress::heading("bench");
        bench::smoke(&cache)?;
        counts.passed += 1;
    }
    Ok(())
}

/// Starts one local cluster for each scenario that runs at the same time. Scenarios mostly wait, so one machine can
/// run two clusters.
fn local_clusters(cache: &Cache, scenarios: usize) -> Result<Vec<Cluster>> {
    let letters = ('a'..).take(scenarios.min(CLUSTERS));
    let name = |letter| format!("test-{}-{letter}", std::process::id());
    letters
        .map(|letter| {
            Cluster::start(cache, &ClusterOptions { name: name(letter), control_plane_only: false })
        })
        .collect()
}

/// Runs cargo's tests, prints their output, and counts them.
fn unit_tests(cache: &Cache) -> Result<TestCounts> {
    let mut cargo = tools::cargo(cache, &["test", "--workspace", "--quiet", "--no-fail-fast"]);
    let mut child = cargo.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let mut counts = TestCounts::default();
    for line in BufReader::new(child.stdout.take().context("cargo has no output")?).lines() {
        let line = line?;
        println!("{line}");
        counts = counts.and(parse_counts(&line));
    }
    if !child.wait()?.success() && counts.failed == 0 {
        // A compilation error counts as one failure.
        counts.failed = 1;
    }
    Ok(counts)
}

/// Reads the counts from a line of cargo's output: `test result: ok. 3 passed; 0 failed; …`.
fn parse_counts(line: &str) -> TestCounts {
    let Some(counts) = line.strip_prefix("test result: ") else {
        return TestCounts::default();
    };
    let count = |what: &str| {
        let words: Vec<&str> = counts.split([' ', ';']).filter(|word| !word.is_empty()).collect();
        words.windows(2).find_map(|pair| match pair {
            [number, word] if *word == what => number.parse().ok(),
            _ => None,
        })
    };
    TestCounts { passed: count("passed").unwrap_or_default(), failed: count("failed").unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_cargo_are_parsed() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(parse_counts(line), TestCounts { passed: 12, failed: 3 });
        assert_eq!(parse_counts("running 12 tests"), TestCounts::default());
    }
}
