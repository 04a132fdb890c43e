//! MutatingAdmissionPolicies that change all new pods of a namespace, for the scenario `admission-controllers`.

use anyhow::Result;
use certmint_local_cluster::kubectl::Kubectl;
use serde_json::json;

/// Key of the label by which [`delete_policies`] selects the policies. They are not in the scenario's namespaces.
const LABEL_KEY: &str = "certmint-e2e";
/// Value of that label.
const LABEL_VALUE: &str = "admission-controllers";

/// Returns a CEL expression that sets these fields on every container. In `fields`, `LIST` is replaced by the name of
/// the container list.
pub(super) fn each_container(fields: &str) -> String {
    let [init, apps] = ["initContainers", "containers"].map(|list| {
        let fields = fields.replace("LIST", list);
        format!("{list}: object.spec.?{list}.orValue([]).map(c, Object.spec.{list}{{{fields}}})")
    });
    format!("Object{{spec: Object.spec{{{init}, {apps}}}}}")
}

/// Creates a policy that changes all new pods of one namespace. Policy and namespace have the same name.
pub(super) fn create_policy(kubectl: &Kubectl<'_>, name: &str, expression: &str) -> Result<()> {
    let metadata = json!({ "name": name, "labels": { LABEL_KEY: LABEL_VALUE } });
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": metadata,
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "IfNeeded",
            "matchConstraints": { "resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
            }] },
            "mutations": [{
                "patchType": "ApplyConfiguration", "applyConfiguration": { "expression": expression },
            }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": metadata,
        "spec": {
            "policyName": name,
            "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": name } } },
        },
    });
    kubectl.apply(&policy.to_string())?;
    kubectl.apply(&binding.to_string()).map(drop)
}

/// Deletes the policies that [`create_policy`] has created, and their bindings.
pub(super) fn delete_policies(kubectl: &Kubectl<'_>) -> Result<()> {
    let selector = format!("--selector={LABEL_KEY}={LABEL_VALUE}");
    for kind in ["mutatingadmissionpolicybindings", "mutatingadmissionpolicies"] {
        kubectl.delete(&[kind, &selector])?;
    }
    Ok(())
}
