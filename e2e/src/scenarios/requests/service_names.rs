//! The scenario `names` creates, changes and deletes Services and single pods of opted-in workloads, none of which
//! need to run.
//!
//! It asserts that each certificate has exactly the expected names, and that a change that does not affect the names
//! does not reissue the certificate. A name that no Service gives any longer must stay in the certificate for a minute.

use std::time::Instant;

use anyhow::{Result, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::{installation, machine, workload};
use serde_json::json;

use super::fixture::{CertificateFixture, deployment};
use super::pod_names;

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    machine::install(machine::VERIFIERS)?;
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let fixture = CertificateFixture::new(cluster, "names")?;
    let selector = json!({ "app": "payments" });

    step("without a Service, the certificate has no DNS names", || {
        fixture.deploy("payments", &[])?;
        fixture.wait_for_names("payments", &[]).map(drop)
    })?;
    step("each Service that selects the pods adds its names", || {
        fixture.apply_service("payments", &json!({ "selector": selector }))?;
        let found = fixture.wait_for_names("payments", &["payments"])?;
        ensure!(
            found.reason.starts_with("names changed: +payments.names.svc"),
            "the certificate was reissued for the reason {:?}",
            found.reason
        );
        fixture.apply_service("front", &json!({ "selector": selector, "clusterIP": "None" }))?;
        fixture.wait_for_names("payments", &["front", "payments"]).map(drop)
    })?;
    step("Services that do not select the pods add no names", || assert_other_services_ignored(&fixture))?;
    step("changes that do not affect the names do not reissue the certificate", || {
        assert_other_changes_ignored(&fixture)
    })?;
    step("a Service that is recreated within a minute does not reissue the certificate", || {
        fixture.assert_unchanged_by("payments", "front is deleted", || {
            fixture.kubectl.delete(&["service", "front"]).map(drop)
        })?;
        fixture.assert_unchanged_by("payments", "front is recreated", || {
            fixture.apply_service("front", &json!({ "selector": selector, "clusterIP": "None" }))
        })
    })?;
    let lost = Instant::now();
    step("a lost name stays for a minute", || {
        fixture.assert_unchanged_by("payments", "another selector", || {
            fixture.apply_service("payments", &json!({ "selector": { "app": "refunds" } }))
        })
    })?;
    step("a StatefulSet's certificate has the names of its replicas, and of further ones", || {
        assert_replica_names(&fixture)
    })?;
    pod_names::run(&fixture)?;
    step("after a minute, the certificate is reissued without the lost name, and with all others", || {
        let found = fixture.wait_for_names("payments", &["front"])?;
        let expected = "names changed: -payments.names.svc -payments.names.svc.cluster.local";
        ensure!(
            found.reason == expected,
            "the certificate was reissued for the reason {:?}, expected {expected:?}",
            found.reason
        );
        let seconds = lost.elapsed().as_secs();
        note(&format!("the certificate lost the name {seconds} s after the Service changed"));
        ensure!(seconds >= 60, "the certificate lost the name after only {seconds} s");
        Ok(())
    })
}

fn assert_other_services_ignored(fixture: &CertificateFixture<'_>) -> Result<()> {
    fixture.assert_unchanged_by("payments", "Services that do not select the pods", || {
        let external = json!({
            "type": "ExternalName", "externalName": "pay.example.com", "selector": { "app": "payments" },
        });
        fixture.apply_service("elsewhere", &external)?;
        fixture.apply_service("selectorless", &json!({}))?;
        fixture
            .apply_service("more-labels", &json!({ "selector": { "app": "payments", "version": "2" } }))?;
        let other = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "payments", "namespace": "default" },
            "spec": { "selector": { "app": "payments" }, "ports": [{ "port": 443 }] },
        });
        let kubectl = fixture.cluster.kubectl();
        kubectl.apply(&other.to_string())?;
        kubectl.delete(&["service", "payments", "--namespace=default"]).map(drop)
    })
}

fn assert_other_changes_ignored(fixture: &CertificateFixture<'_>) -> Result<()> {
    let kubectl = &fixture.kubectl;
    fixture.assert_unchanged_by("payments", "labels and ports of a Service", || {
        kubectl.run(&["label", "service/payments", "team=checkout"])?;
        let ports = r#"{"spec":{"ports":[{"port":443,"name":"tls"},{"port":8443,"name":"other"}]}}"#;
        kubectl.run(&["patch", "service/payments", "--patch", ports]).map(drop)
    })?;
    fixture.assert_unchanged_by("payments", "another number of replicas", || {
        kubectl.run(&["scale", "deployment/payments", "--replicas=2"])?;
        kubectl.run(&["scale", "deployment/payments", "--replicas=0"]).map(drop)
    })?;
    fixture.assert_unchanged_by("payments", "annotations for the pod alone", || {
        kubectl.run(&["annotate", "deployment/payments", "certmint.dev/mount-path=/tls"]).map(drop)
    })?;
    fixture.assert_unchanged_by("payments", "a restart of the controller", || {
        let system = fixture.cluster.kubectl().namespace(installation::SYSTEM_NAMESPACE);
        system.run(&["rollout", "restart", "deployment/certmint-controller"])?;
        workload::wait_for_rollout(&system, "certmint-controller").map(drop)
    })
}

fn assert_replica_names(fixture: &CertificateFixture<'_>) -> Result<()> {
    let mut set = deployment("db", &[]);
    set["kind"] = "StatefulSet".into();
    set["spec"]["serviceName"] = "peers".into();
    set["spec"]["replicas"] = 2.into();
    // The pods stay unscheduled. Their names must be in the certificate before they run.
    set["spec"]["template"]["spec"]["nodeSelector"] = json!({ "certmint-test/none": "true" });
    fixture.apply_service("peers", &json!({ "selector": { "app": "db" }, "clusterIP": "None" }))?;
    fixture.kubectl.apply(&set.to_string())?;
    let wait_for_replica_names = |replicas: u32| {
        let hosts: Vec<String> = (0..replicas).map(|replica| format!("db-{replica}.peers")).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).chain(["peers"]).collect();
        fixture.wait_for_names("db", &hosts)
    };
    let scale = |replicas: &str| fixture.kubectl.run(&["scale", "statefulset/db", replicas]).map(drop);
    // The certificate also has names for replicas that do not exist yet: their number is the next power of two above
    // the number of replicas.
    wait_for_replica_names(4)?;
    fixture.assert_unchanged_by("db", "one more replica", || scale("--replicas=3"))?;
    scale("--replicas=4")?;
    let found = wait_for_replica_names(8)?;
    ensure!(
        found.reason.starts_with("names changed: +db-4.peers.names.svc"),
        "the certificate was reissued for the reason {:?}",
        found.reason
    );
    fixture.assert_unchanged_by("db", "one replica less", || scale("--replicas=2"))
}
