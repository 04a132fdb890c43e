//! The app's mounts of the tmpfs volume.

use super::reader::receives;
use crate::edits::Edits;
use crate::json::Traced;
use crate::view::{Container, PodSpec, Volume, VolumeMount};
use crate::{Clash, Refusal, manifest};
use certmint_contract::pod_layout::{FETCH_CONTAINER, TLS_VOLUME, TOKEN_PATH};
use certmint_contract::{WorkloadOptions, keys};
use serde_json::Value;

/// Gives every container that is meant to have them the files, read-only, init containers included. Returns what the
/// user should know.
pub(super) fn edit(
    spec: &PodSpec<'_>,
    request: &WorkloadOptions,
    edits: &mut Edits,
) -> Result<Vec<String>, Refusal> {
    let init = spec.init_containers.as_deref().unwrap_or_default().iter().map(|init| &init.view);
    let apps = spec.containers.as_deref().unwrap_or_default().iter();
    let init = init.enumerate().map(|(index, container)| ("initContainers", index, container));
    let apps = apps.enumerate().map(|(index, container)| ("containers", index, container));
    let mut places = Places { spec, request, made: Vec::new(), doubts: Vec::new() };
    for (list, index, container) in init.chain(apps) {
        if &*container.name == FETCH_CONTAINER {
            continue;
        }
        let path: &[&str] = &["spec", list, &index.to_string(), "volumeMounts"];
        only_reads(container)?;
        if receives(&request.containers, &container.name) {
            mount(path, container, spec, request, edits)?;
            places.check(container)?;
        }
    }
    Ok(places.doubts)
}

/// What an app could write there, ours would take for its own.
fn only_reads(container: &Container<'_>) -> Result<(), Refusal> {
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let writes = mounts.iter().find(|mount| &*mount.name == TLS_VOLUME && mount.read_only != Some(true));
    let refusal = |mount: &VolumeMount<'_>| Refusal::WritableMount {
        container: container.name.to_string(),
        path: tidy(&mount.mount_path),
    };
    writes.map_or(Ok(()), |mount| Err(refusal(mount)))
}

fn mount(
    path: &[&str],
    container: &Container<'_>,
    spec: &PodSpec<'_>,
    request: &WorkloadOptions,
    edits: &mut Edits,
) -> Result<(), Refusal> {
    let place = request.mount_path.as_str();
    let mounts = container.volume_mounts.as_deref();
    let listed = mounts.unwrap_or_default().iter().map(|mount| (&*mount.name, &*mount.mount_path));
    for (volume, at) in listed.clone().filter(|(volume, _)| *volume != TLS_VOLUME).chain(api_token(spec)) {
        if let Some(clash) = clash(place, at) {
            let (container, volume) = (container.name.to_string(), volume.into());
            return Err(Refusal::MountPath { container, volume, path: tidy(at), clash });
        }
    }
    if !listed.clone().any(|(volume, at)| volume == TLS_VOLUME && clash(place, at) == Some(Clash::Same)) {
        let mount = manifest::VolumeMount { name: TLS_VOLUME, mount_path: place, read_only: Some(true) };
        edits.append(path, mounts.is_some(), mount)?;
    }
    Ok(())
}

/// Looks for directories that cannot be made: the runtime makes the mount point in whatever is mounted further up, and
/// fails where that is read-only.
struct Places<'a> {
    spec: &'a PodSpec<'a>,
    request: &'a WorkloadOptions,
    /// Volumes in which a container that starts earlier has the directory made, and where they are mounted.
    made: Vec<(&'a str, &'a str)>,
    doubts: Vec<String>,
}

/// The most warnings, and the most characters of a name in one: the API server has not judged names yet.
const MAX_DOUBTS: usize = 10;
const MAX_SHOWN: usize = 100;

impl<'a> Places<'a> {
    fn check(&mut self, container: &'a Container<'_>) -> Result<(), Refusal> {
        let place = self.request.mount_path.as_str();
        let mounts = container.volume_mounts.as_deref().unwrap_or_default().iter();
        let above = mounts.filter(|mount| &*mount.name != TLS_VOLUME && lies_above(&mount.mount_path, place));
        // Of mounts within each other, the deepest is what the runtime meets.
        let Some(above) = above.max_by_key(|mount| parts(&mount.mount_path).count()) else { return Ok(()) };
        let volumes = self.spec.volumes.as_deref().unwrap_or_default();
        let volume = volumes.iter().find(|volume| volume.view.name == above.name);
        let source = volume.map_or(Source::Unknown, Source::of);
        if source == Source::Kubelet && above.is_whole() {
            return Ok(());
        }
        let mounted = (&*above.name, &*above.mount_path);
        let is_read_only =
            above.read_only == Some(true) || matches!(source, Source::ReadOnly | Source::Kubelet);
        if !is_read_only {
            if above.is_whole() {
                self.made.push(mounted);
            }
            return Ok(());
        }
        if self.made.contains(&mounted) {
            return Ok(());
        }
        if source == Source::Empty {
            return Err(Refusal::MountPath {
                container: container.name.to_string(),
                volume: above.name.to_string(),
                path: tidy(&above.mount_path),
                clash: Clash::ReadOnlyAbove,
            });
        }
        if self.doubts.len() < MAX_DOUBTS {
            let shown = |text: &str| text.chars().take(MAX_SHOWN).collect::<String>();
            self.doubts.push(format!(
                "certmint: SuspiciousSetting: container \"{}\" mounts volume \"{}\" read-only at {}, above the certificate's place {place}; without that directory in the volume it cannot start: choose another place with annotation {}",
                shown(&container.name),
                shown(&above.name),
                shown(&tidy(&above.mount_path)),
                keys::MOUNT_PATH
            ));
        }
        Ok(())
    }
}

/// What a volume holds when the container starts, as far as that decides about a directory in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Nothing but what the pod's containers put there.
    Empty,
    /// What kubelet puts there, the directories of mounts within it included (`MakeNestedMountpoints`).
    Kubelet,
    /// Whatever it brings along, and nothing can be added.
    ReadOnly,
    /// Whatever it brings along.
    Unknown,
}

impl Source {
    fn of(volume: &Traced<'_, Volume<'_>>) -> Self {
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

fn lies_above(path: &str, place: &str) -> bool {
    clash(path, place) == Some(Clash::Inside)
}

/// What the API server mounts into the pods of a template, unless it says otherwise: better told to whoever
/// annotates the template than to the pods' controller.
const API_TOKEN: &str = "kube-api-access";

fn api_token(spec: &PodSpec<'_>) -> Option<(&'static str, &'static str)> {
    let at = TOKEN_PATH.rsplit_once('/').map_or(TOKEN_PATH, |(dir, _)| dir);
    (spec.automount_service_account_token != Some(false)).then_some((API_TOKEN, at))
}

/// A mount further up is none of these: there the mount point is made by kubelet or the runtime, unless it is read-only.
pub(super) fn clash(place: &str, other: &str) -> Option<Clash> {
    let mut other = parts(other);
    if parts(place).any(|part| other.next() != Some(part)) {
        return None;
    }
    Some(if other.next().is_none() { Clash::Same } else { Clash::Inside })
}

/// A path as [`certmint_contract::annotations::MountPath`] spells it.
fn tidy(path: &str) -> String {
    let tidy: String = parts(path).flat_map(|part| ["/", part]).collect();
    if tidy.is_empty() { "/".into() } else { tidy }
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !matches!(*part, "" | "."))
}
