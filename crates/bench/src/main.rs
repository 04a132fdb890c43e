//! `cargo xtask bench`: performance of Certmint. A row is a group of measurements, such as `webhook` or `memory`. Most
//! measurements are compared with a baseline of the same run: the least time that the work can take (a floor), the
//! highest rate (a ceiling), or another program that does the same work. Results of different runs are hard to compare,
//! because machines differ, and the load of a machine changes.

#![expect(clippy::indexing_slicing, reason = "serde_json returns null for a field that does not exist")]

mod audit;
mod certificates;
mod common;
mod controller_start;
mod environment;
mod fetch;
mod images;
mod in_cluster;
mod in_process;
mod install;
mod loaded_cluster;
mod memory;
mod pods;
mod process;
mod report;
mod result;
mod run;
mod sample_workload;
mod sidecar;
mod statistics;
mod tokens;
mod webhook;
mod wrk;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::cluster::run_as_cluster_process;
use certmint_local_cluster::progress;
use clap::Parser as _;

use crate::environment::Environment;
use crate::report::Report;
use crate::result::Measurement;
use crate::run::{ClusterKind, Run};

/// Measures what Certmint costs.
#[derive(Debug, clap::Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Arguments {
    /// Make a short, rough run without targets, to see whether every row works.
    #[arg(long)]
    quick: bool,
    /// Directory for the run's JSON file.
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
    /// Measure only these rows.
    rows: Vec<String>,
}

/// A group of measurements that can be run alone.
struct Row {
    name: &'static str,
    cluster: ClusterKind,
    measure: fn(&Run) -> Result<Vec<Measurement>>,
}

/// All rows. Rows that need the same cluster follow each other, so that each cluster is started once.
const ROWS: &[Row] = &[
    Row { name: "review", cluster: ClusterKind::None, measure: in_process::review },
    Row { name: "issuing", cluster: ClusterKind::None, measure: in_process::issuing },
    Row { name: "planner", cluster: ClusterKind::None, measure: in_process::planning },
    Row { name: "images", cluster: ClusterKind::None, measure: images::images },
    Row { name: "install", cluster: ClusterKind::None, measure: install::install },
    Row { name: "webhook", cluster: ClusterKind::Installation, measure: webhook::webhook },
    Row { name: "fetch", cluster: ClusterKind::Installation, measure: fetch::fetch },
    Row { name: "sidecar", cluster: ClusterKind::Installation, measure: sidecar::sidecar },
    Row { name: "pods", cluster: ClusterKind::Installation, measure: pods::pods },
    Row { name: "tokens", cluster: ClusterKind::Installation, measure: tokens::tokens },
    Row { name: "secrets", cluster: ClusterKind::Loaded, measure: certificates::secrets },
    Row { name: "reissue", cluster: ClusterKind::Loaded, measure: certificates::reissue },
    Row { name: "start", cluster: ClusterKind::Loaded, measure: controller_start::controller_start },
    Row { name: "memory", cluster: ClusterKind::Loaded, measure: memory::memory },
];

fn main() -> ExitCode {
    match run_as_cluster_process()
        .or_else(in_cluster::run_as_task)
        .unwrap_or_else(|| run(&Arguments::parse()))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { quick, output, rows } = arguments;
    let rows = select_rows(rows)?;
    let mut environment = Environment::observe(*quick)?;
    progress::note(&environment.line());
    let mut run = Run::new(*quick, Cache::open()?);
    let (mut measurements, mut failed) = (Vec::new(), Vec::new());
    for row in rows {
        failed.extend(
            run.end_clusters_except(row.cluster).err().map(|error| format!("before {}: {error:#}", row.name)),
        );
        // A row that fails does not affect the measurements of other rows.
        match progress::long_step(row.name, || (row.measure)(&run)) {
            Ok(measured) if *quick => {
                measurements.extend(measured.into_iter().map(Measurement::without_target))
            }
            Ok(measured) => measurements.extend(measured),
            Err(error) => failed.push(format!("{}: {error:#}", row.name)),
        }
    }
    failed.extend(
        run.end_clusters_except(ClusterKind::None)
            .err()
            .map(|error| format!("ending the clusters: {error:#}")),
    );
    failed.extend(environment.end().err().map(|error| error.to_string()));
    let mut report = Report { environment, measurements, failed };
    println!("\n{}\n\n{}", report.environment.line(), report.table());
    match report.write(output) {
        Ok(path) => println!("{}", path.display()),
        Err(error) => report.failed.push(format!("{error:#}")),
    }
    ensure!(report.failed.is_empty(), "the run is not complete:\n{}", report.failed.join("\n"));
    Ok(())
}

fn select_rows(names: &[String]) -> Result<Vec<&'static Row>> {
    if let Some(unknown) = names.iter().find(|name| ROWS.iter().all(|row| row.name != **name)) {
        let known: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        bail!("there is no row {unknown}; there are: {}", known.join(", "));
    }
    Ok(ROWS.iter().filter(|row| names.is_empty() || names.iter().any(|name| name == row.name)).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_figures_page_has_exactly_the_rows() {
        let page = include_str!("../../../docs/src/reference/figures.md");
        let written: BTreeSet<&str> = page.lines().filter_map(report::row_of).collect();
        let known: BTreeSet<&str> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(written, known, "replace the table on the page with the output of `cargo xtask bench`");
    }
}
