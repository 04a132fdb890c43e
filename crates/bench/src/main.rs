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
mod run;
mod shared;
mod sidecar;
mod start;
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
use crate::figure::Figure;
use crate::report::Report;
use crate::run::{Place, Run};

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

/// What can be run alone.
struct Row {
    name: &'static str,
    place: Place,
    measure: fn(&Run) -> Result<Vec<Figure>>,
}

/// Those of one place follow each other, so that each cluster is started once.
const ROWS: &[Row] = &[
    Row { name: "review", place: Place::Alone, measure: in_process::review },
    Row { name: "issuing", place: Place::Alone, measure: in_process::issuing },
    Row { name: "planner", place: Place::Alone, measure: in_process::planning },
    Row { name: "images", place: Place::Alone, measure: images::images },
    Row { name: "install", place: Place::Alone, measure: install::install },
    Row { name: "webhook", place: Place::Installation, measure: webhook::webhook },
    Row { name: "fetch", place: Place::Installation, measure: fetch::fetch },
    Row { name: "sidecar", place: Place::Installation, measure: sidecar::sidecar },
    Row { name: "pods", place: Place::Installation, measure: pods::pods },
    Row { name: "tokens", place: Place::Installation, measure: tokens::tokens },
    Row { name: "secrets", place: Place::Filled, measure: certificates::secrets },
    Row { name: "reissue", place: Place::Filled, measure: certificates::reissue },
    Row { name: "start", place: Place::Filled, measure: start::start },
    Row { name: "memory", place: Place::Filled, measure: memory::memory },
];

fn main() -> ExitCode {
    match run_as_cluster_process().or_else(inside::play).unwrap_or_else(|| run(&Arguments::parse())) {
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
    let mut run = Run::new(*quick, Cache::open()?);
    let (mut figures, mut failed) = (Vec::new(), Vec::new());
    for row in rows {
        failed.extend(run.make_room(row.place).err().map(|error| format!("before {}: {error:#}", row.name)));
        // A row that fails costs no other its figures.
        match progress::long_step(row.name, || (row.measure)(&run)) {
            Ok(measured) if *quick => figures.extend(measured.into_iter().map(Figure::unjudged)),
            Ok(measured) => figures.extend(measured),
            Err(error) => failed.push(format!("{}: {error:#}", row.name)),
        }
    }
    failed.extend(run.make_room(Place::Alone).err().map(|error| format!("the clusters' end: {error:#}")));
    failed.extend(environment.end().err().map(|error| error.to_string()));
    let mut report = Report { environment, figures, failed };
    println!("\n{}\n\n{}", report.environment.line(), report.table());
    match report.write(output) {
        Ok(path) => println!("{}", path.display()),
        Err(error) => report.failed.push(format!("{error:#}")),
    }
    ensure!(report.failed.is_empty(), "the run is not whole:\n{}", report.failed.join("\n"));
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<&'static Row>> {
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
    fn the_page_of_figures_has_every_row_and_no_other() {
        let page = include_str!("../../../docs/src/reference/figures.md");
        let written: BTreeSet<&str> = page.lines().filter_map(report::row_of).collect();
        let known: BTreeSet<&str> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(written, known, "print the table anew with `cargo xtask bench`");
    }
}
