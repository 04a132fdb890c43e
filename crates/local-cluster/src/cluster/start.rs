//! Start of a local cluster, from an unprepared machine to a ready node.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::directory::{ClusterDirectory, ClusterSpec};
use super::network::Addresses;
use super::{Access, Cluster, ClusterOptions, addons, service, supervisor};
use crate::cache::Cache;
use crate::components::{self, CONTAINERD, Component, ETCD, HELM, KUBERNETES};
use crate::images::{self, Image};
use crate::wait::{self, Check};
use crate::{machine, progress};

/// Limit for the boot of a cluster. It usually takes seconds, but the machine may be loaded.
const BOOT_TIMEOUT: Duration = Duration::from_secs(300);

impl Cluster {
    /// Starts a local cluster with IPv4 addresses. First builds its programs and images, and removes the remains of
    /// crashed clusters. The cluster ends when this process ends or crashes, unless it is [kept](Self::keep).
    ///
    /// # Errors
    /// When the machine does not meet a requirement, a cluster of that name runs, or the cluster does not start.
    pub fn start(cache: &Cache, options: &ClusterOptions) -> Result<Self> {
        Self::start_with(cache, options, Addresses::default())
    }

    /// Starts a local cluster like [`Self::start`], with addresses of these families.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(cache: &Cache, options: &ClusterOptions, addresses: Addresses) -> Result<Self> {
        prepare(cache)?;
        check_name(&options.name)?;
        let programs = programs(cache)?;
        let images = if options.control_plane_only { Vec::new() } else { images::system(cache)? };
        let directory = ClusterDirectory::of(cache, &options.name);
        let lifeline = {
            let _lock = cache.lock("clusters")?;
            if directory.root().exists() {
                bail!(
                    "cluster {} exists already: end it with `cargo xtask cluster down --name {0}`",
                    options.name
                );
            }
            fs::create_dir_all(directory.path("images")).context("cannot create the cluster's directory")?;
            for (number, image) in images.iter().enumerate() {
                // The import runs inside the namespaces, and reads the images from the cluster's directory. Hard links
                // are possible, because this directory and the images are in the cache.
                fs::hard_link(image.tar(), directory.path(format!("images/{number}.tar")))
                    .context("cannot link an image into the cluster's directory")?;
            }
            let pause = images.iter().find(|image| image.name == images::PAUSE);
            directory.write_spec(&ClusterSpec {
                name: options.name.clone(),
                control_plane_only: options.control_plane_only,
                programs,
                images: images.len(),
                pause_image: pause.map(Image::local_reference).unwrap_or_default(),
                addresses,
            })?;
            supervisor::start(&directory)?
        };
        let took = wait_for_boot(&directory)?;
        progress::note(&format!("cluster {}: node ready {took} after start", options.name));
        let unshare_pid = directory.unshare_pid()?;
        let cluster = Self {
            cache: cache.clone(),
            access: Access::Local { directory, unshare_pid, lifeline: Mutex::new(Some(lifeline)) },
        };
        if !options.control_plane_only {
            progress::step("CoreDNS is ready", || addons::install_dns(&cluster, &images, addresses))?;
        }
        Ok(cluster)
    }
}

/// Prepares the machine for local clusters, and removes the remains of crashed clusters.
///
/// # Errors
/// When this process does not run as root, or a package cannot be installed.
fn prepare(cache: &Cache) -> Result<()> {
    machine::require_root()?;
    machine::install(machine::CLUSTER)?;
    for name in supervisor::sweep(cache)? {
        progress::note(&format!("removed the remains of cluster {name}"));
    }
    Ok(())
}

fn programs(cache: &Cache) -> Result<Vec<PathBuf>> {
    const NEEDED: [Component; 4] = [KUBERNETES, ETCD, CONTAINERD, HELM];
    components::build_all(cache, &NEEDED)
}

fn check_name(name: &str) -> Result<()> {
    let is_valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 40 || !name.bytes().all(is_valid) || name.starts_with('-') {
        bail!(
            "{name:?} is not a valid name for a cluster: use up to 40 characters of a-z, 0-9 and -, for example `test-2`"
        );
    }
    Ok(())
}

/// Result of the boot process.
enum Boot {
    /// The node is ready. Contains the duration, as text.
    Ready(String),
    /// The boot failed. Contains the reason.
    Failed(String),
}

/// Waits until the boot process has succeeded or failed. Returns the duration of the boot. After a failure, this
/// function ends the cluster, and the error contains the logs.
fn wait_for_boot(directory: &ClusterDirectory) -> Result<String> {
    let boot = wait::until(&format!("cluster {} to boot", directory.name()), BOOT_TIMEOUT, || {
        if let Ok(took) = fs::read_to_string(directory.path("ready")) {
            return Ok(Check::Passed(Boot::Ready(took)));
        }
        if let Ok(reason) = fs::read_to_string(directory.path("failed")) {
            return Ok(Check::Passed(Boot::Failed(reason)));
        }
        if !directory.is_supervised() {
            return Ok(Check::Passed(Boot::Failed("the supervisor has ended".to_owned())));
        }
        Ok(Check::NotYet("the cluster is booting".to_owned()))
    });
    let reason = match boot {
        Ok(Boot::Ready(took)) => return Ok(took),
        Ok(Boot::Failed(reason)) => reason,
        Err(error) => format!("{error:#}"),
    };
    let logs = service::log_tails(directory, 15);
    drop(supervisor::stop(directory));
    bail!("cluster {} does not start: {reason}\n{logs}", directory.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_names_that_are_paths() {
        assert!(check_name("test-2").is_ok());
        for name in ["", "..", "a/b", "A", "-x", &"x".repeat(41)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
