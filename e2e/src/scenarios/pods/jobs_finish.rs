//! Jobs of every ending. All run at once.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::workload::{self, manifest};
use certmint_local_cluster::{images, installation};
use serde_json::{Value, json};

use crate::story::PATIENCE;

/// A Job and its end.
struct Case {
    name: &'static str,
    renew: &'static str,
    /// What the app does once it has the key.
    then: &'static str,
    /// The Job's condition, and its reason if there is only one.
    condition: &'static str,
    reason: Option<&'static str>,
    /// The pod's phase; no pod is left of a Job that ran out of time.
    phase: Option<&'static str>,
}

const CASES: [Case; 6] = [
    Case {
        name: "ends",
        renew: "true",
        then: "exit 0",
        condition: "Complete",
        reason: None,
        phase: Some("Succeeded"),
    },
    Case {
        name: "ends-without-sidecar",
        renew: "false",
        then: "exit 0",
        condition: "Complete",
        reason: None,
        phase: Some("Succeeded"),
    },
    Case {
        name: "fails",
        renew: "true",
        then: "exit 3",
        condition: "Failed",
        reason: Some("BackoffLimitExceeded"),
        phase: Some("Failed"),
    },
    Case {
        name: "fails-without-sidecar",
        renew: "false",
        then: "exit 3",
        condition: "Failed",
        reason: Some("BackoffLimitExceeded"),
        phase: Some("Failed"),
    },
    Case {
        name: "runs-out-of-time",
        renew: "true",
        then: "sleep 3600",
        condition: "Failed",
        reason: Some("DeadlineExceeded"),
        phase: None,
    },
    Case {
        name: "cron",
        renew: "true",
        then: "exit 0",
        condition: "Complete",
        reason: None,
        phase: Some("Succeeded"),
    },
];

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, "jobs-finish", &[])?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    step("Jobs of every ending are created", || {
        CASES.iter().try_for_each(|case| created(&kubectl, case, &image))
    })?;
    for case in &CASES {
        step(&format!("{}: {}, and nothing of it runs on", case.name, case.condition), || {
            ended(&kubectl, case).with_context(|| case.name)
        })?;
    }
    Ok(())
}

fn created(kubectl: &Kubectl<'_>, case: &Case, image: &str) -> Result<()> {
    let kind = if case.name == "cron" { "cronjob" } else { "job" };
    let annotations = json!({ "certmint.dev/inject": "true", "certmint.dev/renew": case.renew });
    let mut object = manifest(kind, case.name, image, &annotations);
    let reads = "grep -q 'PRIVATE KEY' /var/run/secrets/certmint.dev/tls.key || exit 9";
    let pointer = if kind == "cronjob" { "/spec/jobTemplate/spec" } else { "/spec" };
    let job = object.pointer_mut(pointer).context("no Job in it")?;
    job["template"]["spec"]["containers"][0]["command"] =
        json!(["sh", "-c", format!("{reads}; {}", case.then)]);
    if case.reason == Some("DeadlineExceeded") {
        // Counted from the Job's start: time enough for the pod to run on a loaded machine.
        job["activeDeadlineSeconds"] = 10.into();
    }
    kubectl.apply(&object.to_string())?;
    if kind == "cronjob" {
        kubectl.run(&["create", "job", case.name, &format!("--from=cronjob/{}", case.name)])?;
    }
    Ok(())
}

fn ended(kubectl: &Kubectl<'_>, case: &Case) -> Result<()> {
    let condition = kubectl.until(&format!("job/{}", case.name), "to end", PATIENCE, |job| {
        let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
        let mut true_ones = conditions.filter(|condition| condition["status"] == "True");
        true_ones.find(|condition| condition["type"] == "Complete" || condition["type"] == "Failed").cloned()
    })?;
    ensure!(condition["type"] == case.condition, "it ended as {condition}");
    ensure!(case.reason.is_none_or(|reason| condition["reason"] == reason), "it ended as {condition}");
    let pods = kubectl.list(&["pods", &format!("--selector=batch.kubernetes.io/job-name={}", case.name)])?;
    let Some(phase) = case.phase else {
        ensure!(pods.is_empty(), "pods are left: {pods:?}");
        return Ok(());
    };
    ensure!(!pods.is_empty(), "it had no pod");
    for pod in &pods {
        ensure!(workload::is_injected(pod), "its pod was not injected");
        ensure!(pod["status"]["phase"] == phase, "its pod is {}", pod["status"]["phase"]);
        let exit = |list: &str| pod["status"][list][0]["state"]["terminated"]["exitCode"].clone();
        ensure!(
            exit("initContainerStatuses") == 0,
            "our container ended with {}",
            pod["status"]["initContainerStatuses"]
        );
        let expected = if phase == "Succeeded" { Value::from(0) } else { Value::from(3) };
        ensure!(
            exit("containerStatuses") == expected,
            "the app ended with {}",
            pod["status"]["containerStatuses"]
        );
    }
    Ok(())
}
