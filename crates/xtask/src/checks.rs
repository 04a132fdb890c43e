//! `cargo xtask check`: formatting, words, dependencies, lints, documentation, links.

use std::process::Command;

use anyhow::Result;
use certmint_docs_tests::html_book;
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::tools::{build_tool, cargo};
use certmint_local_cluster::{command, progress, repository};

use crate::words;

/// Version of cargo-deny, which is built once into the cache.
const CARGO_DENY: &str = "0.20.2";

/// Runs every check until one fails.
pub(crate) fn run(cache: &Cache) -> Result<()> {
    progress::step("formatting", || {
        check(&mut cargo(cache, &["fmt", "--all", "--check"]))?;
        check(&mut cargo(cache, &["fmt", "--manifest-path=fuzz/Cargo.toml", "--check"]))
    })?;
    progress::step("words", words::check)?;
    let deny = build_tool(cache, "cargo-deny", CARGO_DENY, &[])?;
    progress::step("dependencies", || {
        let mut deny = Command::new(deny);
        // Advisories are left out. They change from day to day and need the network, so the result would not depend on
        // the commit alone.
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
    html_book::build(cache, &html_book::default_output(cache))
}

fn check(command: &mut Command) -> Result<()> {
    command::output(command).map(drop)
}
