//! `cargo xtask bench`: runs the benchmark program.

use std::process::Command;

use anyhow::Result;
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::{command, images, repository, tools};

/// Benchmark program. It is built like the released programs: some rows run Certmint's code in this program, and must
/// measure it with the released allocator.
const BENCH: images::WorkspaceProgram =
    images::WorkspaceProgram { package: "certmint-bench", profile: "release" };

/// Builds the benchmark program, and runs it with `arguments`.
pub(crate) fn run(cache: &Cache, arguments: &[String]) -> Result<()> {
    let program = images::build(cache, BENCH)?;
    command::run(Command::new(program).args(arguments).current_dir(repository::root()))
}

/// Runs every row of the benchmarks with `--quick`, to check that they work. The program has the build profile of the
/// tests, so that most of its dependencies are built already.
pub(crate) fn smoke(cache: &Cache) -> Result<()> {
    let program = ["run", "--quiet", "--profile", "dev", "--package", BENCH.package, "--", "--quick"];
    command::run(&mut tools::cargo(cache, &program))
}
