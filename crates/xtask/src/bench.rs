//! Running the measuring program.

use std::process::Command;

use anyhow::Result;
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::{command, images, repository, tools};

/// The measuring program, built as what it measures: the code that it has in itself is to have the allocator that is
/// released, too.
const BENCH: images::Program = images::Program { package: "certmint-bench", profile: "release" };

/// Measures.
pub(crate) fn run(cache: &Cache, arguments: &[String]) -> Result<()> {
    let program = images::build(cache, BENCH)?;
    command::run(Command::new(program).args(arguments).current_dir(repository::root()))
}

/// Passes when every row runs, however fast; built as the tests are, which have been built by then.
pub(crate) fn smoke(cache: &Cache) -> Result<()> {
    let program = ["run", "--quiet", "--profile", "dev", "--package", BENCH.package, "--", "--quick"];
    command::run(&mut tools::cargo(cache, &program))
}
