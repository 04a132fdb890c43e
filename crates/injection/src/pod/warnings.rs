//! Warnings for valid but suspicious settings of a pod.

use std::collections::HashSet;

use certmint_contract::annotations::{Containers, Renew};
use certmint_contract::{Reload, keys};

use super::readers::{self, FileReaders};
use super::resources;
use super::target::InjectionTarget;

pub(super) const WINDOWS: &str =
    "certmint: Ignored: this is a Windows pod; Certmint injects into Linux pods only and leaves it as it is";

pub(super) const MIRROR: &str = "certmint: Ignored: this is the mirror of a static pod, which the kubelet runs from a file; Certmint leaves it as it is, without a certificate";

/// Maximum number of containers in a warning, and of warnings about missing containers.
const MAX_SHOWN_ENTRIES: usize = 10;
/// Maximum length in characters of a list of containers. `kubectl` shows less.
const MAX_SHOWN_CHARS: usize = 250;

/// Returns the warnings about a pod that is injected.
pub(super) fn of(target: &InjectionTarget<'_>, readers: &FileReaders) -> Vec<String> {
    let mut warnings = missing_containers(target);
    warnings.extend(readable_by_all(readers));
    warnings.extend(unreadable_later(target, readers));
    warnings.extend(resources::loses_guarantee(target).then(|| no_guarantee().into()));
    warnings.extend(dns(target).map(Into::into));
    warnings.extend(reload(target, readers));
    warnings
}

/// Warns of containers in the annotation that the pod lacks. Another injector may add them later, so the pod is not
/// rejected.
///
/// The user decides the length of both lists, and the API server has not validated the names yet. So the warnings are
/// limited; without limits their size could grow with the product of both lengths.
fn missing_containers(target: &InjectionTarget<'_>) -> Vec<String> {
    let Containers::Named(names) = &target.options.containers else { return Vec::new() };
    let spec = target.spec;
    let init = spec.init_containers.as_deref().unwrap_or_default().iter().map(|init| &*init.view.name);
    let apps = spec.containers.as_deref().unwrap_or_default().iter().map(|app| &*app.name);
    let present: HashSet<&str> = init.clone().chain(apps.clone()).collect();
    let shown: Vec<&str> = init.chain(apps).take(MAX_SHOWN_ENTRIES).collect();
    let shown: String = shown.join(", ").chars().take(MAX_SHOWN_CHARS).collect();
    let missing = names.iter().filter(|name| !present.contains(&***name)).take(MAX_SHOWN_ENTRIES);
    let warnings = missing.map(|name| {
        format!(
            "certmint: SuspiciousSetting: annotation {} names \"{name}\", but the pod has only {shown}",
            keys::CONTAINERS
        )
    });
    warnings.collect()
}

/// Warns of files that every user in the containers can read. A file has one owner and one group, so users without a
/// common group need the permission for others.
fn readable_by_all(readers: &FileReaders) -> Option<String> {
    let FileReaders::Anyone(users) = readers else { return None };
    let mut users = users.clone();
    users.sort_unstable();
    users.dedup();
    let users = users.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    (!users.is_empty()).then(|| {
        format!(
            "certmint: SuspiciousSetting: users {users} get the key and share no group, so everyone in their containers can read it; set fsGroup in the pod's securityContext, or name the containers that need it in annotation {}",
            keys::CONTAINERS
        )
    })
}

/// Warns of an application that starts as root and may become a user who cannot read the files.
fn unreadable_later(target: &InjectionTarget<'_>, readers: &FileReaders) -> Option<String> {
    match readers {
        FileReaders::User(_) | FileReaders::Group(_) => {}
        FileReaders::FsGroup | FileReaders::Anyone(_) => return None,
    }
    let name = readers::container_that_may_change_user(target.spec, &target.options.containers)?;
    let name: String = name.chars().take(MAX_SHOWN_CHARS).collect();
    Some(format!(
        "certmint: SuspiciousSetting: container \"{name}\" runs as root; if its application becomes another user, that user cannot read the key: set runAsUser in the pod's securityContext to that user, or fsGroup to its group"
    ))
}

fn no_guarantee() -> &'static str {
    "certmint: SuspiciousSetting: annotation certmint.dev/resources takes the pod out of QoS class Guaranteed; write limits.cpu and limits.memory, and the same requests or none"
}

fn dns(target: &InjectionTarget<'_>) -> Option<&'static str> {
    let policy = target.spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let host = target.spec.host_network == Some(true);
    match policy {
        "Default" => Some(
            "certmint: SuspiciousSetting: dnsPolicy Default does not resolve names of Services, such as the name of the issuance API; use ClusterFirst",
        ),
        "ClusterFirst" if host => Some(
            "certmint: SuspiciousSetting: a hostNetwork pod does not resolve names of Services, such as the name of the issuance API; use dnsPolicy ClusterFirstWithHostNet",
        ),
        _ => None,
    }
}

fn reload(target: &InjectionTarget<'_>, readers: &FileReaders) -> Option<String> {
    let hook = target.options.reload.as_ref()?;
    let Reload::Signal { process, .. } = hook else {
        return (target.options.renew == Renew::Never).then(|| never_renewed().into());
    };
    if target.options.renew == Renew::Never {
        return Some(never_renewed().into());
    }
    if target.spec.share_process_namespace != Some(true) {
        return Some(format!(
            "certmint: SuspiciousSetting: no signal reaches {process}: set shareProcessNamespace: true in the pod's spec, or reload by http://127.0.0.1:PORT/PATH"
        ));
    }
    match readers {
        FileReaders::User(_) => None,
        FileReaders::Group(_) | FileReaders::FsGroup | FileReaders::Anyone(_) => Some(format!(
            "certmint: SuspiciousSetting: a signal reaches {process} only if it runs as the user of certmint-fetch: set one runAsUser, not 0, for the whole pod"
        )),
    }
}

fn never_renewed() -> &'static str {
    "certmint: SuspiciousSetting: reload has no effect with renew: \"false\", because nothing is renewed in the pod"
}
