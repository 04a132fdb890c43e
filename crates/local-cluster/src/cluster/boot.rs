//! Starts all services inside a cluster's namespaces, in the order of their dependencies.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::directory::{ClusterDirectory, ClusterSpec, INSIDE};
use super::pki::Pki;
use super::service::Services;
use super::{control_plane, mounts, network, node};
use crate::command;
use crate::kubectl::is_true;
use crate::progress::human;
use crate::wait::{self, Check};

/// Limit for the start of each service. It is long enough for a loaded machine.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Boots the cluster in `directory`, and runs until the cluster ends. When the cluster is ready, writes the duration of
/// the boot to the file `ready`. When the boot fails, writes the error to the file `failed`.
///
/// # Errors
/// When a service does not start.
pub(super) fn run(directory: &Path) -> Result<()> {
    let start = Instant::now();
    let outside = ClusterDirectory::at(directory);
    // Until the mounts are in place, the cluster's directory has its path on the machine. After that, its path is
    // `INSIDE`.
    let (directory, booted) = match prepare(&outside) {
        Ok((inside, spec)) => {
            let booted = boot(&inside, &spec, &outside.cgroup());
            (inside, booted)
        }
        Err(error) => (outside, Err(error)),
    };
    match booted {
        // The thread that watches the services runs as long as this value exists.
        Ok(_services) => {
            publish(&directory, "ready", &human(start.elapsed()))?;
            loop {
                thread::park();
            }
        }
        Err(error) => {
            publish(&directory, "failed", &format!("{error:#}"))?;
            Err(error)
        }
    }
}

/// Returns the value of `PATH` in a cluster: its own programs before the machine's.
#[must_use]
pub(super) fn path_variable(programs: &[PathBuf]) -> String {
    let own_path = programs.iter().filter_map(|program| program.file_name());
    let own_path =
        own_path.map(|name| format!("{INSIDE}/programs/{}:", name.to_string_lossy())).collect::<String>();
    let machine = std::env::var("PATH").unwrap_or_default();
    format!("{own_path}{machine}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
}

fn prepare(outside: &ClusterDirectory) -> Result<(ClusterDirectory, ClusterSpec)> {
    let spec = outside.spec()?;
    mounts::mount_all(outside, &spec.programs)?;
    network::up(&spec.name, spec.addresses)?;
    Ok((ClusterDirectory::at(Path::new(INSIDE)), spec))
}

fn boot(directory: &ClusterDirectory, spec: &ClusterSpec, cgroup: &str) -> Result<Services> {
    let addresses = spec.addresses;
    let services = Services::new(directory.clone());
    let imported = if spec.control_plane_only {
        None
    } else {
        services.start(node::containerd(directory.root(), &spec.pause_image, addresses)?)?;
        Some(import_images(spec.images, directory))
    };
    services.start(control_plane::etcd(directory.root()))?;
    let pki = Pki::create(&directory.path("pki"), node::NAME, addresses)?;
    fs::copy(pki.kubeconfig_of("admin"), directory.path("kubeconfig"))?;
    services.start(control_plane::api_server(directory.root(), &pki, addresses)?)?;
    wait::until("the API server to be ready", START_TIMEOUT, || {
        kubectl(directory, &["get", "--raw", "/readyz"]).map(Check::Passed)
    })?;
    services.start(control_plane::controller_manager(&pki))?;
    services.start(control_plane::scheduler(&pki))?;
    let Some(imported) = imported else {
        return Ok(services);
    };
    services.start(node::kubelet(directory.root(), &pki, cgroup, addresses)?)?;
    services.start(node::kube_proxy(directory.root(), &pki, addresses)?)?;
    imported.recv().context("the import of images ended early")??;
    wait::until("the node to be ready", START_TIMEOUT, || {
        let node: Value =
            serde_json::from_str(&kubectl(directory, &["get", "node", node::NAME, "-o", "json"])?)?;
        let mut unproxied = Vec::new();
        for family in addresses.families() {
            let table = Command::new("nft").args(["list", "table", family.nft, "kube-proxy"]).output()?;
            unproxied.extend((!table.status.success()).then_some(family.nft));
        }
        Ok(if !is_true(&node, "Ready") {
            Check::NotYet(format!("node conditions {}", node["status"]["conditions"]))
        } else if !unproxied.is_empty() {
            Check::NotYet(format!("kube-proxy has not set up Services for {}", unproxied.join(", ")))
        } else {
            Check::Passed(())
        })
    })?;
    Ok(services)
}

/// Imports images while the control plane starts.
fn import_images(count: usize, directory: &ClusterDirectory) -> mpsc::Receiver<Result<()>> {
    let (done, imported) = mpsc::channel();
    let images = directory.path("images");
    thread::spawn(move || {
        let result = wait::until("the container runtime to listen", START_TIMEOUT, || {
            let mut ctr = Command::new("ctr");
            ctr.args(["--address", node::RUNTIME_SOCKET, "version"]);
            command::output(&mut ctr).map(Check::Passed)
        })
        .and_then(|_| {
            (0..count).try_for_each(|number| {
                let tar = images.join(format!("{number}.tar"));
                let mut ctr = Command::new("ctr");
                ctr.args(["--address", node::RUNTIME_SOCKET, "--namespace=k8s.io", "images", "import"])
                    .arg(tar);
                command::output(&mut ctr).map(drop)
            })
        });
        // An error means that the receiver was dropped, because the boot has already failed.
        drop(done.send(result));
    });
    imported
}

fn kubectl(directory: &ClusterDirectory, arguments: &[&str]) -> Result<String> {
    command::output(
        Command::new("kubectl").arg("--kubeconfig").arg(directory.path("kubeconfig")).args(arguments),
    )
}

fn publish(directory: &ClusterDirectory, name: &str, text: &str) -> Result<()> {
    let unfinished = directory.path(format!("{name}.unfinished"));
    fs::write(&unfinished, text)?;
    fs::rename(&unfinished, directory.path(name)).context("cannot publish the result of the boot")
}
