//! Files of a local cluster, and detection of whether it runs.
//!
//! The directory `<cache>/clusters/<name>/` has all files of a cluster. File locks show which processes run, because
//! the kernel releases the locks of a process at its end, also after a crash. The supervisor locks `supervisor.log`,
//! its standard output. The processes in the cluster's namespaces lock `init.log`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::network::Addresses;
use crate::cache::Cache;

/// Path of the cluster's directory inside its mount namespace.
pub const INSIDE: &str = "/run/cluster";

/// File with the requests of Certmint's accounts to the API server: one audit event in JSON on each line.
pub const AUDIT_LOG: &str = "audit.jsonl";

/// Description of a cluster, written once before it starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// Name of the cluster, a DNS label.
    pub name: String,
    /// Whether the cluster has no kubelet and no container runtime, only API server, controllers and scheduler.
    pub control_plane_only: bool,
    /// Directories with programs, as paths outside the cluster. Each becomes `INSIDE/programs/<file name>`.
    pub programs: Vec<PathBuf>,
    /// Number of images to import before the node is ready: `images/0.tar`, `images/1.tar`, …
    pub images: usize,
    /// Reference of the image that holds a pod's namespaces.
    pub pause_image: String,
    /// Address families of the cluster.
    pub addresses: Addresses,
}

/// Directory of a cluster.
#[derive(Debug, Clone)]
pub struct ClusterDirectory {
    root: PathBuf,
}

impl ClusterDirectory {
    /// Returns the directory of cluster `name`, which need not exist.
    #[must_use]
    pub fn of(cache: &Cache, name: &str) -> Self {
        Self { root: cache.path("clusters").join(name) }
    }

    /// Returns the cluster directory at `path`.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { root: path.to_path_buf() }
    }

    /// Returns every cluster that has a directory, whether it runs or not.
    ///
    /// # Errors
    /// When the directory of clusters cannot be read.
    pub fn all(cache: &Cache) -> Result<Vec<Self>> {
        let clusters = cache.path("clusters");
        if !clusters.exists() {
            return Ok(Vec::new());
        }
        let mut directories = fs::read_dir(&clusters)
            .with_context(|| format!("cannot read {}", clusters.display()))?
            .map(|entry| Ok(Self { root: entry?.path() }))
            .collect::<Result<Vec<_>>>()?;
        directories.sort_by(|one, other| one.root.cmp(&other.root));
        Ok(directories)
    }

    /// Returns the path of the directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns a path in the directory.
    #[must_use]
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Returns the name of the cluster.
    #[must_use]
    pub fn name(&self) -> String {
        self.root.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Returns the cgroup of the kubelet's pods, which has the same name in every hierarchy.
    #[must_use]
    pub fn cgroup(&self) -> String {
        format!("certmint-{}", self.name())
    }

    /// Returns whether the supervisor runs.
    #[must_use]
    pub fn is_supervised(&self) -> bool {
        is_locked(&self.path("supervisor.log"))
    }

    /// Returns whether a process runs in the cluster's namespaces.
    #[must_use]
    pub fn has_processes(&self) -> bool {
        is_locked(&self.path("init.log"))
    }

    /// Reads the description of the cluster.
    ///
    /// # Errors
    /// When the description cannot be read.
    pub fn spec(&self) -> Result<ClusterSpec> {
        let path = self.path("spec.json");
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is not the description of a cluster", path.display()))
    }

    /// Writes the description of the cluster.
    ///
    /// # Errors
    /// When the description cannot be written.
    pub fn write_spec(&self, spec: &ClusterSpec) -> Result<()> {
        let text = serde_json::to_vec_pretty(spec)?;
        fs::write(self.path("spec.json"), text).context("cannot write the description of the cluster")
    }

    /// Returns the pid of the `unshare` process, whose namespaces `nsenter` enters to reach the cluster.
    ///
    /// # Errors
    /// When the cluster does not run.
    pub fn unshare_pid(&self) -> Result<u32> {
        if !self.is_supervised() {
            bail!("cluster {} does not run: start it with `cargo xtask cluster up --name {0}`", self.name());
        }
        let path = self.path("pid");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        text.trim().parse().with_context(|| format!("{} does not contain a pid", path.display()))
    }
}

/// Creates a log file, and takes its lock for the process that inherits the file.
///
/// # Errors
/// When the file cannot be created, or another process has locked it.
pub fn locked_log(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    file.try_lock().with_context(|| format!("{} is locked", path.display()))?;
    Ok(file)
}

fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_file() {
        let directory = std::env::temp_dir().join(format!("certmint-state-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let directory = ClusterDirectory::at(&directory);
        assert!(!directory.is_supervised());
        let log = locked_log(&directory.path("supervisor.log")).unwrap();
        assert!(directory.is_supervised());
        drop(log);
        assert!(!directory.is_supervised());
        fs::remove_dir_all(directory.root()).unwrap();
    }
}
