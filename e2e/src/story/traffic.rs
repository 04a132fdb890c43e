//! Constant mutual-TLS traffic from a pod of its own, which counts every failed request.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::json;

use super::PATIENCE;
use crate::cluster::Cluster;
use crate::images;
use crate::kubectl::Kubectl;
use crate::wait::{self, Observed};

const WORKLOAD: &str = "deployment/traffic";

/// What the client has counted since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// Requests that ended.
    pub requests: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Different certificates that the servers showed.
    pub server_certificates: u64,
    /// Different certificates that the client showed.
    pub client_certificates: u64,
}

impl Tally {
    /// How often a certificate was replaced under the traffic.
    #[must_use]
    pub fn renewals(&self) -> u64 {
        self.server_certificates.saturating_sub(1) + self.client_certificates.saturating_sub(1)
    }
}

/// Starts traffic to `https://HOST/` at `rate` requests per second, with certificates of `duration`.
///
/// # Errors
/// When the pod does not start or no request succeeds.
pub fn start(cluster: &Cluster, kubectl: &Kubectl<'_>, host: &str, rate: u32, duration: &str) -> Result<()> {
    let image = cluster.provide(&images::from_workspace(cluster.cache(), images::TRAFFIC)?)?;
    kubectl.apply(&manifest(&image, host, rate, duration).to_string())?;
    kubectl.rolled_out(WORKLOAD, PATIENCE)?;
    until(kubectl, "the first answers", |tally| tally.client_certificates > 0).map(drop)
}

/// The newest count.
///
/// # Errors
/// When the client has not printed one, for example because it cannot start.
pub fn tally(kubectl: &Kubectl<'_>) -> Result<Tally> {
    let printed = kubectl.run(&["logs", WORKLOAD, "--container=traffic", "--tail=100"])?;
    let line =
        printed.lines().rfind(|line| line.starts_with('{')).context("the traffic client printed no count")?;
    serde_json::from_str(line).with_context(|| format!("the traffic client printed {line}"))
}

/// Waits until the count is as wanted.
///
/// # Errors
/// When it does not become so, or a request fails meanwhile; the error has the client's words for it.
pub fn until(kubectl: &Kubectl<'_>, what: &str, wanted: impl Fn(&Tally) -> bool) -> Result<Tally> {
    let mut failed = false;
    let reached = wait::until(what, PATIENCE * 3, || {
        let tally = tally(kubectl)?;
        failed = tally.failed > 0;
        Ok(if failed || wanted(&tally) {
            Observed::Yes(tally)
        } else {
            Observed::NotYet(format!("{tally:?}"))
        })
    })?;
    if failed {
        bail!("{}", failures(kubectl, reached));
    }
    Ok(reached)
}

/// Passes when no request has failed up to now, counting one more second's worth.
///
/// # Errors
/// When a request failed; the error has the client's words for it.
pub fn lossless(kubectl: &Kubectl<'_>) -> Result<Tally> {
    let before = tally(kubectl)?.requests;
    until(kubectl, "one more count", |tally| tally.requests > before)
}

fn failures(kubectl: &Kubectl<'_>, tally: Tally) -> String {
    let log = kubectl.run(&["logs", WORKLOAD, "--container=traffic"]).unwrap_or_default();
    let words: Vec<&str> = log.lines().filter(|line| !line.starts_with('{')).take(20).collect();
    format!("{} of {} requests failed:\n{}", tally.failed, tally.requests, words.join("\n"))
}

fn manifest(image: &str, host: &str, rate: u32, duration: &str) -> serde_json::Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "traffic",
            "annotations": { "certmint.dev/inject": "true", "certmint.dev/duration": duration },
        },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": "traffic" } },
            "template": {
                "metadata": { "labels": { "app": "traffic" } },
                "spec": {
                    "automountServiceAccountToken": false,
                    "securityContext": {
                        "runAsNonRoot": true,
                        "runAsUser": 10003,
                        "seccompProfile": { "type": "RuntimeDefault" },
                    },
                    "containers": [{
                        "name": "traffic",
                        "image": image,
                        "args": ["--host", host, "--rate", rate.to_string()],
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": { "drop": ["ALL"] },
                        },
                    }],
                },
            },
        },
    })
}
