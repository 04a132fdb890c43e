//! Owners that cannot opt in: custom resources, and kinds that Certmint does not support.

use anyhow::{Result, ensure};
use certmint_local_cluster::kubectl::is_true;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::workload::{self, opt_in_annotations, wait_for_injected_pods};
use serde_json::json;

use super::{OwnershipFixture, first_name, with_template_annotations};

/// Asserts that opted-in Deployments get certificates although a custom resource controls them, from the start or
/// later.
pub(super) fn assert_controlled_workloads_have_certificates(fixture: &OwnershipFixture<'_>) -> Result<()> {
    let kubectl = &fixture.kubectl;
    let mut controlled = fixture.workload("deployment", "controlled", &opt_in_annotations(&[]));
    controlled["metadata"]["ownerReferences"] = fixture.custom_resource_reference()?;
    fixture.apply(&controlled)?;
    fixture.apply(&fixture.workload("deployment", "adopted", &opt_in_annotations(&[])))?;
    wait_for_injected_pods(kubectl, "controlled")?;
    fixture.wait_for_secret("controlled-certmint-tls")?;

    let before = fixture.wait_for_secret("adopted-certmint-tls")?;
    let adoption = json!({ "metadata": { "ownerReferences": fixture.custom_resource_reference()? } });
    kubectl.run(&["patch", "deployment", "adopted", "--type=merge", "-p", &adoption.to_string()])?;
    kubectl.delete(&["secret", "adopted-certmint-tls"])?;
    wait::until("the Secret to be recreated", DEFAULT_TIMEOUT, || {
        let after = fixture.wait_for_secret("adopted-certmint-tls")?;
        Ok(if after["metadata"]["uid"] == before["metadata"]["uid"] {
            Check::NotYet("it is still the first Secret".to_owned())
        } else {
            Check::Passed(())
        })
    })
}

/// Asserts that injected pods of a ReplicationController, and of a Job that a custom resource controls, get
/// certificates.
pub(super) fn assert_standalone_pods_have_certificates(fixture: &OwnershipFixture<'_>) -> Result<()> {
    let mut controller =
        with_template_annotations(fixture.workload("replicaset", "rc", &json!({})), &opt_in_annotations(&[]));
    controller["apiVersion"] = "v1".into();
    controller["kind"] = "ReplicationController".into();
    controller["spec"]["selector"] = json!({ "app": "rc" });
    fixture.apply(&controller)?;
    fixture.apply(&workload::service("rc"))?;
    let mut job =
        with_template_annotations(fixture.workload("job", "child", &json!({})), &opt_in_annotations(&[]));
    job["metadata"]["ownerReferences"] = fixture.custom_resource_reference()?;
    fixture.apply(&job)?;

    let pods = wait_for_injected_pods(&fixture.kubectl, "rc")?;
    let name = first_name(&pods)?;
    let secret = fixture.wait_for_secret(&format!("{name}-certmint-tls"))?;
    let names = &secret["metadata"]["annotations"]["certmint.dev/dns-names"];
    ensure!(
        names.as_str().is_some_and(|names| names.contains("rc.ownership.svc")),
        "the pod's certificate does not contain the name of its Service: {names}"
    );
    let kubectl = &fixture.kubectl;
    kubectl.wait_for("job/child", "to be complete", DEFAULT_TIMEOUT, |job| {
        is_true(job, "Complete").then_some(())
    })?;
    let children = wait_for_injected_pods(kubectl, "child")?;
    children.iter().try_for_each(|pod| workload::assert_sees_certificate(kubectl, pod))
}
