//! Whose workload a pod is: an injected pod is always served, or its owner is told why.

mod alone;
mod ended;
mod owners;
mod without_webhook;

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::workload::{manifest, template};
use certmint_local_cluster::{images, installation};
use serde_json::{Value, json};

use super::Scenario;
use crate::story::PATIENCE;

/// What is shown of it.
pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "ownership",
    shows: "Whatever owns an injected pod, and whatever was changed without the webhook, the pod is served, and its owner told what to type.",
    run,
}];

const NAME: &str = "ownership";

/// Where it happens.
struct Scene<'a> {
    cluster: &'a Cluster,
    kubectl: Kubectl<'a>,
    image: String,
}

fn run(cluster: &Cluster) -> Result<()> {
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, NAME, &[])?;
    kubectl.run(&["create", "configmap", "operator", "--from-literal=stands-for=a custom resource"])?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    let scene = Scene { cluster, kubectl, image };
    step("a rollout to another service account begins, and stalls", || alone::stall(&scene))?;
    step("a CronJob opts out between two tries of a Job", || ended::opt_out_between_tries(&scene))?;
    step("what an operator's object controls is served, also when it is adopted later", || {
        owners::controlled(&scene)
    })?;
    step("so are pods whose owner cannot opt in", || owners::unknown(&scene))?;
    step("a Job that has finished is left alone", || ended::finished(&scene))?;
    step("the Job's second try has its certificate", || ended::second_try(&scene))?;
    without_webhook::opt_ins(&scene)?;
    without_webhook::opt_out(&scene)?;
    step("the pod of the stalled rollout has a certificate for its own account", || alone::served(&scene))
}

impl Scene<'_> {
    /// A workload of the kind with these annotations on the object.
    fn workload(&self, kind: &str, name: &str, annotations: &Value) -> Value {
        manifest(kind, name, &self.image, annotations)
    }

    fn apply(&self, object: &Value) -> Result<()> {
        self.kubectl.apply(&object.to_string()).map(drop)
    }

    /// The owner reference of a custom resource.
    fn operator(&self) -> Result<Value> {
        let operator = self.kubectl.get(&["configmap", "operator"])?;
        let uid = &operator["metadata"]["uid"];
        Ok(
            json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "operator", "uid": uid, "controller": true }]),
        )
    }

    /// Waits until the Secret is there, and returns it.
    fn secret(&self, name: &str) -> Result<Value> {
        wait::until(&format!("Secret {name}"), PATIENCE, || {
            let secrets =
                self.kubectl.list(&["secrets", &format!("--field-selector=metadata.name={name}")])?;
            Ok(match secrets.into_iter().next() {
                Some(secret) => Observed::Yes(secret),
                None => Observed::NotYet("it is not there".to_owned()),
            })
        })
    }

    /// Waits until an Event with that reason stands on the object, and returns what it says.
    fn event(&self, kind: &str, name: &str, reason: &str) -> Result<String> {
        let of =
            format!("--field-selector=reason={reason},involvedObject.kind={kind},involvedObject.name={name}");
        wait::until(&format!("an Event {reason} on {kind} {name}"), PATIENCE, || {
            let events = self.kubectl.list(&["events", &of])?;
            Ok(match events.first().and_then(|event| event["message"].as_str()) {
                Some(message) => Observed::Yes(message.to_owned()),
                None => Observed::NotYet("there is none".to_owned()),
            })
        })
    }

    /// Runs the command that a message ends with, exactly as it stands there.
    fn obey(&self, message: &str) -> Result<()> {
        let (_, command) = message.rsplit_once("run: kubectl ").unwrap_or_default();
        ensure!(!command.is_empty(), "this says no command: {message}");
        let words: Vec<&str> = command.split_whitespace().collect();
        self.cluster.kubectl().run(&words).map(drop)
    }
}

/// The name of the first of some pods.
fn first_name(pods: &[Value]) -> Result<&str> {
    pods.first().and_then(|pod| pod["metadata"]["name"].as_str()).context("there is no pod")
}

/// The object with annotations on its pod template only.
fn templated(mut object: Value, annotations: &Value) -> Value {
    let mut template = template(&object).clone();
    template["metadata"]["annotations"] = annotations.clone();
    match object["kind"].as_str() {
        Some("CronJob") => object["spec"]["jobTemplate"]["spec"]["template"] = template,
        _ => object["spec"]["template"] = template,
    }
    object
}
