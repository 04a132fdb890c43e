//! Tests of the notes that `helm install` prints: next commands, remaining objects, and warnings about values.

use anyhow::{Result, ensure};

use crate::chart::{Chart, NAMESPACE};
use crate::value_sets::ValueSet;

/// Text of a warning, and the text in a value set that causes it.
const WARNINGS: [(&str, &str); 8] = [
    ("WARNING: webhook.failurePolicy is Ignore", r#""failurePolicy":"Ignore""#),
    ("WARNING: webhook.workloadFailurePolicy is Ignore", r#""workloadFailurePolicy":"Ignore""#),
    ("leave objects out", r#""objectSelector":"#),
    ("WARNING: webhook.replicas is 1", r#"webhook={"replicas":1"#),
    ("WARNING: policy.shortNames is on", r#""shortNames":true"#),
    ("WARNING: rbac.create is false", "rbac.create=false"),
    ("WARNING: webhook.hostNetwork is on", r#""hostNetwork":true"#),
    ("WARNING: networkPolicy.metricsFrom is empty", r#""metricsFrom":[]"#),
];

pub(crate) fn check(chart: &Chart, set: &ValueSet) -> Result<()> {
    let notes = chart.notes(set.arguments)?;
    let name = if set.has_argument(r#"fullnameOverride="pki""#) { "pki" } else { "certmint" };
    let mut expected = vec![
        format!("helm test certmint -n {NAMESPACE}"),
        "helm uninstall keeps the CA".to_owned(),
        format!("kubectl -n {NAMESPACE} delete secret {name}-ca {name}-webhook-tls"),
        format!("delete configmap/{name}-trust-bundle lease/{name}-controller"),
    ];
    match set.namespaces {
        [] => expected.push("kubectl delete secret -A -l certmint.dev/managed=true".to_owned()),
        some => {
            expected.push(format!("Only workloads in {} are served", some.join(", ")));
            let removal =
                |namespace| format!("kubectl delete secret -n {namespace} -l certmint.dev/managed=true");
            expected.extend(some.iter().map(removal));
        }
    }
    for words in expected {
        ensure!(notes.contains(&words), "the notes do not contain \"{words}\":\n{notes}");
    }
    for (warning, cause) in WARNINGS {
        let is_expected = set.mentions(cause);
        ensure!(
            notes.contains(warning) == is_expected,
            "the notes must contain \"{warning}\" exactly with {cause}:\n{notes}"
        );
    }
    Ok(())
}
