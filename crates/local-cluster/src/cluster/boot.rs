//! Starts all services inside a cluster's namespaces, in the order of their dependencies.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::pki::Pki;
use super::service::Services;
use super::state::{INSIDE, Spec, State};
use super::{control_plane, mounts, network, node};
use crate::command;
use crate::kubectl::is_true;
use crate::progress::human;
use crate::wait::{self, Check};

/// Limit for the start of each service, for a loaded machine.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Boots the cluster in `directory`, and runs until the cluster ends. When the cluster is ready, the duration
/// is in the file `ready`. When the boot fails, the error is in the file `failed`.
///
/// # Errors
/// When a service does not start.
pub(super) fn run(directory: &Path) -> Result<()> {
    let start = Instant::now();
    let outside = State::at(directory);
    let (state, booted) = match prepare(&outside) {
        Ok((inside, spec)) => {
            let booted = boot(&inside, &spec, &outside.cgroup());
            (inside, booted)
        }
        Err(error) => (outside, Err(error)),
    };
    match booted {
        Ok(_services) => {
            publish(&state, "ready", &human(start.elapsed()))?;
            loop {
                thread::park();
            }
        }
        Err(error) => {
            publish(&state, "failed", &format!("{error:#}"))?;
            Err(error)
        }
    }
}

/// Returns the value of `PATH` in a cluster: its own programs before the machine's.
#[must_use]
pub(super) fn path_variable(programs: &[PathBuf]) -> String {
    let own = programs.iter().filter_map(|program| program.file_name());
    let own = own.map(|name| format!("{INSIDE}/programs/{}:", name.to_string_lossy())).collect::<String>();
    let machine = std::env::var("PATH").unwrap_or_default();
    format!("{own}{machine}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
}

fn prepare(outside: &State) -> Result<(State, Spec)> {
    let spec = outside.spec()?;
    mounts::mount_all(outside, &spec.programs)?;
    network::up(&spec.name, spec.addresses)?;
    Ok((State::at(Path::new(INSIDE)), spec))
}

fn boot(state: &State, spec: &Spec, cgroup: &str) -> Result<Services> {
    let addresses = spec.addresses;
    let services = Services::new(state.clone());
    let imported = if spec.control_plane_only {
        None
    } else {
        services.start(node::containerd(state.directory(), &spec.pause_image, addresses)?)?;
        Some(import_images(spec.images, state))
    };
    services.start(control_plane::etcd(state.directory()))?;
    let pki = Pki::make(&state.path("pki"), node::NAME, addresses)?;
    fs::copy(pki.kubeconfig_of("admin"), state.path("kubeconfig"))?;
    services.start(control_plane::api_server(state.directory(), &pki, addresses)?)?;
    wait::until("the API server to be ready", START_TIMEOUT, || {
        kubectl(state, &["get", "--raw", "/readyz"]).map(Check::Passed)
    })?;
    services.start(control_plane::controller_manager(&pki))?;
    services.start(control_plane::scheduler(&pki))?;
    let Some(imported) = imported else {
        return Ok(services);
    };
    services.start(node::kubelet(state.directory(), &pki, cgroup, addresses)?)?;
    services.start(node::kube_proxy(state.directory(), &pki, addresses)?)?;
    imported.recv().context("the import of images ended early")??;
    wait::until("the node to be ready", START_TIMEOUT, || {
        let node: Value = serde_json::from_str(&kubectl(state, &["get", "node", node::NAME, "-o", "json"])?)?;
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
fn import_images(count: usize, state: &State) -> mpsc::Receiver<Result<()>> {
    let (done, imported) = mpsc::channel();
    let images = state.path("images");
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
        // The receiver is gone only when the boot has failed already.
        drop(done.send(result));
    });
    imported
}

fn kubectl(state: &State, arguments: &[&str]) -> Result<String> {
    command::output(Command::new("kubectl").arg("--kubeconfig").arg(state.path("kubeconfig")).args(arguments))
}

fn publish(state: &State, name: &str, text: &str) -> Result<()> {
    let unfinished = state.path(format!("{name}.unfinished"));
    fs::write(&unfinished, text)?;
    fs::rename(&unfinished, state.path(name)).context("cannot publish the state of the boot")
}
