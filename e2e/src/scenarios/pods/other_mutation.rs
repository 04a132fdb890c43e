//! The scenario `other-mutation` has a MutatingAdmissionPolicy that adds containers to a pod after Certmint has
//! injected it. The API server then calls Certmint's webhook again.
//!
//! It asserts that the added container can read the key, and that the pod has the certmint-fetch container once, in
//! the right place.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::workload::wait_for_injected_pods;
use certmint_local_cluster::{images, installation};
use serde_json::{Value, json};

use super::pod_case::{APP, pod_case};
use super::{KEY, create, require_mutating_policies};

const NAME: &str = "other-mutation";

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    require_mutating_policies(cluster)?;
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let kubectl = create_namespace(cluster, NAME, &[])?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    let result = step("a policy adds containers to injected pods", || {
        kubectl.apply(&policy(&image).to_string())?;
        kubectl.apply(&binding().to_string()).map(drop)
    })
    .and_then(|()| assert_added_container(&kubectl, &image));
    // The policy and its binding have no namespace, so they are not deleted with the namespace of the scenario.
    for kind in ["mutatingadmissionpolicybinding", "mutatingadmissionpolicy"] {
        kubectl.delete(&[kind, NAME])?;
    }
    result
}

fn assert_added_container(kubectl: &Kubectl<'_>, image: &str) -> Result<()> {
    step("the API server applies the policy", || {
        wait::until("the added container in a dry run", DEFAULT_TIMEOUT, || {
            let trial = pod_case("trial").manifest(image).to_string();
            let result = create(kubectl, &["--dry-run=server", "--output=json"], &trial)?;
            let added = result.stdout.contains("\"late\"");
            Ok(if added { Check::Passed(()) } else { Check::NotYet(result.stderr_lines.join("\n")) })
        })
    })?;
    let pod = step("a pod with the added containers starts", || {
        kubectl.apply(&pod_case(NAME).manifest(image).to_string())?;
        let pods = wait_for_injected_pods(kubectl, APP)?;
        pods.into_iter().next().context("there is no pod")
    })?;
    step("the pod has the certmint-fetch container once, after the added init container", || {
        let inits = pod["spec"]["initContainers"].as_array().into_iter().flatten();
        let inits: Vec<_> = inits.filter_map(|init| init["name"].as_str()).collect();
        ensure!(inits == ["early", "certmint"], "the init containers are {inits:?}");
        Ok(())
    })?;
    step("the container app and the added container can read the key", || {
        for container in ["app", "late"] {
            kubectl.exec(NAME, container, &["grep", "-q", "PRIVATE KEY", KEY])?;
        }
        Ok(())
    })
}

/// Returns a policy that adds the init container `early` before the certmint-fetch container, and the container `late`
/// after the container `app`.
fn policy(image: &str) -> Value {
    let early = format!(
        r#"JSONPatch{{op: "add", path: "/spec/initContainers/0", value: Object.spec.initContainers{{name: "early", image: "{image}", command: ["true"]}}}}"#
    );
    let late = format!(
        r#"JSONPatch{{op: "add", path: "/spec/containers/-", value: Object.spec.containers{{name: "late", image: "{image}"}}}}"#
    );
    // This condition is part of the mutation and not of the match conditions: the API server calls a policy again
    // only when it matched the first time.
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
