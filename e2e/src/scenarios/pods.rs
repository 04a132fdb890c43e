//! Any pod: whatever its shape, it gets its certificate, readable by its own user, or hears why not.

mod admission_controllers;
mod answers;
mod any_pod;
mod full_volume;
mod jobs_finish;
mod node_restart;
mod second_webhook;
mod shape;
mod shapes;
mod volume;
mod waiting;

use anyhow::Result;
use certmint_local_cluster::command;
use certmint_local_cluster::kubectl::Kubectl;

use super::Scenario;

/// What is shown of pods.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "any-pod",
        shows: "Pods of every shape get a key that their own user can read, or are told what is in the way.",
        run: any_pod::run,
    },
    Scenario {
        name: "second-webhook",
        shows: "Containers that another mutation adds after ours get the certificate too.",
        run: second_webhook::run,
    },
    Scenario {
        name: "admission-controllers",
        shows: "What other admission controllers change in our container stays, and what they demand holds for it.",
        run: admission_controllers::run,
    },
    Scenario {
        name: "jobs-finish",
        shows: "Jobs and CronJobs end, fail and run out of time as they would without the sidecar.",
        run: jobs_finish::run,
    },
    Scenario {
        name: "node-restart",
        shows: "After a restart of the node, pods come back with their certificate without the controller.",
        run: node_restart::run,
    },
    Scenario {
        name: "waiting",
        shows: "A pod waits for its certificate as long as it takes, through restarts of kubelet and containerd.",
        run: waiting::run,
    },
    Scenario {
        name: "full-volume",
        shows: "Without room for a new certificate the old one stays, and the new one follows when there is room.",
        run: full_volume::run,
    },
];

/// What a user hears from kubectl, whether it worked or not.
struct Heard {
    accepted: bool,
    printed: String,
    /// The lines on standard error.
    told: Vec<String>,
}

/// `kubectl create ARGUMENTS`, with the manifest on its standard input.
fn create(kubectl: &Kubectl<'_>, arguments: &[&str], manifest: &str) -> Result<Heard> {
    let mut create = kubectl.command(&[&["create", "--filename=-"], arguments].concat());
    let output = command::outcome(&mut create, manifest)?;
    let told = String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(Heard { accepted: output.status.success(), printed, told })
}
