//! `cargo xtask bench`: what Certmint costs. Each row stands beside its floor or ceiling of the same run, because
//! machines differ and are noisy.

#![expect(clippy::indexing_slicing, reason = "serde_json answers null for a field that is not there")]

mod audit;
mod certificates;
mod environment;
mod fetch;
mod figure;
mod filled;
mod images;
mod in_process;
mod injected;
mod inside;
mod install;
mod memory;
mod pods;
mod process;
mod report;
mod shared;
mod sidecar;
mod start;
mod statistics;
mod tokens;
mod webhook;
mod wrk;

use std::cell::OnceCell;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, anyhow, bail, ensure};
use certmint_e2e::cache::Cache;
use certmint_e2e::cluster::{Cluster, role};
use certmint_e2e::progress;
use clap::Parser as _;

use environment::Environment;
use figure::Figure;
use filled::Filled;
use report::Report;
use shared::Shared;

/// Measures.
#[derive(Debug, clap::Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Arguments {
    /// Short and rough, and not judged: does everything run?
    #[arg(long)]
    quick: bool,
    /// Where the run's JSON file goes.
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
    /// Only these rows.
    rows: Vec<String>,
}

/// How a run is to go, and what its rows share.
#[derive(Debug)]
pub(crate) struct Run {
    /// Short and rough.
    pub(crate) quick: bool,
    /// What a cluster is made of.
    pub(crate) cache: Cache,
    shared: Shared,
    filled: OnceCell<Result<Filled, String>>,
}

impl Run {
    /// A cluster with Certmint installed, one replica of each part, for all rows that leave it as they found it.
    pub(crate) fn installation(&self) -> Result<&Cluster> {
        self.shared.installation(&self.cache)
    }

    /// A cluster of its own with thousands of workloads, which the first call starts and fills.
    pub(crate) fn filled(&self) -> Result<&Filled> {
        // What failed once takes minutes to fail again.
        let filled = self.filled.get_or_init(|| Filled::start(self).map_err(|error| format!("{error:#}")));
        filled.as_ref().map_err(|error| anyhow!("the cluster could not be filled: {error}"))
    }

    /// Ends what was started.
    fn stop(self) -> Result<()> {
        let stopped = self.shared.stop();
        if let Some(Ok(filled)) = self.filled.into_inner() {
            filled.cluster.stop()?;
        }
        stopped
    }
}

/// What can be run alone.
struct Row {
    name: &'static str,
    measure: fn(&Run) -> Result<Vec<Figure>>,
}

const ROWS: &[Row] = &[
    Row { name: "review", measure: in_process::review },
    Row { name: "issuing", measure: in_process::issuing },
    Row { name: "planner", measure: in_process::planning },
    Row { name: "webhook", measure: webhook::webhook },
    Row { name: "fetch", measure: fetch::fetch },
    Row { name: "sidecar", measure: sidecar::sidecar },
    Row { name: "pods", measure: pods::pods },
    Row { name: "images", measure: images::images },
    Row { name: "install", measure: install::install },
    Row { name: "tokens", measure: tokens::tokens },
    Row { name: "secrets", measure: certificates::secrets },
    Row { name: "reissue", measure: certificates::reissue },
    Row { name: "start", measure: start::start },
    Row { name: "memory", measure: memory::memory },
];

fn main() -> ExitCode {
    match role::play().or_else(inside::play).unwrap_or_else(|| run(&Arguments::parse())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { quick, output, rows } = arguments;
    let rows = chosen(rows)?;
    let mut environment = Environment::observe(*quick)?;
    progress::note(&environment.line());
    let run =
        Run { quick: *quick, cache: Cache::open()?, shared: Shared::default(), filled: OnceCell::new() };
    let (mut figures, mut failed) = (Vec::new(), Vec::new());
    for row in rows {
        // A row that fails costs no other its figures.
        match progress::long_step(row.name, || (row.measure)(&run)) {
            Ok(measured) if *quick => figures.extend(measured.into_iter().map(Figure::unjudged)),
            Ok(measured) => figures.extend(measured),
            Err(error) => failed.push(format!("{}: {error:#}", row.name)),
        }
    }
    // On a new machine it was installed meanwhile.
    environment.wrk = wrk::version();
    let report = Report { environment, figures };
    println!("\n{}\n\n{}", report.environment.line(), report.table());
    println!("{}", report.write(output)?.display());
    failed.extend(run.stop().err().map(|error| format!("the clusters' end: {error:#}")));
    ensure!(failed.is_empty(), "rows failed:\n{}", failed.join("\n"));
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<&'static Row>> {
    if let Some(unknown) = names.iter().find(|name| ROWS.iter().all(|row| row.name != **name)) {
        let known: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        bail!("there is no row {unknown}; there are: {}", known.join(", "));
    }
    Ok(ROWS.iter().filter(|row| names.is_empty() || names.iter().any(|name| name == row.name)).collect())
}
