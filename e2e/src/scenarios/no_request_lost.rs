//! A scale-out, a rolling update and renewals under constant traffic.

use anyhow::Result;
use serde_json::json;

use crate::cluster::{Cluster, addons};
use crate::kubectl::Kubectl;
use crate::progress::{note, step};
use crate::story::{PATIENCE, examples, installation, namespace, traffic};

const NAME: &str = "no-request-lost";
/// Requests per second: enough to make nginx busy by the figures of its Deployment, on a small machine too.
const RATE: u32 = 50;
/// Short enough for many renewals in a few minutes, and long enough for a machine that is very busy.
const DURATION: &str = "30s";
const RENEWALS: u64 = 20;

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install(cluster, installation::SHORT_LIVED)?;
    step("metrics-server is installed", || addons::install_metrics_server(cluster))?;
    let kubectl = namespace(cluster, NAME, &[])?;
    step("nginx is opted in", || {
        examples::apply_payments(cluster, &kubectl)?;
        let duration = format!("certmint.dev/duration={DURATION}");
        examples::opt_in(&kubectl, "deployment/payments", &[&duration])?;
        kubectl.rolled_out("deployment/payments", PATIENCE)
    })?;
    step("constant traffic through its Service", || {
        traffic::start(cluster, &kubectl, &format!("payments.{NAME}.svc"), RATE, DURATION)
    })?;
    step("a HorizontalPodAutoscaler scales it out under load", || scale_out(&kubectl))?;
    step("a rolling update", || roll(&kubectl))?;
    step(&format!("{RENEWALS} renewals"), || {
        traffic::until(&kubectl, &format!("{RENEWALS} renewals"), |tally| tally.renewals() >= RENEWALS)
    })?;
    step("scaled back in", || {
        kubectl.delete(&["hpa", "payments"])?;
        kubectl.run(&["scale", "deployment/payments", "--replicas=1"])?;
        kubectl.rolled_out("deployment/payments", PATIENCE)
    })?;
    let tally = traffic::lossless(&kubectl)?;
    note(&format!("{} renewals; {} requests, {} failed", tally.renewals(), tally.requests, tally.failed));
    Ok(())
}

/// Lets an autoscaler decide, and waits until it has and its pods are ready.
pub(crate) fn scale_out(kubectl: &Kubectl<'_>) -> Result<()> {
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "payments" },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "payments" },
            "minReplicas": 2,
            "maxReplicas": 4,
            "metrics": [{
                "type": "Resource",
                "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 40 } },
            }],
        },
    });
    kubectl.apply(&autoscaler.to_string())?;
    kubectl.until("deployment/payments", "to be scaled out by its autoscaler", PATIENCE, |deployment| {
        let status = &deployment["status"];
        (status["replicas"].as_u64() > Some(2) && status["readyReplicas"] == status["replicas"]).then_some(())
    })?;
    traffic::lossless(kubectl).map(drop)
}

/// Replaces every pod.
pub(crate) fn roll(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.run(&["rollout", "restart", "deployment/payments"])?;
    kubectl.rolled_out("deployment/payments", PATIENCE)?;
    traffic::lossless(kubectl).map(drop)
}
