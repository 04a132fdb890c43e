//! What a running local cluster keeps on disk, and how to tell that it runs.
//!
//! `<cache>/clusters/<name>/` holds everything of one cluster. Who runs is told by file locks, which the
//! kernel releases however a process ends: the supervisor holds `supervisor.log`, its standard output, and
//! what lives in the cluster's namespaces holds `init.log`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::network::Addresses;
use crate::cache::Cache;

/// Where the cluster's own directory is seen inside its mount namespace.
pub const INSIDE: &str = "/run/cluster";

/// What Certmint's accounts have asked the API server: an audit event in JSON on each line.
pub const AUDIT_LOG: &str = "audit.jsonl";

/// What a cluster is made of, written once before it starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// The cluster's name, a DNS label.
    pub name: String,
    /// No kubelet and no container runtime: just the API, its controllers and the scheduler.
    pub control_plane_only: bool,
    /// The directories with programs, as outside: each becomes `INSIDE/programs/<file name>`.
    pub programs: Vec<PathBuf>,
    /// How many images there are to import before the node is ready: `images/0.tar` and so on.
    pub images: usize,
    /// The name of the image that holds a pod's namespaces.
    pub pause_image: String,
    /// Of which families its addresses are.
    pub addresses: Addresses,
}

/// One cluster's directory.
#[derive(Debug, Clone)]
pub struct State {
    directory: PathBuf,
}

impl State {
    /// The directory of cluster `name`; it need not exist.
    #[must_use]
    pub fn of(cache: &Cache, name: &str) -> Self {
        Self { directory: cache.path("clusters").join(name) }
    }

    /// The directory at `path`.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { directory: path.to_path_buf() }
    }

    /// Every cluster that has a directory, running or not.
    ///
    /// # Errors
    /// When the directory of clusters cannot be read.
    pub fn all(cache: &Cache) -> Result<Vec<Self>> {
        let clusters = cache.path("clusters");
        if !clusters.exists() {
            return Ok(Vec::new());
        }
        let mut states = fs::read_dir(&clusters)
            .with_context(|| format!("cannot read {}", clusters.display()))?
            .map(|entry| Ok(Self { directory: entry?.path() }))
            .collect::<Result<Vec<_>>>()?;
        states.sort_by(|one, other| one.directory.cmp(&other.directory));
        Ok(states)
    }

    /// The directory itself.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A path in the directory.
    #[must_use]
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.directory.join(relative)
    }

    /// The cluster's name.
    #[must_use]
    pub fn name(&self) -> String {
        self.directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The cgroup under which kubelet keeps its pods, in every hierarchy.
    #[must_use]
    pub fn cgroup(&self) -> String {
        format!("certmint-{}", self.name())
    }

    /// Whether the supervisor runs.
    #[must_use]
    pub fn supervised(&self) -> bool {
        locked(&self.path("supervisor.log"))
    }

    /// Whether anything still runs in the cluster's namespaces.
    #[must_use]
    pub fn inhabited(&self) -> bool {
        locked(&self.path("init.log"))
    }

    /// Reads what the cluster is made of.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn spec(&self) -> Result<Spec> {
        let path = self.path("spec.json");
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not a cluster's", path.display()))
    }

    /// Writes what the cluster is made of.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_spec(&self, spec: &Spec) -> Result<()> {
        let text = serde_json::to_vec_pretty(spec)?;
        fs::write(self.path("spec.json"), text).context("cannot write the cluster's spec")
    }

    /// The process whose namespaces are the cluster's, as `unshare` runs it outside.
    ///
    /// # Errors
    /// When the cluster does not run.
    pub fn namespaces_of(&self) -> Result<u32> {
        if !self.supervised() {
            bail!("there is no cluster {}: start it with `cargo xtask cluster up --name {0}`", self.name());
        }
        let path = self.path("pid");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        text.trim().parse().with_context(|| format!("{} holds no pid", path.display()))
    }
}

/// Makes a log file and takes its lock for whoever inherits it.
///
/// # Errors
/// When it cannot be made, or is locked by another.
pub fn locked_log(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    file.try_lock().with_context(|| format!("{} is locked", path.display()))?;
    Ok(file)
}

fn locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_lives_as_long_as_its_file() {
        let directory = std::env::temp_dir().join(format!("certmint-state-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let state = State::at(&directory);
        assert!(!state.supervised());
        let log = locked_log(&state.path("supervisor.log")).unwrap();
        assert!(state.supervised());
        drop(log);
        assert!(!state.supervised());
        fs::remove_dir_all(&directory).unwrap();
    }
}
