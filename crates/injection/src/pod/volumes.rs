//! The three injected volumes: the files on tmpfs, the projected token, and the workload's Secret.

use certmint_contract::SecretName;
use certmint_contract::issuance::AUDIENCE;
use certmint_contract::pod_layout::{
    CERTIFICATE_FILE, KEY_FILE, SECRET_VOLUME, TLS_VOLUME, TOKEN_PATH, TOKEN_VOLUME, TRUST_BUNDLE_FILE,
    TRUST_GENERATION_FILE, WORKLOAD_FILE,
};

use crate::Rejection;
use crate::input::PodSpec;
use crate::output::{EmptyDir, InjectedVolume, KeyToPath, Projected, Projection, SecretSource};
use crate::patch::PatchBuilder;

/// Lifetime of the projected token in seconds. The kubelet replaces the token after 80 % of it. At each use, the API server
/// checks that the pod exists.
const TOKEN_SECONDS: u32 = 3600;

/// Adds the volumes that the pod lacks. If the pod `is_injected` already, this function also replaces the volumes that
/// differ.
pub(super) fn add(
    spec: &PodSpec<'_>,
    secret: Option<&SecretName>,
    is_injected: bool,
    patch: &mut PatchBuilder,
) -> Result<(), Rejection> {
    let mut has_list = spec.volumes.is_some();
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    let has_fs_group = spec.security_context.as_ref().is_some_and(|context| context.fs_group.is_some());
    let secret = secret.map(|secret| secret_volume(secret, has_fs_group));
    for desired in [tls_volume(), token_volume()].into_iter().chain(secret) {
        let name = desired.name;
        match volumes.iter().enumerate().find(|(_, volume)| &*volume.view.name == name) {
            Some((_, volume)) if volume.contains(&desired) => {}
            Some((index, _)) if is_injected => {
                patch.replace(&["spec", "volumes", &index.to_string()], desired)?;
            }
            Some(_) => return Err(Rejection::VolumeName(name)),
            None => {
                patch.append(&["spec", "volumes"], has_list, desired)?;
                has_list = true;
            }
        }
    }
    Ok(())
}

/// Volume of the files. The volume is in memory, so that no key reaches a disk. It is small, because its content counts
/// as memory of the pod.
fn tls_volume() -> InjectedVolume<'static> {
    let empty_dir = EmptyDir { medium: "Memory", size_limit: "1Mi" };
    InjectedVolume { name: TLS_VOLUME, empty_dir: Some(empty_dir), ..InjectedVolume::default() }
}

fn token_volume() -> InjectedVolume<'static> {
    let path = TOKEN_PATH.rsplit_once('/').map_or(TOKEN_PATH, |(_, file)| file);
    let token =
        Projection::ServiceAccountToken { audience: AUDIENCE, expiration_seconds: TOKEN_SECONDS, path };
    let projected = Projected { sources: [token] };
    InjectedVolume { name: TOKEN_VOLUME, projected: Some(projected), ..InjectedVolume::default() }
}

/// Volume of the workload's Secret.
///
/// The volume is optional: a pod may be created before its Secret, and then certmint-fetch asks the issuance API. A Secret
/// of an earlier version lacks [`TRUST_GENERATION_FILE`] or [`WORKLOAD_FILE`]; the kubelet skips a missing key of an optional volume.
fn secret_volume(secret: &SecretName, has_fs_group: bool) -> InjectedVolume<'_> {
    let source = SecretSource {
        secret_name: secret.as_str(),
        optional: true,
        // Only the certmint-fetch container mounts this volume. The kubelet gives the files to root and the fsGroup.
        // Without an fsGroup, the user of the certmint-fetch container needs the permission for others.
        default_mode: if has_fs_group { 0o440 } else { 0o444 },
        items: [CERTIFICATE_FILE, KEY_FILE, TRUST_BUNDLE_FILE, TRUST_GENERATION_FILE, WORKLOAD_FILE]
            .map(|key| KeyToPath { key, path: key }),
    };
    InjectedVolume { name: SECRET_VOLUME, secret: Some(source), ..InjectedVolume::default() }
}
