//! The part of the scenario `names` about Services and DNS names of single pods: replicas of a StatefulSet, its
//! leader, pods of an Indexed Job, and a pod with a hostname.

use anyhow::{Result, ensure};
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::{images, workload};
use serde_json::{Value, json};

use super::fixture::CertificateFixture;

const LEADER: &str = "broker-leader";

pub(super) fn run(fixture: &CertificateFixture<'_>) -> Result<()> {
    let image = fixture.cluster.provide(&images::tools(fixture.cluster.cache())?)?;
    create_broker_services(fixture)?;
    let replicas = ["broker-0", "brokers", "broker-0.brokers", "broker-1.brokers"];
    step("a Service for a replica adds its name before the pod exists", || {
        fixture.kubectl.apply(&stateful_set(&image).to_string())?;
        fixture.wait_for_names("broker", &replicas).map(drop)
    })?;
    step("a Service for the leader adds its name when a pod becomes the leader", || {
        workload::wait_for_injected_pods(&fixture.kubectl, "broker")?;
        change_leader_label(fixture, LEADER_LABEL)?;
        let with_leader: Vec<&str> = replicas.into_iter().chain([LEADER]).collect();
        let found = fixture.wait_for_names("broker", &with_leader)?;
        ensure!(
            found.reason.starts_with("names changed: +broker-leader.names.svc"),
            "the certificate was reissued for the reason {:?}",
            found.reason
        );
        note(&found.reason);
        Ok(())
    })?;
    step("a leader that loses its role for a moment does not reissue the certificate", || {
        fixture
            .assert_unchanged_by("broker", "no leader", || change_leader_label(fixture, NO_LEADER_LABEL))?;
        fixture
            .assert_unchanged_by("broker", "the leader again", || change_leader_label(fixture, LEADER_LABEL))
    })?;
    step("pods of an Indexed Job, and a pod with a hostname, have their names", || {
        assert_hostnames(fixture, &image)
    })
}

/// Creates the Services of the StatefulSet `broker`: for all its pods, for two single replicas, and for the leader.
fn create_broker_services(fixture: &CertificateFixture<'_>) -> Result<()> {
    let broker = json!({ "app": "broker" });
    fixture.apply_service("brokers", &json!({ "selector": broker, "clusterIP": "None" }))?;
    for replica in ["broker-0", "broker-5"] {
        let selector = json!({ "app": "broker", "statefulset.kubernetes.io/pod-name": replica });
        fixture.apply_service(replica, &json!({ "selector": selector }))?;
    }
    fixture.apply_service(LEADER, &json!({ "selector": { "app": "broker", "role": "leader" } }))
}

fn assert_hostnames(fixture: &CertificateFixture<'_>, image: &str) -> Result<()> {
    fixture.apply_service("workers", &json!({ "selector": { "app": "train" }, "clusterIP": "None" }))?;
    fixture.apply_service("sub", &json!({ "selector": { "app": "hostnamed" }, "clusterIP": "None" }))?;
    // The pods stay unscheduled. Their names must be in the certificate before they run.
    let unschedulable = json!({ "certmint-test/none": "true" });
    let mut job = workload::manifest("job", "train", image, &workload::opt_in_annotations(&[]));
    job["spec"]["completionMode"] = "Indexed".into();
    job["spec"]["completions"] = 2.into();
    job["spec"]["template"]["spec"]["subdomain"] = "workers".into();
    job["spec"]["template"]["spec"]["nodeSelector"] = unschedulable.clone();
    fixture.kubectl.apply(&job.to_string())?;
    let mut pod = workload::manifest("pod", "hostnamed", image, &workload::opt_in_annotations(&[]));
    pod["spec"]["hostname"] = "one".into();
    pod["spec"]["subdomain"] = "sub".into();
    pod["spec"]["nodeSelector"] = unschedulable;
    fixture.kubectl.apply(&pod.to_string())?;
    let workers = ["workers", "train-0.workers", "train-1.workers", "train-2.workers", "train-3.workers"];
    fixture.wait_for_names("train", &workers)?;
    fixture.wait_for_names("hostnamed", &["sub", "one.sub"]).map(drop)
}

fn stateful_set(image: &str) -> Value {
    let mut set = workload::manifest("statefulset", "broker", image, &workload::opt_in_annotations(&[]));
    set["spec"]["serviceName"] = "brokers".into();
    set["spec"]["template"]["spec"]["containers"][0]["command"] = json!(["sleep", "3600"]);
    set
}

/// Label of the leader, for kubectl.
const LEADER_LABEL: &str = "role=leader";
/// Removal of that label, for kubectl.
const NO_LEADER_LABEL: &str = "role-";

/// Adds or removes the label of the leader, as an operator for databases does.
fn change_leader_label(fixture: &CertificateFixture<'_>, label: &str) -> Result<()> {
    fixture.kubectl.run(&["label", "pod", "broker-0", label]).map(drop)
}
