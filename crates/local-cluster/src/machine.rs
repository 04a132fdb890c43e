//! Requirements of the machine: root, some Debian packages, Go, and Rust with the target of the images.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cache::Cache;
use crate::{command, progress};

/// A program or directory that the cluster or a build needs, and its Debian package.
#[derive(Debug, Clone, Copy)]
pub struct Requirement {
    /// Name of the Debian package.
    pub package: &'static str,
    /// Possible paths; one of them must exist.
    pub paths: &'static [&'static str],
}

/// Requirements for building images.
pub const IMAGES: &[Requirement] = &[
    Requirement { package: "musl-tools", paths: &["/usr/bin/musl-gcc", "/usr/local/bin/musl-gcc"] },
    Requirement { package: "gcc", paths: &["/usr/bin/gcc", "/usr/local/bin/gcc"] },
];

/// Requirements of a local cluster, in addition to the [components](crate::components).
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

/// Requirements for running a program in namespaces of its own without a cluster.
pub const NAMESPACES: &[Requirement] = &[
    Requirement { package: "iproute2", paths: &["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"] },
    Requirement { package: "util-linux", paths: &["/usr/bin/unshare"] },
];

/// Programs that verify certificates independently of Certmint's code.
pub const VERIFIERS: &[Requirement] = &[
    Requirement { package: "gnutls-bin", paths: &["/usr/bin/certtool"] },
    Requirement { package: "openssl", paths: &["/usr/bin/openssl", "/usr/local/bin/openssl"] },
];

/// Checks that this process runs as root.
///
/// # Errors
/// When this process runs as another user.
pub fn require_root() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "this command needs root for namespaces, mounts and cgroups: run it as root; to run scenarios as another \
             user, use an existing cluster with --context NAME"
        );
    }
    Ok(())
}

/// Installs the missing packages of `requirements` with apt-get, and prints their names.
///
/// # Errors
/// When a package is missing and cannot be installed.
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
        // The package lists may be missing or old. An error of the update is ignored, because the installation fails if
        // it needs newer lists.
        drop(command::output(apt_get().arg("update")));
        command::output(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(&missing))
    })?;
    Ok(())
}

/// Returns an `apt-get` command that prints little, asks no questions, and waits for another apt-get.
#[must_use]
pub fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["--quiet", "--option=DPkg::Lock::Timeout=300"]);
    command
}

/// Installs Rust's standard library for `target` with rustup, if it is missing. `rust-toolchain.toml` names the
/// target, but rustup reads that file only when it installs the toolchain.
///
/// # Errors
/// When the library is missing, and rustup cannot install it.
pub fn install_rust_target(cache: &Cache, target: &str) -> Result<()> {
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

/// Checks that the program `name` can be run, with the argument `probe`.
///
/// # Errors
/// When the program cannot be run. The error contains `remedy`, the next step for the user.
pub fn require_program(name: &str, probe: &str, remedy: &str) -> Result<()> {
    if command::output(Command::new(name).arg(probe)).is_err() {
        bail!("{name} is not on this machine: {remedy}");
    }
    Ok(())
}

/// Returns the first path of the required `package` that exists on this machine.
#[must_use]
pub fn installed_path(package: &str) -> Option<&'static Path> {
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
    fn a_package_is_missing_without_any_path() {
        let here = Requirement { package: "coreutils", paths: &["/nowhere", "/bin/sh"] };
        let gone = Requirement { package: "gone", paths: &["/nowhere"] };
        assert_eq!(missing(&[here, gone]), ["gone"]);
    }
}
