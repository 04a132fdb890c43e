//! The policy in its ConfigMap, changed under running servers.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::installation::SYSTEM_NAMESPACE;
use crate::kubectl::{Kubectl, is_true};
use crate::wait::{self, DEFAULT_TIMEOUT, Observed};

const CONFIG_MAP: &str = "configmap/certmint-policy";

/// What a server logs when it has read the policy, by component.
const TAKEN: [(&str, &str); 2] = [("webhook", "policy loaded"), ("controller", "the policy changed")];
const NOT_TAKEN: &str = "the new policy is not valid, the last valid one stays in force";

/// The installation's policy.
#[derive(Debug)]
pub struct PolicyFile<'a> {
    kubectl: Kubectl<'a>,
    original: String,
}

impl<'a> PolicyFile<'a> {
    /// The policy as it is now.
    ///
    /// # Errors
    /// When there is no installation.
    pub fn of(cluster: &'a Cluster) -> Result<Self> {
        let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
        let stored = kubectl.get(&[CONFIG_MAP])?;
        let original = stored["data"]["policy.json"].as_str().context("there is no policy")?.to_owned();
        Ok(Self { kubectl, original })
    }

    /// Changes these fields of the original, and waits until every server has taken it.
    ///
    /// # Errors
    /// When the API server or, in time, a server does not take it.
    pub fn change(&self, fields: &Value) -> Result<()> {
        self.write(&self.with(fields)?, |component| {
            TAKEN.iter().find(|(known, _)| *known == component).map_or("", |(_, line)| line)
        })
    }

    /// Changes these fields of the original, and waits for nothing.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub fn begin_change(&self, fields: &Value) -> Result<()> {
        self.store(&self.with(fields)?)
    }

    /// Writes something that is no policy, and waits until every server has refused it.
    ///
    /// # Errors
    /// When the API server does not take it, or a server does not refuse it in time.
    pub fn spoil(&self, text: &str) -> Result<()> {
        self.write(text, |_| NOT_TAKEN)
    }

    /// Puts the original back, and waits for nothing.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub fn restore(&self) -> Result<()> {
        self.store(&self.original)
    }

    fn with(&self, fields: &Value) -> Result<String> {
        let mut policy: Value = serde_json::from_str(&self.original)?;
        for (key, value) in fields.as_object().into_iter().flatten() {
            policy[key] = value.clone();
        }
        Ok(policy.to_string())
    }

    fn write(&self, text: &str, line: impl Fn(&str) -> &'static str) -> Result<()> {
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
                let now = self.count(&pod, line)?;
                Ok(if now > count { Observed::Yes(()) } else { Observed::NotYet(format!("{now} times")) })
            })?;
        }
        Ok(())
    }

    fn store(&self, text: &str) -> Result<()> {
        let patch = json!({ "data": { "policy.json": text } }).to_string();
        let version = "--output=jsonpath={.metadata.resourceVersion}";
        let patch = ["patch", CONFIG_MAP, "--type=merge", "--patch", &patch, version];
        let mark = format!("certmint-test/policy={}", self.kubectl.run(&patch)?);
        // Kubelet brings a changed ConfigMap at a pod's next sync, within about a minute; a changed pod has one at once.
        let part_of = "--selector=app.kubernetes.io/name=certmint";
        self.kubectl.run(&["annotate", "pods", part_of, "--overwrite", &mark]).map(drop)
    }

    /// Pods that run, with their component.
    fn servers(&self) -> Result<Vec<(String, String)>> {
        let pods = self.kubectl.list(&["pods", "--selector=app.kubernetes.io/name=certmint"])?;
        let pods = pods.iter().filter(|pod| is_true(pod, "Ready"));
        let of = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(pods
            .map(|pod| {
                let metadata = &pod["metadata"];
                (of(&metadata["name"]), of(&metadata["labels"]["app.kubernetes.io/component"]))
            })
            .filter(|(_, component)| TAKEN.iter().any(|(known, _)| known == component))
            .collect())
    }

    fn count(&self, pod: &str, line: &str) -> Result<usize> {
        Ok(self.kubectl.run(&["logs", pod])?.matches(line).count())
    }
}
