//! The API server away for a minute under mutual-TLS traffic.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::{human, note, step};
use certmint_local_cluster::wait::{self, Observed};
use serde_json::Value;

use super::controllers::{self, said};
use crate::story::traffic::Traffic;
use crate::story::{PATIENCE, examples};

const NAME: &str = "api-server-away";
const API_SERVER: &str = "kube-apiserver";
/// At two thirds of it, less a tenth at most, renewal comes due: while the API server is away.
const DURATION: &str = "2m";
/// How often the leader has tried in vain to renew its Lease: at every two seconds, about a minute.
const FAILURES: usize = 28;
const RATE: u32 = 20;

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    cluster.state()?;
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, NAME, &[])?;
    let duration = format!("certmint.dev/duration={DURATION}");
    step("both sides are opted in", || examples::deploy(cluster, &kubectl, &[&duration]))?;
    let traffic = step("constant traffic", || {
        Traffic::start(cluster, &kubectl, &format!("payments.{NAME}.svc"), RATE, DURATION)
    })?;
    let restarts = restarts(cluster, &kubectl)?;
    let serial = serial(&kubectl)?;
    let controllers = controllers::pods(cluster)?;
    let start = Instant::now();
    let away = step("the API server is away", || {
        cluster.stop_service(API_SERVER)?;
        failed_renewals(cluster, &controllers)
    });
    cluster.start_service(API_SERVER)?;
    step("it is back", || {
        wait::until("the API server", PATIENCE, || {
            kubectl.run(&["get", "--raw", "/readyz"]).map(Observed::Yes)
        })
    })?;
    note(&format!("it was away for {}", human(start.elapsed())));
    away?;
    step("what came due meanwhile is renewed", || renewed(&kubectl, &serial))?;
    step("both sides show new certificates", || {
        traffic.until("both renewals", |tally| tally.server_certificates > 1 && tally.client_certificates > 1)
    })?;
    step("nothing has restarted", || {
        let after = self::restarts(cluster, &kubectl)?;
        ensure!(after == restarts, "restarts before: {restarts:?}; after: {after:?}");
        Ok(())
    })?;
    let tally = step("the traffic ends", || traffic.stop())?;
    note(&format!("{} requests, {} failed; {} renewals", tally.requests, tally.failed, tally.renewals()));
    Ok(())
}

/// Waits until one of the controllers has failed to renew its Lease that often, and leads no longer.
fn failed_renewals(cluster: &Cluster, controllers: &[Value]) -> Result<()> {
    wait::until(&format!("{FAILURES} renewals of the Lease to fail"), PATIENCE, || {
        let failed =
            |pod: &Value| said(cluster, pod, &["the lease could not be renewed"]).unwrap_or_default();
        let most = controllers.iter().map(failed).max().unwrap_or_default();
        Ok(if most >= FAILURES { Observed::Yes(()) } else { Observed::NotYet(format!("{most} failed")) })
    })
}

fn serial(kubectl: &Kubectl<'_>) -> Result<String> {
    let secret = kubectl.get(&["secret", "payments-certmint-tls"])?;
    let serial = secret["metadata"]["annotations"]["certmint.dev/serial"].as_str();
    Ok(serial.context("the Secret has no serial number")?.to_owned())
}

fn renewed(kubectl: &Kubectl<'_>, before: &str) -> Result<()> {
    kubectl.until("secret/payments-certmint-tls", "to be renewed", PATIENCE, |secret| {
        let annotations = &secret["metadata"]["annotations"];
        (annotations["certmint.dev/serial"] != before && annotations["certmint.dev/reason"] == "renewal due")
            .then_some(())
    })
}

/// How often each container of ours and of the example was started again.
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
