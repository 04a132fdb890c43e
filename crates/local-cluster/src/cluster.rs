//! A Kubernetes cluster: a local cluster in its own Linux namespaces, or an existing cluster.

pub mod addons;
pub mod audit;
mod boot;
pub mod cgroups;
mod containers;
mod control_plane;
pub mod directory;
mod entry;
mod init;
mod mounts;
mod network;
mod node;
mod pki;
pub mod process;
mod role;
mod service;
mod start;
pub mod supervisor;

use std::fs;
use std::io::Write as _;
use std::process::{ChildStdin, Command};
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};

use self::directory::{ClusterDirectory, INSIDE};
pub use self::entry::run_as_cluster_process;
pub use self::network::Addresses;
use crate::cache::Cache;
use crate::images::Image;
use crate::kubectl::{CommandFactory, Kubectl};
use crate::{command, machine};

/// A Kubernetes cluster that runs.
#[derive(Debug)]
pub struct Cluster {
    cache: Cache,
    access: Access,
}

impl CommandFactory for Cluster {
    fn command(&self, program: &str) -> Command {
        Self::command(self, program)
    }
}

/// Properties of a local cluster.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Name of the cluster, a DNS label. Clusters that run at the same time need different names.
    pub name: String,
    /// Whether the cluster has no kubelet and no container runtime, for callers that need only the API.
    pub control_plane_only: bool,
}

/// Access to a cluster. For a local one, `unshare_pid` is the pid of its `unshare` process, whose namespaces `nsenter`
/// enters. A cluster that this process started ends when the pipe `lifeline` is closed.
#[derive(Debug)]
enum Access {
    Local { directory: ClusterDirectory, unshare_pid: u32, lifeline: Mutex<Option<ChildStdin>> },
    Existing { context: Option<String>, registry: Option<String> },
}

impl Cluster {
    /// Opens a local cluster that runs already.
    ///
    /// # Errors
    /// When this process does not run as root, or no cluster of that name runs.
    pub fn running(cache: &Cache, name: &str) -> Result<Self> {
        machine::require_root()?;
        let directory = ClusterDirectory::of(cache, name);
        let unshare_pid = directory.unshare_pid()?;
        Ok(Self {
            cache: cache.clone(),
            access: Access::Local { directory, unshare_pid, lifeline: Mutex::new(None) },
        })
    }

    /// Opens a cluster that is not a local one, by its kubectl context. Images are pushed to `registry`.
    ///
    /// # Errors
    /// When kubectl or helm is missing, or the cluster does not answer.
    pub fn existing(cache: &Cache, context: Option<&str>, registry: Option<&str>) -> Result<Self> {
        machine::require_program("kubectl", "--help", "install it to use an existing cluster")?;
        machine::require_program("helm", "--help", "install it to use an existing cluster")?;
        let access =
            Access::Existing { context: context.map(str::to_owned), registry: registry.map(str::to_owned) };
        let cluster = Self { cache: cache.clone(), access };
        cluster.kubectl().run(&["version"]).context("the cluster does not answer")?;
        Ok(cluster)
    }

    /// Returns a command that runs `program` with access to the cluster. For a local cluster, `program` runs inside the
    /// cluster's namespaces, with `KUBECONFIG` set and the cluster's programs in `PATH`. The current directory stays
    /// the same.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        match &self.access {
            Access::Local { directory, unshare_pid, .. } => {
                let path_of = |namespace: &str| format!("/proc/{unshare_pid}/ns/{namespace}");
                let programs = directory.spec().map(|spec| spec.programs).unwrap_or_default();
                let mut command = Command::new("nsenter");
                command
                    .arg(format!("--net={}", path_of("net")))
                    .arg(format!("--mount={}", path_of("mnt")))
                    .arg(format!("--uts={}", path_of("uts")))
                    .arg(format!("--ipc={}", path_of("ipc")))
                    .arg(format!("--pid={}", path_of("pid_for_children")))
                    .args(["--", "env", "--chdir"])
                    .arg(std::env::current_dir().unwrap_or_else(|_| "/".into()))
                    .arg(format!("KUBECONFIG={INSIDE}/kubeconfig"))
                    .arg(format!("PATH={}", boot::path_variable(&programs)))
                    .arg(program);
                command
            }
            Access::Existing { context, .. } => {
                let mut command = Command::new(program);
                match (program, context) {
                    ("kubectl", Some(context)) => drop(command.arg("--context").arg(context)),
                    ("helm", Some(context)) => drop(command.arg("--kube-context").arg(context)),
                    _ => {}
                }
                command
            }
        }
    }

    /// Returns kubectl for this cluster.
    #[must_use]
    pub fn kubectl(&self) -> Kubectl<'_> {
        Kubectl::new(self)
    }

    /// Makes `image` available to the cluster's pods, and returns the reference for their manifests.
    ///
    /// # Errors
    /// When the import or the push fails, or an existing cluster has no registry.
    pub fn provide(&self, image: &Image) -> Result<String> {
        match &self.access {
            Access::Local { .. } => {
                let mut ctr = self.command("ctr");
                ctr.args(["--address", node::RUNTIME_SOCKET, "--namespace=k8s.io", "images", "import"]);
                command::output_with_file(ctr.arg("-"), &image.tar())?;
                Ok(image.local_reference())
            }
            Access::Existing { registry: Some(registry), .. } => image.push(&self.cache, registry),
            Access::Existing { registry: None, .. } => {
                bail!("an existing cluster pulls images from a registry: name one with --registry")
            }
        }
    }

    /// Makes `image` available to a local cluster's pods under another reference, such as
    /// `docker.io/nginxinc/nginx-unprivileged:stable`. Manifests with that reference then run unchanged.
    ///
    /// # Errors
    /// As [`Self::provide`], or when the cluster is not a local one.
    pub fn provide_as(&self, image: &Image, reference: &str) -> Result<()> {
        self.directory()?;
        let local = self.provide(image)?;
        let mut ctr = self.command("ctr");
        ctr.args(["--address", node::RUNTIME_SOCKET, "--namespace=k8s.io", "images", "tag", "--force"]);
        command::output(ctr.args([&local, reference])).map(drop)
    }

    /// Kills a service (`kube-apiserver`, `kubelet`, …) of a local cluster, and keeps it down until
    /// [`Self::start_service`].
    ///
    /// # Errors
    /// When the cluster is not a local one.
    pub fn stop_service(&self, service: &str) -> Result<()> {
        fs::write(service::stop_file(self.directory()?, service), "").context("cannot stop the service")
    }

    /// Starts a service that [`Self::stop_service`] stopped.
    ///
    /// # Errors
    /// When the cluster is not a local one, or the service was not stopped.
    pub fn start_service(&self, service: &str) -> Result<()> {
        fs::remove_file(service::stop_file(self.directory()?, service)).context("the service was not stopped")
    }

    /// Lets a cluster that this process started continue to run after this process has ended.
    ///
    /// # Errors
    /// When the cluster has ended.
    pub fn keep(&self) -> Result<()> {
        if let Access::Local { lifeline, .. } = &self.access
            && let Ok(mut lifeline) = lifeline.lock()
            && let Some(mut pipe) = lifeline.take()
        {
            pipe.write_all(b"k").context("the cluster has ended")?;
        }
        Ok(())
    }

    /// Returns whether the cluster is a local one, which allows operations on its node and services.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self.access, Access::Local { .. })
    }

    /// Returns the cache that this cluster's programs and images come from.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Returns the directory of a local cluster.
    ///
    /// # Errors
    /// When the cluster is not a local one.
    pub fn directory(&self) -> Result<&ClusterDirectory> {
        match &self.access {
            Access::Local { directory, .. } => Ok(directory),
            Access::Existing { .. } => bail!("this is possible only with a local cluster"),
        }
    }

    /// Ends a local cluster and removes its files. Does nothing for an existing cluster.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn stop(self) -> Result<()> {
        match &self.access {
            Access::Local { directory, .. } => supervisor::stop(directory),
            Access::Existing { .. } => Ok(()),
        }
    }
}
