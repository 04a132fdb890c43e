//! Annotations and labels that the webhook rejects.

use anyhow::{Result, bail};
use certmint_local_cluster::cluster::Cluster;
use serde_json::json;

use super::fixture::ExplainedFixture;

/// Error code, and the annotation that is written together with `certmint.dev/inject=true`.
const REJECTED: [(&str, &str); 7] = [
    ("UnknownAnnotation", "certmint.dev/dns-name=pay.example.com"),
    ("InvalidAnnotation", "certmint.dev/duration=a day"),
    ("InvalidAnnotation", "certmint.dev/mount-path=etc/tls"),
    ("InvalidAnnotation", "certmint.dev/secret-name=No_Name"),
    ("NotAllowed", "certmint.dev/duration=1m"),
    ("NotAllowed", "certmint.dev/dns-names=pay.example.com"),
    ("UnsupportedMode", "certmint.dev/mode=kubelet"),
];

/// Asserts that kubectl prints an error that the page of errors explains, for each rejected change.
pub(super) fn check(cluster: &Cluster, fixture: &ExplainedFixture<'_>) -> Result<()> {
    let kubectl = &fixture.kubectl;
    kubectl.apply(&fixture.deployment("plain", &json!({}), &json!({})).to_string())?;
    for (code, annotation) in REJECTED {
        let result = kubectl.run(&["annotate", "deployment/plain", "certmint.dev/inject=true", annotation]);
        assert_rejected(fixture, code, annotation, result)?;
    }
    let misspelt = kubectl.run(&["annotate", "deployment/plain", "certmint.dev/injekt=true"]);
    assert_rejected(fixture, "UnknownAnnotation", "certmint.dev/injekt", misspelt)?;

    let label = kubectl.run(&["label", "deployment/plain", "certmint.dev/inject=true"]);
    assert_rejected(fixture, "WrittenAsLabel", "the opt-in as a label", label)?;

    let excluded = cluster.kubectl().namespace("explained-closed");
    excluded.apply(&fixture.deployment("plain", &json!({}), &json!({})).to_string())?;
    let result = excluded.run(&["annotate", "deployment/plain", "certmint.dev/inject=true"]);
    assert_rejected(fixture, "NotAllowed", "an opt-in in an excluded namespace", result)?;

    kubectl.run(&["run", "late", "--image=none"])?;
    let result = kubectl.run(&["annotate", "pod/late", "certmint.dev/inject=true"]);
    assert_rejected(fixture, "TooLate", "an opt-in of an existing pod", result)
}

fn assert_rejected(
    fixture: &ExplainedFixture<'_>,
    code: &str,
    what: &str,
    result: Result<String>,
) -> Result<()> {
    match result {
        Ok(printed) => bail!("{what} was accepted: {printed}"),
        Err(error) => fixture.assert_explained(code, &format!("{error:#}")),
    }
}
