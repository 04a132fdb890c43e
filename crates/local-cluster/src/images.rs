//! The images that clusters run, made without a container engine and kept in the cache.

mod debian;
mod go_program;
mod oci;
mod system;
mod workspace;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

pub use self::debian::{envoy, haproxy, java, nginx, node, postgres, python, tools};
pub use self::go_program::go_program;
pub use self::system::{COREDNS, PAUSE, metrics_server, system};
pub use self::workspace::{HOSTILE, PROFILE, Program, TRAFFIC, build, from_workspace, ours};
use crate::cache::Cache;
use crate::command;
use crate::components::CRANE;

/// An image that is ready to be given to a cluster.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its name, without registry and tag.
    pub name: String,
    /// The first digits of its digest: what is in it decides its tag, so that a new build is a new name.
    pub tag: String,
    directory: PathBuf,
}

/// The kind of cache entry that images are. It changes with the form in which [`oci::write`] leaves them, so
/// that older entries are not taken for newer ones.
const KIND: &str = "images-2";

/// Where images are said to come from in a local cluster.
const LOCAL_REGISTRY: &str = "localhost";

impl Image {
    /// The image in a directory that [`oci::write`] has filled.
    fn open(name: &str, directory: &Path) -> Result<Self> {
        let tag = fs::read_to_string(directory.join("tag"))
            .with_context(|| format!("{} holds no image", directory.display()))?;
        Ok(Self { name: name.to_owned(), tag, directory: directory.to_path_buf() })
    }

    /// What pods name it by in a local cluster.
    #[must_use]
    pub fn local_reference(&self) -> String {
        self.reference(LOCAL_REGISTRY)
    }

    /// What pods name it by when it comes from `registry`.
    #[must_use]
    pub fn reference(&self, registry: &str) -> String {
        format!("{}/{}:{}", registry.trim_end_matches('/'), self.name, self.tag)
    }

    /// The image as a tar with an OCI layout, that `ctr`, `docker`, `podman` and `skopeo` read.
    #[must_use]
    pub fn tar(&self) -> PathBuf {
        self.directory.join("image.tar")
    }

    /// Its size in bytes, uncompressed.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn size(&self) -> Result<u64> {
        Ok(fs::metadata(self.tar())?.len())
    }

    /// Pushes the image to `registry`, with the credentials that docker login keeps, and returns its
    /// reference there.
    ///
    /// # Errors
    /// When the registry refuses it.
    pub fn push(&self, cache: &Cache, registry: &str) -> Result<String> {
        let reference = self.reference(registry);
        let crane = CRANE.build(cache)?.join("crane");
        command::output(Command::new(crane).arg("push").arg(self.directory.join("layout")).arg(&reference))?;
        Ok(reference)
    }
}
