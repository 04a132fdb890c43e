//! The three volumes: the files on tmpfs, our token, and the workload's Secret.

use crate::Refusal;
use crate::edits::Edits;
use crate::manifest::{EmptyDir, KeyToPath, Projected, Projection, SecretSource, Volume};
use crate::view::PodSpec;
use certmint_contract::SecretName;
use certmint_contract::issuance::AUDIENCE;
use certmint_contract::pod_layout::{
    CERTIFICATE_FILE, KEY_FILE, SECRET_VOLUME, TLS_VOLUME, TOKEN_PATH, TOKEN_VOLUME, TRUST_BUNDLE_FILE,
    WORKLOAD_FILE,
};

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
    let secret = secret.map(|secret| secret_volume(secret, fs_group));
    for desired in [tls_volume(), token_volume()].into_iter().chain(secret) {
        let name = desired.name;
        match volumes.iter().enumerate().find(|(_, volume)| &*volume.view.name == name) {
            Some((_, volume)) if volume.holds(&desired) => {}
            Some((index, _)) if ours => {
                edits.replace(&["spec", "volumes", &index.to_string()], desired)?;
            }
            Some(_) => return Err(Refusal::VolumeName(name)),
            None => {
                edits.append(&["spec", "volumes"], listed, desired)?;
                listed = true;
            }
        }
    }
    Ok(())
}

/// In memory, so that no key reaches a disk; small, because it counts against the pod's memory.
fn tls_volume() -> Volume<'static> {
    let empty_dir = EmptyDir { medium: "Memory", size_limit: "1Mi" };
    Volume { name: TLS_VOLUME, empty_dir: Some(empty_dir), ..Volume::default() }
}

fn token_volume() -> Volume<'static> {
    let path = TOKEN_PATH.rsplit_once('/').map_or(TOKEN_PATH, |(_, file)| file);
    let token =
        Projection::ServiceAccountToken { audience: AUDIENCE, expiration_seconds: TOKEN_SECONDS, path };
    Volume { name: TOKEN_VOLUME, projected: Some(Projected { sources: [token] }), ..Volume::default() }
}

/// Optional: a pod may be created before its Secret is, and then asks the issuance API. A Secret that an earlier version
/// wrote has no [`WORKLOAD_FILE`], and kubelet leaves out the missing key of an optional volume.
fn secret_volume(secret: &SecretName, fs_group: bool) -> Volume<'_> {
    let source = SecretSource {
        secret_name: secret.as_str(),
        optional: true,
        // Only our container mounts it. Kubelet gives the files to root and the fsGroup, so without that
        // group our user reads them as anyone.
        default_mode: if fs_group { 0o440 } else { 0o444 },
        items: [CERTIFICATE_FILE, KEY_FILE, TRUST_BUNDLE_FILE, WORKLOAD_FILE]
            .map(|key| KeyToPath { key, path: key }),
    };
    Volume { name: SECRET_VOLUME, secret: Some(source), ..Volume::default() }
}
