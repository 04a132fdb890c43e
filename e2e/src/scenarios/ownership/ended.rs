//! What ends: Jobs that finish, and CronJobs that opt out while a Job of theirs is tried again.

use anyhow::{Result, ensure};
use certmint_local_cluster::kubectl::is_true;
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::workload::{is_injected, opting_in, without_pods};
use serde_json::json;

use super::Scene;
use crate::story::PATIENCE;

/// Begins a Job that fails at its first try, and opts its CronJob out before the second.
pub(super) fn opt_out_between_tries(scene: &Scene<'_>) -> Result<()> {
    let kubectl = &scene.kubectl;
    let mut nightly = scene.workload("cronjob", "nightly", &opting_in(&[]));
    let job = &mut nightly["spec"]["jobTemplate"]["spec"];
    job["backoffLimit"] = 1.into();
    job["template"]["spec"]["containers"][0]["command"] = json!(["sh", "-c", "exit 3"]);
    scene.apply(&nightly)?;
    kubectl.run(&["create", "job", "run", "--from=cronjob/nightly"])?;
    wait::until("the first try to fail", PATIENCE, || {
        let pods = kubectl.list(&["pods", "--selector=job-name=run"])?;
        let failed = pods.iter().any(|pod| pod["status"]["phase"] == "Failed");
        Ok(if failed { Observed::Yes(()) } else { Observed::NotYet(format!("{} pods", pods.len())) })
    })?;
    kubectl.run(&["annotate", "cronjob/nightly", "certmint.dev/inject-"]).map(drop)
}

/// The second try ran the application, as the first did.
pub(super) fn second_try(scene: &Scene<'_>) -> Result<()> {
    let kubectl = &scene.kubectl;
    kubectl.until("job/run", "to have failed twice", PATIENCE, |job| is_true(job, "Failed").then_some(()))?;
    let pods = kubectl.list(&["pods", "--selector=job-name=run"])?;
    ensure!(pods.len() == 2, "there were {} tries", pods.len());
    for pod in pods {
        ensure!(is_injected(&pod), "a try was not injected");
        let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"];
        ensure!(*ended == 3, "the application did not run: {}", pod["status"]);
    }
    Ok(())
}

/// A Secret that is deleted after its Job has finished is not made again.
pub(super) fn finished(scene: &Scene<'_>) -> Result<()> {
    let kubectl = &scene.kubectl;
    scene.apply(&scene.workload("job", "ended", &opting_in(&[])))?;
    kubectl.until("job/ended", "to be complete", PATIENCE, |job| is_true(job, "Complete").then_some(()))?;
    kubectl.delete(&["secret", "ended-certmint-tls"])?;
    // What comes later is seen to.
    scene.apply(&without_pods("later", &opting_in(&[])))?;
    scene.secret("later-certmint-tls")?;
    let secrets = kubectl.list(&["secrets", "--field-selector=metadata.name=ended-certmint-tls"])?;
    ensure!(secrets.is_empty(), "a certificate was issued for a Job that is over");
    Ok(())
}
