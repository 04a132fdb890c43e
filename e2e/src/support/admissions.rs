//! A pod that creates opted-in pods, one after the other without a pause. The scenarios count the responses of the API
//! server: how many of the created pods were injected, and how many were rejected.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::{images, workload};
use serde_json::{Value, json};

/// Name of the pod that sends the requests.
const CREATOR: &str = "admissions";
/// Maximum number of rejections that an error message quotes. The first ones show the cause.
const MAX_QUOTED_REJECTIONS: usize = 5;

/// A pod that keeps creating pods until [`Admissions::stop`].
#[derive(Debug)]
pub struct Admissions<'a> {
    kubectl: &'a Kubectl<'a>,
}

/// Responses of the API server to the created pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdmissionResults {
    /// Number of pods that the webhook injected.
    pub injected: usize,
    /// Number of pods that the API server accepted without injection.
    pub not_injected: usize,
    /// Response for each pod that was rejected.
    pub rejected: Vec<String>,
}

impl<'a> Admissions<'a> {
    /// Starts to create pods in the namespace of `kubectl`, and waits for the first response. The created pods never
    /// run, because they have a scheduling gate.
    ///
    /// # Errors
    /// When the creating pod does not start, or no response arrives.
    pub fn start(cluster: &Cluster, kubectl: &'a Kubectl<'a>) -> Result<Self> {
        let image = cluster.provide(&images::tools(cluster.cache())?)?;
        // Every namespace has this ConfigMap, so it can be the owner of the pods.
        let owner = kubectl.get(&["configmap", "kube-root-ca.crt"])?;
        grant_pod_creation(
            kubectl,
            owner["metadata"]["namespace"].as_str().context("the owner has no namespace")?,
        )?;
        kubectl.apply(&creator(&image, &opted_in_pod(&owner)).to_string())?;
        kubectl.wait_for(&format!("pod/{CREATOR}"), "to run", DEFAULT_TIMEOUT, |creator| {
            (creator["status"]["phase"] == "Running").then_some(())
        })?;
        let admissions = Self { kubectl };
        admissions.wait_for_more(1)?;
        Ok(admissions)
    }

    /// Waits until the API server has answered `count` more requests, and returns all results so far.
    ///
    /// # Errors
    /// When the responses do not arrive in time.
    pub fn wait_for_more(&self, count: usize) -> Result<AdmissionResults> {
        let before = self.results()?.total();
        wait::until(&format!("{count} more admissions"), DEFAULT_TIMEOUT, || {
            let results = self.results()?;
            Ok(if results.total() >= before + count {
                Check::Passed(results)
            } else {
                Check::NotYet(format!("{results:?}"))
            })
        })
    }

    /// Stops the creating pod, waits until it has ended, and returns all results.
    ///
    /// # Errors
    /// When the pod does not end in time.
    pub fn stop(self) -> Result<AdmissionResults> {
        self.kubectl.exec(CREATOR, "creator", &["sh", "-c", "kill 1"])?;
        self.kubectl.wait_for(&format!("pod/{CREATOR}"), "to end", DEFAULT_TIMEOUT, |creator| {
            (creator["status"]["phase"] == "Succeeded").then_some(())
        })?;
        self.results()
    }

    fn results(&self) -> Result<AdmissionResults> {
        Ok(parse_log(&self.kubectl.logs(CREATOR, "creator")?))
    }
}

impl AdmissionResults {
    /// Returns the number of requests.
    #[must_use]
    pub fn total(&self) -> usize {
        self.injected + self.not_injected + self.rejected.len()
    }

    /// Asserts that every pod was injected.
    ///
    /// # Errors
    /// When a pod was rejected or not injected. The error quotes the first rejections.
    pub fn assert_all_injected(&self) -> Result<()> {
        self.assert_none_rejected()?;
        let Self { injected, not_injected, .. } = self;
        ensure!(*not_injected == 0, "{not_injected} of {} pods were not injected", not_injected + injected);
        Ok(())
    }

    /// Asserts that every pod was accepted, injected or not.
    ///
    /// # Errors
    /// When a pod was rejected. The error quotes the first rejections.
    pub fn assert_none_rejected(&self) -> Result<()> {
        let quoted = &self.rejected[..self.rejected.len().min(MAX_QUOTED_REJECTIONS)];
        let (rejected, total) = (self.rejected.len(), self.total());
        ensure!(
            rejected == 0,
            "{rejected} of {total} pods were rejected; the first rejections:\n{}",
            quoted.join("\n")
        );
        Ok(())
    }
}

/// Parses the log of the creating pod, which has one line for each response.
fn parse_log(log: &str) -> AdmissionResults {
    let mut results = AdmissionResults::default();
    for line in log.lines() {
        match line {
            "injected" => results.injected += 1,
            "not injected" => results.not_injected += 1,
            rejection => results.rejected.push(rejection.to_owned()),
        }
    }
    results
}

/// Returns a pod as an opted-in Deployment creates it, except that `owner` controls it, so that the pod can exist
/// without a ReplicaSet.
fn opted_in_pod(owner: &Value) -> Value {
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

/// Creates a service account for the creating pod, with the permission to create pods.
fn grant_pod_creation(kubectl: &Kubectl<'_>, namespace: &str) -> Result<()> {
    let account = format!("--serviceaccount={namespace}:{CREATOR}");
    let role = format!("--role={CREATOR}");
    kubectl.run(&["create", "serviceaccount", CREATOR])?;
    kubectl.run(&["create", "role", CREATOR, "--verb=create", "--resource=pods"])?;
    kubectl.run(&["create", "rolebinding", CREATOR, &role, &account]).map(drop)
}

/// Returns the pod that runs `admissions.sh`, which creates pods and prints one line for each response.
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
    fn each_response_is_counted_and_rejections_are_quoted() {
        let results = parse_log("injected\nnot injected\n500 no\ninjected\n");
        let rejected = vec!["500 no".to_owned()];
        assert_eq!(results, AdmissionResults { injected: 2, not_injected: 1, rejected });
        let message = results.assert_none_rejected().unwrap_err().to_string();
        assert_eq!(message, "1 of 4 pods were rejected; the first rejections:\n500 no");
    }

    #[test]
    fn a_pod_that_is_not_injected_fails_assert_all_injected() {
        assert!(parse_log("injected\n").assert_all_injected().is_ok());
        assert!(parse_log("injected\nnot injected\n").assert_none_rejected().is_ok());
        assert!(parse_log("injected\nnot injected\n").assert_all_injected().is_err());
    }
}
