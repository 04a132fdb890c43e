//! The certmint-fetch container: an init container that keeps running as a native sidecar, or a plain init container
//! without renewal.

use std::borrow::Cow;

use certmint_contract::SpiffeId;
use certmint_contract::annotations::{InitPosition, Renew};
use certmint_contract::pod_layout::{
    ENV_API, ENV_CLUSTER_DOMAIN, ENV_DEADLINE, ENV_FILE_MODE, ENV_IDENTITY, ENV_RELOAD, ENV_TRUST_BUNDLE,
    ENV_TRUST_GENERATION, ENV_WORKLOAD, FETCH_BINARY, FETCH_CONTAINER, SECRET_DIR, SECRET_VOLUME, TLS_DIR,
    TLS_VOLUME, TOKEN_PATH, TOKEN_VOLUME,
};

use super::readers::{FETCH_USER, FileReaders, pod_user};
use super::resources;
use super::restore::restored;
use super::target::InjectionTarget;
use crate::json::WithSource;
use crate::output::{
    EnvVar, Exec, FetchCapabilities, FetchContainer, FetchSecurityContext, InjectedVolumeMount, Probe,
    SeccompProfile,
};
use crate::patch::PatchBuilder;
use crate::{Rejection, RunAsUser};

/// Adds the certmint-fetch container. If the init container at `index` is a certmint-fetch container, restores it
/// instead.
///
/// An existing container stays at its position. Moving it could cause an endless conflict with other injectors.
pub(super) fn add(
    target: &InjectionTarget<'_>,
    has_secret: bool,
    readers: &FileReaders,
    index: Option<usize>,
    patch: &mut PatchBuilder,
) -> Result<(), Rejection> {
    let desired = container(target, has_secret, readers);
    let list = target.spec.init_containers.as_deref();
    match (index, target.options.order) {
        (Some(index), _) => {
            let existing = list.and_then(|list| list.get(index)).and_then(WithSource::full_value);
            match restored(existing, &desired, target.is_reinvocation()) {
                Some(restored) => patch.replace(&["spec", "initContainers", &index.to_string()], restored),
                None => Ok(()),
            }
        }
        (None, InitPosition::First) if list.is_some() => patch.add(&["spec", "initContainers", "0"], desired),
        (None, _) => patch.append(&["spec", "initContainers"], list.is_some(), desired),
    }
}

fn container<'a>(
    target: &InjectionTarget<'a>,
    has_secret: bool,
    readers: &FileReaders,
) -> FetchContainer<'a> {
    let settings = target.settings;
    let (command, restart_policy, startup_probe): (&[&str], _, _) = match target.options.renew {
        Renew::Sidecar => (&[FETCH_BINARY], Some("Always"), Some(startup_probe(settings.deadline_seconds))),
        Renew::Never => (&[FETCH_BINARY, "once"], None, None),
    };
    FetchContainer {
        name: FETCH_CONTAINER,
        image: &settings.image,
        image_pull_policy: &settings.pull_policy,
        command,
        restart_policy,
        startup_probe,
        env: environment(target, readers),
        resources: resources::of(target),
        security_context: security_context(target, readers),
        termination_message_path: "/dev/termination-log",
        termination_message_policy: "File",
        volume_mounts: mounts(has_secret),
    }
}

/// Difference in seconds between the timeout of the probe and the deadline of its command. A busy node starts the command
/// late.
const PROBE_MARGIN_SECONDS: u32 = 10;

/// Probe that delays the rest of the pod: the kubelet starts the containers after the certmint-fetch container only when
/// the probe has succeeded.
///
/// A `postStart` hook would delay the rest as well, and would end a second earlier. But a kubelet that restarts does not
/// repeat such a hook, and the kubelet does not delete a pod while the hook runs.
fn startup_probe(deadline_seconds: u32) -> Probe<'static> {
    Probe {
        exec: Exec { command: &[FETCH_BINARY, "wait"] },
        // The kubelet repeats a failed probe after this time. The value is the minimum in Kubernetes.
        period_seconds: 1,
        timeout_seconds: deadline_seconds + PROBE_MARGIN_SECONDS,
        // After this many failures, the kubelet would restart the container, with longer and longer delays. The container
        // retries on its own.
        failure_threshold: i32::MAX,
    }
}

fn environment<'a>(target: &InjectionTarget<'a>, readers: &FileReaders) -> Vec<EnvVar<'a>> {
    let InjectionTarget { spec, options, namespace, cluster_domain, settings, workload, .. } = target;
    let account = spec.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default");
    let always: [(_, Cow<'_, str>); 6] = [
        (ENV_API, settings.api_url.as_str().into()),
        (ENV_CLUSTER_DOMAIN, cluster_domain.as_str().into()),
        (ENV_TRUST_BUNDLE, settings.trust_bundle.roots.as_str().into()),
        (ENV_TRUST_GENERATION, settings.trust_bundle.generation.to_string().into()),
        (ENV_IDENTITY, SpiffeId::path(namespace, account).into()),
        (ENV_FILE_MODE, readers.file_mode().into()),
    ];
    let has_probe = options.renew == Renew::Sidecar;
    let deadline = has_probe.then(|| (ENV_DEADLINE, settings.deadline_seconds.to_string().into()));
    let workload = workload.map(|workload| (ENV_WORKLOAD, workload.to_string().into()));
    let reload = options.reload.as_ref().map(|reload| (ENV_RELOAD, reload.to_string().into()));
    let sometimes = deadline.into_iter().chain(workload).chain(reload);
    always.into_iter().chain(sometimes).map(|(name, value)| EnvVar { name, value }).collect()
}

fn mounts(has_secret: bool) -> Vec<InjectedVolumeMount<'static>> {
    let token_dir = TOKEN_PATH.rsplit_once('/').map_or(TOKEN_PATH, |(dir, _)| dir);
    let mut mounts = vec![
        InjectedVolumeMount { name: TLS_VOLUME, mount_path: TLS_DIR, read_only: None },
        InjectedVolumeMount { name: TOKEN_VOLUME, mount_path: token_dir, read_only: Some(true) },
    ];
    if has_secret {
        mounts.push(InjectedVolumeMount {
            name: SECRET_VOLUME,
            mount_path: SECRET_DIR,
            read_only: Some(true),
        });
    }
    mounts
}

/// Security context that complies with the Pod Security Standard `restricted`, even if the pod does not.
fn security_context(target: &InjectionTarget<'_>, readers: &FileReaders) -> FetchSecurityContext<'static> {
    FetchSecurityContext {
        allow_privilege_escalation: false,
        capabilities: FetchCapabilities { drop: &["ALL"] },
        read_only_root_filesystem: true,
        run_as_non_root: true,
        run_as_user: match target.settings.run_as_user {
            RunAsUser::Set => Some(readers.writer_user()),
            // Without a user of its own, the certmint-fetch container would inherit root from the pod, and the kubelet
            // would not start it.
            RunAsUser::Unset => (pod_user(target.spec) == Some(0)).then_some(FETCH_USER),
        },
        run_as_group: readers.writer_group(),
        seccomp_profile: SeccompProfile { kind: "RuntimeDefault" },
    }
}
