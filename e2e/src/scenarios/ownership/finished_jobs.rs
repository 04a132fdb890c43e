//! Jobs that have finished, and a CronJob that opts out while one of its Jobs retries.

use anyhow::{Result, ensure};
use certmint_local_cluster::kubectl::is_true;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::workload::{deployment_without_pods, is_injected, opt_in_annotations};
use serde_json::json;

use super::OwnershipFixture;

/// Starts a Job whose first attempt fails, and opts its CronJob out before the second attempt.
pub(super) fn opt_out_between_attempts(fixture: &OwnershipFixture<'_>) -> Result<()> {
    let kubectl = &fixture.kubectl;
    let mut nightly = fixture.workload("cronjob", "nightly", &opt_in_annotations(&[]));
    let job = &mut nightly["spec"]["jobTemplate"]["spec"];
    job["backoffLimit"] = 1.into();
    job["template"]["spec"]["containers"][0]["command"] = json!(["sh", "-c", "exit 3"]);
    fixture.apply(&nightly)?;
    kubectl.run(&["create", "job", "run", "--from=cronjob/nightly"])?;
    wait::until("the first attempt to fail", DEFAULT_TIMEOUT, || {
        let pods = kubectl.list(&["pods", "--selector=job-name=run"])?;
        let failed = pods.iter().any(|pod| pod["status"]["phase"] == "Failed");
        Ok(if failed { Check::Passed(()) } else { Check::NotYet(format!("{} pods", pods.len())) })
    })?;
    kubectl.run(&["annotate", "cronjob/nightly", "certmint.dev/inject-"]).map(drop)
}

/// Asserts that the Job's second attempt was injected and ran its application like the first one.
pub(super) fn assert_second_attempt_had_certificate(fixture: &OwnershipFixture<'_>) -> Result<()> {
    let kubectl = &fixture.kubectl;
    kubectl.wait_for("job/run", "to have failed twice", DEFAULT_TIMEOUT, |job| {
        is_true(job, "Failed").then_some(())
    })?;
    let pods = kubectl.list(&["pods", "--selector=job-name=run"])?;
    ensure!(pods.len() == 2, "the Job had {} attempts", pods.len());
    for pod in pods {
        ensure!(is_injected(&pod), "a pod of the Job is not injected");
        let exit_code = &pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"];
        ensure!(*exit_code == 3, "the application did not run: {}", pod["status"]);
    }
    Ok(())
}

/// Asserts that the controller does not recreate the Secret of a finished Job.
pub(super) fn assert_finished_job_ignored(fixture: &OwnershipFixture<'_>) -> Result<()> {
    let kubectl = &fixture.kubectl;
    fixture.apply(&fixture.workload("job", "ended", &opt_in_annotations(&[])))?;
    kubectl.wait_for("job/ended", "to be complete", DEFAULT_TIMEOUT, |job| {
        is_true(job, "Complete").then_some(())
    })?;
    kubectl.delete(&["secret", "ended-certmint-tls"])?;
    // When a later workload has its Secret, the controller has also handled the deletion of the Job's Secret.
    fixture.apply(&deployment_without_pods("later", &opt_in_annotations(&[])))?;
    fixture.wait_for_secret("later-certmint-tls")?;
    let secrets = kubectl.list(&["secrets", "--field-selector=metadata.name=ended-certmint-tls"])?;
    ensure!(secrets.is_empty(), "the controller issued a certificate for a finished Job");
    Ok(())
}
