//! What the machine must have: root, a few Debian packages, Go, Rust with the target that images are built for.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cache::Cache;
use crate::{command, progress};

/// A program or directory that the cluster or a build needs, and the Debian package it comes from.
#[derive(Debug, Clone, Copy)]
pub struct Requirement {
    /// The Debian package.
    pub package: &'static str,
    /// Where it is looked for; any one of these will do.
    pub paths: &'static [&'static str],
}

/// What building images takes.
pub const IMAGES: &[Requirement] = &[
    Requirement { package: "musl-tools", paths: &["/usr/bin/musl-gcc", "/usr/local/bin/musl-gcc"] },
    Requirement { package: "gcc", paths: &["/usr/bin/gcc", "/usr/local/bin/gcc"] },
];

/// What running a local cluster takes, besides the [components](crate::components).
pub const CLUSTER: &[Requirement] = &[
    Requirement { package: "conntrack", paths: &["/usr/sbin/conntrack", "/usr/bin/conntrack"] },
    Requirement { package: "containernetworking-plugins", paths: &["/usr/lib/cni/ptp", "/opt/cni/bin/ptp"] },
    Requirement { package: "iproute2", paths: &["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"] },
    Requirement {
        package: "iptables",
        paths: &["/usr/sbin/iptables", "/sbin/iptables", "/usr/bin/iptables"],
    },
    Requirement { package: "nftables", paths: &["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"] },
    Requirement { package: "openssl", paths: &["/usr/bin/openssl", "/usr/local/bin/openssl"] },
    Requirement { package: "runc", paths: &["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/bin/runc"] },
    Requirement { package: "util-linux", paths: &["/usr/bin/unshare"] },
];

/// What checks certificates besides our own code.
pub const VERIFIERS: &[Requirement] = &[
    Requirement { package: "gnutls-bin", paths: &["/usr/bin/certtool"] },
    Requirement { package: "openssl", paths: &["/usr/bin/openssl", "/usr/local/bin/openssl"] },
];

/// Refuses to go on without root.
///
/// # Errors
/// When the user is someone else.
pub fn require_root() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "a local cluster makes namespaces, mounts and cgroups and so needs root: run this as root, or use \
             an existing cluster with --context NAME"
        );
    }
    Ok(())
}

/// Installs what is missing of `requirements` with apt-get, and says so.
///
/// # Errors
/// When something is missing and cannot be installed here.
pub fn install(requirements: &[Requirement]) -> Result<()> {
    let missing = missing(requirements);
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "this machine lacks {list} and has no apt-get: install what these Debian packages contain, then try again"
        );
    }
    if !rustix::process::geteuid().is_root() {
        bail!(
            "this machine lacks some Debian packages: run `apt-get install {list}` as root, then try again"
        );
    }
    progress::step(&format!("installing Debian packages: {list}"), || {
        // Package lists may be absent or old on a fresh machine; what counts is whether the install works.
        drop(command::output(apt_get().arg("update")));
        command::output(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(&missing))
    })?;
    Ok(())
}

/// `apt-get`, quiet, never asking, and patient with another one at work.
#[must_use]
pub fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["--quiet", "--option=DPkg::Lock::Timeout=300"]);
    command
}

/// Has rustup fetch Rust's standard library for `target`, where it is missing. `rust-toolchain.toml` names the target, but
/// rustup reads that only when it installs the toolchain, which a machine may have already.
///
/// # Errors
/// When it is missing and rustup cannot fetch it.
pub fn rust_target(cache: &Cache, target: &str) -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", target]).current_dir(workspace);
    let library = command::output(&mut rustc)?;
    let library = Path::new(library.trim());
    if library.exists() {
        return Ok(());
    }
    let _lock = cache.lock("rustup")?;
    if library.exists() {
        return Ok(());
    }
    progress::step(&format!("fetching Rust's standard library for {target} (once)"), || {
        let mut rustup = Command::new("rustup");
        command::output(rustup.args(["target", "add", target]).current_dir(workspace)).with_context(|| {
            format!("images are built for {target}: install Rust's standard library for it, then try again")
        })
    })?;
    Ok(())
}

/// Refuses to go on without the program `name`.
///
/// # Errors
/// When it cannot be run; `remedy` says what to do then.
pub fn require_program(name: &str, probe: &str, remedy: &str) -> Result<()> {
    if command::output(Command::new(name).arg(probe)).is_err() {
        bail!("{name} is not on this machine: {remedy}");
    }
    Ok(())
}

/// Where a path of `requirement` is on this machine.
#[must_use]
pub fn located(package: &str) -> Option<&'static Path> {
    let requirement = CLUSTER.iter().chain(IMAGES).find(|requirement| requirement.package == package)?;
    requirement.paths.iter().map(Path::new).find(|path| path.exists())
}

fn missing(requirements: &[Requirement]) -> Vec<&'static str> {
    requirements
        .iter()
        .filter(|requirement| !requirement.paths.iter().any(|path| Path::new(path).exists()))
        .map(|requirement| requirement.package)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_nowhere_is_missing() {
        let here = Requirement { package: "coreutils", paths: &["/nowhere", "/bin/sh"] };
        let gone = Requirement { package: "gone", paths: &["/nowhere"] };
        assert_eq!(missing(&[here, gone]), ["gone"]);
    }
}
