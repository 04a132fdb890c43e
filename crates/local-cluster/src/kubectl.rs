//! kubectl, the way in which tests and benchmarks use the API server.

use std::fmt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::command;
use crate::wait::{self, Check};

/// Source of commands with access to one cluster.
pub trait CommandFactory: fmt::Debug + Sync {
    /// Returns a command that runs `program` with access to the cluster.
    fn command(&self, program: &str) -> Command;
}

/// kubectl for one cluster, and for one namespace after [`Self::namespace`].
#[derive(Debug, Clone)]
pub struct Kubectl<'a> {
    commands: &'a dyn CommandFactory,
    namespace: Option<String>,
}

impl<'a> Kubectl<'a> {
    /// Returns kubectl for the cluster of `commands`.
    #[must_use]
    pub fn new(commands: &'a dyn CommandFactory) -> Self {
        Self { commands, namespace: None }
    }

    /// Returns kubectl for `namespace`.
    #[must_use]
    pub fn namespace(&self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..self.clone() }
    }

    /// Returns the command without running it.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut kubectl = self.commands.command("kubectl");
        if let Some(namespace) = &self.namespace {
            kubectl.arg("--namespace").arg(namespace);
        }
        kubectl.args(arguments);
        kubectl
    }

    /// Runs kubectl, and returns its output.
    ///
    /// # Errors
    /// When kubectl fails. The error contains its output.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        command::output(&mut self.command(arguments))
    }

    /// Runs `kubectl get ARGUMENTS --output=json`, and parses the output.
    ///
    /// # Errors
    /// When kubectl fails, for example because a named object does not exist.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.run(&[&["get", "--output=json"], arguments].concat())?;
        serde_json::from_str(&text).context("the output of kubectl is not JSON")
    }

    /// Returns the items of the list that `kubectl get ARGUMENTS` prints.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn list(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let list = self.get(arguments)?;
        Ok(list.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// Applies a manifest in JSON or YAML.
    ///
    /// # Errors
    /// When the API server rejects the manifest.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        command::output_with_input(&mut self.command(&["apply", "--filename=-"]), manifest)
    }

    /// Deletes the objects that `arguments` name, and waits until they are gone. Missing objects are not an error.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn delete(&self, arguments: &[&str]) -> Result<String> {
        self.run(&[&["delete", "--ignore-not-found"], arguments].concat())
    }

    /// Runs a program in a container, and returns its output.
    ///
    /// # Errors
    /// When the program fails. The error contains its output.
    pub fn exec(&self, pod: &str, container: &str, program: &[&str]) -> Result<String> {
        self.run(&[&["exec", pod, "--container", container, "--"], program].concat())
    }

    /// Returns the log of a container.
    ///
    /// # Errors
    /// When the container does not exist.
    pub fn logs(&self, pod: &str, container: &str) -> Result<String> {
        self.run(&["logs", pod, "--container", container])
    }

    /// Checks that the API server serves `resource` in the API group and version `api`. `since` is the first version of
    /// Kubernetes that serves it.
    ///
    /// # Errors
    /// When the API server does not serve `resource`. The error names the required version.
    pub fn require_resource(&self, api: &str, resource: &str, since: &str) -> Result<()> {
        let served = self.run(&["get", "--raw", &format!("/apis/{api}")]).unwrap_or_default();
        let served: Value = serde_json::from_str(&served).unwrap_or_default();
        let mut resources = served["resources"].as_array().into_iter().flatten();
        if resources.any(|served| served["name"] == resource) {
            return Ok(());
        }
        let version = self.run(&["get", "--raw", "/version"])?;
        let version: Value =
            serde_json::from_str(&version).context("the API server's version is not JSON")?;
        bail!(
            "this needs an API server that serves {resource} in {api}, as Kubernetes {since} and newer do; this one \
             is {}: use a newer cluster, or run the other scenarios only",
            version["gitVersion"].as_str().unwrap_or("unknown")
        )
    }

    /// Reads `object` (`pod/name`) until `condition` returns a value.
    ///
    /// # Errors
    /// When that takes longer than `timeout`. The error contains the object's last status.
    pub fn wait_for<T>(
        &self,
        object: &str,
        what: &str,
        timeout: Duration,
        mut condition: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T> {
        wait::until(&format!("{object} {what}"), timeout, || {
            let current = self.get(&[object])?;
            Ok(match condition(&current) {
                Some(found) => Check::Passed(found),
                None => Check::NotYet(current["status"].to_string()),
            })
        })
    }

    /// Waits until every replica of a workload (`deployment/name`) is updated and ready.
    ///
    /// # Errors
    /// When that takes longer than `timeout`.
    pub fn wait_for_rollout(&self, workload: &str, timeout: Duration) -> Result<()> {
        let timeout = format!("--timeout={}s", timeout.as_secs());
        self.run(&["rollout", "status", workload, &timeout]).map(drop)
    }
}

/// Returns whether the object's condition `name` is `True`.
#[must_use]
pub fn is_true(object: &Value, name: &str) -> bool {
    object["status"]["conditions"].as_array().is_some_and(|all| {
        all.iter().any(|condition| condition["type"] == name && condition["status"] == "True")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_are_true_only_with_status_true() {
        let node = json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }, { "type": "Up", "status": "True" }] } });
        assert!(!is_true(&node, "Ready"));
        assert!(is_true(&node, "Up"));
        assert!(!is_true(&json!({}), "Ready"));
    }
}
