//! kubectl, as people use it.

use std::fmt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::command;
use crate::wait::{self, Observed};

/// A cluster that programs can be run against.
pub trait Target: fmt::Debug + Sync {
    /// Returns a command that runs `program` where it reaches the cluster.
    fn command(&self, program: &str) -> Command;
}

/// kubectl for one cluster, and for one namespace if [`Self::namespace`] names one.
#[derive(Debug, Clone)]
pub struct Kubectl<'a> {
    target: &'a dyn Target,
    namespace: Option<String>,
}

impl<'a> Kubectl<'a> {
    /// Returns kubectl for `target`.
    #[must_use]
    pub fn new(target: &'a dyn Target) -> Self {
        Self { target, namespace: None }
    }

    /// The same within `namespace`.
    #[must_use]
    pub fn namespace(&self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..self.clone() }
    }

    /// The command itself, for what is to run beside.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut kubectl = self.target.command("kubectl");
        if let Some(namespace) = &self.namespace {
            kubectl.arg("--namespace").arg(namespace);
        }
        kubectl.args(arguments);
        kubectl
    }

    /// Runs it and returns what it prints.
    ///
    /// # Errors
    /// When kubectl fails; the error carries what it said.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        command::output(&mut self.command(arguments))
    }

    /// `kubectl get ARGUMENTS --output json`, parsed.
    ///
    /// # Errors
    /// When kubectl fails, for example because a named object does not exist.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.run(&[&["get", "--output=json"], arguments].concat())?;
        serde_json::from_str(&text).context("kubectl printed something that is not JSON")
    }

    /// The items of `kubectl get ARGUMENTS`, a list.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn list(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let list = self.get(arguments)?;
        Ok(list.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// Applies a manifest, JSON or YAML.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        command::output_with_input(&mut self.command(&["apply", "--filename=-"]), manifest)
    }

    /// Deletes what `arguments` name, if it is there, and waits until it is gone.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn delete(&self, arguments: &[&str]) -> Result<String> {
        self.run(&[&["delete", "--ignore-not-found"], arguments].concat())
    }

    /// Runs a program in a container and returns what it prints.
    ///
    /// # Errors
    /// When the program fails; the error carries what it said.
    pub fn exec(&self, pod: &str, container: &str, program: &[&str]) -> Result<String> {
        self.run(&[&["exec", pod, "--container", container, "--"], program].concat())
    }

    /// What a container has printed.
    ///
    /// # Errors
    /// When the container is not there.
    pub fn logs(&self, pod: &str, container: &str) -> Result<String> {
        self.run(&["logs", pod, "--container", container])
    }

    /// Asks for `object` (`pod/name`) until `condition` finds in it what is looked for.
    ///
    /// # Errors
    /// When `deadline` passes first; the error holds the object's last status.
    pub fn until<T>(
        &self,
        object: &str,
        what: &str,
        deadline: Duration,
        mut condition: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T> {
        wait::until(&format!("{object} {what}"), deadline, || {
            let seen = self.get(&[object])?;
            Ok(match condition(&seen) {
                Some(found) => Observed::Yes(found),
                None => Observed::NotYet(seen["status"].to_string()),
            })
        })
    }

    /// Waits until every replica of a workload (`deployment/name`) is updated and ready.
    ///
    /// # Errors
    /// When `deadline` passes first.
    pub fn rolled_out(&self, workload: &str, deadline: Duration) -> Result<()> {
        let timeout = format!("--timeout={}s", deadline.as_secs());
        self.run(&["rollout", "status", workload, &timeout]).map(drop)
    }
}

/// Whether an object's condition `name` is `True`.
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
    fn a_condition_is_true_only_when_it_says_so() {
        let node = json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }, { "type": "Up", "status": "True" }] } });
        assert!(!is_true(&node, "Ready"));
        assert!(is_true(&node, "Up"));
        assert!(!is_true(&json!({}), "Ready"));
    }
}
