//! The mounts of the certificate's volume in the containers of the application.

use certmint_contract::pod_layout::{FETCH_CONTAINER, TLS_VOLUME, TOKEN_PATH};
use certmint_contract::{WorkloadOptions, keys};
use serde_json::Value;

use super::readers::gets_files;
use crate::input::{Container, PodSpec, Volume, VolumeMount};
use crate::json::WithSource;
use crate::output::InjectedVolumeMount;
use crate::patch::PatchBuilder;
use crate::{MountConflict, Rejection};

/// Mounts the files read-only in every container that gets them, init containers included. Returns warnings for the user.
pub(super) fn add(
    spec: &PodSpec<'_>,
    options: &WorkloadOptions,
    patch: &mut PatchBuilder,
) -> Result<Vec<String>, Rejection> {
    let init = spec.init_containers.as_deref().unwrap_or_default().iter().map(|init| &init.view);
    let apps = spec.containers.as_deref().unwrap_or_default().iter();
    let init = init.enumerate().map(|(index, container)| ("initContainers", index, container));
    let apps = apps.enumerate().map(|(index, container)| ("containers", index, container));
    let mut mount_points = MountPointCheck { spec, options, created: Vec::new(), warnings: Vec::new() };
    for (list, index, container) in init.chain(apps) {
        if &*container.name == FETCH_CONTAINER {
            continue;
        }
        let path: &[&str] = &["spec", list, &index.to_string(), "volumeMounts"];
        reject_writable_mounts(container)?;
        if gets_files(&options.containers, &container.name) {
            add_to_container(path, container, spec, options, patch)?;
            mount_points.check_container(container)?;
        }
    }
    Ok(mount_points.warnings)
}

/// Rejects a writable mount of the certificate's volume. certmint-fetch trusts the files in that volume.
fn reject_writable_mounts(container: &Container<'_>) -> Result<(), Rejection> {
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let is_writable = |mount: &&VolumeMount<'_>| &*mount.name == TLS_VOLUME && mount.read_only != Some(true);
    match mounts.iter().find(is_writable) {
        Some(mount) => Err(Rejection::WritableMount {
            container: container.name.to_string(),
            path: normalize(&mount.mount_path),
        }),
        None => Ok(()),
    }
}

fn add_to_container(
    path: &[&str],
    container: &Container<'_>,
    spec: &PodSpec<'_>,
    options: &WorkloadOptions,
    patch: &mut PatchBuilder,
) -> Result<(), Rejection> {
    let certificate_path = options.mount_path.as_str();
    let mounts = container.volume_mounts.as_deref();
    let listed = mounts.unwrap_or_default().iter().map(|mount| (&*mount.name, &*mount.mount_path));
    let others = listed.clone().filter(|(volume, _)| *volume != TLS_VOLUME);
    for (volume, mount_path) in others.chain(api_token_mount(spec)) {
        if let Some(conflict) = conflict(certificate_path, mount_path) {
            return Err(Rejection::MountPath {
                container: container.name.to_string(),
                volume: volume.into(),
                path: normalize(mount_path),
                conflict,
            });
        }
    }
    let is_mounted = listed.clone().any(|(volume, mount_path)| {
        volume == TLS_VOLUME && conflict(certificate_path, mount_path) == Some(MountConflict::SamePath)
    });
    if !is_mounted {
        let mount =
            InjectedVolumeMount { name: TLS_VOLUME, mount_path: certificate_path, read_only: Some(true) };
        patch.append(path, mounts.is_some(), mount)?;
    }
    Ok(())
}

/// Finds containers in which the container runtime cannot create the directory for the certificate's mount.
///
/// The runtime creates that directory in the deepest mount above it. The runtime fails if that mount is read-only and
/// does not contain the directory.
struct MountPointCheck<'a> {
    spec: &'a PodSpec<'a>,
    options: &'a WorkloadOptions,
    /// Mounts (volume and path) in which the runtime creates the directory for an earlier container.
    created: Vec<(&'a str, &'a str)>,
    warnings: Vec<String>,
}

/// Maximum number of warnings about mounts.
const MAX_WARNINGS: usize = 10;
/// Maximum length in characters of a name in a warning. The API server has not validated the names yet.
const MAX_NAME_CHARS: usize = 100;

impl<'a> MountPointCheck<'a> {
    fn check_container(&mut self, container: &'a Container<'_>) -> Result<(), Rejection> {
        let certificate_path = self.options.mount_path.as_str();
        let mounts = container.volume_mounts.as_deref().unwrap_or_default().iter();
        let above = mounts
            .filter(|mount| &*mount.name != TLS_VOLUME && is_above(&mount.mount_path, certificate_path));
        // The runtime creates the directory in the deepest of the mounts above it.
        let Some(above) = above.max_by_key(|mount| path_components(&mount.mount_path).count()) else {
            return Ok(());
        };
        let volumes = self.spec.volumes.as_deref().unwrap_or_default();
        let volume = volumes.iter().find(|volume| volume.view.name == above.name);
        let content = volume.map_or(VolumeContent::Unknown, VolumeContent::of);
        // The kubelet creates the directory in its own volumes, but not in a sub path of them.
        if content == VolumeContent::Kubelet && above.is_whole() {
            return Ok(());
        }
        let mount = (&*above.name, &*above.mount_path);
        let is_read_only = above.read_only == Some(true)
            || matches!(content, VolumeContent::ReadOnly | VolumeContent::Kubelet);
        if !is_read_only {
            // The runtime creates the directory now, and later containers find it at the same mount path.
            if above.is_whole() {
                self.created.push(mount);
            }
            return Ok(());
        }
        if self.created.contains(&mount) {
            return Ok(());
        }
        if content == VolumeContent::Empty {
            return Err(Rejection::MountPath {
                container: container.name.to_string(),
                volume: above.name.to_string(),
                path: normalize(&above.mount_path),
                conflict: MountConflict::ReadOnlyAbove,
            });
        }
        self.warn(container, above);
        Ok(())
    }

    /// Warns of a read-only mount in a volume that may contain the directory.
    fn warn(&mut self, container: &Container<'_>, above: &VolumeMount<'_>) {
        if self.warnings.len() == MAX_WARNINGS {
            return;
        }
        let shorten = |text: &str| text.chars().take(MAX_NAME_CHARS).collect::<String>();
        self.warnings.push(format!(
            "certmint: SuspiciousSetting: container \"{}\" mounts volume \"{}\" read-only at {}, above the certificate's path {}; without that directory in the volume it cannot start: choose another path with annotation {}",
            shorten(&container.name),
            shorten(&above.name),
            shorten(&normalize(&above.mount_path)),
            self.options.mount_path.as_str(),
            keys::MOUNT_PATH
        ));
    }
}

/// Content of a volume when the container starts, as far as the pod's spec shows it. The content decides whether the
/// directory can be missing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum VolumeContent {
    /// Only what the containers of the pod write.
    Empty,
    /// Files of the kubelet, which also creates the directories of mounts below them (`MakeNestedMountpoints`).
    Kubelet,
    /// Unknown files in a volume that is read-only.
    ReadOnly,
    /// Unknown files.
    Unknown,
}

impl VolumeContent {
    fn of(volume: &WithSource<'_, Volume<'_>>) -> Self {
        let volume = volume.full_value();
        let sources = volume.iter().filter_map(Value::as_object).flatten();
        for (kind, source) in sources {
            match &**kind {
                "emptyDir" => return Self::Empty,
                "configMap" | "secret" | "projected" | "downwardAPI" => return Self::Kubelet,
                "image" => return Self::ReadOnly,
                _ if source.get("readOnly") == Some(&Value::Bool(true)) => return Self::ReadOnly,
                _ => {}
            }
        }
        Self::Unknown
    }
}

fn is_above(path: &str, other: &str) -> bool {
    conflict(path, other) == Some(MountConflict::InsidePath)
}

/// Name of the volume with the service account token, in messages.
const API_TOKEN_VOLUME: &str = "kube-api-access";

/// Returns the mount of the service account token, which the API server adds to each pod without
/// `automountServiceAccountToken: false`.
///
/// A template does not contain this mount yet. The webhook includes this mount in its check. So the webhook rejects a
/// conflict when the user annotates the workload, and not only when the workload's controller creates the pods.
fn api_token_mount(spec: &PodSpec<'_>) -> Option<(&'static str, &'static str)> {
    let path = TOKEN_PATH.rsplit_once('/').map_or(TOKEN_PATH, |(dir, _)| dir);
    (spec.automount_service_account_token != Some(false)).then_some((API_TOKEN_VOLUME, path))
}

/// Returns the conflict between the mount path of the certificate and another mount path.
///
/// A mount above the certificate's path is not a conflict here: the kubelet or the container runtime creates the directory
/// in it, unless it is read-only ([`MountPointCheck`]).
pub(super) fn conflict(certificate_path: &str, other: &str) -> Option<MountConflict> {
    let mut other = path_components(other);
    if path_components(certificate_path).any(|component| other.next() != Some(component)) {
        return None;
    }
    Some(if other.next().is_none() { MountConflict::SamePath } else { MountConflict::InsidePath })
}

/// Returns the path in the form of [`certmint_contract::annotations::MountPath`].
fn normalize(path: &str) -> String {
    let normalized: String = path_components(path).flat_map(|component| ["/", component]).collect();
    if normalized.is_empty() { "/".into() } else { normalized }
}

fn path_components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|component| !matches!(*component, "" | "."))
}
