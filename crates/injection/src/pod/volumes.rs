//! The three volumes: the files on tmpfs, our token, and the workload's Secret.

use crate::Rejection;
use crate::input::PodSpec;
use crate::output::{EmptyDir, InjectedVolume, KeyToPath, Projected, Projection, SecretSource};
use crate::patch::PatchBuilder;
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
    patch: &mut PatchBuilder,
) -> Result<(), Rejection> {
    let mut listed = spec.volumes.is_some();
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    let fs_group = spec.security_context.as_ref().is_some_and(|context| context.fs_group.is_some());
    let secret = secret.map(|secret| secret_volume(secret, fs_group));
    for desired in [tls_volume(), token_volume()].into_iter().chain(secret) {
        let name = desired.name;
        match volumes.iter().enumerate().find(|(_, volume)| &*volume.view.name == name) {
            Some((_, volume)) if volume.holds(&desired) => {}
            Some((index, _)) if ours => {
                patch.replace(&["spec", "volumes", &index.to_string()], desired)?;
            }
            Some(_) => return Err(Rejection::VolumeName(name)),
            None => {
                patch.append(&["spec", "volumes"], listed, desired)?;
                listed = true;
            }
        }
    }
    Ok(())
}

/// In memory, so that no key reaches a disk; small, because it counts against the pod's memory.
fn tls_volume() -> InjectedVolume<'static> {
    let empty_dir = EmptyDir { medium: "Memory", size_limit: "1Mi" };
    InjectedVolume { name: TLS_VOLUME, empty_dir: Some(empty_dir), ..InjectedVolume::default() }
}

fn token_volume() -> InjectedVolume<'static> {
    let path = TOKEN_PATH.rsplit_once('/').map_or(TOKEN_PATH, |(_, file)| file);
    let token =
        Projection::ServiceAccountToken { audience: AUDIENCE, expiration_seconds: TOKEN_SECONDS, path };
    InjectedVolume {
        name: TOKEN_VOLUME,
        projected: Some(Projected { sources: [token] }),
        ..InjectedVolume::default()
    }
}

/// Optional: a pod may be created before its Secret is, and then asks the issuance API. A Secret that an earlier version
/// wrote has no [`WORKLOAD_FILE`], and kubelet leaves out the missing key of an optional volume.
fn secret_volume(secret: &SecretName, fs_group: bool) -> InjectedVolume<'_> {
    let source = SecretSource {
        secret_name: secret.as_str(),
        optional: true,
        // Only our container mounts it. Kubelet gives the files to root and the fsGroup, so without that
        // group our user reads them as anyone.
        default_mode: if fs_group { 0o440 } else { 0o444 },
        items: [CERTIFICATE_FILE, KEY_FILE, TRUST_BUNDLE_FILE, WORKLOAD_FILE]
            .map(|key| KeyToPath { key, path: key }),
    };
    InjectedVolume { name: SECRET_VOLUME, secret: Some(source), ..InjectedVolume::default() }
}
