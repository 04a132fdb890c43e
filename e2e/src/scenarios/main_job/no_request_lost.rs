//! The scenario `no-request-lost` sends constant traffic over mutual TLS to nginx. During the traffic, an autoscaler
//! scales nginx out, a rolling update replaces its pods, 20 certificates are renewed, and nginx is scaled in. It
//! asserts that no request fails.

use anyhow::{Result, ensure};
use certmint_local_cluster::cluster::{Cluster, addons};
use certmint_local_cluster::kubectl::{Kubectl, is_true};
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::DEFAULT_TIMEOUT;
use certmint_local_cluster::{installation, workload};
use serde_json::{Value, json};

use crate::support::examples;
use crate::support::traffic::Traffic;

const NAME: &str = "no-request-lost";
/// Requests per second. On a small machine, too, this load is enough for the autoscaler to scale nginx out.
const RATE: u32 = 50;
/// Lifetime of the certificates: short enough for many renewals in a few minutes, and long enough for a busy machine.
const DURATION: &str = "30s";
const RENEWALS: u64 = 20;

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    step("metrics-server is installed", || addons::install_metrics_server(cluster))?;
    let kubectl = create_namespace(cluster, NAME, &[])?;
    step("nginx opts in", || {
        examples::apply_payments(cluster, &kubectl)?;
        let duration = format!("certmint.dev/duration={DURATION}");
        examples::opt_in(&kubectl, "deployment/payments", &[&duration])?;
        workload::wait_for_rollout(&kubectl, "payments")
    })?;
    let traffic = step("constant traffic to nginx starts", || {
        Traffic::start(cluster, &kubectl, &format!("payments.{NAME}.svc"), RATE, DURATION)
    })?;
    let scaled =
        step("a HorizontalPodAutoscaler scales nginx out under load", || scale_out_and_wait(&kubectl))?;
    note(&scaled);
    traffic.assert_no_failures()?;
    step("a rolling update replaces all pods, and the last old one is gone", || {
        kubectl.run(&["rollout", "restart", "deployment/payments"])?;
        workload::wait_for_rollout(&kubectl, "payments")
    })?;
    traffic.assert_no_failures()?;
    step(&format!("{RENEWALS} certificates are renewed"), || {
        traffic.wait_for(&format!("{RENEWALS} renewals"), |counts| counts.renewals() >= RENEWALS)
    })?;
    step("the certificates were issued because their renewal was due", || {
        ["payments", "traffic"].iter().try_for_each(|name| assert_renewed_when_due(&kubectl, name))
    })?;
    step("nginx scales in, and the last surplus pod is gone", || {
        kubectl.delete(&["hpa", "payments"])?;
        kubectl.run(&["scale", "deployment/payments", "--replicas=1"])?;
        workload::wait_for_rollout(&kubectl, "payments")
    })?;
    let counts = step("the traffic stops, and all running requests end", || traffic.stop())?;
    note(&format!("{} renewals; {} requests, {} failed", counts.renewals(), counts.requests, counts.failed));
    Ok(())
}

/// Creates an autoscaler that uses the CPU measured by metrics-server. Waits until it has scaled out and the pods are
/// ready.
fn scale_out_and_wait(kubectl: &Kubectl<'_>) -> Result<String> {
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
    let (measured, wanted) =
        kubectl.wait_for("hpa/payments", "to want more than 2 pods", DEFAULT_TIMEOUT, decided)?;
    let pods = workload::wait_for_rollout(kubectl, "payments")?;
    ensure!(pods.len() > 2, "the autoscaler wants {wanted} pods, but there are {}", pods.len());
    Ok(format!("the autoscaler wants {wanted} pods at {measured} % of the requested CPU"))
}

/// Asserts that the newest certificate was issued because its renewal was due. Repeated reissues for another reason
/// would also count as renewals.
fn assert_renewed_when_due(kubectl: &Kubectl<'_>, name: &str) -> Result<()> {
    let secret = kubectl.get(&["secret", &format!("{name}-certmint-tls")])?;
    let reason = &secret["metadata"]["annotations"]["certmint.dev/reason"];
    ensure!(*reason == "renewal due", "the newest certificate of {name} was issued for the reason {reason}");
    Ok(())
}
