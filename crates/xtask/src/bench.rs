//! Running the measuring program.

use anyhow::Result;
use certmint_e2e::cache::Cache;
use certmint_e2e::command;

use crate::tools;

/// Measures, optimized as the servers are.
pub(crate) fn run(cache: &Cache, arguments: &[String]) -> Result<()> {
    run_as(cache, "release", arguments)
}

/// Passes when every row runs, however fast; built as the tests are, which have been built by then.
pub(crate) fn smoke(cache: &Cache) -> Result<()> {
    run_as(cache, "dev", &["--quick".to_owned()])
}

fn run_as(cache: &Cache, profile: &str, arguments: &[String]) -> Result<()> {
    let program = ["run", "--quiet", "--profile", profile, "--package", "certmint-bench", "--"];
    command::run(tools::cargo(cache, &program).args(arguments))
}
