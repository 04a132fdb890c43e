//! The app's mounts of the tmpfs volume.

use super::reader::receives;
use crate::edits::Edits;
use crate::view::{Container, PodSpec, VolumeMount};
use crate::{Clash, Refusal, manifest};
use certmint_contract::Request;
use certmint_contract::pod_layout::{CONTAINER, TLS_VOLUME, TOKEN_PATH};

/// Gives every container that is meant to have them the files, read-only, init containers included.
pub(super) fn edit(spec: &PodSpec<'_>, request: &Request, edits: &mut Edits) -> Result<(), Refusal> {
    let init = spec.init_containers.as_deref().unwrap_or_default().iter().map(|init| &init.view);
    let apps = spec.containers.as_deref().unwrap_or_default().iter();
    let init = init.enumerate().map(|(index, container)| ("initContainers", index, container));
    let apps = apps.enumerate().map(|(index, container)| ("containers", index, container));
    for (list, index, container) in init.chain(apps) {
        if &*container.name == CONTAINER {
            continue;
        }
        let path: &[&str] = &["spec", list, &index.to_string(), "volumeMounts"];
        only_reads(container)?;
        if receives(&request.containers, &container.name) {
            mount(path, container, spec, request, edits)?;
        }
    }
    Ok(())
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
    request: &Request,
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

/// What the API server mounts into the pods of a template, unless it says otherwise: better told to whoever
/// annotates the template than to the pods' controller.
const API_TOKEN: &str = "kube-api-access";

fn api_token(spec: &PodSpec<'_>) -> Option<(&'static str, &'static str)> {
    let at = TOKEN_PATH.rsplit_once('/').map_or(TOKEN_PATH, |(dir, _)| dir);
    (spec.automount_service_account_token != Some(false)).then_some((API_TOKEN, at))
}

/// A mount further up is none: there the mount point is made by kubelet or the runtime.
fn clash(place: &str, other: &str) -> Option<Clash> {
    let mut other = parts(other);
    if parts(place).any(|part| other.next() != Some(part)) {
        return None;
    }
    Some(if other.next().is_none() { Clash::Same } else { Clash::Inside })
}

/// A path as [`certmint_contract::annotations::MountPath`] spells it.
fn tidy(path: &str) -> String {
    parts(path).flat_map(|part| ["/", part]).collect()
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !matches!(*part, "" | "."))
}
