//! Constant mutual-TLS traffic from a pod of its own, which counts every failed request.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, Error, Result, anyhow, bail, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::{images, workload};
use serde::Deserialize;
use serde_json::json;

use super::PATIENCE;

const WORKLOAD: &str = "deployment/traffic";
/// How many failed requests are shown: the first tell the cause, the rest how long it lasted.
const WORDS: usize = 10;

/// Traffic that flows until it is stopped.
#[derive(Debug)]
pub struct Traffic<'a> {
    kubectl: &'a Kubectl<'a>,
    /// The one pod that counts: another's counts would begin anew, and hide what failed before.
    pod: String,
}

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

impl<'a> Traffic<'a> {
    /// Starts traffic to `https://HOST/` at `rate` requests per second, with certificates of `duration`.
    ///
    /// # Errors
    /// When the pod does not start or no request succeeds.
    pub fn start(
        cluster: &Cluster,
        kubectl: &'a Kubectl<'a>,
        host: &str,
        rate: u32,
        duration: &str,
    ) -> Result<Self> {
        let image = cluster.provide(&images::from_workspace(cluster.cache(), images::TRAFFIC)?)?;
        kubectl.apply(&manifest(&image, host, rate, duration).to_string())?;
        let pods = workload::rolled_out(kubectl, "traffic")?;
        let pod = pods.first().and_then(|pod| pod["metadata"]["name"].as_str());
        let traffic = Self { kubectl, pod: pod.context("there is no traffic pod")?.to_owned() };
        traffic.until("the first answers", |tally| tally.client_certificates > 0)?;
        Ok(traffic)
    }

    /// Waits until the count is as wanted.
    ///
    /// # Errors
    /// When it does not become so, or a request fails meanwhile; the error has the client's words for it.
    pub fn until(&self, what: &str, wanted: impl Fn(&Tally) -> bool) -> Result<Tally> {
        wait::until(what, PATIENCE * 3, || {
            let pod = self.kubectl.get(&["pod", &self.pod])?;
            if pod["status"]["containerStatuses"][0]["restartCount"] != 0 {
                let why = &pod["status"]["containerStatuses"][0]["lastState"];
                return Ok(Observed::Yes(Err(anyhow!(
                    "the client has restarted, its counts are lost: {why}"
                ))));
            }
            let log = self.kubectl.run(&["logs", &self.pod, "--container=traffic", "--tail=100"])?;
            let tally = newest(&log)?;
            Ok(if tally.failed > 0 {
                Observed::Yes(Err(self.failures(tally)))
            } else if wanted(&tally) {
                Observed::Yes(Ok(tally))
            } else {
                Observed::NotYet(format!("{tally:?}"))
            })
        })?
    }

    /// Passes when no request has failed up to now, counting one more second's worth. What is still under way
    /// is left to the next count.
    ///
    /// # Errors
    /// When a request failed; the error has the client's words for it.
    pub fn lossless(&self) -> Result<Tally> {
        let before = self.until("a count", |_| true)?.requests;
        self.until("one more count", |tally| tally.requests > before)
    }

    /// Ends the traffic and returns the last count, which has all that was under way.
    ///
    /// # Errors
    /// When a request failed, or the client does not end as it should.
    pub fn stop(self) -> Result<Tally> {
        self.lossless()?;
        let mut follow =
            self.kubectl.command(&["logs", &self.pod, "--container=traffic", "--follow", "--tail=1"]);
        let mut follow = follow.stdout(Stdio::piped()).spawn().context("cannot follow the client's log")?;
        let mut lines = BufReader::new(follow.stdout.take().context("no log")?).lines();
        // Once a line is there, the rest will follow, though the pod goes away.
        let mut log = lines.next().context("the client's log has ended")??;
        self.kubectl.run(&["scale", WORKLOAD, "--replicas=0"])?;
        for line in lines {
            log = format!("{log}\n{}", line?);
        }
        ensure!(follow.wait()?.success(), "the client's log could not be followed to its end");
        let tally = newest(&log)?;
        if tally.failed > 0 {
            bail!("{}", words(tally, &log));
        }
        Ok(tally)
    }

    fn failures(&self, tally: Tally) -> Error {
        let log = self.kubectl.run(&["logs", &self.pod, "--container=traffic"]).unwrap_or_default();
        anyhow!("{}", words(tally, &log))
    }
}

fn newest(log: &str) -> Result<Tally> {
    let line =
        log.lines().rfind(|line| line.starts_with('{')).context("the traffic client printed no count")?;
    serde_json::from_str(line).with_context(|| format!("the traffic client printed {line}"))
}

fn words(tally: Tally, log: &str) -> String {
    let words: Vec<&str> = log.lines().filter(|line| !line.starts_with('{')).take(WORDS).collect();
    format!(
        "{} of {} requests failed, the first of them:\n{}",
        tally.failed,
        tally.requests,
        words.join("\n")
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_count_is_read_among_words() {
        let line = |failed: u64| {
            format!(r#"{{"requests":9,"failed":{failed},"serverCertificates":3,"clientCertificates":2}}"#)
        };
        let log = format!("{}\nrequest 9 failed: connecting\n{}\n", line(0), line(1));
        let tally = newest(&log).unwrap();
        assert_eq!((tally.failed, tally.renewals()), (1, 3));
        assert_eq!(
            words(tally, &log),
            "1 of 9 requests failed, the first of them:\nrequest 9 failed: connecting"
        );
        assert!(newest("panicked").is_err());
    }
}
