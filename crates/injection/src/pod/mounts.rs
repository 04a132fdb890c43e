//! The app's mounts of the tmpfs volume.

use super::reader::receives;
use crate::Refusal;
use crate::edits::Edits;
use crate::view::{Container, PodSpec};
use certmint_contract::Request;
use certmint_contract::pod_layout::{CONTAINER, TLS_VOLUME};
use serde_json::json;

/// Gives every container that is meant to have them the files, read-only, init containers included.
pub(super) fn edit(spec: &PodSpec<'_>, request: &Request, edits: &mut Edits) -> Result<(), Refusal> {
    let init = spec.init_containers.as_deref().unwrap_or_default().iter().map(|init| &init.view);
    let apps = spec.containers.as_deref().unwrap_or_default().iter();
    let init = init.enumerate().map(|(index, container)| ("initContainers", index, container));
    let apps = apps.enumerate().map(|(index, container)| ("containers", index, container));
    for (list, index, container) in init.chain(apps) {
        if &*container.name != CONTAINER && receives(&request.containers, &container.name) {
            mount(&["spec", list, &index.to_string(), "volumeMounts"], container, request, edits)?;
        }
    }
    Ok(())
}

fn mount(
    path: &[&str],
    container: &Container<'_>,
    request: &Request,
    edits: &mut Edits,
) -> Result<(), Refusal> {
    let place = request.mount_path.as_str();
    let mounts = container.volume_mounts.as_deref();
    let taken = mounts.unwrap_or_default().iter().find(|mount| same_place(&mount.mount_path, place));
    match taken {
        Some(mount) if &*mount.name == TLS_VOLUME => {}
        Some(mount) => {
            return Err(Refusal::MountPath {
                container: container.name.to_string(),
                volume: mount.name.to_string(),
                path: place.into(),
            });
        }
        None => {
            let mount = json!({"name": TLS_VOLUME, "mountPath": place, "readOnly": true});
            edits.append(path, mounts.is_some(), mount);
        }
    }
    Ok(())
}

fn same_place(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}
