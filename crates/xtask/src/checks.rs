//! The static checks: formatting, lints, dependencies, documentation, links.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use certmint_e2e::cache::{Cache, Key};
use certmint_e2e::{command, progress};

use crate::book;

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
    })?;
    book::check(cache)
}

/// cargo in this workspace, building into the cache so that a fresh checkout is warm.
pub(crate) fn cargo(cache: &Cache, arguments: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(arguments).env("CARGO_TARGET_DIR", cache.path("target")).current_dir(workspace());
    cargo
}

/// The root of this workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A program that cargo builds once into the cache; `features` are its flags about them.
pub(crate) fn tool(cache: &Cache, name: &str, version: &str, features: &[&str]) -> Result<PathBuf> {
    let entry = cache.entry("tools", name, &Key::default().text(version), |directory| {
        progress::long_step(&format!("building {name} {version} (once)"), || {
            check(
                cargo(cache, &["install", name, "--locked", "--quiet", "--version", version, "--root"])
                    .arg(directory)
                    .args(features),
            )
        })
    })?;
    Ok(entry.join("bin").join(name))
}

fn check(command: &mut Command) -> Result<()> {
    command::output(command).map(drop)
}
