//! Another mutation that adds containers once ours has run: a MutatingAdmissionPolicy, which the API server asks
//! again, as it does our webhook, whenever something has changed the pod.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::workload::await_pods;
use certmint_local_cluster::{images, installation};
use serde_json::{Value, json};

use super::create;
use super::shape::{Shape, shape};
use crate::story::PATIENCE;

const NAME: &str = "second-webhook";
const KEY: &str = "/var/run/secrets/certmint.dev/tls.key";

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    cluster.kubectl().require_resource(
        "admissionregistration.k8s.io/v1",
        "mutatingadmissionpolicies",
        "1.36",
    )?;
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, NAME, &[])?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    let outcome = step("a mutation is there that adds a container to what we have injected", || {
        kubectl.apply(&policy(&image).to_string())?;
        kubectl.apply(&binding().to_string()).map(drop)
    })
    .and_then(|()| added(&kubectl, &image));
    // It is no namespace's, so it does not go with ours.
    for kind in ["mutatingadmissionpolicybinding", "mutatingadmissionpolicy"] {
        kubectl.delete(&[kind, NAME])?;
    }
    outcome
}

fn added(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    step("the API server applies it", || {
        wait::until("the added container in a dry run", PATIENCE, || {
            let heard =
                create(kubectl, &["--dry-run=server", "--output=json"], &pod("trial", image).to_string())?;
            let there = heard.printed.contains("\"late\"");
            Ok(if there { Observed::Yes(()) } else { Observed::NotYet(heard.told.join("\n")) })
        })
    })?;
    let pod = step("a pod comes up with it", || {
        kubectl.apply(&pod(NAME, image).to_string())?;
        let pods = await_pods(kubectl, super::shape::APP, true)?;
        pods.into_iter().next().context("there is no pod")
    })?;
    step("our container is there once, and stays where it was", || {
        let inits = pod["spec"]["initContainers"].as_array().into_iter().flatten();
        let inits: Vec<_> = inits.filter_map(|init| init["name"].as_str()).collect();
        ensure!(inits == ["early", "certmint"], "the init containers are {inits:?}");
        Ok(())
    })?;
    step("the added container reads the key", || {
        for container in ["app", "late"] {
            kubectl.exec(NAME, container, &["grep", "-q", "PRIVATE KEY", KEY])?;
        }
        Ok(())
    })
}

fn pod(name: &'static str, image: &str) -> Value {
    let shape: Shape = shape(name);
    shape.manifest(image)
}

/// Adds an init container before ours and a container after the app's, to pods that carry our label.
fn policy(image: &str) -> Value {
    let early = format!(
        r#"JSONPatch{{op: "add", path: "/spec/initContainers/0", value: Object.spec.initContainers{{name: "early", image: "{image}", command: ["true"]}}}}"#
    );
    let late = format!(
        r#"JSONPatch{{op: "add", path: "/spec/containers/-", value: Object.spec.containers{{name: "late", image: "{image}"}}}}"#
    );
    // A condition of the mutation, not of the match: the API server asks only those again that matched at first.
    let expression = format!(
        "object.metadata.?labels['certmint.dev/injected'].orValue('') == 'true' && !object.spec.containers.exists(container, container.name == 'late') ? [{early}, {late}] : []"
    );
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": { "name": NAME },
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "IfNeeded",
            "matchConstraints": { "resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
            }] },
            "mutations": [{ "patchType": "JSONPatch", "jsonPatch": { "expression": expression } }],
        },
    })
}

fn binding() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": { "name": NAME },
        "spec": {
            "policyName": NAME,
            "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": NAME } } },
        },
    })
}
