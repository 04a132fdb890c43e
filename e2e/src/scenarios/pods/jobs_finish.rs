//! The scenario `jobs-finish` runs Jobs that complete, fail and exceed their deadline, with and without renewal, and
//! a Job of a CronJob. All Jobs run at the same time. The scenario asserts that each Job ends as it would without
//! Certmint, and that the certmint-fetch container exits successfully.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::DEFAULT_TIMEOUT;
use certmint_local_cluster::workload::{self, manifest};
use certmint_local_cluster::{images, installation};
use serde_json::{Value, json};

/// A Job, and how it should end.
struct JobCase {
    name: &'static str,
    /// Value of the annotation `certmint.dev/renew`.
    renew: &'static str,
    /// Shell command of the application, after it has read the key.
    command: &'static str,
    /// Expected condition of the Job.
    condition: &'static str,
    /// Expected reason of the condition, if Kubernetes always sets the same one.
    reason: Option<&'static str>,
    /// Expected phase of the pod; `None` if the Job has no pod, because Kubernetes deletes it when the deadline is
    /// exceeded.
    phase: Option<&'static str>,
}

const CASES: [JobCase; 6] = [
    JobCase {
        name: "ends",
        renew: "true",
        command: "exit 0",
        condition: "Complete",
        reason: None,
        phase: Some("Succeeded"),
    },
    JobCase {
        name: "ends-without-sidecar",
        renew: "false",
        command: "exit 0",
        condition: "Complete",
        reason: None,
        phase: Some("Succeeded"),
    },
    JobCase {
        name: "fails",
        renew: "true",
        command: "exit 3",
        condition: "Failed",
        reason: Some("BackoffLimitExceeded"),
        phase: Some("Failed"),
    },
    JobCase {
        name: "fails-without-sidecar",
        renew: "false",
        command: "exit 3",
        condition: "Failed",
        reason: Some("BackoffLimitExceeded"),
        phase: Some("Failed"),
    },
    JobCase {
        name: "exceeds-deadline",
        renew: "true",
        command: "sleep 3600",
        condition: "Failed",
        reason: Some("DeadlineExceeded"),
        phase: None,
    },
    JobCase {
        name: "cron",
        renew: "true",
        command: "exit 0",
        condition: "Complete",
        reason: None,
        phase: Some("Succeeded"),
    },
];

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let kubectl = create_namespace(cluster, "jobs-finish", &[])?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    step("Jobs with different ends are created", || {
        CASES.iter().try_for_each(|case| create_job(&kubectl, case, &image))
    })?;
    for case in &CASES {
        step(&format!("the Job {} ends with the condition {}", case.name, case.condition), || {
            wait_for_expected_end(&kubectl, case).with_context(|| case.name)
        })?;
    }
    Ok(())
}

fn create_job(kubectl: &Kubectl<'_>, case: &JobCase, image: &str) -> Result<()> {
    let kind = if case.name == "cron" { "cronjob" } else { "job" };
    let annotations = json!({ "certmint.dev/inject": "true", "certmint.dev/renew": case.renew });
    let mut object = manifest(kind, case.name, image, &annotations);
    let check_key = "grep -q 'PRIVATE KEY' /var/run/secrets/certmint.dev/tls.key || exit 9";
    let pointer = if kind == "cronjob" { "/spec/jobTemplate/spec" } else { "/spec" };
    let job = object.pointer_mut(pointer).context("the manifest has no Job")?;
    job["template"]["spec"]["containers"][0]["command"] =
        json!(["sh", "-c", format!("{check_key}; {}", case.command)]);
    if case.reason == Some("DeadlineExceeded") {
        // The deadline counts from the Job's start. It is long enough for the pod to run on a loaded machine.
        job["activeDeadlineSeconds"] = 10.into();
    }
    kubectl.apply(&object.to_string())?;
    if kind == "cronjob" {
        kubectl.run(&["create", "job", case.name, &format!("--from=cronjob/{}", case.name)])?;
    }
    Ok(())
}

/// Waits until the Job has ended, and asserts its condition, and the exit codes of its containers.
fn wait_for_expected_end(kubectl: &Kubectl<'_>, case: &JobCase) -> Result<()> {
    let condition = kubectl.wait_for(&format!("job/{}", case.name), "to end", DEFAULT_TIMEOUT, |job| {
        let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
        let mut true_conditions = conditions.filter(|condition| condition["status"] == "True");
        true_conditions
            .find(|condition| condition["type"] == "Complete" || condition["type"] == "Failed")
            .cloned()
    })?;
    ensure!(condition["type"] == case.condition, "the Job ended with the condition {condition}");
    ensure!(
        case.reason.is_none_or(|reason| condition["reason"] == reason),
        "the Job ended with the condition {condition}"
    );
    let pods = kubectl.list(&["pods", &format!("--selector=batch.kubernetes.io/job-name={}", case.name)])?;
    let Some(phase) = case.phase else {
        ensure!(pods.is_empty(), "the Job still has pods: {pods:?}");
        return Ok(());
    };
    ensure!(!pods.is_empty(), "the Job has no pod");
    for pod in &pods {
        ensure!(workload::is_injected(pod), "the Job's pod is not injected");
        ensure!(pod["status"]["phase"] == phase, "the phase of the Job's pod is {}", pod["status"]["phase"]);
        let exit_code = |list: &str| pod["status"][list][0]["state"]["terminated"]["exitCode"].clone();
        ensure!(
            exit_code("initContainerStatuses") == 0,
            "the certmint-fetch container ended with {}",
            pod["status"]["initContainerStatuses"]
        );
        let expected = if phase == "Succeeded" { Value::from(0) } else { Value::from(3) };
        ensure!(
            exit_code("containerStatuses") == expected,
            "the container app ended with {}",
            pod["status"]["containerStatuses"]
        );
    }
    Ok(())
}
