//! Container images for the clusters, built without a container engine and kept in the cache.

mod debian;
mod go_program;
mod oci;
mod system;
mod workspace;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

pub use self::debian::{envoy, gnutls, haproxy, java, nginx, node, postgres, python, tools};
pub use self::go_program::go_program;
pub use self::system::{COREDNS, PAUSE, metrics_server, system};
pub use self::workspace::{
    HOSTILE, PROFILE, TRAFFIC, WorkspaceProgram, build, release_images, workspace_image,
};
use crate::cache::{Cache, Key};
use crate::command;
use crate::components::CRANE;

/// A finished image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Name of the image, without registry and tag.
    pub name: String,
    /// Tag of the image: the first digits of its digest, so that each new content gets a new tag.
    pub tag: String,
    directory: PathBuf,
}

/// Kind of the cache entries of images. Change it together with the format that [`oci::write`] produces, so
/// that older entries are not used.
const KIND: &str = "images-2";

/// Registry in the references of images in a local cluster.
const LOCAL_REGISTRY: &str = "localhost";

impl Image {
    /// Opens the image in a directory that [`oci::write`] has filled.
    fn open(name: &str, directory: &Path) -> Result<Self> {
        let tag = fs::read_to_string(directory.join("tag"))
            .with_context(|| format!("{} does not contain an image", directory.display()))?;
        Ok(Self { name: name.to_owned(), tag, directory: directory.to_path_buf() })
    }

    /// Returns the reference for pods in a local cluster.
    #[must_use]
    pub fn local_reference(&self) -> String {
        self.reference(LOCAL_REGISTRY)
    }

    /// Returns the reference for pods that pull the image from `registry`.
    #[must_use]
    pub fn reference(&self, registry: &str) -> String {
        format!("{}/{}:{}", registry.trim_end_matches('/'), self.name, self.tag)
    }

    /// Returns the path of the image as a tar archive with an OCI layout, which `ctr`, `docker`, `podman` and
    /// `skopeo` read.
    #[must_use]
    pub fn tar(&self) -> PathBuf {
        self.directory.join("image.tar")
    }

    /// Returns the uncompressed size in bytes.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn size(&self) -> Result<u64> {
        Ok(fs::metadata(self.tar())?.len())
    }

    /// Unpacks the files of the image into the cache unless they are there, and returns their directory. A program runs there
    /// with `chroot`.
    ///
    /// # Errors
    /// When the image cannot be read or unpacked.
    pub fn unpacked(&self, cache: &Cache) -> Result<PathBuf> {
        cache.entry("unpacked", &self.name, &Key::default().text(&self.tag), |directory| {
            oci::unpack(&self.directory, directory)
        })
    }

    /// Pushes the image to `registry` with the credentials of `docker login`, and returns its reference there.
    ///
    /// # Errors
    /// When the registry rejects the image.
    pub fn push(&self, cache: &Cache, registry: &str) -> Result<String> {
        let reference = self.reference(registry);
        let crane = CRANE.build(cache)?.join("crane");
        command::output(Command::new(crane).arg("push").arg(self.directory.join("layout")).arg(&reference))?;
        Ok(reference)
    }
}
