//! Commands of the project: `cargo xtask …`.

mod bench;
mod book;
mod checks;
mod clusters;
mod fuzz;
mod testing;
mod words;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use certmint_docs_tests::reference;
use certmint_e2e::scenarios::local_cluster::side_by_side;
use certmint_e2e::{demo, matrix as trust_matrix};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::cluster::run_as_cluster_process;
use certmint_local_cluster::{images, installation};
use clap::{Parser, Subcommand};

/// Builds, runs and tests Certmint.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the main job step by step, from an empty machine to renewals under traffic.
    Demo {
        /// Leave everything running in the end.
        #[arg(long)]
        keep: bool,
        /// Use the existing cluster with this kubectl context instead of a local one.
        #[arg(long)]
        context: Option<String>,
        /// Registry that the existing cluster pulls images from; the demo pushes its images there.
        #[arg(long, requires = "context")]
        registry: Option<String>,
    },
    /// Runs all tests: static checks, unit and property tests, chart tests, then scenarios on a cluster.
    Test(testing::Arguments),
    /// Runs the static checks: formatting, words, dependencies, lints, documentation, links.
    Check,
    /// Builds the book and follows its links.
    Book(book::Arguments),
    /// Runs the chart tests that need no cluster.
    Chart,
    /// Checks that the generated sections of the documentation are up to date.
    Reference {
        /// Rewrite the sections first.
        #[arg(long)]
        write: bool,
    },
    /// Tests which peers TLS libraries and servers accept while a root is replaced.
    Matrix {
        /// Rewrite the tables of the page on trust.
        #[arg(long)]
        write: bool,
    },
    /// Measures what Certmint costs, compared with a floor or ceiling of the same run.
    Bench {
        /// Arguments of the benchmark program: rows, --quick, --output; see `cargo xtask bench --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Tests parsers and the webhook with generated inputs.
    Fuzz(fuzz::Arguments),
    /// Starts, enters, ends and lists local clusters.
    #[command(subcommand)]
    Cluster(clusters::Command),
    /// Builds the images of certmint and certmint-fetch.
    Image {
        /// Push them to this registry, for example registry.example.com/team.
        #[arg(long)]
        registry: Option<String>,
        /// Write the chart values for these images to this file, for `helm install --values`.
        #[arg(long, requires = "registry")]
        values: Option<PathBuf>,
    },
    /// For tests: starts a cluster that ends with this process, and waits to be killed.
    #[command(name = side_by_side::RUNNER, hide = true)]
    Runner { directory: PathBuf },
}

fn main() -> ExitCode {
    if let Some(result) = run_as_cluster_process() {
        return exit_code(result);
    }
    let Arguments { command } = Arguments::parse();
    exit_code(match command {
        Command::Demo { keep, context, registry } => {
            demo::run(&demo::DemoOptions { keep, context, registry })
        }
        Command::Test(arguments) => return testing::run(&arguments),
        Command::Check => Cache::open().and_then(|cache| checks::run(&cache)),
        Command::Book(arguments) => Cache::open().and_then(|cache| book::run(&cache, &arguments)),
        Command::Chart => Cache::open().and_then(|cache| chart(&cache)),
        Command::Reference { write } => Cache::open().and_then(|cache| reference(&cache, write)),
        Command::Matrix { write } => Cache::open().and_then(|cache| matrix(&cache, write)),
        Command::Bench { arguments } => Cache::open().and_then(|cache| bench::run(&cache, &arguments)),
        Command::Fuzz(arguments) => Cache::open().and_then(|cache| fuzz::run(&cache, &arguments).map(drop)),
        Command::Cluster(command) => clusters::run(command),
        Command::Image { registry, values } => image(registry.as_deref(), values.as_deref()),
        Command::Runner { directory } => side_by_side::runner(&directory),
    })
}

fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn chart(cache: &Cache) -> anyhow::Result<()> {
    certmint_chart_tests::run_offline(cache).map(|passed| println!("{passed} passed"))
}

fn reference(cache: &Cache, write: bool) -> anyhow::Result<()> {
    if write {
        reference::write(cache)?;
    }
    reference::check(cache).map(|passed| println!("{passed} passed"))
}

fn matrix(cache: &Cache, write: bool) -> anyhow::Result<()> {
    trust_matrix::run(cache, write).map(|passed| println!("{passed} passed"))
}

/// Builds the released images, pushes them to the registry, and prints the helm command that installs them.
fn image(registry: Option<&str>, values_file: Option<&Path>) -> anyhow::Result<()> {
    let cache = Cache::open()?;
    let images = images::release_images(&cache)?;
    for image in &images {
        let megabytes = image.size()? / 100_000;
        let size = format!("{}.{} MB", megabytes / 10, megabytes % 10);
        match registry {
            Some(registry) => println!("{} {size}", image.push(&cache, registry)?),
            None => println!("{} {size} {}", image.local_reference(), image.tar().display()),
        }
    }
    let Some(registry) = registry else { return Ok(()) };
    let values = match values_file {
        Some(file) => {
            std::fs::write(file, installation::values_file(&images, registry))
                .with_context(|| format!("cannot write {}", file.display()))?;
            format!("--values {}", file.display())
        }
        None => {
            let values = installation::image_values(&images, |image| Ok(image.reference(registry)))?;
            format!("--set {}", values.join(","))
        }
    };
    println!("\nhelm install certmint charts/certmint -n certmint-system --create-namespace --wait \\");
    println!("  {values}");
    Ok(())
}
