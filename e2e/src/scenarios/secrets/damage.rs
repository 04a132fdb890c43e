//! Everything that can be done to a Secret of ours, and each time a good certificate comes back.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::progress::step;
use certmint_local_cluster::{command, installation};
use serde_json::{Value, json};

use super::scene::{Scene, serial};

const VICTIM: &str = "victim";
const SECRET: &str = "victim-certmint-tls";
/// More changes than are answered at once.
const MANY: u32 = 30;

pub(super) fn run(scene: &Scene<'_>) -> Result<()> {
    scene.deploy(VICTIM, "none", 0, &[])?;
    let others = scene.kubectl.get(&["secret", "shared-tls"])?["data"].clone();
    let key = json!({ "data": { "tls.key": others["tls.key"] } });

    contents_damaged(scene, &others, &key)?;
    metadata_damaged(scene)?;
    healed(scene, "made immutable with another key", || {
        let mut fixed = key.clone();
        fixed["immutable"] = true.into();
        patch(scene, SECRET, &fixed)
    })?;
    step("another key again and again: told, written less often, and good in the end", || {
        again_and_again(scene, &key)
    })?;
    step("its workload deleted: it goes; made again: there is a new one", || workload_made_again(scene))?;
    let unwatched = while_no_controller_runs(scene, || {
        patch(scene, "shared-tls", &key)?;
        created_anew(scene)
    });
    step(
        "another key, and a Secret created anew with another type, while no controller runs: issued again",
        || {
            unwatched?;
            scene.good("shared-tls", |_| true)?;
            scene.good(SECRET, |_| true).map(drop)
        },
    )
}

fn contents_damaged(scene: &Scene<'_>, others: &Value, key: &Value) -> Result<()> {
    // The API server insists on these two keys.
    let emptied = json!({ "data": { "tls.crt": "", "tls.key": "", "ca.crt": null } });
    healed(scene, "deleted", || scene.kubectl.delete(&["secret", SECRET]).map(drop))?;
    healed(scene, "another key", || patch(scene, SECRET, key))?;
    healed(scene, "another's key and certificate", || patch(scene, SECRET, &json!({ "data": others })))?;
    healed(scene, "emptied", || patch(scene, SECRET, &emptied))
}

fn metadata_damaged(scene: &Scene<'_>) -> Result<()> {
    let kubectl = &scene.kubectl;
    let annotate = |text: &str| kubectl.run(&["annotate", "secret", SECRET, "--overwrite", text]).map(drop);
    healed(scene, "another serial number told", || annotate("certmint.dev/serial=0bad"))?;
    healed(scene, "a later end told", || annotate("certmint.dev/not-after=2099-01-01T00:00:00Z"))?;
    healed(scene, "an annotation removed", || annotate("certmint.dev/renew-at-"))?;
    healed(scene, "the label removed", || {
        kubectl.run(&["label", "secret", SECRET, "certmint.dev/managed-"]).map(drop)
    })?;
    healed(scene, "the owner removed", || {
        patch(scene, SECRET, &json!({ "metadata": { "ownerReferences": null } }))
    })
}

fn again_and_again(scene: &Scene<'_>, key: &Value) -> Result<()> {
    let told = "involvedObject.name=victim,reason=WrittenTooOften";
    let mut attempts = 0..MANY;
    while scene.kubectl.list(&["events", "--field-selector", told])?.is_empty() {
        attempts.next().context("nothing is told of it")?;
        patch(scene, SECRET, key)?;
        scene.good(SECRET, |_| true)?;
    }
    Ok(())
}

fn workload_made_again(scene: &Scene<'_>) -> Result<()> {
    let kubectl = &scene.kubectl;
    let before = kubectl.get(&["deployment", VICTIM])?["metadata"]["uid"].clone();
    kubectl.delete(&["deployment", VICTIM])?;
    kubectl.run(&["wait", "secret", SECRET, "--for=delete", "--timeout=60s"])?;
    scene.deploy(VICTIM, "none", 0, &[])?;
    let secret = scene.good(SECRET, |_| true)?;
    ensure!(secret["metadata"]["ownerReferences"][0]["uid"] != before, "it is the former one's");
    Ok(())
}

/// The Secret with another type. With a controller there, its name would be taken before it could be created anew.
fn created_anew(scene: &Scene<'_>) -> Result<()> {
    let kubectl = &scene.kubectl;
    let mut secret = kubectl.get(&["secret", SECRET])?;
    secret["type"] = "Opaque".into();
    let metadata = secret["metadata"].as_object_mut().context("a Secret without metadata")?;
    metadata.retain(|key, _| !["uid", "resourceVersion", "managedFields"].contains(&key.as_str()));
    kubectl.delete(&["secret", SECRET])?;
    let mut create = kubectl.command(&["create", "--filename=-"]);
    command::output_with_input(&mut create, &secret.to_string()).map(drop)
}

fn patch(scene: &Scene<'_>, secret: &str, patch: &Value) -> Result<()> {
    let patch = patch.to_string();
    scene.kubectl.run(&["patch", "secret", secret, "--type=merge", "--patch", &patch]).map(drop)
}

/// The installation is others' as well: its controllers come back in any case.
fn while_no_controller_runs(scene: &Scene<'_>, damage: impl FnOnce() -> Result<()>) -> Result<()> {
    let damaged = installation::scale_controller(scene.cluster, 0).and_then(|()| damage());
    installation::scale_controller(scene.cluster, 2)?;
    damaged
}

/// Damages the Secret, and waits until it is good and holds another certificate.
fn healed(scene: &Scene<'_>, what: &str, damage: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = scene.good(SECRET, |_| true)?;
    step(&format!("{what}: issued again"), || {
        damage()?;
        scene.good(SECRET, |now| serial(now) != serial(&before)).map(drop)
    })
}
