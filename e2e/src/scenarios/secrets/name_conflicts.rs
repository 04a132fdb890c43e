//! The part of `secrets-under-attack` about workloads whose Secret has the name of a foreign Secret or of another
//! workload's Secret. No pod may start with a key that was not issued for its workload.

use anyhow::{Result, ensure};
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::{images, workload};
use serde_json::Value;

use super::fixture::SecretFixture;

pub(super) fn run(fixture: &SecretFixture<'_>) -> Result<()> {
    let image = fixture.cluster.provide(&images::tools(fixture.cluster.cache())?)?;
    conflict_with_foreign_secret(fixture, &image)?;
    conflict_between_workloads(fixture, &image)?;
    step("the pods of a StatefulSet do not start with the key of a Deployment of the same name", || {
        fixture.deploy("twin", &image, 0, &[])?;
        fixture.wait_for_valid_secret("twin-certmint-tls", belongs_to("Deployment/twin"))?;
        let twin = workload::manifest("statefulset", "twin", &image, &workload::opt_in_annotations(&[]));
        fixture.kubectl.apply(&twin.to_string())?;
        let reason = "it was issued for Deployment/twin, and this pod belongs to StatefulSet/twin";
        wait_for_pod_description(fixture, "twin", reason)
    })
}

fn conflict_with_foreign_secret(fixture: &SecretFixture<'_>, image: &str) -> Result<()> {
    let kubectl = &fixture.kubectl;
    let secret = "shop-certmint-tls";
    kubectl.run(&["create", "secret", "generic", secret, "--from-literal=password=hush"])?;
    let before = kubectl.get(&["secret", secret])?;

    step("a foreign Secret with the workload's name is reported on workload, Secret and pod", || {
        fixture.deploy("shop", image, 1, &[])?;
        note(&fixture.wait_for_event("Deployment/shop", "ForeignSecret")?);
        fixture.wait_for_event(&format!("Secret/{secret}"), "ForeignSecret")?;
        let events = kubectl.run(&["events", "--for", &format!("secret/{secret}")])?;
        ensure!(events.contains("ForeignSecret"), "kubectl events --for prints no ForeignSecret:\n{events}");
        wait_for_pod_description(fixture, "shop", "ForeignSecret")
    })?;
    step("the foreign Secret has not changed", || {
        let current = kubectl.get(&["secret", secret])?;
        ensure!(current == before, "the foreign Secret was\n{before}\nand is\n{current}");
        Ok(())
    })?;
    step("the pod starts after the foreign Secret is deleted", || {
        kubectl.delete(&["secret", secret])?;
        fixture.wait_for_valid_secret(secret, |_| true)?;
        workload::wait_for_injected_pods(kubectl, "shop").map(drop)
    })
}

fn conflict_between_workloads(fixture: &SecretFixture<'_>, image: &str) -> Result<()> {
    let kubectl = &fixture.kubectl;
    step(
        "of two workloads with the same Secret, one gets it, and an Event on the other names the owner",
        || {
            let shared = [("secret-name", "shared-tls")];
            fixture.deploy("first", image, 0, &shared)?;
            fixture.wait_for_valid_secret("shared-tls", belongs_to("Deployment/first"))?;
            fixture.deploy("second", image, 1, &shared)?;
            let event = fixture.wait_for_event("Deployment/second", "SecretClaimed")?;
            note(&event);
            ensure!(
                event.contains("belongs to Deployment/first"),
                "the Event does not name the owner of the Secret: {event:?}"
            );
            fixture.wait_for_valid_secret("shared-tls", belongs_to("Deployment/first")).map(drop)
        },
    )?;
    step("the pods of the other workload do not start, although both have the same service account", || {
        wait_for_pod_description(fixture, "second", "SecretClaimed")?;
        let reason = "it was issued for Deployment/first, and this pod belongs to Deployment/second";
        wait_for_pod_description(fixture, "second", reason)
    })?;
    step("when the owner opts out, the other workload gets the Secret", || {
        kubectl.run(&["annotate", "deployment", "first", "certmint.dev/inject-"])?;
        fixture.wait_for_valid_secret("shared-tls", belongs_to("Deployment/second"))?;
        workload::wait_for_injected_pods(kubectl, "second").map(drop)
    })
}

fn belongs_to(workload: &str) -> impl Fn(&Value) -> bool {
    move |secret| secret["metadata"]["annotations"]["certmint.dev/workload"] == workload
}

/// Waits until `kubectl describe pod` prints these words, which say why the pod waits.
fn wait_for_pod_description(fixture: &SecretFixture<'_>, name: &str, words: &str) -> Result<()> {
    let selector = format!("--selector=app={name}");
    wait::until(&format!("kubectl describe of the pod of {name} to print {words}"), DEFAULT_TIMEOUT, || {
        let described = fixture.kubectl.run(&["describe", "pods", &selector])?;
        Ok(if described.contains(words) { Check::Passed(()) } else { Check::NotYet(described) })
    })
}
