//! Reports about missing certificates, and their explanation on the page of errors.
//!
//! The scenario `explained` creates each cause for a missing certificate: annotations that were written before
//! Certmint was installed, rejected annotations, foreign and damaged Secrets, no Service, a lost CA, and a controller
//! that is down. For each of them it asserts that kubectl shows an error code on the objects that a user looks at,
//! and that the page of errors explains the message.

mod fixture;
mod missing_certificates;
mod rejected_annotations;

use anyhow::Result;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::images;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::step;
use serde_json::json;

use self::fixture::ExplainedFixture;
use super::Scenario;
use super::own_cluster::run_on_own_cluster;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "explained",
    shows: "kubectl describe of Deployment, Pod and Secret says why there is no certificate, and the page of errors explains it.",
    run,
}];

const NAMESPACE: &str = "explained";
/// Chart values: pods report a missing certificate after five seconds, and the policy excludes a namespace.
const VALUES: &[&str] = &["fetch.deadlineSeconds=5", "policy.excludedNamespaces[0]=explained-closed"];

/// Runs on a cluster of its own, because it removes the CA, stops the controller, and needs a cluster without
/// Certmint first.
fn run(shared: &Cluster) -> Result<()> {
    run_on_own_cluster(shared, NAMESPACE, &[NAMESPACE, SYSTEM_NAMESPACE], run_causes)
}

fn run_causes(cluster: &Cluster) -> Result<()> {
    let kubectl = create_namespace(cluster, NAMESPACE, &[])?;
    let fixture = ExplainedFixture::new(kubectl, cluster.provide(&images::tools(cluster.cache())?)?)?;

    step("workloads opt in before Certmint is installed", || {
        missing_certificates::opt_in_before_installation(&fixture)
    })?;
    installation::install_and_wait(cluster, VALUES)?;
    step("after the installation, an Event on each workload says why and what to do", || {
        missing_certificates::wait_for_missed_opt_ins(&fixture)
    })?;

    step("kubectl annotate prints what is wrong and what is right", || {
        create_namespace(cluster, "explained-closed", &[])?;
        rejected_annotations::check(cluster, &fixture)
    })?;
    missing_certificates::create_name_conflicts(&fixture)?;
    step("name conflicts are reported on the workloads, their pods and the Secrets", || {
        missing_certificates::wait_for_name_conflicts(&fixture)
    })?;
    step("a damaged Secret is reported on the Secret and on its workload", || {
        missing_certificates::damage_secret(&fixture)
    })?;
    step("an Event with the certificate says that no Service selects the pods", || {
        missing_certificates::assert_no_service_reported(&fixture)
    })?;
    step("a pod that cannot reach the issuance API reports that", || {
        missing_certificates::wait_for_unreachable_api(&fixture)
    })?;
    step("a lost CA is reported on the controller, the workload and the pod", || {
        let system = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
        missing_certificates::remove_ca(&fixture, &system)
    })?;
    step("a pod reports that the controller is down", || {
        installation::scale_controller_and_wait(cluster, 0)?;
        fixture.apply_opted_in("without-controller", &json!({}))?;
        fixture.wait_for_pod_code("without-controller", "Unreachable")
    })
}
