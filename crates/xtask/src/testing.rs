//! `cargo xtask test`: all tests, the quick ones first.

use std::io::{BufRead as _, BufReader};
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};
use certmint_docs_tests::reference;
use certmint_e2e::matrix;
use certmint_e2e::scenarios::{self, TestResults};
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

/// Runs the tests. The last lines of the output are the failures and the number of passed and failed tests.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let start = Instant::now();
    let mut results = TestResults::default();
    if let Err(error) = run_tests(arguments, &mut results) {
        results.failures.push(format!("error: {error:#}"));
    }
    progress::heading(&format!("took {}", human(start.elapsed())));
    let TestResults { passed, failures } = results;
    failures.iter().for_each(|failure| println!("{failure}"));
    println!("{passed} passed, {} failed", failures.len());
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_tests(arguments: &Arguments, results: &mut TestResults) -> Result<()> {
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
        results.add(unit_tests(&cache)?);
        progress::heading("chart");
        results.passed += progress::step("lint and templates", || certmint_chart_tests::run_offline(&cache))?;
        progress::heading("reference");
        results.passed += reference::check(&cache)?;
        progress::heading("fuzzing");
        results.passed += fuzz::run(&cache, &fuzz::Arguments { seconds: FUZZ_SECONDS, targets: Vec::new() })?;
    }
    if !fast && names.is_empty() && context.is_none() {
        progress::heading("trust matrix");
        match matrix::run(&cache, false) {
            Ok(passed) => results.passed += passed,
            Err(error) => {
                let error = format!("FAILED trust matrix: {error:#}");
                progress::note(&error);
                results.failures.extend(error.lines().next().map(str::to_owned));
            }
        }
    }
    if !fast {
        progress::heading("cluster");
        let clusters = match context {
            Some(context) => vec![Cluster::existing(&cache, Some(context), registry.as_deref())?],
            None => local_clusters(&cache, selected.len())?,
        };
        results.add(scenarios::run(&clusters, &selected));
        clusters.into_iter().try_for_each(Cluster::stop)?;
    }
    if !fast && names.is_empty() && context.is_none() {
        // The benchmarks run last and alone, because they and the tests would disturb each other.
        progress::heading("bench");
        bench::smoke(&cache)?;
        results.passed += 1;
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
fn unit_tests(cache: &Cache) -> Result<TestResults> {
    let mut cargo = tools::cargo(cache, &["test", "--workspace", "--quiet", "--no-fail-fast"]);
    let mut child = cargo.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let mut results = TestResults::default();
    for line in BufReader::new(child.stdout.take().context("cargo has no output")?).lines() {
        let line = line?;
        println!("{line}");
        results.add(parse_results(&line));
    }
    if !child.wait()?.success() && results.failures.is_empty() {
        results.failures.push("FAILED to compile the tests; the errors are above".to_owned());
    }
    Ok(results)
}

/// Reads results from a line of cargo's output: `test result: ok. 3 passed; 0 failed; …`, or the name of a failed test,
/// `certificates::expired --- FAILED`.
fn parse_results(line: &str) -> TestResults {
    if let Some(name) = line.strip_suffix(" --- FAILED") {
        return TestResults::failure(format!("FAILED {name}; its message is above"));
    }
    let Some(counts) = line.strip_prefix("test result: ") else {
        return TestResults::default();
    };
    let count = |what: &str| {
        let words: Vec<&str> = counts.split([' ', ';']).filter(|word| !word.is_empty()).collect();
        words.windows(2).find_map(|pair| match pair {
            [number, word] if *word == what => number.parse().ok(),
            _ => None,
        })
    };
    TestResults { passed: count("passed").unwrap_or_default(), failures: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_cargo_are_parsed() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(parse_results(line), TestResults { passed: 12, failures: Vec::new() });
        let failure = "FAILED ca::expired; its message is above".to_owned();
        assert_eq!(parse_results("ca::expired --- FAILED"), TestResults::failure(failure));
        assert_eq!(parse_results("running 12 tests"), TestResults::default());
    }
}
