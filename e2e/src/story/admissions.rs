//! Pods that opt in, created (as a dry run) one after the other without a pause, and what the API server answers to each.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::{images, workload};
use serde_json::{Value, json};

use super::PATIENCE;

/// The pod that creates the others.
const CREATOR: &str = "admissions";
/// How many refusals are shown: the first tell the cause.
const WORDS: usize = 5;

/// Creations that go on until they are stopped.
#[derive(Debug)]
pub struct Admissions<'a> {
    kubectl: &'a Kubectl<'a>,
}

/// What the API server has answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers {
    /// Pods that came back injected.
    pub injected: usize,
    /// Pods that were taken as they were.
    pub passed_over: usize,
    /// What was said of those that were not taken.
    pub refused: Vec<String>,
}

impl<'a> Admissions<'a> {
    /// Starts to create pods in the namespace of `kubectl`. They never run: a scheduling gate holds them.
    ///
    /// # Errors
    /// When the pod that creates them does not start, or none of them is taken.
    pub fn start(cluster: &Cluster, kubectl: &'a Kubectl<'a>) -> Result<Self> {
        let image = cluster.provide(&images::tools(cluster.cache())?)?;
        // There is one in every namespace.
        let owner = kubectl.get(&["configmap", "kube-root-ca.crt"])?;
        allow(kubectl, owner["metadata"]["namespace"].as_str().context("the owner has no namespace")?)?;
        kubectl.apply(&creator(&image, &opted_in(&owner)).to_string())?;
        kubectl.until(&format!("pod/{CREATOR}"), "to run", PATIENCE, |creator| {
            (creator["status"]["phase"] == "Running").then_some(())
        })?;
        let admissions = Self { kubectl };
        admissions.more(1)?;
        Ok(admissions)
    }

    /// Waits until `count` more pods were asked for, and returns all answers up to now.
    ///
    /// # Errors
    /// When they are not.
    pub fn more(&self, count: usize) -> Result<Answers> {
        let before = self.answers()?.total();
        wait::until(&format!("{count} more admissions"), PATIENCE, || {
            let answers = self.answers()?;
            Ok(if answers.total() >= before + count {
                Observed::Yes(answers)
            } else {
                Observed::NotYet(format!("{answers:?}"))
            })
        })
    }

    /// Ends the creations and returns every answer.
    ///
    /// # Errors
    /// When they do not end.
    pub fn stop(self) -> Result<Answers> {
        self.kubectl.exec(CREATOR, "creator", &["sh", "-c", "kill 1"])?;
        self.kubectl.until(&format!("pod/{CREATOR}"), "to end", PATIENCE, |creator| {
            (creator["status"]["phase"] == "Succeeded").then_some(())
        })?;
        self.answers()
    }

    fn answers(&self) -> Result<Answers> {
        Ok(answers(&self.kubectl.logs(CREATOR, "creator")?))
    }
}

impl Answers {
    /// How many pods were asked for.
    #[must_use]
    pub fn total(&self) -> usize {
        self.injected + self.passed_over + self.refused.len()
    }

    /// Passes when every pod came back injected.
    ///
    /// # Errors
    /// When one was refused, with the API server's words, or passed over.
    pub fn all_injected(&self) -> Result<()> {
        self.none_refused()?;
        let Self { injected, passed_over, .. } = self;
        ensure!(*passed_over == 0, "{passed_over} of {} pods were not injected", passed_over + injected);
        Ok(())
    }

    /// Passes when every pod was taken, injected or not.
    ///
    /// # Errors
    /// When one was refused, with the API server's words.
    pub fn none_refused(&self) -> Result<()> {
        let shown = &self.refused[..self.refused.len().min(WORDS)];
        let (refused, total) = (self.refused.len(), self.total());
        ensure!(
            refused == 0,
            "{refused} of {total} pods were refused, the first of them:\n{}",
            shown.join("\n")
        );
        Ok(())
    }
}

/// What the creator's log says, one line for each pod.
fn answers(log: &str) -> Answers {
    let mut answers = Answers::default();
    for line in log.lines() {
        match line {
            "injected" => answers.injected += 1,
            "passed over" => answers.passed_over += 1,
            refusal => answers.refused.push(refusal.to_owned()),
        }
    }
    answers
}

/// A pod as a Deployment that opted in has it, but for its owner, which lets it be.
fn opted_in(owner: &Value) -> Value {
    let mut pod = workload::manifest("pod", CREATOR, "none", &Value::Null);
    pod["metadata"] = json!({
        "generateName": "admitted-",
        "labels": { "app": "admitted", "certmint.dev/inject": "true" },
        "annotations": { "certmint.dev/inject": "true", "certmint.dev/workload": "Deployment/admitted" },
        "ownerReferences": [{
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "controller": true,
        }],
    });
    pod["spec"]["schedulingGates"] = json!([{ "name": "certmint.example/never" }]);
    pod
}

/// An account of the creator's own, which may create pods.
fn allow(kubectl: &Kubectl<'_>, namespace: &str) -> Result<()> {
    let account = format!("--serviceaccount={namespace}:{CREATOR}");
    let role = format!("--role={CREATOR}");
    kubectl.run(&["create", "serviceaccount", CREATOR])?;
    kubectl.run(&["create", "role", CREATOR, "--verb=create", "--resource=pods"])?;
    kubectl.run(&["create", "rolebinding", CREATOR, &role, &account]).map(drop)
}

/// A pod that asks for pods over a new connection each time, and prints a line for each answer.
fn creator(image: &str, pod: &Value) -> Value {
    const SCRIPT: &str = include_str!("admissions.sh");
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": CREATOR },
        "spec": {
            "serviceAccountName": CREATOR,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "creator",
                "image": image,
                "command": ["sh", "-c", SCRIPT],
                "env": [
                    { "name": "POD", "value": pod.to_string() },
                    { "name": "NAMESPACE", "valueFrom": { "fieldRef": { "fieldPath": "metadata.namespace" } } },
                ],
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_counted_and_a_refusal_is_shown() {
        let answers = answers("injected\npassed over\n500 no\ninjected\n");
        let refused = vec!["500 no".to_owned()];
        assert_eq!(answers, Answers { injected: 2, passed_over: 1, refused });
        let words = answers.none_refused().unwrap_err().to_string();
        assert_eq!(words, "1 of 4 pods were refused, the first of them:\n500 no");
    }

    #[test]
    fn a_pod_that_was_passed_over_is_no_success_where_all_are_to_be_injected() {
        assert!(answers("injected\n").all_injected().is_ok());
        assert!(answers("injected\npassed over\n").none_refused().is_ok());
        assert!(answers("injected\npassed over\n").all_injected().is_err());
    }
}
