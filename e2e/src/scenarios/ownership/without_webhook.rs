//! Opt-ins and opt-outs while the API server does not call the webhook. The scenario runs the commands in the Events
//! unchanged.

use anyhow::{Result, ensure};
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::workload::{
    opt_in_annotations, wait_for_injected_pods, wait_for_pods_without_injection, wait_for_rollout,
};
use certmint_local_cluster::{command, installation};
use serde_json::{Value, json};

use super::{OwnershipFixture, first_name, with_template_annotations};

const CONFIGURATION: [&str; 2] = ["mutatingwebhookconfiguration", "certmint"];

/// Opts workloads in by annotations on the object, or on the pod template only. The first synchronization of a GitOps
/// tool may do the same.
pub(super) fn opt_in(fixture: &OwnershipFixture<'_>) -> Result<()> {
    let kubectl = &fixture.kubectl;
    step("workloads opt in while there is no webhook", || {
        without_webhook_configuration(fixture, || {
            fixture.apply(&fixture.workload("deployment", "early", &opt_in_annotations(&[])))?;
            fixture.apply(&fixture.workload("cronjob", "early-cronjob", &opt_in_annotations(&[])))?;
            let mut templated = with_template_annotations(
                fixture.workload("deployment", "templated", &json!({})),
                &opt_in_annotations(&[]),
            );
            templated["spec"]["replicas"] = 0.into();
            fixture.apply(&templated)
        })
    })?;
    let follow_event = |kind: &str, object: &str, reason: &str| {
        let message = fixture.wait_for_event(kind, object, reason)?;
        note(&message);
        fixture.run_command_of(&message)
    };
    step("the command in the Event on each workload opts it in", || {
        follow_event("Deployment", "early", "OptInMissed")?;
        follow_event("CronJob", "early-cronjob", "OptInMissed")?;
        wait_for_rollout(kubectl, "early")?;
        wait_for_injected_pods(kubectl, "early")?;
        fixture.wait_for_secret("early-cronjob-certmint-tls").map(drop)
    })?;
    step("a pod of an annotated template gets a certificate before its workload opts in", || {
        // `kubectl scale` uses the subresource `scale`, for which the API server does not call the webhook.
        kubectl.run(&["scale", "deployment/templated", "--replicas=1"])?;
        let pods = wait_for_injected_pods(kubectl, "templated")?;
        let name = first_name(&pods)?;
        fixture.wait_for_secret(&format!("{name}-certmint-tls"))?;
        fixture.wait_for_event("Pod", name, "OptInMissed")?;
        follow_event("Deployment", "templated", "OptInMissed")?;
        fixture.wait_for_secret("templated-certmint-tls")?;
        wait_for_rollout(kubectl, "templated").map(drop)
    })
}

/// Removes the annotation from workloads while there is no webhook, so that their pod templates stay opted in.
pub(super) fn opt_out(fixture: &OwnershipFixture<'_>) -> Result<()> {
    let kubectl = &fixture.kubectl;
    let opted_in = [("deployment", "leaves"), ("cronjob", "leaves-job")];
    step("workloads opt out while there is no webhook", || {
        for (kind, name) in opted_in {
            fixture.apply(&fixture.workload(kind, name, &opt_in_annotations(&[])))?;
            fixture.wait_for_secret(&format!("{name}-certmint-tls"))?;
        }
        wait_for_injected_pods(kubectl, "leaves")?;
        without_webhook_configuration(fixture, || {
            opted_in.into_iter().try_for_each(|(kind, name)| {
                kubectl.run(&["annotate", kind, name, "certmint.dev/inject-"]).map(drop)
            })
        })
    })?;
    step("a new pod of such a workload still gets a certificate", || {
        kubectl.delete(&["pods", "--selector=app=leaves", "--now"])?;
        let pods = wait_for_injected_pods(kubectl, "leaves")?;
        let name = first_name(&pods)?;
        fixture.wait_for_secret(&format!("{name}-certmint-tls")).map(drop)
    })?;
    step("the command in the Event on each workload opts it out", || {
        for (kind, name) in [("Deployment", "leaves"), ("CronJob", "leaves-job")] {
            let message = fixture.wait_for_event(kind, name, "OptOutMissed")?;
            note(&message);
            fixture.run_command_of(&message)?;
        }
        wait_for_rollout(kubectl, "leaves")?;
        wait_for_pods_without_injection(kubectl, "leaves")?;
        let labels = kubectl.get(&["cronjob", "leaves-job"])?["metadata"]["labels"].clone();
        ensure!(labels["certmint.dev/managed"].is_null(), "the CronJob still has the labels {labels}");
        Ok(())
    })
}

/// Deletes the webhook configuration, runs `work`, and restores the configuration even if `work` fails.
fn without_webhook_configuration(
    fixture: &OwnershipFixture<'_>,
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let cluster = fixture.cluster;
    let mut configuration = cluster.kubectl().get(&CONFIGURATION)?;
    for key in ["resourceVersion", "uid", "creationTimestamp", "generation"] {
        configuration["metadata"][key] = Value::Null;
    }
    cluster.kubectl().delete(&CONFIGURATION)?;
    let result = work();
    let mut create = cluster.kubectl().command(&["create", "--filename=-"]);
    command::output_with_input(&mut create, &configuration.to_string())?;
    installation::wait_for_ready(cluster)?;
    result
}
