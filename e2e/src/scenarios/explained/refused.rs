//! What `kubectl annotate` refuses.

use anyhow::{Result, bail};
use certmint_local_cluster::cluster::Cluster;
use serde_json::json;

use super::told::Told;

/// Each with its code: what is annotated beside `inject=true`.
const WRONG: [(&str, &str); 7] = [
    ("UnknownAnnotation", "certmint.dev/dns-name=pay.example.com"),
    ("InvalidAnnotation", "certmint.dev/duration=a day"),
    ("InvalidAnnotation", "certmint.dev/mount-path=etc/tls"),
    ("InvalidAnnotation", "certmint.dev/secret-name=No_Name"),
    ("NotAllowed", "certmint.dev/duration=1m"),
    ("NotAllowed", "certmint.dev/dns-names=pay.example.com"),
    ("UnsupportedMode", "certmint.dev/mode=kubelet"),
];

pub(super) fn at_once(cluster: &Cluster, told: &Told<'_>) -> Result<()> {
    told.kubectl.apply(&told.deployment("plain", &json!({}), &json!({})).to_string())?;
    for (code, wrong) in WRONG {
        let refused = told.kubectl.run(&["annotate", "deployment/plain", "certmint.dev/inject=true", wrong]);
        explained(told, code, wrong, refused)?;
    }
    let misspelt = told.kubectl.run(&["annotate", "deployment/plain", "certmint.dev/injekt=true"]);
    explained(told, "UnknownAnnotation", "certmint.dev/injekt", misspelt)?;

    let labelled = told.kubectl.run(&["label", "deployment/plain", "certmint.dev/inject=true"]);
    explained(told, "WrittenAsLabel", "the opt-in as a label", labelled)?;

    let closed = cluster.kubectl().namespace("explained-closed");
    closed.apply(&told.deployment("plain", &json!({}), &json!({})).to_string())?;
    let refused = closed.run(&["annotate", "deployment/plain", "certmint.dev/inject=true"]);
    explained(told, "NotAllowed", "a namespace that the policy closes", refused)?;

    told.kubectl.run(&["run", "late", "--image=none"])?;
    let refused = told.kubectl.run(&["annotate", "pod/late", "certmint.dev/inject=true"]);
    explained(told, "TooLate", "a pod that exists", refused)
}

fn explained(told: &Told<'_>, code: &str, what: &str, outcome: Result<String>) -> Result<()> {
    match outcome {
        Ok(printed) => bail!("{what} was taken: {printed}"),
        Err(error) => told.look_up(code, &format!("{error:#}")),
    }
}
