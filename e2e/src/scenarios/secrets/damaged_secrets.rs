//! The part of `secrets-under-attack` that damages the content and the metadata of a Secret of Certmint. The controller
//! must reissue the certificate after each damage.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::progress::step;
use certmint_local_cluster::{command, installation};
use serde_json::{Value, json};

use super::fixture::{SecretFixture, serial};

const VICTIM: &str = "victim";
const SECRET: &str = "victim-certmint-tls";
/// Maximum number of damages before the Event `WrittenTooOften`, which reports that the controller writes the Secret less
/// often.
const MAX_CHANGES: u32 = 30;

pub(super) fn run(fixture: &SecretFixture<'_>) -> Result<()> {
    fixture.deploy(VICTIM, "none", 0, &[])?;
    let other_data = fixture.kubectl.get(&["secret", "shared-tls"])?["data"].clone();
    let other_key = json!({ "data": { "tls.key": other_data["tls.key"] } });

    damage_content(fixture, &other_data, &other_key)?;
    damage_metadata(fixture)?;
    assert_reissued(fixture, "another key, and made immutable", || {
        let mut immutable = other_key.clone();
        immutable["immutable"] = true.into();
        patch(fixture, SECRET, &immutable)
    })?;
    step("a Secret that is damaged again and again is reissued, less often, and this is reported", || {
        damage_repeatedly(fixture, &other_key)
    })?;
    step("the Secret of a deleted workload is deleted; a recreated workload gets a new one", || {
        recreate_workload(fixture)
    })?;
    let damaged = without_controller(fixture, || {
        patch(fixture, "shared-tls", &other_key)?;
        recreate_with_other_type(fixture)
    });
    step("Secrets that were damaged while no controller ran are reissued", || {
        damaged?;
        fixture.wait_for_valid_secret("shared-tls", |_| true)?;
        fixture.wait_for_valid_secret(SECRET, |_| true).map(drop)
    })
}

fn damage_content(fixture: &SecretFixture<'_>, other_data: &Value, other_key: &Value) -> Result<()> {
    // The API server requires tls.crt and tls.key in a Secret of type kubernetes.io/tls.
    let emptied = json!({ "data": { "tls.crt": "", "tls.key": "", "ca.crt": null } });
    let other_data = json!({ "data": other_data });
    assert_reissued(fixture, "deleted", || fixture.kubectl.delete(&["secret", SECRET]).map(drop))?;
    assert_reissued(fixture, "another key", || patch(fixture, SECRET, other_key))?;
    assert_reissued(fixture, "another workload's key and certificate", || {
        patch(fixture, SECRET, &other_data)
    })?;
    assert_reissued(fixture, "empty values", || patch(fixture, SECRET, &emptied))
}

fn damage_metadata(fixture: &SecretFixture<'_>) -> Result<()> {
    let kubectl = &fixture.kubectl;
    let annotate = |text: &str| kubectl.run(&["annotate", "secret", SECRET, "--overwrite", text]).map(drop);
    assert_reissued(fixture, "another serial number in its annotation", || {
        annotate("certmint.dev/serial=0bad")
    })?;
    assert_reissued(fixture, "a later end in its annotation", || {
        annotate("certmint.dev/not-after=2099-01-01T00:00:00Z")
    })?;
    assert_reissued(fixture, "an annotation removed", || annotate("certmint.dev/renew-at-"))?;
    assert_reissued(fixture, "its label removed", || {
        kubectl.run(&["label", "secret", SECRET, "certmint.dev/managed-"]).map(drop)
    })?;
    assert_reissued(fixture, "its owner removed", || {
        patch(fixture, SECRET, &json!({ "metadata": { "ownerReferences": null } }))
    })
}

/// Damages the Secret until an Event says that it is written too often. The Secret must be valid after each damage.
fn damage_repeatedly(fixture: &SecretFixture<'_>, other_key: &Value) -> Result<()> {
    let of_victim = "involvedObject.name=victim,reason=WrittenTooOften";
    let mut changes = 0..MAX_CHANGES;
    while fixture.kubectl.list(&["events", "--field-selector", of_victim])?.is_empty() {
        changes.next().with_context(|| format!("no Event WrittenTooOften after {MAX_CHANGES} changes"))?;
        patch(fixture, SECRET, other_key)?;
        fixture.wait_for_valid_secret(SECRET, |_| true)?;
    }
    Ok(())
}

fn recreate_workload(fixture: &SecretFixture<'_>) -> Result<()> {
    let kubectl = &fixture.kubectl;
    let before = kubectl.get(&["deployment", VICTIM])?["metadata"]["uid"].clone();
    kubectl.delete(&["deployment", VICTIM])?;
    kubectl.run(&["wait", "secret", SECRET, "--for=delete", "--timeout=60s"])?;
    fixture.deploy(VICTIM, "none", 0, &[])?;
    let secret = fixture.wait_for_valid_secret(SECRET, |_| true)?;
    let owner = &secret["metadata"]["ownerReferences"][0]["uid"];
    ensure!(*owner != before, "the Secret still belongs to the deleted workload");
    Ok(())
}

/// Recreates the Secret with another type. This needs a stopped controller: a running controller would recreate the
/// deleted Secret first.
fn recreate_with_other_type(fixture: &SecretFixture<'_>) -> Result<()> {
    let kubectl = &fixture.kubectl;
    let mut secret = kubectl.get(&["secret", SECRET])?;
    secret["type"] = "Opaque".into();
    let metadata = secret["metadata"].as_object_mut().context("the Secret has no metadata")?;
    metadata.retain(|key, _| !["uid", "resourceVersion", "managedFields"].contains(&key.as_str()));
    kubectl.delete(&["secret", SECRET])?;
    let mut create = kubectl.command(&["create", "--filename=-"]);
    command::output_with_input(&mut create, &secret.to_string()).map(drop)
}

fn patch(fixture: &SecretFixture<'_>, secret: &str, patch: &Value) -> Result<()> {
    let patch = patch.to_string();
    fixture.kubectl.run(&["patch", "secret", secret, "--type=merge", "--patch", &patch]).map(drop)
}

/// Scales the controller to zero, runs `damage`, and scales the controller up. Scales it up even after an error,
/// because other scenarios need the controller.
fn without_controller(fixture: &SecretFixture<'_>, damage: impl FnOnce() -> Result<()>) -> Result<()> {
    let damaged = installation::scale_controller_and_wait(fixture.cluster, 0).and_then(|()| damage());
    installation::scale_controller_and_wait(fixture.cluster, 2)?;
    damaged
}

/// Damages the Secret, and asserts that it becomes valid and has a new certificate.
fn assert_reissued(
    fixture: &SecretFixture<'_>,
    what: &str,
    damage: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let before = fixture.wait_for_valid_secret(SECRET, |_| true)?;
    step(&format!("the certificate is reissued after this damage of its Secret: {what}"), || {
        damage()?;
        fixture.wait_for_valid_secret(SECRET, |now| serial(now) != serial(&before)).map(drop)
    })
}
