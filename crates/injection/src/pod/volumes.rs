//! The three volumes: the files on tmpfs, our token, and the workload's Secret.

use crate::Refusal;
use crate::edits::Edits;
use crate::view::PodSpec;
use certmint_contract::SecretName;
use certmint_contract::issuance::AUDIENCE;
use certmint_contract::pod_layout::{
    CERTIFICATE_FILE, KEY_FILE, SECRET_VOLUME, TLS_VOLUME, TOKEN_PATH, TOKEN_VOLUME, TRUST_BUNDLE_FILE,
};
use serde_json::{Value, json};

/// Kubelet replaces the token at 80 % of its life; the API server checks at each use that the pod lives.
const TOKEN_SECONDS: u32 = 3600;

/// Brings the volumes to what they shall be. `ours` says whether the pod carries our container already.
pub(super) fn edit(
    spec: &PodSpec<'_>,
    secret: Option<&SecretName>,
    ours: bool,
    edits: &mut Edits,
) -> Result<(), Refusal> {
    let mut listed = spec.volumes.is_some();
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    let fs_group = spec.security_context.as_ref().is_some_and(|context| context.fs_group.is_some());
    let secret = secret.map(|secret| (SECRET_VOLUME, secret_volume(secret, fs_group)));
    for (name, desired) in
        [(TLS_VOLUME, tls_volume()), (TOKEN_VOLUME, token_volume())].into_iter().chain(secret)
    {
        match volumes.iter().enumerate().find(|(_, volume)| &*volume.view.name == name) {
            Some((_, volume)) if volume.holds(&desired) => {}
            Some((index, _)) if ours => edits.replace(&["spec", "volumes", &index.to_string()], desired),
            Some(_) => return Err(Refusal::VolumeName(name)),
            None => {
                edits.append(&["spec", "volumes"], listed, desired);
                listed = true;
            }
        }
    }
    Ok(())
}

/// In memory, so that no key reaches a disk; small, because it counts against the pod's memory.
fn tls_volume() -> Value {
    json!({"name": TLS_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})
}

fn token_volume() -> Value {
    let file = TOKEN_PATH.rsplit('/').next();
    let token = json!({"audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": file});
    json!({"name": TOKEN_VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}})
}

/// Optional: a pod may be created before its Secret is, and then asks the issuance API.
fn secret_volume(secret: &SecretName, fs_group: bool) -> Value {
    let items = [CERTIFICATE_FILE, KEY_FILE, TRUST_BUNDLE_FILE].map(|key| json!({"key": key, "path": key}));
    // Only our container mounts it. Kubelet gives the files to root and the fsGroup, so without that
    // group our user reads them as anyone.
    let mode = if fs_group { 0o440 } else { 0o444 };
    json!({"name": SECRET_VOLUME, "secret": {
        "secretName": secret.as_str(), "optional": true, "defaultMode": mode, "items": items
    }})
}
