//! The chart's values: each described, typed and used.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{Chart, chart, read};

const README: &str = "README.md";
const HEADING: &str = "\n## Values\n\n";

/// Values to render the chart with.
pub(super) struct ValueSet {
    pub(super) name: &'static str,
    /// `path=JSON`, as `--set-json` takes them.
    pub(super) set: &'static [&'static str],
    /// The namespaces named among them; none for the whole cluster.
    pub(super) namespaces: &'static [&'static str],
}

/// Between them, every branch of every template.
pub(super) const SETS: &[ValueSet] = &[
    ValueSet { name: "the defaults", set: &[], namespaces: &[] },
    ValueSet {
        name: "everything switched on",
        set: &[
            r#"image={"registry":"registry.example:5000/pki","digest":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}"#,
            r#"fetch.image={"registry":"registry.example:5000/pki","tag":"1.2.3","pullPolicy":"Always"}"#,
            r#"imagePullSecrets=[{"name":"pull"}]"#,
            r#"policy={"extraDnsNames":{"shop":["pay.example.com"]},"excludedNamespaces":["legacy"],"shortNames":true}"#,
            "webhook.replicas=3",
            r#"webhook.priorityClassName="system-cluster-critical""#,
            "webhook.topologySpread=true",
            r#"webhook.nodeSelector={"kubernetes.io/os":"linux"}"#,
            r#"webhook.tolerations=[{"key":"a","operator":"Exists"}]"#,
            "controller.replicas=3",
            r#"controller.priorityClassName="system-cluster-critical""#,
            "controller.topologySpread=true",
            r#"controller.nodeSelector={"kubernetes.io/os":"linux"}"#,
            r#"controller.tolerations=[{"key":"a","operator":"Exists"}]"#,
        ],
        namespaces: &[],
    },
    ValueSet {
        name: "one replica under another name",
        set: &[
            r#"fullnameOverride="pki""#,
            r#"webhook={"replicas":1,"podAntiAffinity":false}"#,
            r#"controller={"replicas":1,"podAntiAffinity":false}"#,
        ],
        namespaces: &[],
    },
    ValueSet {
        name: "two namespaces",
        set: &[r#"namespaces=["default","kube-public"]"#],
        namespaces: &["default", "kube-public"],
    },
];

/// Every value, and another than its default.
const OTHERS: &[(&str, &str)] = &[
    ("nameOverride", r#""pki""#),
    ("fullnameOverride", r#""pki""#),
    ("image.registry", r#""registry.example""#),
    ("image.repository", r#""server""#),
    ("image.tag", r#""1.2.3""#),
    ("image.digest", r#""sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef""#),
    ("image.pullPolicy", r#""Always""#),
    ("imagePullSecrets", r#"[{"name":"pull"}]"#),
    ("logLevel", r#""debug""#),
    ("logFormat", r#""text""#),
    ("namespaces", r#"["shop"]"#),
    ("test.namespace", r#""shop""#),
    ("policy.clusterDomain", r#""k8s.example""#),
    ("policy.trustDomain", r#""prod.example""#),
    ("policy.extraDnsNames", r#"{"shop":["pay.example.com"]}"#),
    ("policy.shortNames", "true"),
    ("policy.defaultDuration", r#""1h30m""#),
    ("policy.shortestDuration", r#""5m""#),
    ("policy.longestDuration", r#""48h""#),
    ("policy.keyAlgorithms", r#"["ed25519"]"#),
    ("policy.excludedNamespaces", r#"["legacy"]"#),
    ("webhook.replicas", "3"),
    ("webhook.timeoutSeconds", "3"),
    ("webhook.resources", r#"{"requests":{"cpu":1}}"#),
    ("webhook.priorityClassName", r#""high""#),
    ("webhook.podAntiAffinity", "false"),
    ("webhook.topologySpread", "true"),
    ("webhook.nodeSelector", r#"{"disk":"ssd"}"#),
    ("webhook.tolerations", r#"[{"operator":"Exists"}]"#),
    ("controller.replicas", "3"),
    ("controller.resources", r#"{"requests":{"cpu":1}}"#),
    ("controller.priorityClassName", r#""high""#),
    ("controller.podAntiAffinity", "false"),
    ("controller.topologySpread", "true"),
    ("controller.nodeSelector", r#"{"disk":"ssd"}"#),
    ("controller.tolerations", r#"[{"operator":"Exists"}]"#),
    ("fetch.image.registry", r#""registry.example""#),
    ("fetch.image.repository", r#""fetcher""#),
    ("fetch.image.tag", r#""1.2.3""#),
    ("fetch.image.digest", r#""sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef""#),
    ("fetch.image.pullPolicy", r#""Always""#),
    ("fetch.resources", r#"{"limits":{"memory":"64Mi"}}"#),
    ("fetch.guaranteedCpu", r#""100m""#),
    ("fetch.deadlineSeconds", "60"),
];

/// Values that must be refused, and what the refusal must say.
const BAD: &[(&str, &[&str])] = &[
    ("replicas=3", &["additional properties 'replicas' not allowed"]),
    ("webhook.replica=3", &["at '/webhook'", "additional properties 'replica' not allowed"]),
    ("webhook.replicas=0", &["at '/webhook/replicas'", "minimum: got 0, want 1"]),
    (r#"webhook.replicas="2""#, &["at '/webhook/replicas'", "got string, want integer"]),
    ("webhook.timeoutSeconds=31", &["at '/webhook/timeoutSeconds'", "want 30"]),
    (r#"webhook.resources={"limit":{}}"#, &["at '/webhook/resources'", "'limit' not allowed"]),
    ("fetch.deadlineSeconds=0", &["at '/fetch/deadlineSeconds'", "minimum: got 0, want 1"]),
    (r#"image.pullPolicy="Sometimes""#, &["at '/image/pullPolicy'", "'Always', 'IfNotPresent', 'Never'"]),
    (r#"image.digest="sha256:abc""#, &["at '/image/digest'", "does not match pattern"]),
    (r#"policy.clusterDomain="Cluster.Local""#, &["at '/policy/clusterDomain'", "does not match pattern"]),
    (
        r#"policy.defaultDuration="banana""#,
        &["at '/policy/defaultDuration'", "'banana' does not match pattern"],
    ),
    ("policy.keyAlgorithms=[]", &["at '/policy/keyAlgorithms'", "minItems: got 0, want 1"]),
    (r#"policy.keyAlgorithms=["rsa-1024"]"#, &["at '/policy/keyAlgorithms/0'", "'ecdsa-p256'"]),
    (r#"namespaces=["kube-system"]"#, &["at '/namespaces/0'"]),
    (r#"namespaces=["certmint-system"]"#, &["certmint-system is the release's own namespace", "remove it"]),
    (
        r#"namespaces=["shop"],test.namespace="bank""#,
        &["test.namespace: bank is none of namespaces (shop)", "choose one of them"],
    ),
    (r#"test.namespace="certmint-system""#, &["certmint-system is the release's own namespace"]),
    (r#"policy.extraDnsNames={"shop":["*.example.com"]}"#, &["at '/policy/extraDnsNames/shop/0'"]),
];

/// One commented entry of `values.yaml`.
struct Described {
    path: String,
    comment: String,
}

/// Every value is tried here, and the README's table is what [`write_readme`] would write.
pub(super) fn documented() -> Result<()> {
    let named: BTreeSet<String> =
        described(&read("values.yaml")?)?.into_iter().map(|value| value.path).collect();
    let tried: BTreeSet<String> = OTHERS.iter().map(|(path, _)| (*path).to_owned()).collect();
    ensure!(
        named == tried,
        "values.yaml and the values tried here differ in {:?}",
        named.symmetric_difference(&tried).collect::<Vec<_>>()
    );
    let readme = read(README)?;
    ensure!(
        readme == with_table(&readme)?,
        "charts/certmint/README.md is stale: run `cargo xtask chart --write`"
    );
    Ok(())
}

/// Writes the table of values into the README anew.
pub(super) fn write_readme() -> Result<()> {
    fs::write(chart().join(README), with_table(&read(README)?)?).context("cannot write the chart's README.md")
}

/// The README with the table as it should be: all that follows the heading of the values.
fn with_table(readme: &str) -> Result<String> {
    let text = read("values.yaml")?;
    let defaults: Value = serde_saphyr::from_str(&text).context("values.yaml is not YAML")?;
    let (before, _) = readme.split_once(HEADING).context("the chart's README.md has no heading Values")?;
    Ok(format!("{before}{HEADING}{}", table(&described(&text)?, &defaults)?))
}

/// Each value that is set to something else is to be seen in what is rendered.
pub(super) fn each_used(helm: &Chart) -> Result<()> {
    let defaults = helm.template(&[])?;
    for (path, other) in OTHERS {
        let rendered = helm.template(&[&format!("{path}={other}")])?;
        ensure!(rendered != defaults, "the value {path} changes nothing in what the chart renders");
    }
    Ok(())
}

/// Wrong types, unknown keys and values out of range are refused, and the refusal names the value.
pub(super) fn bad_ones_refused(helm: &Chart) -> Result<()> {
    for (path, _) in OTHERS {
        let pointer = format!("at '/{}", path.replace('.', "/"));
        refused(helm, &format!(r#"{path}={{"No such key":1}}"#), &[&pointer])?;
    }
    BAD.iter().try_for_each(|(bad, words)| refused(helm, bad, words))
}

fn refused(helm: &Chart, bad: &str, words: &[&str]) -> Result<()> {
    let Err(error) = helm.template(&[bad]) else { bail!("the chart takes --set-json {bad}") };
    let error = error.to_string();
    match words.iter().find(|word| !error.contains(**word)) {
        Some(word) => bail!("--set-json {bad} is refused, but not with \"{word}\": {error}"),
        None => Ok(()),
    }
}

/// The innermost commented entries. An uncommented entry must lie above or below a commented one.
fn described(text: &str) -> Result<Vec<Described>> {
    let (mut entries, mut parents, mut comment) = (Vec::<Described>::new(), Vec::<(usize, &str)>::new(), "");
    let mut uncommented = Vec::new();
    for line in text.lines() {
        let body = line.trim_start();
        if let Some(words) = body.strip_prefix("# ") {
            comment = words;
            continue;
        }
        let Some((key, _)) = body.split_once(':') else { continue };
        let indent = line.len() - body.len();
        parents.retain(|(outer, _)| *outer < indent);
        parents.push((indent, key));
        let path = parents.iter().map(|(_, key)| *key).collect::<Vec<_>>().join(".");
        match std::mem::take(&mut comment) {
            "" => uncommented.push(path),
            words => entries.push(Described { path, comment: words.to_owned() }),
        }
    }
    let paths: Vec<String> = entries.iter().map(|entry| entry.path.clone()).collect();
    entries.retain(|entry| !paths.iter().any(|path| lies_below(path, &entry.path)));
    for path in uncommented {
        let known =
            entries.iter().any(|entry| lies_below(&path, &entry.path) || lies_below(&entry.path, &path));
        ensure!(known, "values.yaml says nothing about {path}: write a comment above it");
    }
    Ok(entries)
}

fn lies_below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.starts_with('.'))
}

fn table(described: &[Described], defaults: &Value) -> Result<String> {
    let mut table = String::from("| value | default | what it is |\n|---|---|---|\n");
    for Described { path, comment } in described {
        let pointer = format!("/{}", path.replace('.', "/"));
        let default = defaults.pointer(&pointer).with_context(|| format!("values.yaml has no {path}"))?;
        table.push_str(&format!("| `{path}` | `{default}` | {comment} |\n"));
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_comments_describe_the_values() {
        let described = described("# Group.\na:\n  # One.\n  b: 1\n# Two.\nc:\n  d: 1\n").unwrap();
        let found: Vec<_> = described.iter().map(|one| (one.path.as_str(), one.comment.as_str())).collect();
        assert_eq!(found, [("a.b", "One."), ("c", "Two.")]);
    }

    #[test]
    fn a_value_without_a_comment_is_named() {
        let error = described("a:\n  # One.\n  b: 1\n  c: 2\n").err().unwrap().to_string();
        assert!(error.contains("a.c"), "{error}");
    }
}
