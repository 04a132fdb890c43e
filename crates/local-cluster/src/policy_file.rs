//! Changes of the policy in its ConfigMap while webhook and controller run.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::installation::SYSTEM_NAMESPACE;
use crate::kubectl::{Kubectl, is_true};
use crate::wait::{self, Check, DEFAULT_TIMEOUT};

const CONFIG_MAP: &str = "configmap/certmint-policy";

/// Log line of a server that has loaded a policy, by component.
const POLICY_LOADED: [(&str, &str); 2] = [("webhook", "policy loaded"), ("controller", "the policy changed")];
/// Log line of a server that has rejected a policy.
const POLICY_REJECTED: &str = "the new policy is not valid, so the last valid one stays in force";

/// Policy of the installation, with the content that it had at first.
#[derive(Debug)]
pub struct PolicyFile<'a> {
    kubectl: Kubectl<'a>,
    original: String,
}

impl<'a> PolicyFile<'a> {
    /// Reads the current policy.
    ///
    /// # Errors
    /// When Certmint is not installed.
    pub fn read(cluster: &'a Cluster) -> Result<Self> {
        let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
        let stored = kubectl.get(&[CONFIG_MAP])?;
        let original = stored["data"]["policy.json"].as_str().context("there is no policy")?.to_owned();
        Ok(Self { kubectl, original })
    }

    /// Changes these fields of the original policy, and waits until every server has loaded it.
    ///
    /// # Errors
    /// When the API server rejects the change, or a server does not load the policy in time.
    pub fn change_and_wait(&self, fields: &Value) -> Result<()> {
        self.write_and_wait(&self.with_changes(fields)?, |component| {
            POLICY_LOADED.iter().find(|(known, _)| *known == component).map_or("", |(_, line)| line)
        })
    }

    /// Changes these fields of the original policy without waiting.
    ///
    /// # Errors
    /// When the API server rejects the change.
    pub fn start_change(&self, fields: &Value) -> Result<()> {
        self.store(&self.with_changes(fields)?)
    }

    /// Writes a text that is not a valid policy, and waits until every server has rejected it.
    ///
    /// # Errors
    /// When the API server rejects the change, or a server does not reject the policy in time.
    pub fn write_invalid_and_wait(&self, text: &str) -> Result<()> {
        self.write_and_wait(text, |_| POLICY_REJECTED)
    }

    /// Restores the original policy without waiting.
    ///
    /// # Errors
    /// When the API server rejects the change.
    pub fn restore(&self) -> Result<()> {
        self.store(&self.original)
    }

    /// Returns the original policy with these fields changed.
    fn with_changes(&self, fields: &Value) -> Result<String> {
        let mut policy: Value = serde_json::from_str(&self.original)?;
        for (key, value) in fields.as_object().into_iter().flatten() {
            policy[key] = value.clone();
        }
        Ok(policy.to_string())
    }

    /// Writes the policy, and waits until each server has logged `line` once more. `line` depends on the component.
    fn write_and_wait(&self, text: &str, line: impl Fn(&str) -> &'static str) -> Result<()> {
        let before: Vec<(String, &'static str, usize)> = self
            .servers()?
            .into_iter()
            .map(|(pod, component)| {
                let line = line(&component);
                Ok((pod.clone(), line, self.count(&pod, line)?))
            })
            .collect::<Result<_>>()?;
        self.store(text)?;
        for (pod, line, count) in before {
            wait::until(&format!("{pod} to log {line:?} again"), DEFAULT_TIMEOUT, || {
                let new_count = self.count(&pod, line)?;
                Ok(if new_count > count {
                    Check::Passed(())
                } else {
                    Check::NotYet(format!("{new_count} times"))
                })
            })?;
        }
        Ok(())
    }

    /// Writes the policy, and makes the kubelet update the mounted ConfigMap at once.
    fn store(&self, text: &str) -> Result<()> {
        let patch = json!({ "data": { "policy.json": text } }).to_string();
        let output = "--output=jsonpath={.metadata.resourceVersion}";
        let patch = ["patch", CONFIG_MAP, "--type=merge", "--patch", &patch, output];
        let annotation = format!("certmint-test/policy={}", self.kubectl.run(&patch)?);
        // The kubelet updates a mounted ConfigMap at the pod's next sync, within about a minute. A changed annotation
        // makes the kubelet sync the pod at once.
        let selector = "--selector=app.kubernetes.io/name=certmint";
        self.kubectl.run(&["annotate", "pods", selector, "--overwrite", &annotation]).map(drop)
    }

    /// Returns name and component of each ready pod of webhook and controller.
    fn servers(&self) -> Result<Vec<(String, String)>> {
        let pods = self.kubectl.list(&["pods", "--selector=app.kubernetes.io/name=certmint"])?;
        let pods = pods.iter().filter(|pod| is_true(pod, "Ready"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(pods
            .map(|pod| {
                let metadata = &pod["metadata"];
                (text(&metadata["name"]), text(&metadata["labels"]["app.kubernetes.io/component"]))
            })
            .filter(|(_, component)| POLICY_LOADED.iter().any(|(known, _)| known == component))
            .collect())
    }

    /// Counts how often the pod has logged `line`.
    fn count(&self, pod: &str, line: &str) -> Result<usize> {
        Ok(self.kubectl.run(&["logs", pod])?.matches(line).count())
    }
}
