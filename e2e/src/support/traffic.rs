//! Constant mutual-TLS traffic from a client pod that counts failed requests.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, Error, Result, anyhow, bail, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::{images, workload};
use serde::Deserialize;
use serde_json::json;

const WORKLOAD: &str = "deployment/traffic";
/// Maximum number of failed requests that an error message quotes. The first ones show the cause.
const MAX_QUOTED_FAILURES: usize = 10;

/// Traffic that continues until [`Traffic::stop`].
#[derive(Debug)]
pub struct Traffic<'a> {
    kubectl: &'a Kubectl<'a>,
    /// Name of the client's pod. Only the log of this pod is read: a replacement pod would count from zero, and the
    /// failures that the first pod counted would be lost.
    pod: String,
}

/// Counts of the client since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestCounts {
    /// Number of finished requests.
    pub requests: u64,
    /// Number of failed requests.
    pub failed: u64,
    /// Number of different server certificates that the client received.
    pub server_certificates: u64,
    /// Number of different client certificates that the client used.
    pub client_certificates: u64,
}

impl RequestCounts {
    /// Returns how often a certificate was replaced during the traffic.
    #[must_use]
    pub fn renewals(&self) -> u64 {
        self.server_certificates.saturating_sub(1) + self.client_certificates.saturating_sub(1)
    }
}

impl<'a> Traffic<'a> {
    /// Starts traffic to `https://HOST/` at `rate` requests per second, with client certificates of lifetime
    /// `duration`. Waits for the first successful request.
    ///
    /// # Errors
    /// When the pod does not start, or no request succeeds in time.
    pub fn start(
        cluster: &Cluster,
        kubectl: &'a Kubectl<'a>,
        host: &str,
        rate: u32,
        duration: &str,
    ) -> Result<Self> {
        let image = cluster.provide(&images::workspace_image(cluster.cache(), images::TRAFFIC)?)?;
        kubectl.apply(&manifest(&image, host, rate, duration).to_string())?;
        let pods = workload::wait_for_rollout(kubectl, "traffic")?;
        let pod = pods.first().and_then(|pod| pod["metadata"]["name"].as_str());
        let traffic = Self { kubectl, pod: pod.context("there is no traffic pod")?.to_owned() };
        traffic.wait_for("the first successful request", |counts| counts.client_certificates > 0)?;
        Ok(traffic)
    }

    /// Waits until `condition` accepts the counts, and returns them.
    ///
    /// # Errors
    /// When this takes too long, a request fails, or the client restarts. The error quotes the client's messages.
    pub fn wait_for(&self, what: &str, condition: impl Fn(&RequestCounts) -> bool) -> Result<RequestCounts> {
        // The inner result ends the wait early: a failed request cannot become a success later.
        wait::until(what, DEFAULT_TIMEOUT * 3, || {
            let pod = self.kubectl.get(&["pod", &self.pod])?;
            if pod["status"]["containerStatuses"][0]["restartCount"] != 0 {
                let cause = &pod["status"]["containerStatuses"][0]["lastState"];
                return Ok(Check::Passed(Err(anyhow!(
                    "the traffic client has restarted and lost its counts: {cause}"
                ))));
            }
            let log = self.kubectl.run(&["logs", &self.pod, "--container=traffic", "--tail=100"])?;
            let counts = latest_counts(&log)?;
            Ok(if counts.failed > 0 {
                Check::Passed(Err(self.failure(counts)))
            } else if condition(&counts) {
                Check::Passed(Ok(counts))
            } else {
                Check::NotYet(format!("{counts:?}"))
            })
        })?
    }

    /// Waits for the counts of one more second, and asserts that no request has failed so far. Requests that have not
    /// finished are not included.
    ///
    /// # Errors
    /// When a request failed. The error quotes the client's messages.
    pub fn assert_no_failures(&self) -> Result<RequestCounts> {
        let before = self.wait_for("the current counts", |_| true)?.requests;
        self.wait_for("newer counts", |counts| counts.requests > before)
    }

    /// Stops the traffic and returns the final counts, which include the requests that were still running.
    ///
    /// # Errors
    /// When a request failed, or the client does not end as expected.
    pub fn stop(self) -> Result<RequestCounts> {
        self.assert_no_failures()?;
        let mut follow =
            self.kubectl.command(&["logs", &self.pod, "--container=traffic", "--follow", "--tail=1"]);
        let mut follow = follow.stdout(Stdio::piped()).spawn().context("cannot follow the client's log")?;
        let mut lines = BufReader::new(follow.stdout.take().context("kubectl has no output")?).lines();
        // After the first line, kubectl follows the log to its end, even though the pod is deleted.
        let mut log = lines.next().context("the client's log has ended")??;
        self.kubectl.run(&["scale", WORKLOAD, "--replicas=0"])?;
        for line in lines {
            log = format!("{log}\n{}", line?);
        }
        ensure!(follow.wait()?.success(), "the client's log could not be followed to its end");
        let counts = latest_counts(&log)?;
        if counts.failed > 0 {
            bail!("{}", failure_message(counts, &log));
        }
        Ok(counts)
    }

    fn failure(&self, counts: RequestCounts) -> Error {
        let log = self.kubectl.run(&["logs", &self.pod, "--container=traffic"]).unwrap_or_default();
        anyhow!("{}", failure_message(counts, &log))
    }
}

/// Parses the last line of JSON in the client's log.
fn latest_counts(log: &str) -> Result<RequestCounts> {
    let line =
        log.lines().rfind(|line| line.starts_with('{')).context("the traffic client printed no counts")?;
    serde_json::from_str(line).with_context(|| format!("the traffic client printed {line}"))
}

fn failure_message(counts: RequestCounts, log: &str) -> String {
    let messages: Vec<&str> =
        log.lines().filter(|line| !line.starts_with('{')).take(MAX_QUOTED_FAILURES).collect();
    format!(
        "{} of {} requests failed; the first failures:\n{}",
        counts.failed,
        counts.requests,
        messages.join("\n")
    )
}

/// Returns the Deployment of the client.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_counts_are_found_between_messages() {
        let line = |failed: u64| {
            format!(r#"{{"requests":9,"failed":{failed},"serverCertificates":3,"clientCertificates":2}}"#)
        };
        let log = format!("{}\nrequest 9 failed: connecting\n{}\n", line(0), line(1));
        let counts = latest_counts(&log).unwrap();
        assert_eq!((counts.failed, counts.renewals()), (1, 3));
        assert_eq!(
            failure_message(counts, &log),
            "1 of 9 requests failed; the first failures:\nrequest 9 failed: connecting"
        );
        assert!(latest_counts("panicked").is_err());
    }
}
