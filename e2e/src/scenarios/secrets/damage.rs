//! Everything that can be done to a Secret of ours, and each time a good certificate comes back.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::scene::{Scene, serial};
use crate::command;
use crate::progress::step;
use crate::story::installation;

const VICTIM: &str = "victim";
const SECRET: &str = "victim-certmint-tls";
/// More changes than are answered at once.
const MANY: u32 = 30;

pub(super) fn run(scene: &Scene<'_>) -> Result<()> {
    let kubectl = &scene.kubectl;
    scene.deploy(VICTIM, "none", 0, &[])?;
    let others = kubectl.get(&["secret", "shared-tls"])?["data"].clone();
    let key = json!({ "data": { "tls.key": others["tls.key"] } });
    // The API server insists on these two keys.
    let emptied = json!({ "data": { "tls.crt": "", "tls.key": "", "ca.crt": null } });
    let patch = |secret: &str, patch: &Value| {
        kubectl.run(&["patch", "secret", secret, "--type=merge", "--patch", &patch.to_string()]).map(drop)
    };
    let annotate = |text: &str| kubectl.run(&["annotate", "secret", SECRET, "--overwrite", text]).map(drop);

    healed(scene, "deleted", || kubectl.delete(&["secret", SECRET]).map(drop))?;
    healed(scene, "another key", || patch(SECRET, &key))?;
    healed(scene, "another's key and certificate", || patch(SECRET, &json!({ "data": others })))?;
    healed(scene, "emptied", || patch(SECRET, &emptied))?;
    healed(scene, "another serial number told", || annotate("certmint.dev/serial=0bad"))?;
    healed(scene, "a later end told", || annotate("certmint.dev/not-after=2099-01-01T00:00:00Z"))?;
    healed(scene, "an annotation removed", || annotate("certmint.dev/renew-at-"))?;
    healed(scene, "the label removed", || {
        kubectl.run(&["label", "secret", SECRET, "certmint.dev/managed-"]).map(drop)
    })?;
    healed(scene, "the owner removed", || {
        patch(SECRET, &json!({ "metadata": { "ownerReferences": null } }))
    })?;
    healed(scene, "made immutable with another key", || {
        let mut fixed = key.clone();
        fixed["immutable"] = true.into();
        patch(SECRET, &fixed)
    })?;
    step("another key again and again: told, written less often, and good in the end", || {
        let told = "involvedObject.name=victim,reason=WrittenTooOften";
        let mut attempts = 0..MANY;
        while kubectl.list(&["events", "--field-selector", told])?.is_empty() {
            attempts.next().context("nothing is told of it")?;
            patch(SECRET, &key)?;
            scene.good(SECRET, |_| true)?;
        }
        Ok(())
    })?;
    step("its workload deleted: it goes; made again: there is a new one", || {
        let before = kubectl.get(&["deployment", VICTIM])?["metadata"]["uid"].clone();
        kubectl.delete(&["deployment", VICTIM])?;
        kubectl.run(&["wait", "secret", SECRET, "--for=delete", "--timeout=60s"])?;
        scene.deploy(VICTIM, "none", 0, &[])?;
        let secret = scene.good(SECRET, |_| true)?;
        ensure!(secret["metadata"]["ownerReferences"][0]["uid"] != before, "it is the former one's");
        Ok(())
    })?;
    let unwatched = while_no_controller_runs(scene, || {
        patch("shared-tls", &key)?;
        // With a controller there, the name would be taken before it could be created anew.
        let mut secret = kubectl.get(&["secret", SECRET])?;
        secret["type"] = "Opaque".into();
        let metadata = secret["metadata"].as_object_mut().context("a Secret without metadata")?;
        metadata.retain(|key, _| !["uid", "resourceVersion", "managedFields"].contains(&key.as_str()));
        kubectl.delete(&["secret", SECRET])?;
        let mut create = kubectl.command(&["create", "--filename=-"]);
        command::output_with_input(&mut create, &secret.to_string()).map(drop)
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
