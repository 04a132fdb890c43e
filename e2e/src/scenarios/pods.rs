//! Pods of every kind: their certificate, the file modes, and their lifecycle.

mod admission_controllers;
mod any_pod;
mod certificate_volume;
mod full_volume;
mod jobs_finish;
mod namespace_policies;
mod node_restart;
mod other_mutation;
mod pod_case;
mod pod_cases;
mod rejections_and_warnings;
mod waiting;

use anyhow::Result;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::command;
use certmint_local_cluster::kubectl::Kubectl;

use super::Scenario;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "any-pod",
        shows: "In pods of every kind the application's user can read the key, or the webhook says what prevents it.",
        run: any_pod::run,
    },
    Scenario {
        name: "other-mutation",
        shows: "Containers that another admission controller adds after Certmint get the certificate too.",
        run: other_mutation::run,
    },
    Scenario {
        name: "admission-controllers",
        shows: "Changes of other admission controllers to the certmint-fetch container stay, and it satisfies their rules.",
        run: admission_controllers::run,
    },
    Scenario {
        name: "jobs-finish",
        shows: "Jobs and CronJobs complete, fail and time out as they do without Certmint.",
        run: jobs_finish::run,
    },
    Scenario {
        name: "node-restart",
        shows: "After a restart of the node, pods run with their certificate again, without the controller.",
        run: node_restart::run,
    },
    Scenario {
        name: "waiting",
        shows: "A pod waits for its certificate without a limit, and restarts of kubelet and containerd do not end the wait.",
        run: waiting::run,
    },
    Scenario {
        name: "full-volume",
        shows: "On a full volume the old certificate stays, and the new one is published when there is space.",
        run: full_volume::run,
    },
];

/// Path of the private key in a container.
const KEY: &str = "/var/run/secrets/certmint.dev/tls.key";

/// Result of a kubectl command that can fail.
struct KubectlResult {
    /// Whether kubectl succeeded.
    accepted: bool,
    stdout: String,
    stderr_lines: Vec<String>,
}

/// Runs `kubectl create ARGUMENTS` with the manifest on its standard input.
fn create(kubectl: &Kubectl<'_>, arguments: &[&str], manifest: &str) -> Result<KubectlResult> {
    let mut create = kubectl.command(&[&["create", "--filename=-"], arguments].concat());
    let output = command::outcome(&mut create, manifest)?;
    let stderr_lines = String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(KubectlResult { accepted: output.status.success(), stdout, stderr_lines })
}

/// Checks that the API server serves MutatingAdmissionPolicies, which the scenarios use as other admission controllers.
fn require_mutating_policies(cluster: &Cluster) -> Result<()> {
    let api = "admissionregistration.k8s.io/v1";
    cluster.kubectl().require_resource(api, "mutatingadmissionpolicies", "1.36")
}
