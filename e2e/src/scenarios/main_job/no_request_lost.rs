//! A scale-out, a rolling update and renewals under constant traffic.

use anyhow::{Result, ensure};
use certmint_local_cluster::cluster::{Cluster, addons};
use certmint_local_cluster::kubectl::{Kubectl, is_true};
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::{installation, workload};
use serde_json::{Value, json};

use crate::story::traffic::Traffic;
use crate::story::{PATIENCE, examples};

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
        workload::rolled_out(&kubectl, "payments")
    })?;
    let traffic = step("constant traffic through its Service", || {
        Traffic::start(cluster, &kubectl, &format!("payments.{NAME}.svc"), RATE, DURATION)
    })?;
    let scaled = step("a HorizontalPodAutoscaler scales it out under load", || scale_out(&kubectl))?;
    note(&scaled);
    traffic.lossless()?;
    step("a rolling update, until the last old pod is gone", || {
        kubectl.run(&["rollout", "restart", "deployment/payments"])?;
        workload::rolled_out(&kubectl, "payments")
    })?;
    traffic.lossless()?;
    step(&format!("{RENEWALS} renewals"), || {
        traffic.until(&format!("{RENEWALS} renewals"), |tally| tally.renewals() >= RENEWALS)
    })?;
    step("each because it was due", || {
        ["payments", "traffic"].iter().try_for_each(|name| renewed_when_due(&kubectl, name))
    })?;
    step("scaled back in, until the last pod too many is gone", || {
        kubectl.delete(&["hpa", "payments"])?;
        kubectl.run(&["scale", "deployment/payments", "--replicas=1"])?;
        workload::rolled_out(&kubectl, "payments")
    })?;
    let tally = step("the traffic ends, and with it what was under way", || traffic.stop())?;
    note(&format!("{} renewals; {} requests, {} failed", tally.renewals(), tally.requests, tally.failed));
    Ok(())
}

/// Lets an autoscaler decide by what metrics-server measures, and waits until it has and its pods are ready.
fn scale_out(kubectl: &Kubectl<'_>) -> Result<String> {
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
    let decided = |autoscaler: &Value| {
        let status = &autoscaler["status"];
        let measured = status["currentMetrics"][0]["resource"]["current"]["averageUtilization"].as_u64()?;
        let wanted = status["desiredReplicas"].as_u64().filter(|wanted| *wanted > 2)?;
        is_true(autoscaler, "ScalingActive").then_some((measured, wanted))
    };
    let (measured, wanted) = kubectl.until("hpa/payments", "to want more than 2 pods", PATIENCE, decided)?;
    let pods = workload::rolled_out(kubectl, "payments")?;
    ensure!(pods.len() > 2, "the autoscaler wants {wanted} pods, and there are {}", pods.len());
    Ok(format!("it wants {wanted} pods at {measured} % of the CPU they request"))
}

/// A Secret that is replaced over and over for another reason would count as renewed, too.
fn renewed_when_due(kubectl: &Kubectl<'_>, name: &str) -> Result<()> {
    let secret = kubectl.get(&["secret", &format!("{name}-certmint-tls")])?;
    let reason = &secret["metadata"]["annotations"]["certmint.dev/reason"];
    ensure!(*reason == "renewal due", "the newest certificate of {name} was issued because of {reason}");
    Ok(())
}
