//! Our container: first among the init containers, and a sidecar from then on.

use super::Target;
use super::reader::Reader;
use crate::edits::Edits;
use crate::view::Container;
use certmint_contract::annotations::{Order, Renew};
use certmint_contract::pod_layout::{
    CONTAINER, ENV_API, ENV_DEADLINE, ENV_FILE_MODE, ENV_IDENTITY, ENV_RELOAD, ENV_TRUST_BUNDLE,
    FETCH_BINARY, SECRET_DIR, SECRET_VOLUME, TLS_DIR, TLS_VOLUME, TOKEN_PATH, TOKEN_VOLUME,
};
use serde_json::{Value, json};

/// Adds our container, or brings the one at `present` to what it shall be. One that is there stays where
/// it is: moving it would fight with other injectors for ever.
pub(super) fn edit(
    target: &Target<'_>,
    secret: bool,
    reader: &Reader,
    present: Option<usize>,
    edits: &mut Edits,
) {
    let desired = container(target, secret, reader);
    let list = target.spec.init_containers.as_deref();
    match (present, target.request.order) {
        (Some(index), _) => {
            if !list.and_then(|list| list.get(index)).is_some_and(|found| found.holds(&desired)) {
                edits.replace(&["spec", "initContainers", &index.to_string()], desired);
            }
        }
        (None, Order::First) if list.is_some() => edits.add(&["spec", "initContainers", "0"], desired),
        (None, _) => edits.append(&["spec", "initContainers"], list.is_some(), desired),
    }
}

fn container(target: &Target<'_>, secret: bool, reader: &Reader) -> Value {
    let settings = target.settings;
    let mut container = json!({
        "name": CONTAINER,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "env": environment(target, reader),
        "resources": resources(target),
        "securityContext": security_context(reader),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "volumeMounts": mounts(secret),
    });
    if let Value::Object(container) = &mut container {
        match target.request.renew {
            Renew::Sidecar => {
                container.insert("command".into(), json!([FETCH_BINARY]));
                container.insert("restartPolicy".into(), "Always".into());
                // Kubelet starts nothing after us before this hook returns.
                let wait = json!({"postStart": {"exec": {"command": [FETCH_BINARY, "wait"]}}});
                container.insert("lifecycle".into(), wait);
            }
            Renew::Never => {
                container.insert("command".into(), json!([FETCH_BINARY, "once"]));
            }
        }
    }
    container
}

fn environment(target: &Target<'_>, reader: &Reader) -> Vec<Value> {
    let Target { spec, request, namespace, settings } = target;
    let account = spec.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default");
    let identity = format!("/ns/{namespace}/sa/{account}");
    let deadline = settings.deadline_seconds.to_string();
    let reload = request.reload.as_ref().map(ToString::to_string);
    [
        (ENV_API, Some(&*settings.api_url)),
        (ENV_TRUST_BUNDLE, Some(&*settings.trust_bundle)),
        (ENV_IDENTITY, Some(&*identity)),
        (ENV_FILE_MODE, Some(reader.file_mode())),
        (ENV_DEADLINE, Some(&*deadline)),
        (ENV_RELOAD, reload.as_deref()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some(json!({"name": name, "value": value?})))
    .collect()
}

fn mounts(secret: bool) -> Vec<Value> {
    let token_dir = TOKEN_PATH.rsplit_once('/').map_or(TOKEN_PATH, |(dir, _)| dir);
    let mut mounts = vec![
        json!({"name": TLS_VOLUME, "mountPath": TLS_DIR}),
        json!({"name": TOKEN_VOLUME, "mountPath": token_dir, "readOnly": true}),
    ];
    if secret {
        mounts.push(json!({"name": SECRET_VOLUME, "mountPath": SECRET_DIR, "readOnly": true}));
    }
    mounts
}

/// A pod of QoS class Guaranteed stays one: it may depend on that for its CPUs and against eviction. One whose
/// containers all have a CPU limit keeps that too: a quota on `limits.cpu` admits no container without.
fn resources(target: &Target<'_>) -> Value {
    let resources = &target.settings.resources;
    let spec = target.spec;
    let init = spec.init_containers.as_deref().unwrap_or_default().iter().map(|init| &init.view);
    let all = init.chain(spec.containers.as_deref().unwrap_or_default());
    let mut others = all.filter(|container| &*container.name != CONTAINER);
    if others.clone().all(Container::is_guaranteed) {
        let amount =
            json!({"cpu": resources.guaranteed_cpu.as_str(), "memory": resources.memory_limit.as_str()});
        return json!({"requests": amount, "limits": amount});
    }
    let requests =
        json!({"cpu": resources.cpu_request.as_str(), "memory": resources.memory_request.as_str()});
    let memory = resources.memory_limit.as_str();
    let limits = if others.all(Container::limits_cpu) {
        json!({"cpu": resources.cpu_limit.as_str(), "memory": memory})
    } else {
        json!({"memory": memory})
    };
    json!({"requests": requests, "limits": limits})
}

/// Pod Security "restricted", whatever the pod itself says.
fn security_context(reader: &Reader) -> Value {
    let mut context = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "runAsUser": reader.run_as_user(),
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if let (Some(group), Value::Object(context)) = (reader.run_as_group(), &mut context) {
        context.insert("runAsGroup".into(), group.into());
    }
    context
}
