//! The owners of injected pods.
//!
//! The scenario `ownership` creates injected pods whose owner is not an ordinary opted-in workload. The owner is a
//! custom resource, or it has opted out, or its pod template now names another service account, or it opted in or out
//! while the API server did not call the webhook.
//!
//! It asserts that each injected pod gets a certificate. It also asserts that an Event on the owner names a command,
//! and that this command repairs the owner.

mod finished_jobs;
mod foreign_owners;
mod stalled_rollout;
mod without_webhook;

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::workload::{manifest, pod_template};
use certmint_local_cluster::{images, installation};
use serde_json::{Value, json};

use super::Scenario;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "ownership",
    shows: "Every injected pod gets a certificate, also one with a foreign owner; an Event on the owner names the command that repairs a missed change.",
    run,
}];

const NAME: &str = "ownership";

/// The cluster, kubectl for the scenario's namespace, and the image of all containers.
struct OwnershipFixture<'a> {
    cluster: &'a Cluster,
    kubectl: Kubectl<'a>,
    image: String,
}

fn run(cluster: &Cluster) -> Result<()> {
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let kubectl = create_namespace(cluster, NAME, &[])?;
    // The ConfigMap takes the place of a custom resource.
    kubectl.run(&["create", "configmap", "operator"])?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    let fixture = OwnershipFixture { cluster, kubectl, image };
    step("a rollout to another service account starts and stalls", || stalled_rollout::start(&fixture))?;
    step("a CronJob opts out between two attempts of a Job", || {
        finished_jobs::opt_out_between_attempts(&fixture)
    })?;
    step("workloads that a custom resource controls get certificates", || {
        foreign_owners::assert_controlled_workloads_have_certificates(&fixture)
    })?;
    step("pods whose owner cannot opt in get certificates", || {
        foreign_owners::assert_standalone_pods_have_certificates(&fixture)
    })?;
    step("a finished Job does not get a new Secret", || {
        finished_jobs::assert_finished_job_ignored(&fixture)
    })?;
    step("the Job's second attempt had its certificate", || {
        finished_jobs::assert_second_attempt_had_certificate(&fixture)
    })?;
    without_webhook::opt_in(&fixture)?;
    without_webhook::opt_out(&fixture)?;
    step("the pod of the stalled rollout has a certificate for its own account", || {
        stalled_rollout::wait_for_own_certificate(&fixture)
    })
}

impl OwnershipFixture<'_> {
    /// Returns a workload of a kind with these annotations on the object.
    fn workload(&self, kind: &str, name: &str, annotations: &Value) -> Value {
        manifest(kind, name, &self.image, annotations)
    }

    fn apply(&self, object: &Value) -> Result<()> {
        self.kubectl.apply(&object.to_string()).map(drop)
    }

    /// Returns an owner reference to the ConfigMap that takes the place of a custom resource.
    fn custom_resource_reference(&self) -> Result<Value> {
        let operator = self.kubectl.get(&["configmap", "operator"])?;
        let uid = &operator["metadata"]["uid"];
        Ok(
            json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "operator", "uid": uid, "controller": true }]),
        )
    }

    /// Waits until the Secret exists, and returns it.
    fn wait_for_secret(&self, name: &str) -> Result<Value> {
        wait::until(&format!("Secret {name}"), DEFAULT_TIMEOUT, || {
            let secrets =
                self.kubectl.list(&["secrets", &format!("--field-selector=metadata.name={name}")])?;
            Ok(match secrets.into_iter().next() {
                Some(secret) => Check::Passed(secret),
                None => Check::NotYet("the Secret does not exist".to_owned()),
            })
        })
    }

    /// Waits for an Event with this reason about the object, and returns its message.
    fn wait_for_event(&self, kind: &str, name: &str, reason: &str) -> Result<String> {
        let of =
            format!("--field-selector=reason={reason},involvedObject.kind={kind},involvedObject.name={name}");
        wait::until(&format!("an Event {reason} on {kind} {name}"), DEFAULT_TIMEOUT, || {
            let events = self.kubectl.list(&["events", &of])?;
            Ok(match events.first().and_then(|event| event["message"].as_str()) {
                Some(message) => Check::Passed(message.to_owned()),
                None => Check::NotYet("there is none".to_owned()),
            })
        })
    }

    /// Runs the kubectl command at the end of an Event's message.
    fn run_command_of(&self, message: &str) -> Result<()> {
        let (_, command) = message.rsplit_once("run: kubectl ").unwrap_or_default();
        ensure!(!command.is_empty(), "the message does not end with a command: {message}");
        let words: Vec<&str> = command.split_whitespace().collect();
        self.cluster.kubectl().run(&words).map(drop)
    }
}

/// Returns the name of the first pod.
fn first_name(pods: &[Value]) -> Result<&str> {
    pods.first().and_then(|pod| pod["metadata"]["name"].as_str()).context("there is no pod")
}

/// Returns the object with annotations on its pod template only.
fn with_template_annotations(mut object: Value, annotations: &Value) -> Value {
    let mut template = pod_template(&object).clone();
    template["metadata"]["annotations"] = annotations.clone();
    match object["kind"].as_str() {
        Some("CronJob") => object["spec"]["jobTemplate"]["spec"]["template"] = template,
        _ => object["spec"]["template"] = template,
    }
    object
}
