//! Our container: first among the init containers, and a sidecar from then on.

use super::readers::{FETCH_USER, FileReaders, pod_user};
use super::restore::restored;
use super::{InjectionTarget, resources};
use crate::json::WithSource;
use crate::output::{
    EnvVar, Exec, FetchCapabilities, FetchContainer, FetchSecurityContext, InjectedVolumeMount, Probe,
    SeccompProfile,
};
use crate::patch::PatchBuilder;
use crate::{Rejection, RunAsUser};
use certmint_contract::SpiffeId;
use certmint_contract::annotations::{InitPosition, Renew};
use certmint_contract::pod_layout::{
    ENV_API, ENV_CLUSTER_DOMAIN, ENV_DEADLINE, ENV_FILE_MODE, ENV_IDENTITY, ENV_RELOAD, ENV_TRUST_BUNDLE,
    ENV_WORKLOAD, FETCH_BINARY, FETCH_CONTAINER, SECRET_DIR, SECRET_VOLUME, TLS_DIR, TLS_VOLUME, TOKEN_PATH,
    TOKEN_VOLUME,
};
use std::borrow::Cow;

/// Adds our container, or brings the one at `present` to what it shall be. One that is there stays where
/// it is: moving it would fight with other injectors for ever.
pub(super) fn edit(
    target: &InjectionTarget<'_>,
    secret: bool,
    reader: &FileReaders,
    present: Option<usize>,
    patch: &mut PatchBuilder,
) -> Result<(), Rejection> {
    let desired = container(target, secret, reader);
    let list = target.spec.init_containers.as_deref();
    match (present, target.request.order) {
        (Some(index), _) => {
            let found = list.and_then(|list| list.get(index)).and_then(WithSource::whole);
            match restored(found, &desired, target.is_reinvocation()) {
                Some(restored) => patch.replace(&["spec", "initContainers", &index.to_string()], restored),
                None => Ok(()),
            }
        }
        (None, InitPosition::First) if list.is_some() => patch.add(&["spec", "initContainers", "0"], desired),
        (None, _) => patch.append(&["spec", "initContainers"], list.is_some(), desired),
    }
}

fn container<'a>(target: &InjectionTarget<'a>, secret: bool, reader: &FileReaders) -> FetchContainer<'a> {
    let settings = target.settings;
    let (command, restart_policy, startup_probe): (&[&str], _, _) = match target.request.renew {
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
        env: environment(target, reader),
        resources: resources::of(target),
        security_context: security_context(target, reader),
        termination_message_path: "/dev/termination-log",
        termination_message_policy: "File",
        volume_mounts: mounts(secret),
    }
}

/// More time for a probe than the command in it takes at most: a busy node starts it late.
const PROBE_MARGIN_SECONDS: u32 = 10;

/// The kubelet starts nothing after our container before this probe has succeeded. A postStart hook would hold the rest
/// back as well, and sooner, but the kubelet forgets it when it restarts, and cannot delete a pod while it runs.
fn startup_probe(deadline_seconds: u32) -> Probe<'static> {
    Probe {
        exec: Exec { command: &[FETCH_BINARY, "wait"] },
        // The shortest that there is: when the next one begins after one that failed.
        period_seconds: 1,
        timeout_seconds: deadline_seconds + PROBE_MARGIN_SECONDS,
        // The kubelet would restart the container, with longer and longer pauses, although it tries by itself.
        failure_threshold: i32::MAX,
    }
}

fn environment<'a>(target: &InjectionTarget<'a>, reader: &FileReaders) -> Vec<EnvVar<'a>> {
    let InjectionTarget { spec, request, namespace, cluster_domain, settings, workload, .. } = target;
    let account = spec.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default");
    let always: [(_, Cow<'_, str>); 5] = [
        (ENV_API, settings.api_url.as_str().into()),
        (ENV_CLUSTER_DOMAIN, cluster_domain.as_str().into()),
        (ENV_TRUST_BUNDLE, settings.trust_bundle.as_str().into()),
        (ENV_IDENTITY, SpiffeId::path(namespace, account).into()),
        (ENV_FILE_MODE, reader.file_mode().into()),
    ];
    let stays = request.renew == Renew::Sidecar;
    let deadline = stays.then(|| (ENV_DEADLINE, settings.deadline_seconds.to_string().into()));
    let workload = workload.map(|workload| (ENV_WORKLOAD, workload.to_string().into()));
    let reload = request.reload.as_ref().map(|reload| (ENV_RELOAD, reload.to_string().into()));
    let sometimes = deadline.into_iter().chain(workload).chain(reload);
    always.into_iter().chain(sometimes).map(|(name, value)| EnvVar { name, value }).collect()
}

fn mounts(secret: bool) -> Vec<InjectedVolumeMount<'static>> {
    let token_dir = TOKEN_PATH.rsplit_once('/').map_or(TOKEN_PATH, |(dir, _)| dir);
    let mut mounts = vec![
        InjectedVolumeMount { name: TLS_VOLUME, mount_path: TLS_DIR, read_only: None },
        InjectedVolumeMount { name: TOKEN_VOLUME, mount_path: token_dir, read_only: Some(true) },
    ];
    if secret {
        mounts.push(InjectedVolumeMount {
            name: SECRET_VOLUME,
            mount_path: SECRET_DIR,
            read_only: Some(true),
        });
    }
    mounts
}

/// Pod Security "restricted", whatever the pod itself says.
fn security_context(target: &InjectionTarget<'_>, reader: &FileReaders) -> FetchSecurityContext<'static> {
    FetchSecurityContext {
        allow_privilege_escalation: false,
        capabilities: FetchCapabilities { drop: &["ALL"] },
        read_only_root_filesystem: true,
        run_as_non_root: true,
        run_as_user: match target.settings.run_as_user {
            RunAsUser::Set => Some(reader.run_as_user()),
            // A pod of root's would make ours root, which kubelet then refuses to start.
            RunAsUser::Unset => (pod_user(target.spec) == Some(0)).then_some(FETCH_USER),
        },
        run_as_group: reader.run_as_group(),
        seccomp_profile: SeccompProfile { kind: "RuntimeDefault" },
    }
}
