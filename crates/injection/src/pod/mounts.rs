//! The app's mounts of the tmpfs volume.

use super::readers::receives;
use crate::input::{Container, PodSpec, Volume, VolumeMount};
use crate::json::WithSource;
use crate::patch::PatchBuilder;
use crate::{MountConflict, Rejection, output};
use certmint_contract::pod_layout::{FETCH_CONTAINER, TLS_VOLUME, TOKEN_PATH};
use certmint_contract::{WorkloadOptions, keys};
use serde_json::Value;

/// Gives every container that is meant to have them the files, read-only, init containers included. Returns what the
/// user should know.
pub(super) fn edit(
    spec: &PodSpec<'_>,
    request: &WorkloadOptions,
    patch: &mut PatchBuilder,
) -> Result<Vec<String>, Rejection> {
    let init = spec.init_containers.as_deref().unwrap_or_default().iter().map(|init| &init.view);
    let apps = spec.containers.as_deref().unwrap_or_default().iter();
    let init = init.enumerate().map(|(index, container)| ("initContainers", index, container));
    let apps = apps.enumerate().map(|(index, container)| ("containers", index, container));
    let mut places = MountPointCheck { spec, request, made: Vec::new(), doubts: Vec::new() };
    for (list, index, container) in init.chain(apps) {
        if &*container.name == FETCH_CONTAINER {
            continue;
        }
        let path: &[&str] = &["spec", list, &index.to_string(), "volumeMounts"];
        reject_writable_mounts(container)?;
        if receives(&request.containers, &container.name) {
            mount(path, container, spec, request, patch)?;
            places.check(container)?;
        }
    }
    Ok(places.doubts)
}

/// What an app could write there, ours would take for its own.
fn reject_writable_mounts(container: &Container<'_>) -> Result<(), Rejection> {
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let writes = mounts.iter().find(|mount| &*mount.name == TLS_VOLUME && mount.read_only != Some(true));
    let refusal = |mount: &VolumeMount<'_>| Rejection::WritableMount {
        container: container.name.to_string(),
        path: normalized(&mount.mount_path),
    };
    writes.map_or(Ok(()), |mount| Err(refusal(mount)))
}

fn mount(
    path: &[&str],
    container: &Container<'_>,
    spec: &PodSpec<'_>,
    request: &WorkloadOptions,
    patch: &mut PatchBuilder,
) -> Result<(), Rejection> {
    let place = request.mount_path.as_str();
    let mounts = container.volume_mounts.as_deref();
    let listed = mounts.unwrap_or_default().iter().map(|mount| (&*mount.name, &*mount.mount_path));
    for (volume, at) in listed.clone().filter(|(volume, _)| *volume != TLS_VOLUME).chain(api_token(spec)) {
        if let Some(conflict) = conflict(place, at) {
            let (container, volume) = (container.name.to_string(), volume.into());
            return Err(Rejection::MountPath { container, volume, path: normalized(at), conflict });
        }
    }
    if !listed
        .clone()
        .any(|(volume, at)| volume == TLS_VOLUME && conflict(place, at) == Some(MountConflict::SamePath))
    {
        let mount =
            output::InjectedVolumeMount { name: TLS_VOLUME, mount_path: place, read_only: Some(true) };
        patch.append(path, mounts.is_some(), mount)?;
    }
    Ok(())
}

/// Looks for directories that cannot be made: the runtime makes the mount point in whatever is mounted further up, and
/// fails where that is read-only.
struct MountPointCheck<'a> {
    spec: &'a PodSpec<'a>,
    request: &'a WorkloadOptions,
    /// Volumes in which a container that starts earlier has the directory made, and where they are mounted.
    made: Vec<(&'a str, &'a str)>,
    doubts: Vec<String>,
}

/// The most warnings, and the most characters of a name in one: the API server has not judged names yet.
const MAX_WARNINGS: usize = 10;
const MAX_SHOWN_CHARS: usize = 100;

impl<'a> MountPointCheck<'a> {
    fn check(&mut self, container: &'a Container<'_>) -> Result<(), Rejection> {
        let place = self.request.mount_path.as_str();
        let mounts = container.volume_mounts.as_deref().unwrap_or_default().iter();
        let above = mounts.filter(|mount| &*mount.name != TLS_VOLUME && is_above(&mount.mount_path, place));
        // Of mounts within each other, the deepest is what the runtime meets.
        let Some(above) = above.max_by_key(|mount| parts(&mount.mount_path).count()) else { return Ok(()) };
        let volumes = self.spec.volumes.as_deref().unwrap_or_default();
        let volume = volumes.iter().find(|volume| volume.view.name == above.name);
        let source = volume.map_or(VolumeContent::Unknown, VolumeContent::of);
        if source == VolumeContent::Kubelet && above.is_whole() {
            return Ok(());
        }
        let mounted = (&*above.name, &*above.mount_path);
        let is_read_only = above.read_only == Some(true)
            || matches!(source, VolumeContent::ReadOnly | VolumeContent::Kubelet);
        if !is_read_only {
            if above.is_whole() {
                self.made.push(mounted);
            }
            return Ok(());
        }
        if self.made.contains(&mounted) {
            return Ok(());
        }
        if source == VolumeContent::Empty {
            return Err(Rejection::MountPath {
                container: container.name.to_string(),
                volume: above.name.to_string(),
                path: normalized(&above.mount_path),
                conflict: MountConflict::ReadOnlyAbove,
            });
        }
        if self.doubts.len() < MAX_WARNINGS {
            let shown = |text: &str| text.chars().take(MAX_SHOWN_CHARS).collect::<String>();
            self.doubts.push(format!(
                "certmint: SuspiciousSetting: container \"{}\" mounts volume \"{}\" read-only at {}, above the certificate's place {place}; without that directory in the volume it cannot start: choose another place with annotation {}",
                shown(&container.name),
                shown(&above.name),
                shown(&normalized(&above.mount_path)),
                keys::MOUNT_PATH
            ));
        }
        Ok(())
    }
}

/// What a volume holds when the container starts, as far as that decides about a directory in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum VolumeContent {
    /// Nothing but what the pod's containers put there.
    Empty,
    /// What kubelet puts there, the directories of mounts within it included (`MakeNestedMountpoints`).
    Kubelet,
    /// Whatever it brings along, and nothing can be added.
    ReadOnly,
    /// Whatever it brings along.
    Unknown,
}

impl VolumeContent {
    fn of(volume: &WithSource<'_, Volume<'_>>) -> Self {
        let volume = volume.whole();
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

fn is_above(path: &str, place: &str) -> bool {
    conflict(path, place) == Some(MountConflict::InsidePath)
}

/// What the API server mounts into the pods of a template, unless it says otherwise: better told to whoever
/// annotates the template than to the pods' controller.
const API_TOKEN: &str = "kube-api-access";

fn api_token(spec: &PodSpec<'_>) -> Option<(&'static str, &'static str)> {
    let at = TOKEN_PATH.rsplit_once('/').map_or(TOKEN_PATH, |(dir, _)| dir);
    (spec.automount_service_account_token != Some(false)).then_some((API_TOKEN, at))
}

/// A mount further up is none of these: there the mount point is made by kubelet or the runtime, unless it is read-only.
pub(super) fn conflict(place: &str, other: &str) -> Option<MountConflict> {
    let mut other = parts(other);
    if parts(place).any(|part| other.next() != Some(part)) {
        return None;
    }
    Some(if other.next().is_none() { MountConflict::SamePath } else { MountConflict::InsidePath })
}

/// A path as [`certmint_contract::annotations::MountPath`] spells it.
fn normalized(path: &str) -> String {
    let normalized: String = parts(path).flat_map(|part| ["/", part]).collect();
    if normalized.is_empty() { "/".into() } else { normalized }
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !matches!(*part, "" | "."))
}
