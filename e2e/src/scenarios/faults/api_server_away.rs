//! The scenario `api-server-away` stops the API server for about a minute, while one workload sends requests over
//! mutual TLS to another and their certificates become due for renewal.
//!
//! It asserts that no request fails, that no container restarts, and that both certificates are renewed after the API
//! server is back.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::{human, note, step};
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use serde_json::Value;

use super::controllers::{self, count_log_lines};
use crate::support::examples;
use crate::support::traffic::Traffic;

const NAME: &str = "api-server-away";
const API_SERVER: &str = "kube-apiserver";
/// Lifetime of the certificates. The renewal is due at two thirds of the lifetime, minus a random time of up to a tenth
/// of the lifetime. So the renewal becomes due while the API server is stopped.
const DURATION: &str = "2m";
/// Number of failed Lease renewals to wait for. The leader tries every two seconds, so this takes about a minute.
const FAILED_RENEWALS: usize = 28;
/// Requests per second.
const RATE: u32 = 20;

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    cluster.directory()?;
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let kubectl = create_namespace(cluster, NAME, &[])?;
    let duration = format!("certmint.dev/duration={DURATION}");
    step("payments and its client opt in", || examples::deploy_and_wait(cluster, &kubectl, &[&duration]))?;
    let traffic = step("constant traffic starts", || {
        Traffic::start(cluster, &kubectl, &format!("payments.{NAME}.svc"), RATE, DURATION)
    })?;
    let restarts_before = restarts(cluster, &kubectl)?;
    let serial_before = payments_serial(&kubectl)?;
    let controllers = controllers::pods(cluster)?;
    let start = Instant::now();
    let stopped = step("the API server is stopped", || {
        cluster.stop_service(API_SERVER)?;
        wait_for_failed_lease_renewals(cluster, &controllers)
    });
    // The API server starts again even if the step before failed.
    cluster.start_service(API_SERVER)?;
    step("the API server is ready again", || {
        wait::until("the API server to be ready", DEFAULT_TIMEOUT, || {
            kubectl.run(&["get", "--raw", "/readyz"]).map(Check::Passed)
        })
    })?;
    note(&format!("the API server was away for {}", human(start.elapsed())));
    stopped?;
    step("the due certificate is renewed", || wait_for_renewal(&kubectl, &serial_before))?;
    step("server and client use new certificates", || {
        traffic.wait_for("both renewals", |counts| {
            counts.server_certificates > 1 && counts.client_certificates > 1
        })
    })?;
    step("no container has restarted", || {
        let restarts_after = restarts(cluster, &kubectl)?;
        ensure!(
            restarts_after == restarts_before,
            "the restarts before were {restarts_before:?}; the restarts after were {restarts_after:?}"
        );
        Ok(())
    })?;
    let counts = step("the traffic stops", || traffic.stop())?;
    note(&format!("{} requests, {} failed; {} renewals", counts.requests, counts.failed, counts.renewals()));
    Ok(())
}

/// Waits until a controller has failed to renew its Lease [`FAILED_RENEWALS`] times. By then it has stopped leading.
fn wait_for_failed_lease_renewals(cluster: &Cluster, controllers: &[Value]) -> Result<()> {
    wait::until(&format!("{FAILED_RENEWALS} renewals of the Lease to fail"), DEFAULT_TIMEOUT, || {
        let failed =
            |pod: &Value| count_log_lines(cluster, pod, &["could not renew the Lease"]).unwrap_or_default();
        let max = controllers.iter().map(failed).max().unwrap_or_default();
        Ok(if max >= FAILED_RENEWALS { Check::Passed(()) } else { Check::NotYet(format!("{max} failed")) })
    })
}

fn payments_serial(kubectl: &Kubectl<'_>) -> Result<String> {
    let secret = kubectl.get(&["secret", "payments-certmint-tls"])?;
    let serial = secret["metadata"]["annotations"]["certmint.dev/serial"].as_str();
    Ok(serial.context("the Secret has no serial number")?.to_owned())
}

fn wait_for_renewal(kubectl: &Kubectl<'_>, serial_before: &str) -> Result<()> {
    kubectl.wait_for("secret/payments-certmint-tls", "to be renewed", DEFAULT_TIMEOUT, |secret| {
        let annotations = &secret["metadata"]["annotations"];
        let reissued = annotations["certmint.dev/serial"] != serial_before;
        (reissued && annotations["certmint.dev/reason"] == "renewal due").then_some(())
    })
}

/// Returns name and restart count of each container of Certmint and of the example.
fn restarts(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<Vec<String>> {
    let mut pods = kubectl.list(&["pods"])?;
    pods.extend(cluster.kubectl().namespace(SYSTEM_NAMESPACE).list(&["pods"])?);
    let mut counts = Vec::new();
    for pod in &pods {
        for list in ["initContainerStatuses", "containerStatuses"] {
            for status in pod["status"][list].as_array().into_iter().flatten() {
                counts.push(format!(
                    "{} {} {}",
                    pod["metadata"]["name"], status["name"], status["restartCount"]
                ));
            }
        }
    }
    Ok(counts)
}
