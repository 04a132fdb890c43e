//! The static checks: formatting, lints, dependencies, documentation.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use certmint_e2e::cache::{Cache, Key};
use certmint_e2e::{command, progress};

/// The version of cargo-deny; it is built once into the cache.
const CARGO_DENY: &str = "0.20.2";

/// Passes every check, or tells what the first failing one says.
pub(crate) fn run(cache: &Cache) -> Result<()> {
    progress::step("formatting", || check(&mut cargo(cache, &["fmt", "--all", "--check"])))?;
    let deny = cargo_deny(cache)?.join("bin/cargo-deny");
    progress::step("dependencies", || {
        let mut deny = Command::new(deny);
        // Advisories change from day to day and need the network: they are no test of a commit.
        check(
            deny.args(["--log-level=error", "check", "bans", "licenses", "sources"]).current_dir(workspace()),
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
    })
}

/// cargo in this workspace, building into the cache so that a fresh checkout is warm.
pub(crate) fn cargo(cache: &Cache, arguments: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(arguments).env("CARGO_TARGET_DIR", cache.path("target")).current_dir(workspace());
    cargo
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn check(command: &mut Command) -> Result<()> {
    command::output(command).map(drop)
}

fn cargo_deny(cache: &Cache) -> Result<PathBuf> {
    cache.entry("tools", "cargo-deny", &Key::default().text(CARGO_DENY), |directory| {
        progress::long_step(&format!("building cargo-deny {CARGO_DENY} (once)"), || {
            check(
                cargo(
                    cache,
                    &["install", "cargo-deny", "--locked", "--quiet", "--version", CARGO_DENY, "--root"],
                )
                .arg(directory),
            )
        })
    })
}
