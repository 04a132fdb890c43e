//! The static checks: formatting, lints, dependencies, documentation, links.

use std::process::Command;

use anyhow::Result;
use certmint_e2e::cache::Cache;
use certmint_e2e::{command, progress, repository};

use crate::book;
use crate::tools::{cargo, tool};

/// The version of cargo-deny; it is built once into the cache.
const CARGO_DENY: &str = "0.20.2";

/// Passes every check, or tells what the first failing one says.
pub(crate) fn run(cache: &Cache) -> Result<()> {
    progress::step("formatting", || {
        check(&mut cargo(cache, &["fmt", "--all", "--check"]))?;
        check(&mut cargo(cache, &["fmt", "--manifest-path=fuzz/Cargo.toml", "--check"]))
    })?;
    let deny = tool(cache, "cargo-deny", CARGO_DENY, &[])?;
    progress::step("dependencies", || {
        let mut deny = Command::new(deny);
        // Advisories change from day to day and need the network: they are no test of a commit.
        check(
            deny.args(["--log-level=error", "check", "bans", "licenses", "sources"])
                .current_dir(repository::root()),
        )
    })?;
    progress::step("lints", || {
        check(&mut cargo(
            cache,
            &["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny=warnings"],
        ))
    })?;
    progress::step("documentation", || {
        check(
            cargo(cache, &["doc", "--workspace", "--no-deps", "--quiet"])
                .env("RUSTDOCFLAGS", "--deny=warnings"),
        )
    })?;
    book::check(cache)
}

fn check(command: &mut Command) -> Result<()> {
    command::output(command).map(drop)
}
